//! What people ask of a saga by its id: what may be done about it, and doing it.

use event_store::{Done, Error, ExecuteError, History, Meta, Store};
use schemas::saga::Event;
use schemas::{Fact, SagaId, Version};
use uuid::Uuid;

use crate::journal::{Act, Heard, Journal, Legal, What};
use crate::{Saga, registry};

/// How many events of a journal to search for its beginning: what it deferred may come first.
const BEGINNING_MAX: i64 = 64;

/// How a saga began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Which saga, as `order-fulfilment`.
    pub definition: String,
    /// What it is about.
    pub key: Uuid,
}

/// How `saga` began; none where it did not.
///
/// # Errors
/// Where the log cannot be read.
pub async fn begun(store: &Store, saga: SagaId) -> Result<Option<Begun>, Error> {
    let journal = store.read_stream(saga.stream(), 0, BEGINNING_MAX).await?;
    Ok(journal.iter().find_map(|event| match &event.fact {
        Fact::Saga(Event::Started { definition, business_key, .. }) => {
            Some(Begun { definition: definition.clone(), key: *business_key })
        }
        _ => None,
    }))
}

/// Does something about a saga that is parked. The command's id is that of the act: heard again,
/// it is done once.
///
/// # Errors
/// See [`ExecuteError`]; refused is what is not legal, by the codes of
/// [`Refusal`](crate::Refusal).
pub async fn act(
    store: &Store,
    begun: &Begun,
    act: Act,
    meta: &Meta,
) -> Result<Done, ExecuteError> {
    registry::act(store, begun, act, meta).await
}

pub(crate) async fn act_on<S: Saga>(
    store: &Store,
    key: Uuid,
    act: Act,
    meta: &Meta,
) -> Result<Done, ExecuteError> {
    let (source, at) = (meta.command_id.uuid(), meta.occurred_at);
    let heard = Heard { key, source, at, what: What::Act(act) };
    let streams = [SagaId::derive(key, S::NAME).stream()];
    store.execute::<Journal<S>>(&streams, &heard, meta).await
}

/// What may be done about a saga as its first `version` events leave it.
///
/// # Errors
/// Where the log cannot be read.
pub async fn verbs(
    history: &History,
    definition: &str,
    saga: SagaId,
    version: Version,
) -> Result<Vec<Legal>, Error> {
    registry::verbs(history, definition, saga, version).await
}

pub(crate) async fn verbs_of<S: Saga>(
    history: &History,
    saga: SagaId,
    version: Version,
) -> Result<Vec<Legal>, Error> {
    let journal: Journal<S> = history.fold_to(saga.stream(), version).await?;
    Ok(journal.verbs())
}
