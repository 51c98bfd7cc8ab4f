//! The inbox: carries out the commands that sagas wrote into their journals.

use aggregates::inventory::Inventory;
use aggregates::order::Order;
use aggregates::payment::Payment;
use aggregates::shipping::Shipping;
use event_store::{AppendError, Error, ExecuteError, Fault, Meta, Reactor, Store};
use schemas::{
    Category, Clock, Command, Fact, Position, Recorded, actor, inventory, payment, saga, shipping,
};
use uuid::Uuid;

use crate::post::request_hash;

/// What the stored type of an issued command starts with.
const ISSUED: &str = "saga.command_issued.";

/// Hears every command that a saga issues, and carries it out under the id that the saga gave
/// it: heard again, it is done once.
#[derive(Debug)]
pub struct Inbox {
    store: Store,
    clock: Clock,
}

impl Inbox {
    /// The inbox of the contexts in `store`.
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    async fn carry_out(&self, command: &Command, meta: &Meta) -> Result<(), ExecuteError> {
        let (store, streams) = (&self.store, command.streams());
        match command {
            Command::Order { command, .. } => store.execute::<Order>(&streams, command, meta).await,
            // The first that a stream hears is decided without looking for what came before.
            Command::Payment {
                command:
                    command @ (payment::Command::Create { .. } | payment::Command::Authorise { .. }),
                ..
            } => store.create::<Payment>(&streams, command, meta).await,
            Command::Payment { command, .. } => {
                store.execute::<Payment>(&streams, command, meta).await
            }
            Command::Inventory { command: command @ inventory::Command::Reserve { .. } } => {
                store.create::<Inventory>(&streams, command, meta).await
            }
            Command::Inventory { command } => {
                store.execute::<Inventory>(&streams, command, meta).await
            }
            Command::Shipping { command: command @ shipping::Command::Create { .. }, .. } => {
                store.create::<Shipping>(&streams, command, meta).await
            }
            Command::Shipping { command, .. } => {
                store.execute::<Shipping>(&streams, command, meta).await
            }
        }?;
        Ok(())
    }
}

impl Reactor for Inbox {
    fn name(&self) -> &'static str {
        "inbox"
    }

    fn key(&self, event: &Recorded) -> Option<Uuid> {
        match &event.fact {
            Fact::Saga(saga::Event::CommandIssued { command, .. }) => {
                command.streams().first().map(|stream| stream.id)
            }
            // A command that this release cannot read must not be passed over.
            Fact::Unknown { .. }
                if event.stream.category == Category::Saga
                    && event.event_type.starts_with(ISSUED) =>
            {
                Some(event.stream.id)
            }
            _ => None,
        }
    }

    async fn react(&self, event: &Recorded) -> Result<(), Fault> {
        let poison = |why: String| Fault::Poison { position: event.position, why };
        let (command_id, command) = match &event.fact {
            Fact::Saga(saga::Event::CommandIssued { command_id, command, .. }) => {
                (*command_id, command)
            }
            Fact::Unknown { why, .. } => return Err(poison(why.clone())),
            _ => return Ok(()),
        };
        let meta = Meta {
            command_id,
            request_hash: request_hash("inbox", command)
                .map_err(|error| poison(error.to_string()))?,
            correlation_id: event.correlation_id,
            causation_id: event.event_id.uuid(),
            occurred_at: self.clock.now(),
            actor: actor::SAGA.to_owned(),
            traceparent: event.traceparent.clone(),
            expected: None,
            keep_refusal: false,
        };
        self.carry_out(command, &meta).await.map_err(|error| fault(event.position, &error))
    }
}

/// A saga's command that a rule refuses is a mistake of ours: it parks, and somebody looks.
fn fault(position: Position, error: &ExecuteError) -> Fault {
    let why = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    match error {
        ExecuteError::Store(Error::Unreadable { .. })
        | ExecuteError::Refused { .. }
        | ExecuteError::VersionMismatch { .. }
        | ExecuteError::Append(
            AppendError::Mismatch | AppendError::Refused(_) | AppendError::Invalid(_),
        ) => Fault::Poison { position, why },
        ExecuteError::Contended
        | ExecuteError::Store(_)
        | ExecuteError::Append(
            AppendError::Conflict { .. } | AppendError::Overloaded | AppendError::Unavailable(_),
        ) => Fault::System(why),
    }
}

#[cfg(test)]
mod tests {
    use event_store::Refused;

    use super::*;

    #[test]
    fn a_refusal_parks_and_an_outage_waits() {
        let refused = Refused { code: "not_released".to_owned(), detail: "no".to_owned() };
        for error in [
            ExecuteError::Refused { refused, replayed: false },
            ExecuteError::VersionMismatch { current: 1 },
            ExecuteError::Append(AppendError::Mismatch),
            ExecuteError::Append(AppendError::Invalid("too big".to_owned())),
        ] {
            assert!(matches!(fault(7, &error), Fault::Poison { position: 7, .. }));
        }
        let away = || Error::Nats("away".to_owned());
        for error in [
            ExecuteError::Contended,
            ExecuteError::Append(AppendError::Overloaded),
            ExecuteError::Append(AppendError::Unavailable(Box::new(away()))),
            ExecuteError::Store(away()),
        ] {
            assert!(matches!(fault(7, &error), Fault::System(_)));
        }
    }
}
