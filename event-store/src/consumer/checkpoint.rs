//! How far a consumer has come, and who may say so.
//!
//! One worker at a time holds a consumer's lease. Taking it raises the epoch, and whatever an
//! old holder still writes names the old epoch and changes nothing.

use std::time::Duration;

use schemas::{Position, Timestamp};
use sqlx::{PgConnection, PgPool};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Backoff, chain};

/// How long a lease lasts without a sign of its holder, in seconds, by the database's clock.
const LEASE_S: f64 = 5.0;

/// How often an idle holder gives a sign.
pub(super) const RENEW_EVERY: Duration = Duration::from_millis(1_500);

/// How often those who wait look whether the lease is free.
const STANDBY_EVERY: Duration = Duration::from_millis(250);

/// Where a consumer stands.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Progress {
    /// Its name.
    pub consumer: String,
    /// Everything up to this position is done or parked.
    pub position: Position,
    /// How often the lease has changed hands.
    pub epoch: i64,
    /// Who holds the lease, or held it last.
    pub owner: Option<String>,
    /// Until when; none where nobody does.
    pub leased_until: Option<Timestamp>,
    /// When the position last moved.
    pub updated_at: Timestamp,
}

/// Where every consumer stands, by name.
///
/// # Errors
/// If the database is away.
pub async fn positions(pool: &PgPool) -> Result<Vec<Progress>, crate::Error> {
    let rows = sqlx::query_as(
        "select consumer, position, epoch, owner, leased_until, updated_at
         from checkpoints order by consumer",
    );
    Ok(rows.fetch_all(pool).await?)
}

/// The right to move one consumer's checkpoint.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) consumer: String,
    pub(super) epoch: i64,
    pub(super) position: Position,
}

/// Why a checkpoint did not move.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdvanceError {
    /// Another worker has the lease, or the checkpoint was set by hand.
    #[error("the checkpoint is another's")]
    Lost,
    #[error("the database is away")]
    Database(#[from] sqlx::Error),
}

/// Waits for the lease of `consumer`. None when `drain` is cancelled first.
pub(super) async fn stand_by(
    pool: &PgPool,
    consumer: &str,
    drain: &CancellationToken,
) -> Option<Lease> {
    let mut faults = Backoff::default();
    let mut told = false;
    loop {
        let acquired = tokio::select! {
            biased;
            () = drain.cancelled() => return None,
            acquired = acquire(pool, consumer) => acquired,
        };
        let wait = match acquired {
            Ok(Some(lease)) => {
                let Lease { position, epoch, .. } = &lease;
                tracing::info!(consumer, position, epoch, "consumer starts");
                return Some(lease);
            }
            Ok(None) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(consumer, "another worker leads: standing by");
                }
                STANDBY_EVERY
            }
            Err(error) => {
                if faults.failed() {
                    tracing::warn!(consumer, error = %chain(&error), "the lease cannot be read");
                }
                faults.delay()
            }
        };
        tokio::select! {
            () = drain.cancelled() => return None,
            () = sleep(wait) => {}
        }
    }
}

/// Takes the lease if it is free or has expired.
async fn acquire(pool: &PgPool, consumer: &str) -> Result<Option<Lease>, sqlx::Error> {
    sqlx::query(
        "insert into checkpoints (consumer, epoch, position) values ($1, 0, 0)
         on conflict (consumer) do nothing",
    )
    .bind(consumer)
    .execute(pool)
    .await?;
    let row: Option<(i64, Position)> = sqlx::query_as(
        "update checkpoints
         set epoch = epoch + 1, owner = $2,
             leased_until = clock_timestamp() + make_interval(secs => $3)
         where consumer = $1 and (leased_until is null or leased_until < clock_timestamp())
         returning epoch, position",
    )
    .bind(consumer)
    .bind(owner())
    .bind(LEASE_S)
    .fetch_optional(pool)
    .await?;
    let consumer = consumer.to_owned();
    Ok(row.map(|(epoch, position)| Lease { consumer, epoch, position }))
}

