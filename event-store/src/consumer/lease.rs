//! The right to move one checkpoint.
//!
//! One worker at a time holds the lease of a range of slices. Taking it raises the epoch, and
//! whatever an old holder still writes names the old epoch and changes nothing.

use std::time::Duration;

use schemas::Position;
use sqlx::{PgConnection, PgExecutor, PgPool};

use super::{Fault, chain};
use crate::slice::Slices;

/// How long a lease lasts without a sign of its holder, in seconds, by the database's clock.
pub(super) const LEASE_S: f64 = 5.0;

/// How often an idle holder gives a sign.
pub(super) const RENEW_EVERY: Duration = Duration::from_millis(1_500);

/// The right to move the checkpoint of a range.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) consumer: String,
    pub(super) slices: Slices,
    pub(super) epoch: i64,
    pub(super) position: Position,
    /// Where the range waits for the others, so that all can be laid out anew.
    pub(super) stop_at: Option<Position>,
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

impl From<AdvanceError> for Fault {
    fn from(error: AdvanceError) -> Self {
        match error {
            AdvanceError::Lost => Self::Lost,
            AdvanceError::Database(error) => error.into(),
        }
    }
}

impl Lease {
    /// Takes the lease of the range that begins at `from`, if it is free or has run out.
    pub(super) async fn take(
        pool: &PgPool,
        consumer: &str,
        from: i16,
        owner: &str,
    ) -> Result<Option<Self>, sqlx::Error> {
        let row: Option<(i16, i64, Position, Option<Position>)> = sqlx::query_as(
            "update checkpoints
             set epoch = epoch + 1, owner = $3,
                 leased_until = clock_timestamp() + make_interval(secs => $4)
             where consumer = $1 and from_slice = $2
               and (leased_until is null or leased_until < clock_timestamp())
               and (stop_at is null or position < stop_at)
             returning before_slice, epoch, position, stop_at",
        )
        .bind(consumer)
        .bind(from)
        .bind(owner)
        .bind(LEASE_S)
        .fetch_optional(pool)
        .await?;
        let consumer = consumer.to_owned();
        Ok(row.map(|(before, epoch, position, stop_at)| {
            let slices = Slices::new(from, before);
            tracing::info!(consumer, %slices, position, epoch, "worker starts");
            Self { consumer, slices, epoch, position, stop_at }
        }))
    }

    /// Whether the range waits for others.
    pub(super) fn is_at_stop(&self) -> bool {
        self.stop_at.is_some_and(|stop| self.position >= stop)
    }

    /// Whether `position` lies beyond where the range waits for others.
    pub(super) fn stops_before(&self, position: Position) -> bool {
        self.stop_at.is_some_and(|stop| position > stop)
    }

    /// Says that the holder lives, and tells where the checkpoint stands. None where it holds the
    /// lease no longer.
    pub(super) async fn renew(&self, pool: &PgPool) -> Result<Option<Position>, sqlx::Error> {
        sqlx::query_scalar(
            "update checkpoints set leased_until = clock_timestamp() + make_interval(secs => $4)
             from (select set_config('synchronous_commit', 'off', true)) as without_waiting
             where consumer = $1 and from_slice = $2 and epoch = $3
             returning position",
        )
        .bind(&self.consumer)
        .bind(self.slices.from())
        .bind(self.epoch)
        .bind(LEASE_S)
        .fetch_optional(pool)
        .await
    }

    /// Makes sure that the lease is still held, gives a sign, and keeps it until the transaction ends.
    pub(super) async fn hold(&self, connection: &mut PgConnection) -> Result<(), AdvanceError> {
        let held = sqlx::query(
            "update checkpoints set leased_until = clock_timestamp() + make_interval(secs => $4)
             where consumer = $1 and from_slice = $2 and epoch = $3",
        );
        let held =
            held.bind(&self.consumer).bind(self.slices.from()).bind(self.epoch).bind(LEASE_S);
        match held.execute(connection).await?.rows_affected() {
            0 => Err(AdvanceError::Lost),
            _ => Ok(()),
        }
    }

    /// Moves the checkpoint; call [`Lease::moved`] once that is committed.
    pub(super) async fn advance(
        &self,
        executor: impl PgExecutor<'_>,
        to: Position,
    ) -> Result<(), AdvanceError> {
        let moved = sqlx::query(
            "update checkpoints
             set position = $5, updated_at = clock_timestamp(),
                 leased_until = clock_timestamp() + make_interval(secs => $6)
             from (select set_config('synchronous_commit', 'off', true)) as without_waiting
             where consumer = $1 and from_slice = $2 and epoch = $3 and position = $4",
        );
        let moved = moved.bind(&self.consumer).bind(self.slices.from()).bind(self.epoch);
        let moved = moved.bind(self.position).bind(to).bind(LEASE_S);
        match moved.execute(executor).await?.rows_affected() {
            0 => Err(AdvanceError::Lost),
            _ => Ok(()),
        }
    }

    /// Whether the lease is held, and the checkpoint where its holder thinks it is.
    pub(super) async fn stands(&self, executor: impl PgExecutor<'_>) -> Result<bool, sqlx::Error> {
        let stands = sqlx::query(
            "select from checkpoints
             where consumer = $1 and from_slice = $2 and epoch = $3 and position = $4",
        );
        let stands = stands.bind(&self.consumer).bind(self.slices.from()).bind(self.epoch);
        Ok(stands.bind(self.position).fetch_optional(executor).await?.is_some())
    }

    /// Moves the checkpoint, or only gives a sign, without waiting for the disk: should the
    /// database crash, the last moves are lost and the events in between are seen again.
    pub(super) fn save(
        &self,
        pool: PgPool,
        to: Position,
    ) -> impl Future<Output = Result<(), AdvanceError>> + Send + use<> {
        let Self { consumer, slices, epoch, position, .. } = self.clone();
        async move {
            let moved = sqlx::query(
                "update checkpoints
                 set position = $5,
                     updated_at = case when position < $5 then clock_timestamp()
                                  else updated_at end,
                     leased_until = clock_timestamp() + make_interval(secs => $6)
                 from (select set_config('synchronous_commit', 'off', true)) as without_waiting
                 where consumer = $1 and from_slice = $2 and epoch = $3
                   and position between $4 and $5",
            );
            let moved = moved.bind(consumer).bind(slices.from()).bind(epoch).bind(position);
            match moved.bind(to).bind(LEASE_S).execute(&pool).await?.rows_affected() {
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
        let Self { consumer, slices, position, epoch, .. } = self;
        if lost {
            tracing::warn!(consumer, %slices, position, epoch, "the lease was lost");
        } else {
            tracing::info!(consumer, %slices, position, epoch, "worker stops");
        }
        let released = sqlx::query(
            "update checkpoints set leased_until = null
             where consumer = $1 and from_slice = $2 and epoch = $3",
        );
        let released = released.bind(&consumer).bind(slices.from()).bind(epoch).execute(pool).await;
        if let Err(error) = released {
            tracing::warn!(consumer, error = %chain(&error), "the lease was not given back");
        }
    }
}
