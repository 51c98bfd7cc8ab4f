//! Whoever follows the log: a fenced checkpoint, bounded retries, and parked streams.

use std::future::Future;
use std::sync::Arc;

use schemas::{Position, Recorded};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{FeedHandle, Store};

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
    /// Something around us is down: the consumer waits and tries again, and parks nothing.
    #[error("{0}")]
    System(String),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::System(error.to_string())
    }
}

/// A consumer whose effect is rows: they move in one transaction with its checkpoint.
pub trait Projector: Send + 'static {
    /// The name of its checkpoint.
    fn name(&self) -> &str;

    /// Writes what `events` mean. Events are in order, without holes, each seen once; those of
    /// parked streams are left out.
    fn apply(
        &mut self,
        tx: &mut PgConnection,
        events: &[Arc<Recorded>],
    ) -> impl Future<Output = Result<(), Fault>> + Send;
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

/// Runs a projector until `drain` is cancelled.
pub async fn run_projector<P: Projector>(
    store: Store,
    feed: FeedHandle,
    projector: P,
    drain: CancellationToken,
) {
    let _ = (store, feed, projector, drain);
    unimplemented!()
}

/// Runs a reactor until `drain` is cancelled.
pub async fn run_reactor<R: Reactor>(
    store: Store,
    feed: FeedHandle,
    reactor: R,
    drain: CancellationToken,
) {
    let _ = (store, feed, reactor, drain);
    unimplemented!()
}
