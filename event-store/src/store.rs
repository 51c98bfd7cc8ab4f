//! The handle that everybody holds, and the task behind it.

use std::sync::Arc;

use schemas::{Position, Recorded, StreamId, Version};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{Append, AppendError, Done, Error};

/// How to reach a log.
#[derive(Debug, Clone)]
pub struct Options {
    /// `postgres://…`
    pub database_url: String,
    /// The log's name: 1 to 32 of `a-z 0-9 _`. Names its JetStream stream and subjects.
    pub log: String,
    /// Connections in the pool, besides the writer's own.
    pub connections_max: u32,
}

/// A log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {}

/// The task that writes. Run it once per store.
#[derive(Debug)]
pub struct Writer {}

impl Writer {
    /// Writes batches until `drain` is cancelled and the queue is empty.
    pub async fn run(self, drain: CancellationToken) {
        let _ = drain;
        unimplemented!()
    }
}

impl Store {
    /// Connects. `nats`, where given, is poked after every commit so that readers look at once.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Database`].
    pub async fn open(
        options: &Options,
        nats: Option<async_nats::Client>,
    ) -> Result<(Self, Writer), Error> {
        let _ = (options, nats);
        unimplemented!()
    }

    /// Brings the schema of the log up to date; for the role that owns it.
    ///
    /// # Errors
    /// [`Error::Migrate`] or [`Error::Database`].
    pub async fn migrate(database_url: &str) -> Result<(), Error> {
        let _ = database_url;
        unimplemented!()
    }

    /// Connections for reading and for the consumers' own tables.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        unimplemented!()
    }

    /// The log's name.
    #[must_use]
    pub fn log(&self) -> &str {
        unimplemented!()
    }

    /// Writes one command's answer, whole or not at all, in a batch with others.
    ///
    /// # Errors
    /// See [`AppendError`]; each variant asks for a different next step.
    pub async fn append(&self, append: Append) -> Result<Done, AppendError> {
        let _ = append;
        unimplemented!()
    }

    /// The position of the last event in the log.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn head(&self) -> Result<Position, Error> {
        unimplemented!()
    }

    /// At most `limit` events after `after`, in order.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn read(&self, after: Position, limit: i64) -> Result<Vec<Arc<Recorded>>, Error> {
        let _ = (after, limit);
        unimplemented!()
    }

    /// At most `limit` events of a stream after version `after`, in order.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn read_stream(
        &self,
        stream: StreamId,
        after: Version,
        limit: i64,
    ) -> Result<Vec<Arc<Recorded>>, Error> {
        let _ = (stream, after, limit);
        unimplemented!()
    }
}
