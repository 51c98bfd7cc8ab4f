//! Whoever follows the log: a fenced checkpoint, bounded retries, and parked streams.
//!
//! A *projector* writes rows in one transaction with its checkpoint. A *reactor* acts on the
//! world, many events at a time, and may see the last ones again after a crash. For both, what
//! cannot be taken parks its stream (or key) in order, and what is wrong with the system is
//! waited out.

mod backoff;
mod batch;
mod checkpoint;
mod crew;
mod lease;
mod moves;
pub mod parked;
mod projector;
mod reactor;
mod window;

use std::future::Future;
use std::sync::Arc;

use schemas::{Position, Recorded};
use sqlx::PgPool;
use uuid::Uuid;

pub(crate) use backoff::Backoff;
pub use batch::{AtOnce, Batch, Moved};
pub use checkpoint::{Health, Progress, positions};
pub use crew::{WORKERS_MAX, scale};
pub use moves::Moves;
pub use projector::run_projector;
pub use reactor::run_reactor;

/// Tries of one event before it is parked.
const TRIES_MAX: u32 = 4;

/// Why a consumer could not take an event.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// This event can never be taken as things are: its stream is parked after a few retries,
    /// in order, and other streams go on.
    #[error("event {position}: {why}")]
    Poison {
        /// Which event.
        position: Position,
        /// What is wrong with it.
        why: String,
    },
    /// The database refuses what was written (SQLSTATE class 22, 23 or 54): one of the events is
    /// poison, and the consumer finds out which.
    #[error("{0}")]
    Data(String),
    /// Something around us is down: the consumer waits and tries again, and parks nothing.
    #[error("{0}")]
    System(String),
    /// Another worker has taken over: what was to be written is not, and this worker stops.
    #[error("another worker has taken over")]
    Lost,
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        // Not a value, against a rule, beyond a limit. Whoever was sent away from a deadlock (40P01)
        // is right to come back.
        let data =
            code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)));
        let why = chain(&error);
        if data { Self::Data(why) } else { Self::System(why) }
    }
}

/// A consumer whose effect is rows: they move together with its checkpoint, or not at all.
pub trait Projector: Send + Sync + 'static {
    /// What a worker remembers for as long as it holds its lease: nobody else writes its rows
    /// meanwhile, so what was read or written once need not be read again.
    type Held: Send;

    /// The name of its checkpoint.
    fn name(&self) -> &str;

    /// Whether it may be spread over several workers, each with a part of the streams. Not where
    /// events of several streams change one row.
    fn spreads(&self) -> bool {
        true
    }

    /// Whether an event means anything to it. What it does not want is never handed to it.
    fn wants(&self, _event: &Recorded) -> bool {
        true
    }

    /// Whether it can work now, and what it then remembers: asked whenever a worker has taken a
    /// lease, before it sees any event. After a fault the worker waits and asks again.
    fn begin(&self, pool: &PgPool) -> impl Future<Output = Result<Self::Held, Fault>> + Send;

    /// Writes what `events` mean, by [`Batch::at_once`] or in a transaction that [`Batch::commit`]
    /// ends. Events are in order, without holes, each seen once; those of parked streams are left
    /// out. After a fault nothing is written, and the same events come again, perhaps fewer at a
    /// time.
    fn apply(
        &self,
        held: &mut Self::Held,
        batch: Batch<'_>,
        events: &[Arc<Recorded>],
    ) -> impl Future<Output = Result<Moved, Fault>> + Send;
}

/// A consumer whose effect may safely be repeated: it appends under derived command ids, or
/// calls out under an idempotency key. After a crash it may see the last events again.
pub trait Reactor: Send + Sync + 'static {
    /// The name of its checkpoint.
    fn name(&self) -> &str;

    /// What must stay in order: events of one key are handled one after the other, those of
    /// different keys side by side. None where the event is not for this consumer.
    fn key(&self, event: &Recorded) -> Option<Uuid>;

    /// Acts on one event.
    fn react(&self, event: &Recorded) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
