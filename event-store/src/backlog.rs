//! How many commands wait to be written, and how many may.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::writer::{BATCH_COMMANDS_MAX, LANES};

/// How long a command that is let in waits at most for its batch to set out, at the pace of late.
/// The callers that are turned away are told to come back in a second, and find it done by then.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// The most commands that wait, however fast they are written: what keeps the memory bounded.
const COMMANDS_MAX: usize = 8192;
/// The most bytes that wait to be written.
pub(crate) const BYTES_MAX: usize = 32 * 1024 * 1024;
/// How many of the latest batches make the pace, about.
const PACE_BATCHES: u64 = 8;

/// Counts the commands that wait. More than can be written within [`WAIT_MAX`] are not let in: those
/// who wait would wait for ever longer, and be answered when nobody listens any more.
#[derive(Debug)]
pub(crate) struct Backlog {
    commands: AtomicUsize,
    bytes: AtomicUsize,
    /// How long a batch took of late, in microseconds; 0 before the first.
    batch_us: AtomicU64,
}

impl Backlog {
    pub(crate) const fn new() -> Self {
        Self {
            commands: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            batch_us: AtomicU64::new(0),
        }
    }

    /// Counts a command in, or says that it is one too many.
    pub(crate) fn enter(&self, bytes: usize) -> bool {
        let commands = self.commands.fetch_add(1, Ordering::Relaxed) + 1;
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = commands <= self.commands_max() && waiting <= BYTES_MAX;
        if !fits {
            self.leave(1, bytes);
        }
        fits
    }

    /// Counts commands out: their batch sets out, or nobody takes them.
    pub(crate) fn leave(&self, commands: usize, bytes: usize) {
        self.commands.fetch_sub(commands, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Learns how long a batch took, from setting out until everybody in it was answered.
    pub(crate) fn learn(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let _ = self.batch_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |known| {
            let known = if known == 0 { took_us } else { known };
            Some((known * (PACE_BATCHES - 1)).saturating_add(took_us) / PACE_BATCHES)
        });
    }

    /// The commands that wait, and how many may: as many as full batches set out within
    /// [`WAIT_MAX`], and one batch however slow they are.
    pub(crate) fn commands(&self) -> (usize, usize) {
        (self.commands.load(Ordering::Relaxed), self.commands_max())
    }

    /// The bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn commands_max(&self) -> usize {
        let batch_us = self.batch_us.load(Ordering::Relaxed).max(1);
        let wait_us = u64::try_from(WAIT_MAX.as_micros()).unwrap_or(u64::MAX);
        let batches = usize::try_from(wait_us / batch_us).unwrap_or(usize::MAX);
        let commands = batches.saturating_mul(LANES * BATCH_COMMANDS_MAX);
        commands.clamp(BATCH_COMMANDS_MAX, COMMANDS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paced(batch_ms: u64) -> Backlog {
        let backlog = Backlog::new();
        for _ in 0..64 {
            backlog.learn(Duration::from_millis(batch_ms));
        }
        backlog
    }

    #[test]
    fn the_bound_follows_from_how_long_batches_take() {
        let max = |batch_ms| paced(batch_ms).commands().1;
        assert_eq!(Backlog::new().commands().1, COMMANDS_MAX);
        assert_eq!(max(1), COMMANDS_MAX);
        assert_eq!(max(100), 5 * LANES * BATCH_COMMANDS_MAX);
        assert_eq!(max(10_000), BATCH_COMMANDS_MAX);
    }

    #[test]
    fn one_too_many_is_not_let_in_and_not_counted() {
        let backlog = paced(10_000);
        assert!((0..BATCH_COMMANDS_MAX).all(|_| backlog.enter(1)));
        assert!(!backlog.enter(1));
        assert_eq!(
            (backlog.commands().0, backlog.bytes()),
            (BATCH_COMMANDS_MAX, BATCH_COMMANDS_MAX)
        );
        backlog.leave(1, 1);
        assert!(!backlog.enter(BYTES_MAX));
        assert!(backlog.enter(1));
    }
}
