//! The moment at which the new table takes the old one's name, and the way back.
//!
//! A worker moves its checkpoint first and writes its rows after, so whoever holds the lock of
//! the checkpoint's row knows that nobody is writing the table.

use event_store::Store;
use schemas::Position;
use sqlx::{Connection as _, PgConnection, Postgres, Transaction};

use super::{Builder, RebuildError, SCHEMA, lock, shadow};
use crate::checkpoint;
use crate::projection::Projection;
use crate::registry::Entry;

/// How long the first attempts wait for the readers of a table. A longer query makes them try
/// again, so that the queries behind the attempt do not wait for it too.
const LOCK_WAIT: &str = "250ms";

/// How long later attempts wait: long enough for Postgres to send its own vacuum away.
const LOCK_WAIT_LONG: &str = "1500ms";

/// How many attempts are first ones.
const TRIES_SHORT: u32 = 10;

/// How often it is tried.
const TRIES_MAX: u32 = 30;

/// Postgres: a lock could not be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// The name of the table that the last rebuild replaced.
pub(super) fn old(name: &str) -> String {
    format!("{name}_old")
}

impl<P: Projection> Builder<P> {
    /// Switches, and returns a transaction that sees both tables as they were at that moment.
    pub(super) async fn switch(
        &mut self,
        guard: &mut PgConnection,
    ) -> Result<Transaction<'static, Postgres>, RebuildError> {
        for attempt in 0..TRIES_MAX {
            match self.try_switch(guard, attempt).await {
                Err(RebuildError::Database(error)) if is_lock_timeout(&error) => {
                    self.catch_up(&mut |_| {}).await?;
                }
                done => return done,
            }
        }
        Err(RebuildError::Contended)
    }

    async fn try_switch(
        &mut self,
        guard: &mut PgConnection,
        attempt: u32,
    ) -> Result<Transaction<'static, Postgres>, RebuildError> {
        let mut tx = guard.begin().await?;
        be_patient(&mut tx, attempt).await?;
        let position = lock_checkpoint(&mut tx, &self.consumer).await?;
        self.finish(position, &mut |_| {}).await?;
        let snapshot = self.snapshot().await?;
        let name = P::NAME;
        trade(&mut tx, name, self.shadow.name(), &old(name)).await?;
        sqlx::query(
            "insert into read_models.versions (name, version, rebuilt_at) values ($1, $2, now())
             on conflict (name) do update set version = $2, rebuilt_at = now(),
                 old_position = $3, old_version = versions.version",
        )
        .bind(name)
        .bind(i32::from(P::VERSION))
        .bind(position)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(snapshot)
    }

    /// A transaction that sees what is committed now, and has touched no table yet.
    async fn snapshot(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let mut snapshot = self.pool.begin().await?;
        sqlx::query("set transaction isolation level repeatable read, read only")
            .execute(&mut *snapshot)
            .await?;
        sqlx::query("select 1").execute(&mut *snapshot).await?;
        Ok(snapshot)
    }
}

/// Goes back to the table that the last rebuild of `name` replaced. It goes on from where it was
/// left, so for a moment queries see an older state.
///
/// # Errors
/// [`RebuildError::Unknown`], [`RebuildError::Busy`], [`RebuildError::NoOld`],
/// [`RebuildError::Contended`] or [`RebuildError::Database`].
pub async fn rollback(store: &Store, name: &str) -> Result<(), RebuildError> {
    let entry = Entry::find(name).ok_or_else(|| RebuildError::Unknown(name.to_owned()))?;
    let mut guard = store.pool().acquire().await?.detach();
    if !lock(&mut guard, entry.name).await? {
        return Err(RebuildError::Busy(entry.name));
    }
    for attempt in 0..TRIES_MAX {
        match try_rollback(&mut guard, entry.name, attempt).await {
            Err(RebuildError::Database(error)) if is_lock_timeout(&error) => {}
            done => return done,
        }
    }
    Err(RebuildError::Contended)
}

async fn try_rollback(
    guard: &mut PgConnection,
    name: &'static str,
    attempt: u32,
) -> Result<(), RebuildError> {
    let mut tx = guard.begin().await?;
    be_patient(&mut tx, attempt).await?;
    lock_checkpoint(&mut tx, &checkpoint(name)).await?;
    let before: Option<(Position, i32)> = sqlx::query_as(
        "update read_models.versions v set version = o.old_version, old_position = null, old_version = null
         from (select old_position, old_version from read_models.versions where name = $1) as o
         where v.name = $1 and o.old_position is not null
         returning o.old_position, o.old_version",
    )
    .bind(name)
    .fetch_optional(&mut *tx)
    .await?;
    let Some((position, _)) = before else { return Err(RebuildError::NoOld(name)) };
    let aside = format!("{name}_rebuild");
    shadow::execute(&mut tx, format!("drop table if exists {SCHEMA}.{aside}")).await?;
    shadow::execute(&mut tx, format!("alter table {SCHEMA}.{name} rename to {aside}")).await?;
    shadow::execute(&mut tx, format!("alter table {SCHEMA}.{} rename to {name}", old(name)))
        .await?;
    shadow::execute(&mut tx, format!("drop table {SCHEMA}.{aside}")).await?;
    // The epoch rises: the worker that counted on the other position takes the lease anew.
    sqlx::query(
        "update checkpoints set position = $2, epoch = epoch + 1, leased_until = null, updated_at = now()
         where consumer = $1",
    )
    .bind(checkpoint(name))
    .bind(position)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// Bounds how long the transaction waits for a lock.
async fn be_patient(tx: &mut PgConnection, attempt: u32) -> Result<(), sqlx::Error> {
    let wait = if attempt < TRIES_SHORT { LOCK_WAIT } else { LOCK_WAIT_LONG };
    shadow::execute(tx, format!("set local lock_timeout = '{wait}'")).await
}

/// Stops the worker of `consumer` until the transaction ends, and says where it stands.
async fn lock_checkpoint(tx: &mut PgConnection, consumer: &str) -> Result<Position, sqlx::Error> {
    let position =
        sqlx::query_scalar("select position from checkpoints where consumer = $1 for update")
            .bind(consumer)
            .fetch_optional(tx)
            .await?;
    Ok(position.unwrap_or_default())
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

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.as_deref() == Some(LOCK_NOT_AVAILABLE)
}
