//! Follows the whole log: JetStream delivers quickly, Postgres fills every hole.

use tokio_util::sync::CancellationToken;

use crate::Store;

/// The task that follows the log. Run it once per process.
#[derive(Debug)]
pub struct Feed {}

/// Where consumers take events from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FeedHandle {}

impl Feed {
    /// A feed of `store`'s log.
    #[must_use]
    pub fn new(store: Store, nats: async_nats::Client) -> (Self, FeedHandle) {
        let _ = (store, nats);
        unimplemented!()
    }

    /// Follows the log until `drain` is cancelled. While NATS is away it polls Postgres.
    pub async fn run(self, drain: CancellationToken) {
        let _ = drain;
        unimplemented!()
    }
}
