//! The one shape of every rule: fold what happened, then decide what happens next.

use crate::{Event, StreamId};

/// A rule said no. Nothing happened, and asking again changes nothing.
pub trait Refusal: std::error::Error + Send + Sync + 'static {
    /// The stable name that callers may match on, as `not_released`.
    fn code(&self) -> &'static str;
}

/// State, and the two pure functions around it. No clock, no chance, no I/O.
pub trait Decider: Default + Clone + Send + Sync + 'static {
    /// What can be asked.
    type Command: Send + Sync;
    /// What can happen.
    type Event: Event;
    /// Why not.
    type Refusal: Refusal;

    /// What happens when `command` is asked of this state. Nothing, if it changes nothing.
    ///
    /// # Errors
    /// The rule that says no.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// The state after `event`.
    #[must_use]
    fn evolve(self, event: &Self::Event) -> Self;

    /// The stream that `event` belongs to, where a command touches several; none means the
    /// first one the command names.
    #[must_use]
    fn stream_of(event: &Self::Event) -> Option<StreamId> {
        let _ = event;
        None
    }

    /// Joins the states of two streams, where a command touches several.
    #[must_use]
    fn join(self, other: Self) -> Self {
        let _ = other;
        self
    }
}
