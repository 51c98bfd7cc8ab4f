//! The one shape of every rule: fold what happened, then decide what happens next.

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Event, StreamId};

/// A rule said no. Nothing happened, and asking again changes nothing.
pub trait Refusal: std::error::Error + Send + Sync + 'static {
    /// The stable name that callers may match on, as `not_released`.
    fn code(&self) -> &'static str;
}

/// State, and the two pure functions around it. No clock, no chance, no I/O.
///
/// The state of a long stream is kept as a snapshot: JSON that is told from that of another
/// release by [`Decider::NAME`], [`Decider::REVISION`] and the JSON Schema of the state. Whoever
/// changes a field need not think of it; whoever changes what `evolve` makes of the same events
/// raises the revision.
pub trait Decider:
    Default + Clone + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// The name of the state, by which its snapshots are kept apart from those of others.
    const NAME: &'static str;
    /// Raised when `evolve` makes something else of the same events, and the state looks the same:
    /// snapshots of old are ignored from then on.
    const REVISION: u16 = 1;
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
