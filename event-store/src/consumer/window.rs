//! Which events of a reactor are done, and up to where all of them are.

use std::collections::VecDeque;

use schemas::Position;

/// The positions after a checkpoint, each done or not.
#[derive(Debug)]
pub(super) struct Window {
    /// Everything up to here is done.
    low: Position,
    /// Whether `low + 1`, `low + 2`, … are done. The first never is.
    done: VecDeque<bool>,
    open: usize,
}

impl Window {
    /// A window behind a checkpoint.
    pub(super) fn after(low: Position) -> Self {
        Self { low, done: VecDeque::new(), open: 0 }
    }

    /// Everything up to here is done.
    pub(super) fn low(&self) -> Position {
        self.low
    }

    /// Events that are not done.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Events since the first that is not done.
    pub(super) fn span(&self) -> usize {
        self.done.len()
    }

    /// Takes in the next event.
    ///
    /// # Panics
    /// If it is not the next one.
    pub(super) fn admit(&mut self, position: Position, done: bool) {
        assert_eq!(position, self.low + self.span_signed() + 1, "events come in order");
        self.open += usize::from(!done);
        self.done.push_back(done);
        self.settle();
    }

    /// Notes that an event is done.
    ///
    /// # Panics
    /// If it is not open.
    pub(super) fn finish(&mut self, position: Position) {
        let index = usize::try_from(position - self.low - 1);
        let slot = index.ok().and_then(|index| self.done.get_mut(index));
        let was = slot.map(|slot| std::mem::replace(slot, true));
        assert_eq!(was, Some(false), "only an open event can be finished");
        self.open -= 1;
        self.settle();
    }

    fn settle(&mut self) {
        while self.done.front() == Some(&true) {
            self.done.pop_front();
            self.low += 1;
        }
    }

    fn span_signed(&self) -> Position {
        Position::try_from(self.done.len()).unwrap_or(Position::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkpoint_waits_for_the_slowest() {
        let mut window = Window::after(10);
        window.admit(11, false);
        window.admit(12, false);
        window.admit(13, true);
        window.finish(12);
        assert_eq!((window.low(), window.open(), window.span()), (10, 1, 3));
        window.finish(11);
        assert_eq!((window.low(), window.open(), window.span()), (13, 0, 0));
        window.admit(14, true);
        assert_eq!(window.low(), 14);
    }

    #[test]
    #[should_panic(expected = "events come in order")]
    fn a_hole_is_not_admitted() {
        Window::after(10).admit(12, true);
    }

    #[test]
    #[should_panic(expected = "only an open event can be finished")]
    fn an_event_is_finished_once() {
        let mut window = Window::after(0);
        window.admit(1, false);
        window.admit(2, false);
        window.finish(2);
        window.finish(2);
    }
}
