//! Feeds a saga what it listens to: one input, one append to its journal.

use std::marker::PhantomData;

use event_store::{AppendError, Error, ExecuteError, Fault, Meta, Reactor, Store};
use schemas::{Category, Clock, CommandId, Fact, Recorded, SagaId};
use uuid::Uuid;

use crate::journal::{Heard, Journal, What};
use crate::{Reaction, Saga};

/// The reactor of one saga's definition. The ledger of the log is its inbox: an input heard
/// before is answered by the ledger and changes nothing.
#[derive(Debug)]
pub struct Runner<S> {
    store: Store,
    clock: Clock,
    name: String,
    saga: PhantomData<fn() -> S>,
}

impl<S: Saga> Runner<S> {
    /// A runner whose checkpoint is named `saga/<the saga's name>`.
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, name: format!("saga/{}", S::NAME), saga: PhantomData }
    }
}

impl<S: Saga> Reactor for Runner<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn key(&self, event: &Recorded) -> Option<Uuid> {
        let key = match &event.fact {
            // It may be what a saga waits for, so it holds up that saga and no other.
            Fact::Unknown { .. }
                if !matches!(event.stream.category, Category::Saga | Category::Other(_)) =>
            {
                event.correlation_id
            }
            _ => S::correlate(event)?.0,
        };
        Some(SagaId::derive(key, S::NAME).uuid())
    }

    async fn react(&self, event: &Recorded) -> Result<(), Fault> {
        let position = event.position;
        if let Fact::Unknown { why, .. } = &event.fact {
            return Err(Fault::Poison { position, why: why.clone() });
        }
        let Some((key, input)) = S::correlate(event) else { return Ok(()) };
        let source = event.event_id.uuid();
        let heard = Heard { key, source, at: event.recorded_at, what: What::Input(input) };
        let traceparent = event.traceparent.clone();
        hear::<S>(&self.store, self.clock, &heard, "saga", traceparent).await.map_err(|error| {
            if is_lasting(&error) {
                Fault::Poison { position, why: error.to_string() }
            } else {
                Fault::System(error.to_string())
            }
        })
    }
}

/// Whether trying again would end the same.
fn is_lasting(error: &ExecuteError) -> bool {
    matches!(
        error,
        ExecuteError::Refused { .. }
            | ExecuteError::VersionMismatch { .. }
            | ExecuteError::Append(
                AppendError::Mismatch | AppendError::Refused(_) | AppendError::Invalid(_)
            )
            | ExecuteError::Store(Error::Unreadable { .. })
    )
}

/// Puts an input to the journal of the saga that it is about.
///
/// # Errors
/// See [`ExecuteError`]; a refusal means that the journal cannot be read.
pub(crate) async fn hear<S: Saga>(
    store: &Store,
    clock: Clock,
    heard: &Heard<S::Input>,
    actor: &str,
    traceparent: Option<String>,
) -> Result<(), ExecuteError> {
    let saga = SagaId::derive(heard.key, S::NAME);
    let meta = Meta {
        command_id: CommandId::derive(saga.uuid(), &heard.source.to_string()),
        request_hash: fingerprint(heard.source),
        correlation_id: heard.key,
        causation_id: heard.source,
        occurred_at: clock.now(),
        actor: actor.to_owned(),
        traceparent,
        expected: None,
        keep_refusal: false,
    };
    let streams = [saga.stream()];
    let begins = match &heard.what {
        What::Input(input) => {
            matches!(S::default().react(S::VERSION, input, heard.at), Reaction::Taken(..))
        }
        What::TimerFired { .. } | What::Act(_) => false,
    };
    if begins {
        store.create::<Journal<S>>(&streams, heard, &meta).await?;
    } else {
        store.execute::<Journal<S>>(&streams, heard, &meta).await?;
    }
    Ok(())
}

/// The command's id follows from the source, and so does what is asked: nothing is left to
/// hash, and the source stands for itself.
fn fingerprint(source: Uuid) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(source.as_bytes());
    bytes
}
