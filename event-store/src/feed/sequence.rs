//! The one rule of the feed: the next event is `last + 1`.

use schemas::Position;

/// How far the feed has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    last: Position,
}

/// What to do with an event that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the next one; the sequence has moved on to it.
    Next,
    /// It was handed on before: drop it.
    Seen,
    /// Events before it are missing: read them first.
    Gap,
}

impl Sequence {
    /// A sequence whose events up to `last` were handed on.
    pub(crate) const fn after(last: Position) -> Self {
        Self { last }
    }

    /// The last event that was handed on.
    pub(crate) const fn last(self) -> Position {
        self.last
    }

    /// Judges the event at `position`.
    pub(crate) fn offer(&mut self, position: Position) -> Verdict {
        if position <= self.last {
            Verdict::Seen
        } else if position == self.last + 1 {
            self.last = position;
            Verdict::Next
        } else {
            Verdict::Gap
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands on what arrives, filling gaps from a log that holds every position.
    fn delivered(from: Position, arrivals: &[Position]) -> Vec<Position> {
        let mut sequence = Sequence::after(from);
        let mut out = Vec::new();
        for &position in arrivals {
            loop {
                match sequence.offer(position) {
                    Verdict::Seen => break,
                    Verdict::Next => break out.push(position),
                    Verdict::Gap => {
                        let missing = sequence.last() + 1;
                        assert_eq!(sequence.offer(missing), Verdict::Next);
                        out.push(missing);
                    }
                }
            }
        }
        out
    }

    #[track_caller]
    fn check(from: Position, arrivals: &[Position]) {
        let until = arrivals.iter().copied().max().unwrap_or(from).max(from);
        let every: Vec<Position> = (from + 1..=until).collect();
        assert_eq!(delivered(from, arrivals), every, "from {from}: {arrivals:?}");
    }

    #[test]
    fn whatever_arrives_each_event_is_handed_on_once_and_in_order() {
        check(0, &[]);
        check(0, &[1, 2, 3]);
        check(0, &[1, 1, 2, 2, 1, 3]);
        check(0, &[3, 2, 1]);
        check(0, &[1, 5, 2, 3, 4, 6]);
        check(4, &[1, 2, 3]);
        check(4, &[9]);
        check(4, &[4, 5, 9, 7, 9, 10]);
    }

    #[test]
    fn any_loss_repetition_and_order_of_arrival_comes_to_the_same() {
        // Every sequence of five arrivals among six positions.
        for code in 0..6_i64.pow(5) {
            let arrivals: Vec<Position> =
                (0..5).map(|digit| code / 6_i64.pow(digit) % 6 + 1).collect();
            check(2, &arrivals);
        }
    }
}
