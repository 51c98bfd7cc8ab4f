//! Why a table was not rebuilt.

use schemas::{Position, StreamId};
use uuid::Uuid;

use crate::sample::Drift;

/// Why a table was not rebuilt. The live table is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There is no such read model.
    #[error("there is no read model `{0}`")]
    Unknown(String),
    /// Somebody else rebuilds it right now.
    #[error("`{0}` is being rebuilt already")]
    Busy(String),
    /// The table is of a later release, which a rebuild would undo.
    #[error(
        "the table of `{name}` holds version {found}, and this release folds version {ours}: \
         rebuild it with the release that folds version {found}, or go back with \
         `waybill projections rollback {name}`"
    )]
    Newer {
        /// Of which read model.
        name: &'static str,
        /// The version that it holds.
        found: i32,
        /// The version that this release folds.
        ours: u16,
    },
    /// There is no old table to go back to.
    #[error("`{0}` has no old table")]
    NoOld(&'static str),
    /// The log holds an event that this release cannot read, and the live table has not parked
    /// its stream: deploy the release that can.
    #[error("event {position} of {stream} cannot be read: {why}")]
    Unreadable {
        /// Whose event.
        stream: StreamId,
        /// Which one.
        position: Position,
        /// What is wrong with it.
        why: String,
    },
    /// Rows were lost or made by somebody else. The next start begins anew.
    #[error(
        "the new table of `{name}` has {found} rows where {written} were written, so it was not \
         switched to; it stays as {name}_rebuild until the next start, which begins anew"
    )]
    Miscounted {
        /// Of which read model.
        name: &'static str,
        /// So many rows are there.
        found: i64,
        /// So many should be.
        written: i64,
    },
    /// A row of the new table is not what its stream says. The next start begins anew.
    #[error(
        "the new table was not switched to: {0}; it stays as {table}_rebuild until the next \
         start, which begins anew",
        table = .0.projection
    )]
    Wrong(Box<Drift>),
    /// A stream was parked when it was folded and is no longer. The next start begins anew.
    #[error(
        "stream {stream} was parked when `{name}` was folded and has been taken up since, and its \
         rows are shared with others: start again"
    )]
    TakenUp {
        /// Of which read model.
        name: &'static str,
        /// Whose events.
        stream: Uuid,
    },
    /// Readers would not let go of the table: try again later.
    #[error(
        "the tables of `{0}` could not be switched: others kept them busy; the next start goes on \
         from here"
    )]
    Contended(&'static str),
    /// The ranges of the consumer were being laid out anew.
    #[error(
        "the workers of the read model were being laid out anew; the next start goes on from here"
    )]
    Moving,
    /// The database is away: try again later.
    #[error("the database is unavailable")]
    Database(#[from] sqlx::Error),
}

impl RebuildError {
    /// Whether what was built so far is worth nothing.
    pub(super) fn begins_anew(&self) -> bool {
        matches!(self, Self::Miscounted { .. } | Self::Wrong(_) | Self::TakenUp { .. })
    }
}
