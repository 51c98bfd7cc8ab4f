//! The states that commands were last decided on, so that the next one need not load them.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

use quick_cache::sync;
use schemas::{Decider, StreamId, Version};

use crate::ticket::{Fate, Ticket};

/// How many states are kept.
const STATES_MAX: usize = 10_000;

/// A stream as a decider sees it.
#[derive(Debug, Clone)]
pub(crate) struct Known<D> {
    pub(crate) state: D,
    pub(crate) version: Version,
    /// The command whose events made it, while that is not known to be written.
    pub(crate) made_by: Option<Ticket>,
}

/// States by decider and stream. An entry may be stale, or rest on a command that is still on its
/// way; the log refuses what was decided on it if it turns out wrong.
pub(crate) struct Cache(sync::Cache<(TypeId, StreamId), Entry>);

#[derive(Clone)]
struct Entry {
    state: Arc<dyn Any + Send + Sync>,
    version: Version,
    made_by: Option<Ticket>,
}

impl Entry {
    fn fate(&self) -> Fate {
        self.made_by.as_ref().map_or(Fate::Written, Ticket::fate)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cache").field(&self.0.len()).finish()
    }
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self(sync::Cache::new(STATES_MAX))
    }

    /// What is known of a stream. With `written`, only what is in the log.
    pub(crate) fn get<D: Decider>(&self, stream: StreamId, written: bool) -> Option<Known<D>> {
        let entry = self.0.get(&(TypeId::of::<D>(), stream))?;
        let made_by = match entry.fate() {
            Fate::Written => None,
            Fate::Pending if !written => entry.made_by,
            Fate::Pending | Fate::Failed => return None,
        };
        let state = entry.state.downcast_ref::<D>()?.clone();
        Some(Known { state, version: entry.version, made_by })
    }

    /// Remembers a state, unless a later one is known.
    pub(crate) fn put<D: Decider>(&self, stream: StreamId, known: Known<D>) {
        let key = (TypeId::of::<D>(), stream);
        let Known { state, version, made_by } = known;
        let later = self
            .0
            .peek(&key)
            .is_some_and(|entry| entry.version >= version && entry.fate() != Fate::Failed);
        if !later {
            self.0.insert(key, Entry { state: Arc::new(state), version, made_by });
        }
    }

    /// Forgets what turned out wrong: the state at `version`, or whatever rests on a command
    /// that failed.
    pub(crate) fn forget<D: Decider>(&self, stream: StreamId, version: Version) {
        let key = (TypeId::of::<D>(), stream);
        let wrong = self
            .0
            .peek(&key)
            .is_some_and(|entry| entry.version <= version || entry.fate() == Fate::Failed);
        if wrong {
            self.0.remove(&key);
        }
    }
}
