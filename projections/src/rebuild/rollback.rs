//! The way back: the table that the last rebuild replaced takes its name again.

use event_store::Store;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

use super::switch::{TRIES_MAX, be_patient, is_passing, old, stop_workers};
use super::{RebuildError, SCHEMA, lock, shadow};
use crate::checkpoint;
use crate::registry::Entry;

/// What a rollback went back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolledBack {
    /// The version of the table that is read again.
    pub version: i32,
    /// Whether this release folds that version. If not, the table waits for the release that does.
    pub folded: bool,
}

/// Goes back to the table that the last rebuild of `name` replaced. It goes on from where it was
/// left, so for a moment queries see an older state. The table that is left is gone.
///
/// # Errors
/// [`RebuildError::Unknown`], [`RebuildError::Busy`], [`RebuildError::NoOld`],
/// [`RebuildError::Contended`] or [`RebuildError::Database`].
pub async fn rollback(store: &Store, name: &str) -> Result<RolledBack, RebuildError> {
    let entry = Entry::find(name).ok_or_else(|| RebuildError::Unknown(name.to_owned()))?;
    let mut guard = store.pool().acquire().await?.detach();
    if !lock(&mut guard, entry.name).await? {
        return Err(RebuildError::Busy(entry.name.to_owned()));
    }
    for attempt in 0..TRIES_MAX {
        match try_rollback(&mut guard, entry.name, attempt).await {
            Err(error) if is_passing(&error) => {}
            Ok(version) => {
                guard.close().await?;
                return Ok(RolledBack { version, folded: version == i32::from(entry.version) });
            }
            Err(error) => return Err(error),
        }
    }
    Err(RebuildError::Contended(entry.name))
}

async fn try_rollback(
    guard: &mut PgConnection,
    name: &'static str,
    attempt: u32,
) -> Result<i32, RebuildError> {
    let mut tx = guard.begin().await?;
    be_patient(&mut tx, attempt).await?;
    let live = stop_workers(&mut tx, name).await?;
    // What is gone back from is not rebuilt by itself, or the rollback would not last.
    let before: Option<(i32, Value)> = sqlx::query_as(
        "update read_models.versions as now
         set version = was.old_version, old_version = null, old_checkpoints = null,
             refused_version = nullif(was.version, was.old_version)
         from (select * from read_models.versions where name = $1) as was
         where now.name = $1 and was.old_checkpoints is not null
         returning was.old_version, was.old_checkpoints",
    )
    .bind(name)
    .fetch_optional(&mut *tx)
    .await?;
    let Some((version, checkpoints)) = before else { return Err(RebuildError::NoOld(name)) };
    // A rebuild that was cut short counted on the position that is left now.
    sqlx::query("delete from read_models.rebuilds where name = $1")
        .bind(name)
        .execute(&mut *tx)
        .await?;
    let (aside, old) = (shadow::name(name), old(name));
    shadow::execute(&mut tx, format!("drop table if exists {SCHEMA}.{aside}")).await?;
    shadow::execute(&mut tx, format!("drop table {SCHEMA}.{name}")).await?;
    shadow::execute(&mut tx, format!("alter table {SCHEMA}.{old} rename to {name}")).await?;
    put_back(&mut tx, name, &live.rows, &checkpoints).await?;
    tx.commit().await?;
    Ok(version)
}

/// Puts the checkpoints back as they were, ranges and all. The epoch is a new one for everybody:
/// whoever counted on the positions that were left takes the lease anew.
async fn put_back(
    tx: &mut PgConnection,
    name: &str,
    now: &Value,
    before: &Value,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from checkpoints where consumer = $1")
        .bind(checkpoint(name))
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "insert into checkpoints select * from jsonb_populate_recordset(null::checkpoints, $1)",
    )
    .bind(before)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "update checkpoints
         set leased_until = null, stop_at = null, updated_at = clock_timestamp(),
             epoch = 1 + greatest(epoch, (
                 select max(epoch) from jsonb_populate_recordset(null::checkpoints, $2)))
         where consumer = $1",
    )
    .bind(checkpoint(name))
    .bind(now)
    .execute(tx)
    .await?;
    Ok(())
}
