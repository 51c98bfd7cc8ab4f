//! What can go wrong. Each variant asks the caller for a different next step.

use schemas::{StreamId, Version};

use crate::Refused;

/// The store could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is away or overloaded: retry later.
    #[error("the event store is unavailable")]
    Database(#[from] sqlx::Error),
    /// The migrations did not run.
    #[error("the schema could not be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// NATS is away or refuses: retry later.
    #[error("NATS is unavailable: {0}")]
    Nats(String),
    /// Something is set wrongly: fix it and start again.
    #[error("{0}")]
    Config(String),
    /// A stream holds an event that this release cannot read: deploy the release that can.
    #[error("event {version} of {stream} cannot be read: {why}")]
    Unreadable {
        /// Whose event.
        stream: StreamId,
        /// Which one.
        version: Version,
        /// What is wrong with it.
        why: String,
    },
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The stream moved on while we decided: load and decide again.
    #[error("{stream} is at version {current}")]
    Conflict {
        /// The stream that moved.
        stream: StreamId,
        /// Where it is.
        current: Version,
    },
    /// Another request was made under this command id: choose another id.
    #[error("another request was made under this command id")]
    Mismatch,
    /// This very request was refused before, and that refusal was kept.
    #[error("refused before: {}", .0.code)]
    Refused(Refused),
    /// The request can never be stored: fix it.
    #[error("{0}")]
    Invalid(String),
    /// The queue is full: retry later.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The outcome may be unknown: send the same command again, it is done once.
    #[error("the event store is unavailable")]
    Unavailable(#[source] Box<Error>),
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// A rule said no: asking again changes nothing.
    #[error("{}", .refused.detail)]
    Refused {
        /// Which rule.
        refused: Refused,
        /// Whether this is the answer of an earlier time.
        replayed: bool,
    },
    /// The caller's `If-Match` does not hold.
    #[error("the version is {current}")]
    VersionMismatch {
        /// The version it has.
        current: Version,
    },
    /// Others were faster at every attempt: retry later.
    #[error("too many others change the same thing")]
    Contended,
    /// The append failed.
    #[error(transparent)]
    Append(AppendError),
    /// The load failed.
    #[error(transparent)]
    Store(#[from] Error),
}
