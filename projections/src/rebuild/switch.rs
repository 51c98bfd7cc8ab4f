//! The moment at which the new table takes the old one's name.
//!
//! Nobody writes rows without moving a checkpoint, so whoever holds the locks of all of a consumer's
//! checkpoints knows that nobody is writing the table. The ranges of slices may stand at different
//! positions; the new table stands at the furthest, and so do all ranges then.
//!
//! The table is locked before the checkpoints, as a worker's statement does it: in the other order a
//! worker would have the table and wait for its checkpoint, and the switch wait for the worker. A
//! worker whose batch is more than one statement still moves its checkpoint first; where the two do
//! meet, Postgres sends one of them away, and it tries again.

use schemas::Position;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Transaction};

use super::builder::Builder;
use super::{RebuildError, SCHEMA, Stage, shadow};
use crate::checkpoint;
use crate::events::{self, LeftOut};
use crate::fold::Fold;
use crate::projection::Projection;

/// How long the first attempts wait for the readers of a table. A longer query makes them try
/// again, so that the queries behind the attempt do not wait for it too.
const LOCK_WAIT: &str = "250ms";

/// How long later attempts wait: long enough for Postgres to send its own vacuum away.
const LOCK_WAIT_LONG: &str = "1500ms";

/// How many attempts are first ones.
const TRIES_SHORT: u32 = 10;

/// How often it is tried.
pub(super) const TRIES_MAX: u32 = 30;

/// Postgres: a lock could not be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// Postgres: who waits for a lock was waited for.
const DEADLOCK: &str = "40P01";

/// The name of the table that the last rebuild replaced.
pub(super) fn old(name: &str) -> String {
    format!("{name}_old")
}

/// What a switch leaves behind.
pub(super) struct Switched {
    /// Sees both tables as they were at that moment.
    pub(super) snapshot: Transaction<'static, Postgres>,
    /// Whether the old table stood at the position of the new one, and had the same version.
    pub(super) comparable: bool,
}

/// Where the checkpoints of a consumer stand, while nobody can move them.
pub(super) struct Locked {
    first: Position,
    /// The furthest of them.
    pub(super) last: Position,
    /// The rows as they are, to be put back by a rollback.
    pub(super) rows: Value,
}

