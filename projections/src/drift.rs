//! The drift detector: folds rows anew, a few at a time, all the time, and tells of those that are
//! not what their events say.
//!
//! The log is the truth and the tables are caches of it; this is what notices that one of them
//! went wrong, by a fault of ours or by a hand in the database, before somebody relies on it.

use std::time::Duration;

use event_store::{Slices, Store};
use metrics::{Unit, counter, describe_counter};
use schemas::{Chance, Position};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::events::LeftOut;
use crate::projection::Projection;
use crate::row::SCHEMA;
use crate::sample::{self, Checked};
use crate::{checkpoint, migrate, registry};

/// How many rows a process looks at in a second, over all read models, unless told otherwise.
pub const RATE_DEFAULT: u32 = 1;

/// The most rows that a process looks at in a second.
pub const RATE_MAX: u32 = 1_000;

/// How many of the last positions half of the rows are taken from: what was touched lately is what
/// a new fault shows on.
const RECENT_POSITIONS: i64 = 10_000;

/// The longest look at a row, in the terms of `statement_timeout`.
const LOOK_MAX: &str = "2s";

const DRIFT: &str = "waybill_projection_drift_total";
const CHECKED: &str = "waybill_projection_drift_checked_total";

/// Says what the numbers of this crate mean. Once per process, after its recorder is there.
pub fn describe() {
    describe_counter!(DRIFT, Unit::Count, "Rows that are not what their events say");
    describe_counter!(CHECKED, Unit::Count, "Rows that were folded anew and compared");
    for name in registry::names() {
        counter!(DRIFT, "projection" => name).increment(0); // Told from the beginning.
        counter!(CHECKED, "projection" => name).increment(0);
    }
}

/// Looks at rows by chance until it is stopped.
#[derive(Debug)]
pub struct Detector {
    store: Store,
    chance: Chance,
    per_second: u32,
}

impl Detector {
    /// Looks at so many rows a second, at most [`RATE_MAX`]; at none if that is 0.
    #[must_use]
    pub fn new(store: Store, chance: Chance, per_second: u32) -> Self {
        Self { store, chance, per_second: per_second.min(RATE_MAX) }
    }

    /// Runs until `drain` is cancelled.
    pub async fn run(self, drain: CancellationToken) {
        if self.per_second == 0 {
            return drain.cancelled().await;
        }
        let mut tick = interval(Duration::from_secs(1) / self.per_second);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        while drain.run_until_cancelled(tick.tick()).await.is_some() {
            // Never cut off: a connection would go back to the pool in the middle of a transaction.
            match self.look().await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "rows cannot be looked at for drift; it is tried again");
                }
                Err(_) => {}
            }
        }
    }

    /// Looks at one row of one read model.
    async fn look(&self) -> Result<(), sqlx::Error> {
        let count = i64::try_from(registry::ALL.len()).unwrap_or(i64::MAX);
        let at = usize::try_from(sample::below(self.chance, count)).unwrap_or_default();
        let entry = registry::ALL[at];
        let drift = match entry.check(self.store.pool(), self.chance).await? {
            Checked::Nothing => return Ok(()),
            Checked::Same => None,
            Checked::Different(drift) => Some(drift),
        };
        counter!(CHECKED, "projection" => entry.name).increment(1);
        if let Some(drift) = drift {
            counter!(DRIFT, "projection" => entry.name).increment(1);
            tracing::error!(
                projection = entry.name,
                key = %drift.key,
                stream = %drift.stream,
                position = drift.position,
                columns = drift.columns().join(" "),
                stored = drift.stored_told(),
                folded = drift.folded_told(),
                "{drift}; `waybill projections rebuild {}` makes the table anew",
                entry.name
            );
        }
        Ok(())
    }
}

/// Looks at one row of `P`, by chance.
///
/// Row, events, checkpoint and what is parked are read in one snapshot, so that it does not matter
/// what is written meanwhile; and the table's name is held before the snapshot is taken, so that
/// it is the table of that moment.
pub(crate) async fn check<P: Projection>(
    pool: &PgPool,
    chance: Chance,
) -> Result<Checked, sqlx::Error> {
    let mut tx = event_store::begin(pool).await?;
    let begin = format!(
        "set transaction isolation level repeatable read, read only; \
         set local statement_timeout = '{LOOK_MAX}'; set local lock_timeout = '{LOOK_MAX}'; \
         lock table {SCHEMA}.{} in access share mode",
        P::NAME
    );
    sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *tx).await?;
    // A table that another release keeps is that release's to judge.
    if migrate::version(&mut *tx, P::NAME).await? != Some(i32::from(P::VERSION)) {
        return Ok(Checked::Nothing);
    }
    let consumer = checkpoint(P::NAME);
    let ranges = ranges(&mut tx, &consumer).await?;
    let furthest = ranges.iter().map(|(_, position)| *position).max().unwrap_or_default();
    // Shared rows have one worker; until that is so, nobody can say what is in them.
    if furthest == 0 || P::SHARED_ROWS && ranges.len() > 1 {
        return Ok(Checked::Nothing);
    }
    let picked = sample::pick::<P>(&mut tx, chance, furthest, RECENT_POSITIONS).await?;
    let Some(event) = picked else { return Ok(Checked::Nothing) };
    let range = ranges.iter().find(|(slices, _)| slices.holds(event.stream.id));
    let Some((_, through)) = range else { return Ok(Checked::Nothing) };
    let leaves_out = LeftOut::of(&mut tx, &consumer).await?;
    let checked = sample::compare::<P>(&mut tx, P::NAME, &leaves_out, event, *through).await?;
    tx.rollback().await?;
    Ok(checked)
}

/// Where the ranges of a consumer stand.
async fn ranges(
    connection: &mut PgConnection,
    consumer: &str,
) -> Result<Vec<(Slices, Position)>, sqlx::Error> {
    let rows: Vec<(i16, i16, Position)> = sqlx::query_as(
        "select from_slice, before_slice, position from checkpoints where consumer = $1",
    )
    .bind(consumer)
    .fetch_all(connection)
    .await?;
    let range = |(from, before, position)| (Slices::new(from, before), position);
    Ok(rows.into_iter().map(range).collect())
}
