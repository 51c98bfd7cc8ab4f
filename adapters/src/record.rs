//! Hands what came from outside to the aggregate.

use event_store::{AppendError, Error, ExecuteError, Fault, Meta, Store};
use schemas::{Clock, CommandId, Decider, OrderId, Recorded, Text};
use sha2::{Digest as _, Sha256};

/// Has `command` carried out as the answer to `event`. The first answer stands: where the event
/// was answered before, nothing happens.
pub(crate) async fn record<D: Decider>(
    store: &Store,
    clock: Clock,
    actor: &str,
    event: &Recorded,
    order: OrderId,
    command: &D::Command,
) -> Result<(), Fault> {
    let command_id = CommandId::derive(event.event_id.uuid(), "answer");
    let meta = Meta {
        command_id,
        // The event, not the answer: a second answer to one event is taken for the first.
        request_hash: Sha256::digest(command_id.uuid()).into(),
        correlation_id: order.uuid(),
        causation_id: event.event_id.uuid(),
        occurred_at: clock.now(),
        actor: actor.to_owned(),
        traceparent: event.traceparent.clone(),
        expected: None,
        keep_refusal: false,
    };
    match store.execute::<D>(&[event.stream], command, &meta).await {
        Ok(_) | Err(ExecuteError::Append(AppendError::Mismatch)) => Ok(()),
        Err(error) => Err(fault(event, &error)),
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
pub(crate) fn poison(event: &Recorded, why: String) -> Fault {
    Fault::Poison { position: event.position, why }
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
