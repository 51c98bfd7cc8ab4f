//! What a rebuild has done so far, so that the next start goes on from there.
//!
//! Every change of the record is made in the transaction that writes the rows it tells of, and
//! only by the latest attempt.

use event_store::Slices;
use schemas::Position;
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use super::plan;
use super::{Rebuild, RebuildError, SCHEMA, shadow};
use crate::projection::Projection;

/// A rebuild under way.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Record {
    name: String,
    version: i32,
    attempt: i64,
    /// Every group is folded up to here.
    pub(super) through: Position,
    /// All of it is folded up to here, once every group is.
    pub(super) position: Position,
    /// Whether the shadow has its indexes.
    pub(super) indexed: bool,
}

/// What the groups have come to.
#[derive(Debug, Default, Clone, Copy, FromRow)]
pub(super) struct Folded {
    pub(super) rows: i64,
    pub(super) events: i64,
}

impl Record {
    /// Goes on with what an earlier start left behind, or begins anew.
    pub(super) async fn open<P: Projection>(
        pool: &PgPool,
        live: Position,
        how: Rebuild,
    ) -> Result<Self, RebuildError> {
        let mut tx = event_store::begin(pool).await?;
        let found: Option<Self> = sqlx::query_as(
            "update read_models.rebuilds set attempt = attempt + 1 where name = $1
             returning name, version, attempt, through, position, indexed",
        )
        .bind(P::NAME)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(record) = found
            && record.version == i32::from(P::VERSION)
            && shadow::exists(&mut tx, &shadow::name(P::NAME)).await?
        {
            tx.commit().await?;
            let (attempt, position) = (record.attempt, record.position);
            tracing::info!(projection = P::NAME, attempt, position, "the rebuild goes on");
            return Ok(record);
        }
        let record = begin::<P>(&mut tx, live, how).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Whether an earlier start did part of it.
    pub(super) fn resumed(&self) -> bool {
        self.attempt > 1
    }

    /// The groups that are still to be folded.
    pub(super) async fn to_do(&self, pool: &PgPool) -> Result<Vec<Slices>, sqlx::Error> {
        let rows: Vec<(i16, i16)> = sqlx::query_as(
            "select from_slice, before_slice from read_models.rebuild_groups
             where name = $1 and folded_at is null order by from_slice",
        )
        .bind(&self.name)
        .fetch_all(pool)
        .await?;
        Ok(rows.into_iter().map(|(from, before)| Slices::new(from, before)).collect())
    }

    /// What the groups that are done came to.
    pub(super) async fn folded(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Folded, sqlx::Error> {
        sqlx::query_as(
            "select coalesce(sum(rows), 0)::bigint as rows,
                    coalesce(sum(events), 0)::bigint as events
             from read_models.rebuild_groups where name = $1 and folded_at is not null",
        )
        .bind(&self.name)
        .fetch_one(connection)
        .await
    }

    /// Says that a group's rows are written.
    pub(super) async fn group_done(
        &self,
        connection: &mut PgConnection,
        group: Slices,
        folded: Folded,
        left_out: &[Uuid],
    ) -> Result<(), RebuildError> {
        let done = sqlx::query(
            "update read_models.rebuild_groups g
             set folded_at = clock_timestamp(), rows = $4, events = $5, left_out = $6
             from (select name from read_models.rebuilds
                   where name = $1 and attempt = $2 for share) as mine
             where g.name = mine.name and g.from_slice = $3 and g.folded_at is null",
        )
        .bind(&self.name)
        .bind(self.attempt)
        .bind(group.from())
        .bind(folded.rows)
        .bind(folded.events)
        .bind(left_out)
        .execute(connection)
        .await?;
        self.mine(done.rows_affected())
    }

    /// Says that the shadow has its indexes.
    pub(super) async fn indexed(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<(), RebuildError> {
        let done = sqlx::query(
            "update read_models.rebuilds set indexed = true where name = $1 and attempt = $2",
        );
        let done = done.bind(&self.name).bind(self.attempt).execute(connection).await?;
        self.indexed = true;
        self.mine(done.rows_affected())
    }

    /// Says that everything up to `position` is written.
    pub(super) async fn moved(
        &mut self,
        connection: &mut PgConnection,
        position: Position,
        left_out: &[Uuid],
    ) -> Result<(), RebuildError> {
        let done = sqlx::query(
            "update read_models.rebuilds set position = $3, left_out = left_out || $4
             where name = $1 and attempt = $2",
        )
        .bind(&self.name)
        .bind(self.attempt)
        .bind(position)
        .bind(left_out)
        .execute(connection)
        .await?;
        self.position = position;
        self.mine(done.rows_affected())
    }

    /// The streams of which something was left out because they were parked.
    pub(super) async fn left_out(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<Uuid>, sqlx::Error> {
        sqlx::query_scalar(
            "select unnest(left_out) from read_models.rebuilds where name = $1
             union select unnest(left_out) from read_models.rebuild_groups where name = $1",
        )
        .bind(&self.name)
        .fetch_all(connection)
        .await
    }

    /// Forgets it: the next start begins anew.
    pub(super) async fn forget(&self, connection: &mut PgConnection) -> Result<(), RebuildError> {
        let done = sqlx::query("delete from read_models.rebuilds where name = $1 and attempt = $2");
        let done = done.bind(&self.name).bind(self.attempt).execute(connection).await?;
        self.mine(done.rows_affected())
    }

    fn mine(&self, changed: u64) -> Result<(), RebuildError> {
        if changed == 1 { Ok(()) } else { Err(RebuildError::Busy(self.name.clone())) }
    }
}

async fn begin<P: Projection>(
    connection: &mut PgConnection,
    live: Position,
    how: Rebuild,
) -> Result<Record, sqlx::Error> {
    sqlx::query("delete from read_models.rebuilds where name = $1")
        .bind(P::NAME)
        .execute(&mut *connection)
        .await?;
    shadow::create(connection, P::NAME, &shadow::name(P::NAME)).await?;
    let record = sqlx::query_as(
        "insert into read_models.rebuilds (name, version, through, position)
         values ($1, $2, $3, $3)
         returning name, version, attempt, through, position, indexed",
    )
    .bind(P::NAME)
    .bind(i32::from(P::VERSION))
    .bind(live)
    .fetch_one(&mut *connection)
    .await?;
    let groups = if P::SHARED_ROWS {
        vec![Slices::ALL]
    } else {
        let rows = if P::WRITES_ONCE { 0 } else { estimate(connection, P::NAME).await? };
        plan::groups(live, rows, how)
    };
    let (from, before): (Vec<i16>, Vec<i16>) =
        groups.iter().map(|group| (group.from(), group.before())).unzip();
    sqlx::query(
        "insert into read_models.rebuild_groups (name, from_slice, before_slice)
         select $1, from_slice, before_slice
         from unnest($2::smallint[], $3::smallint[]) as cut (from_slice, before_slice)",
    )
    .bind(P::NAME)
    .bind(from)
    .bind(before)
    .execute(connection)
    .await?;
    Ok(record)
}

/// About how many rows the live table has; the shadow will have about as many.
async fn estimate(connection: &mut PgConnection, name: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select reltuples::bigint from pg_class where oid = $1::regclass")
        .bind(format!("{SCHEMA}.{name}"))
        .fetch_one(connection)
        .await
}
