//! Load, decide, append; on a lost race, again.

use schemas::{Decider, StreamId};

use crate::{Done, ExecuteError, Meta, Store};

impl Store {
    /// Carries out a command: loads its streams, asks `decide` what happens next, and appends
    /// the answer. A command answered before is not decided again. If another writer gets
    /// there first, all three steps are repeated, a bounded number of times.
    ///
    /// `streams` are those the command touches, the one that answers first.
    ///
    /// # Errors
    /// See [`ExecuteError`].
    pub async fn execute<D: Decider>(
        &self,
        streams: &[StreamId],
        command: &D::Command,
        meta: &Meta,
    ) -> Result<Done, ExecuteError> {
        let _ = (streams, command, meta);
        unimplemented!()
    }

    /// The same for streams that should not exist yet: decides on the empty state first, and
    /// loads only when it turns out otherwise.
    ///
    /// # Errors
    /// See [`ExecuteError`].
    pub async fn create<D: Decider>(
        &self,
        streams: &[StreamId],
        command: &D::Command,
        meta: &Meta,
    ) -> Result<Done, ExecuteError> {
        let _ = (streams, command, meta);
        unimplemented!()
    }

    /// A stream, folded.
    ///
    /// # Errors
    /// [`crate::Error::Database`], or [`crate::Error::Unreadable`].
    pub async fn load<D: Decider>(
        &self,
        stream: StreamId,
    ) -> Result<crate::Loaded<D>, crate::Error> {
        let _ = stream;
        unimplemented!()
    }
}
