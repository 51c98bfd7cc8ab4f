//! What follows from an outcome, and handing it to the aggregate.

use event_store::{AppendError, Error, ExecuteError, Fault, Meta, Store};
use schemas::{Clock, CommandId, Decider, OrderId, Recorded, Text};
use sha2::{Digest as _, Sha256};

use crate::outcome::Rejection;

/// What follows from an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next<C> {
    /// That was all.
    Nothing,
    /// The aggregate is to know.
    Record(Box<C>),
    /// Nothing follows yet: the same question is put again later.
    Wait(String),
    /// Nothing can follow as things are: somebody has to look.
    Park(String),
}

impl<C> Next<C> {
    /// The aggregate is to know.
    pub(crate) fn record(command: C) -> Self {
        Self::Record(Box::new(command))
    }

    /// Somebody has to look at this no.
    pub(crate) fn park(rejection: &Rejection) -> Self {
        let message = rejection.field("message").unwrap_or_default();
        Self::Park(format!("the question is refused: {}: {message}", rejection.code()))
    }
}

/// Hands answers to aggregates.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    /// Whom the log names as the one who says so.
    pub(crate) actor: &'static str,
}

impl Recorder {
    /// Does what follows from `event`. The first answer stands: where the event was answered
    /// before, nothing happens.
    pub(crate) async fn conclude<D: Decider>(
        &self,
        event: &Recorded,
        order: OrderId,
        next: Next<D::Command>,
    ) -> Result<(), Fault> {
        let command = match next {
            Next::Nothing => return Ok(()),
            Next::Wait(why) => return Err(Fault::System(why)),
            Next::Park(why) => return Err(poison(event, why)),
            Next::Record(command) => command,
        };
        let meta = self.meta(event, order);
        match self.store.execute::<D>(&[event.stream], &command, &meta).await {
            Ok(_) | Err(ExecuteError::Append(AppendError::Mismatch)) => Ok(()),
            Err(error) => Err(fault(event, &error)),
        }
    }

    fn meta(&self, event: &Recorded, order: OrderId) -> Meta {
        let command_id = CommandId::derive(event.event_id.uuid(), "answer");
        Meta {
            command_id,
            // The event, not the answer: a second answer to one event is taken for the first.
            request_hash: Sha256::digest(command_id.uuid()).into(),
            correlation_id: order.uuid(),
            causation_id: event.event_id.uuid(),
            occurred_at: self.clock.now(),
            actor: self.actor.to_owned(),
            traceparent: event.traceparent.clone(),
            expected: None,
            keep_refusal: false,
        }
    }
}

fn fault(event: &Recorded, error: &ExecuteError) -> Fault {
    match error {
        ExecuteError::Refused { .. }
        | ExecuteError::Append(
            AppendError::Refused(_) | AppendError::Invalid(_) | AppendError::Mismatch,
        )
        | ExecuteError::Store(Error::Unreadable { .. }) => poison(event, error.to_string()),
        ExecuteError::VersionMismatch { .. }
        | ExecuteError::Contended
        | ExecuteError::Append(_)
        | ExecuteError::Store(_) => Fault::System(error.to_string()),
    }
}

/// This event cannot be acted on as things are.
pub(crate) fn poison(event: &Recorded, why: impl Into<String>) -> Fault {
    Fault::Poison { position: event.position, why: why.into() }
}

/// A text that the other side chose, made to fit what we keep; `unnamed` where nothing is left.
pub(crate) fn text(given: &str) -> Text {
    let kept: String = given.chars().filter(|c| !c.is_control()).take(Text::LENGTH_MAX).collect();
    kept.parse().unwrap_or_else(|_| Text::literal("unnamed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_other_side_says_can_be_kept() {
        assert_eq!(text("card_declined").as_str(), "card_declined");
        assert_eq!(text("a\u{0}b").as_str(), "ab");
        assert_eq!(text("  ").as_str(), "unnamed");
        assert_eq!(text(&"x".repeat(999)).as_str().len(), Text::LENGTH_MAX);
    }
}
