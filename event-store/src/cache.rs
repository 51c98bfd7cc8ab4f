//! The states that commands were last decided on, so that the next one need not load them.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

use quick_cache::sync;
use schemas::{Decider, StreamId, Version};

use crate::ticket::{Fate, Ticket};

/// How many streams are remembered.
const STREAMS_MAX: usize = 10_000;

/// A stream as a decider sees it.
#[derive(Debug)]
pub(crate) struct Known<D> {
    pub(crate) state: Arc<D>,
    pub(crate) version: Version,
    /// The command whose events made it, while that is not known to be written.
    pub(crate) made_by: Option<Ticket>,
}

impl<D> Clone for Known<D> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            version: self.version,
            made_by: self.made_by.clone(),
        }
    }
}

impl<D: Decider> Default for Known<D> {
    fn default() -> Self {
        Self { state: Arc::new(D::default()), version: 0, made_by: None }
    }
}

impl<D: Decider> Known<D> {
    /// The state one event later.
    pub(crate) fn evolve(&mut self, event: &D::Event) {
        let state = Arc::unwrap_or_clone(std::mem::take(&mut self.state));
        self.state = Arc::new(state.evolve(event));
        self.version += 1;
    }
}

/// States by decider and stream. Either may be stale; the log refuses what was decided on it if it
/// turns out wrong.
pub(crate) struct Cache(sync::Cache<(TypeId, StreamId), Entry>);

#[derive(Clone, Default)]
struct Entry {
    /// What is in the log.
    written: Option<State>,
    /// What will be, if the command that is still on its way succeeds.
    pending: Option<(State, Ticket)>,
}

#[derive(Clone)]
struct State {
    state: Arc<dyn Any + Send + Sync>,
    version: Version,
}

impl State {
    fn known<D: Decider>(self, made_by: Option<Ticket>) -> Option<Known<D>> {
        let state = self.state.downcast().ok()?;
        Some(Known { state, version: self.version, made_by })
    }
}

impl Entry {
    /// Moves what was on its way to where it belongs by now.
    fn settled(mut self) -> Self {
        match self.pending.as_ref().map(|(_, ticket)| ticket.fate()) {
            Some(Fate::Written) => self.written = self.pending.take().map(|(state, _)| state),
            Some(Fate::Failed) => self.pending = None,
            Some(Fate::Pending) | None => {}
        }
        self
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cache").field(&self.0.len()).finish()
    }
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self(sync::Cache::new(STREAMS_MAX))
    }

    /// How many states are remembered, and how many may be.
    pub(crate) fn entries(&self) -> (usize, usize) {
        (self.0.len(), STREAMS_MAX)
    }

    /// The latest that is known of a stream, be it still on its way.
    pub(crate) fn latest<D: Decider>(&self, stream: StreamId) -> Option<Known<D>> {
        let entry = self.0.get(&(TypeId::of::<D>(), stream))?.settled();
        match entry.pending {
            Some((state, ticket)) => state.known(Some(ticket)),
            None => entry.written?.known(None),
        }
    }

    /// What is known to be in the log.
    pub(crate) fn written<D: Decider>(&self, stream: StreamId) -> Option<Known<D>> {
        self.0.get(&(TypeId::of::<D>(), stream))?.settled().written?.known(None)
    }

    /// Remembers a state, unless a later one is known.
    pub(crate) fn put<D: Decider>(&self, stream: StreamId, known: Known<D>) {
        let key = (TypeId::of::<D>(), stream);
        let mut entry = self.0.peek(&key).unwrap_or_default().settled();
        let (version, state) =
            (known.version, State { state: known.state, version: known.version });
        match known.made_by {
            None if entry.written.as_ref().is_none_or(|old| old.version < version) => {
                entry.written = Some(state);
            }
            Some(ticket) if entry.pending.as_ref().is_none_or(|(old, _)| old.version < version) => {
                entry.pending = Some((state, ticket));
            }
            None | Some(_) => return,
        }
        self.0.insert(key, entry);
    }
}