impl Lease {
    /// Says that the holder lives. False where it holds the lease no longer.
    pub(super) async fn renew(&self, pool: &PgPool) -> Result<bool, sqlx::Error> {
        let renewed = sqlx::query(
            "update checkpoints set leased_until = clock_timestamp() + make_interval(secs => $3)
             from (select set_config('synchronous_commit', 'off', true)) as without_waiting
             where consumer = $1 and epoch = $2",
        )
        .bind(&self.consumer)
        .bind(self.epoch)
        .bind(LEASE_S)
        .execute(pool)
        .await?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Moves the checkpoint within a transaction; call [`Lease::moved`] once that is committed.
    /// False where an earlier attempt, whose outcome was unknown, did it already.
    pub(super) async fn advance(
        &self,
        connection: &mut PgConnection,
        to: Position,
    ) -> Result<bool, AdvanceError> {
        debug_assert!(to > self.position, "a checkpoint only moves on");
        let moved = sqlx::query(
            "update checkpoints
             set position = $4, updated_at = clock_timestamp(),
                 leased_until = clock_timestamp() + make_interval(secs => $5)
             where consumer = $1 and epoch = $2 and position = $3",
        )
        .bind(&self.consumer)
        .bind(self.epoch)
        .bind(self.position)
        .bind(to)
        .bind(LEASE_S)
        .execute(&mut *connection)
        .await?;
        if moved.rows_affected() == 1 {
            return Ok(true);
        }
        let done = sqlx::query(
            "select 1 from checkpoints where consumer = $1 and epoch = $2 and position = $3",
        )
        .bind(&self.consumer)
        .bind(self.epoch)
        .bind(to)
        .fetch_optional(connection)
        .await?;
        if done.is_some() { Ok(false) } else { Err(AdvanceError::Lost) }
    }

    /// Moves the checkpoint, or only gives a sign, without waiting for the disk: should the
    /// database crash, the last moves are lost and the events in between are seen again.
    pub(super) fn save(
        &self,
        pool: PgPool,
        to: Position,
    ) -> impl Future<Output = Result<(), AdvanceError>> + Send + 'static {
        let Self { consumer, epoch, position } = self;
        let (consumer, epoch, position) = (consumer.clone(), *epoch, *position);
        async move {
            let moved = sqlx::query(
                "update checkpoints
                 set position = $4,
                     updated_at = case when position < $4 then clock_timestamp()
                                  else updated_at end,
                     leased_until = clock_timestamp() + make_interval(secs => $5)
                 from (select set_config('synchronous_commit', 'off', true)) as without_waiting
                 where consumer = $1 and epoch = $2 and position between $3 and $4",
            );
            let moved = moved.bind(consumer).bind(epoch).bind(position).bind(to).bind(LEASE_S);
            match moved.execute(&pool).await?.rows_affected() {
                0 => Err(AdvanceError::Lost),
                _ => Ok(()),
            }
        }
    }

    /// Notes that a move to `position` is committed.
    pub(super) fn moved(&mut self, position: Position) {
        self.position = position;
    }

    /// Gives the lease back, so that the next worker need not wait for it to expire.
    pub(super) async fn retire(self, pool: &PgPool, lost: bool) {
        let Self { position, epoch, .. } = self;
        if lost {
            tracing::warn!(consumer = self.consumer, position, epoch, "the lease was lost");
        } else {
            tracing::info!(consumer = self.consumer, position, epoch, "consumer stops");
        }
        let released = sqlx::query(
            "update checkpoints set leased_until = null where consumer = $1 and epoch = $2",
        );
        let released = released.bind(&self.consumer).bind(self.epoch).execute(pool).await;
        if let Err(error) = released {
            let consumer = self.consumer;
            tracing::warn!(consumer, error = %chain(&error), "the lease was not given back");
        }
    }
}

/// Names this process, for people.
fn owner() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "local".to_owned());
    format!("{host}/{}", std::process::id())
}
