//! How a command that is still on its way will end, for those that build on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It waits, or its batch is being written.
    Pending,
    /// Its events are in the log.
    Written,
    /// Its events are not in the log, or not because of this attempt.
    Failed,
}

/// One attempt to write a command. Whoever decided on the state that it would leave behind holds a
/// copy: a version number alone does not tell whose events made it.
#[derive(Debug, Clone)]
pub(crate) struct Ticket(Arc<AtomicU8>);

impl Ticket {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(0)))
    }

    pub(crate) fn fate(&self) -> Fate {
        match self.0.load(Ordering::Acquire) {
            0 => Fate::Pending,
            1 => Fate::Written,
            _ => Fate::Failed,
        }
    }

    pub(crate) fn settle(&self, written: bool) {
        self.0.store(if written { 1 } else { 2 }, Ordering::Release);
    }

    /// Tells tickets apart, as long as they live.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}
