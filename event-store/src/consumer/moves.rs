//! How far the workers of this process have come, told as soon as it is so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemas::Position;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::Slices;

/// The moves of the checkpoints of one process. Whoever waits for one hears of it here, without
/// looking at the database; of what other processes do, nothing is heard. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Moves(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The last move of each range, by consumer. As many as there are workers.
    last: Mutex<HashMap<String, Vec<Move>>>,
    news: watch::Sender<()>,
}

#[derive(Debug, Clone, Copy)]
struct Move {
    slices: Slices,
    to: Position,
    at: Instant,
}

impl Moves {
    /// No move yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared { last: Mutex::default(), news: watch::Sender::new(()) }))
    }

    /// What the worker of `stream` has reached, and how long ago; none where no worker of this process
    /// has. A crash of the database may have taken an old move back.
    #[must_use]
    pub fn of(&self, consumer: &str, stream: Uuid) -> Option<(Position, Duration)> {
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = last.get(consumer)?.iter().find(|moved| moved.slices.holds(stream))?;
        Some((moved.to, moved.at.elapsed()))
    }

    /// Changes with every move.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<()> {
        self.0.news.subscribe()
    }

    /// A worker has moved its checkpoint.
    pub(super) fn tell(&self, consumer: &str, slices: Slices, to: Position) {
        let moved = Move { slices, to, at: Instant::now() };
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.get_mut(consumer) {
            Some(known) => {
                known.retain(|other| !other.slices.meets(slices));
                known.push(moved);
            }
            None => drop(last.insert(consumer.to_owned(), vec![moved])),
        }
        drop(last);
        self.0.news.send_replace(());
    }

    /// A worker has given its lease back, or lost it.
    pub(super) fn forget(&self, consumer: &str, slices: Slices) {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = last.get_mut(consumer) {
            known.retain(|other| other.slices != slices);
        }
    }
}

impl Default for Moves {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(moves: &Moves, stream: u128) -> Option<Position> {
        moves.of("orders", Uuid::from_u128(stream)).map(|(to, _)| to)
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_is_told_with_its_age() {
        let moves = Moves::new();
        let news = moves.news();
        moves.tell("orders", Slices::ALL, 7);
        assert!(news.has_changed().unwrap());
        let age = Duration::from_millis(30);
        tokio::time::advance(age).await;
        assert_eq!(moves.of("orders", Uuid::nil()), Some((7, age)));
        assert_eq!(moves.of("sales", Uuid::nil()), None);
    }

    #[test]
    fn who_has_lost_a_range_is_not_asked_about_it() {
        let moves = Moves::new();
        moves.tell("orders", Slices::ALL, 9);
        // Slice 988 of the first stream is not in the half that is left, slice 11 of the other is.
        moves.tell("orders", Slices::new(0, 512), 5);
        assert_eq!((reached(&moves, 0), reached(&moves, 1)), (None, Some(5)));
        moves.forget("orders", Slices::new(0, 512));
        assert_eq!(reached(&moves, 1), None);
    }
}