impl<P: Projection> Builder<'_, P> {
    pub(super) async fn switch(
        &mut self,
        guard: &mut PgConnection,
    ) -> Result<Switched, RebuildError> {
        for attempt in 0..TRIES_MAX {
            match self.try_switch(guard, attempt).await {
                Err(error) if is_passing(&error) => self.catch_up().await?,
                done => return done,
            }
        }
        Err(RebuildError::Contended(P::NAME))
    }

    async fn try_switch(
        &mut self,
        guard: &mut PgConnection,
        attempt: u32,
    ) -> Result<Switched, RebuildError> {
        let mut tx = guard.begin().await?;
        be_patient(&mut tx, attempt).await?;
        let live = stop_workers(&mut tx, P::NAME).await?;
        self.catch_up_to(live.last).await?;
        let position = self.record.position;
        self.mend().await?;
        let snapshot = snapshot(&self.pool).await?;
        trade(&mut tx, P::NAME, &shadow::name(P::NAME), &old(P::NAME)).await?;
        let before: i32 = sqlx::query_scalar(
            "update read_models.versions as now
             set version = $2, rebuilt_at = now(), refused_version = null,
                 old_version = was.version, old_checkpoints = $3
             from (select version from read_models.versions where name = $1) as was
             where now.name = $1 returning was.version",
        )
        .bind(P::NAME)
        .bind(i32::from(P::VERSION))
        .bind(&live.rows)
        .fetch_one(&mut *tx)
        .await?;
        move_checkpoints(&mut tx, &checkpoint(P::NAME), (live.first, position)).await?;
        self.record.forget(&mut tx).await?;
        tx.commit().await?;
        self.tell(Stage::Done, position);
        let same_version = before == i32::from(P::VERSION);
        Ok(Switched { snapshot, comparable: same_version && live.first == position })
    }

    /// Folds the streams again of which something was left out: what was parked then may have been
    /// taken up since.
    async fn mend(&mut self) -> Result<(), RebuildError> {
        let mut tx = event_store::begin(&self.pool).await?;
        let streams = self.record.left_out(&mut tx).await?;
        let leaves_out = LeftOut::of(&mut tx, &checkpoint(P::NAME)).await?;
        for stream in streams {
            if P::SHARED_ROWS {
                if leaves_out.parks(stream) {
                    continue;
                }
                return Err(RebuildError::TakenUp { name: P::NAME, stream });
            }
            let through = self.record.position;
            let found = events::of_stream(&mut tx, stream, through, i64::MAX).await?;
            let mut fold = Fold::<P>::new();
            for event in found.iter().filter(|event| !leaves_out.holds(event)) {
                fold.apply(event);
            }
            let keys: Vec<_> = found.iter().flat_map(|event| P::keys(event).into_vec()).collect();
            self.shadow.delete(&mut tx, &keys).await?;
            fold.write(&self.shadow, &mut tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// A transaction that sees what is committed now, and has touched no table yet.
async fn snapshot(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut snapshot = event_store::begin(pool).await?;
    sqlx::query("set transaction isolation level repeatable read, read only")
        .execute(&mut *snapshot)
        .await?;
    sqlx::query("select 1").execute(&mut *snapshot).await?;
    Ok(snapshot)
}

/// Bounds how long the transaction waits for a lock.
pub(super) async fn be_patient(tx: &mut PgConnection, attempt: u32) -> Result<(), sqlx::Error> {
    let wait = if attempt < TRIES_SHORT { LOCK_WAIT } else { LOCK_WAIT_LONG };
    shadow::execute(tx, format!("set local lock_timeout = '{wait}'")).await
}

/// Stops the workers of the read model `name` until the transaction ends, and says where they stand.
pub(super) async fn stop_workers(
    tx: &mut PgConnection,
    name: &str,
) -> Result<Locked, RebuildError> {
    // Readers go on.
    shadow::execute(tx, format!("lock table {SCHEMA}.{name} in share row exclusive mode")).await?;
    lock_checkpoints(tx, &checkpoint(name)).await
}

async fn lock_checkpoints(tx: &mut PgConnection, consumer: &str) -> Result<Locked, RebuildError> {
    // One that has never run could begin beside us.
    for statement in [
        "insert into consumers (consumer) values ($1) on conflict do nothing",
        "insert into checkpoints (consumer) values ($1) on conflict do nothing",
    ] {
        sqlx::query(statement).bind(consumer).execute(&mut *tx).await?;
    }
    let (first, last, locked, rows): (_, _, i64, _) = sqlx::query_as(
        "select coalesce(min(position), 0), coalesce(max(position), 0), count(*),
                coalesce(jsonb_agg(to_jsonb(held)), '[]')
         from (select * from checkpoints where consumer = $1
               order by from_slice for update) as held",
    )
    .bind(consumer)
    .fetch_one(&mut *tx)
    .await?;
    // Ranges that were laid out anew while we waited for the old ones are not ours yet.
    let there: i64 = sqlx::query_scalar("select count(*) from checkpoints where consumer = $1")
        .bind(consumer)
        .fetch_one(tx)
        .await?;
    if there == locked { Ok(Locked { first, last, rows }) } else { Err(RebuildError::Moving) }
}

/// Moves every range to the furthest position, where the new table is. Every worker loses its lease:
/// it may be of the release before, and what it remembers of rows is of the old table.
async fn move_checkpoints(
    tx: &mut PgConnection,
    consumer: &str,
    (first, position): (Position, Position),
) -> Result<(), sqlx::Error> {
    // Between the positions nobody has yet held back what belongs to parked streams.
    sqlx::query(
        "insert into parked_events (consumer, key, position)
         select p.consumer, p.key, e.position
         from parked_streams p
         join streams s on s.stream_id = p.key
         join events e on e.stream_id = p.key
             and e.position between s.first_position and s.last_position
         where p.consumer = $1 and e.position > $2 and e.position <= $3
             and e.position >= p.first_position
         on conflict do nothing",
    )
    .bind(consumer)
    .bind(first)
    .bind(position)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "update checkpoints
         set position = $2, epoch = epoch + 1, leased_until = null, updated_at = clock_timestamp()
         where consumer = $1",
    )
    .bind(consumer)
    .bind(position)
    .execute(tx)
    .await?;
    Ok(())
}

/// `live` becomes `old`, and `shadow` becomes `live`.
async fn trade(
    tx: &mut PgConnection,
    live: &str,
    shadow: &str,
    old: &str,
) -> Result<(), sqlx::Error> {
    shadow::execute(tx, format!("drop table if exists {SCHEMA}.{old}")).await?;
    shadow::execute(tx, format!("alter table {SCHEMA}.{live} rename to {old}")).await?;
    shadow::execute(tx, format!("alter table {SCHEMA}.{shadow} rename to {live}")).await
}

/// Whether the next attempt may do.
pub(super) fn is_passing(error: &RebuildError) -> bool {
    match error {
        RebuildError::Moving => true,
        RebuildError::Database(sqlx::Error::Database(error)) => {
            error.code().is_some_and(|code| [LOCK_NOT_AVAILABLE, DEADLOCK].contains(&code.as_ref()))
        }
        _ => false,
    }
}
