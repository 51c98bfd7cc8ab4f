//! Given what has happened, when something is asked, then this happens.

use std::fmt::Debug;

use schemas::{Decider, Refusal as _};

/// A state, told by its history.
pub(crate) struct Given<D: Decider> {
    state: D,
}

/// What a state answered to a command.
pub(crate) struct When<D: Decider> {
    state: D,
    answer: Result<Vec<D::Event>, D::Refusal>,
}

/// The state after `history`.
pub(crate) fn given<D: Decider>(history: impl IntoIterator<Item = D::Event>) -> Given<D> {
    Given { state: history.into_iter().fold(D::default(), |state, event| state.evolve(&event)) }
}

impl<D: Decider> Given<D> {
    /// Asks.
    #[expect(clippy::needless_pass_by_value, reason = "cases read better")]
    pub(crate) fn when(self, command: D::Command) -> When<D> {
        let answer = self.state.decide(&command);
        When { state: self.state, answer }
    }
}

impl<D: Decider<Event: PartialEq>> When<D> {
    /// Exactly this happens; gives the state after it, for the next question.
    #[track_caller]
    pub(crate) fn then(self, expected: impl IntoIterator<Item = D::Event>) -> Given<D> {
        let expected = Vec::from_iter(expected);
        match self.answer {
            Ok(events) => assert_eq!(events, expected),
            Err(refusal) => panic!("refused: {refusal} ({})", refusal.code()),
        }
        Given { state: expected.iter().fold(self.state, D::evolve) }
    }

    /// A rule says no.
    #[track_caller]
    pub(crate) fn then_refused(self, expected: D::Refusal)
    where
        D::Refusal: PartialEq + Debug,
    {
        match self.answer {
            Ok(events) => panic!("not refused: {events:?}"),
            Err(refusal) => assert_eq!(refusal, expected),
        }
    }
}
