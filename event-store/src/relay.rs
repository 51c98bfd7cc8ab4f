//! Publishes the log to JetStream, in order, one leader at a time.

use tokio_util::sync::CancellationToken;

use crate::{Error, Store};

/// The relay of one log.
#[derive(Debug)]
pub struct Relay {}

impl Relay {
    /// A relay that waits to lead.
    #[must_use]
    pub fn new(store: Store, nats: async_nats::Client) -> Self {
        let _ = (store, nats);
        unimplemented!()
    }

    /// Leads when it can and publishes until `drain` is cancelled. Faults of Postgres and NATS
    /// are waited out.
    ///
    /// # Errors
    /// [`Error::Config`] only: something that waiting does not mend.
    pub async fn run(self, drain: CancellationToken) -> Result<(), Error> {
        let _ = drain;
        unimplemented!()
    }
}
