//! How the rules are tested: given what has happened, when something is asked, then this
//! happens; a table of every command in every state; and laws for whole histories.

use std::collections::BTreeSet;
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
    #[expect(clippy::needless_pass_by_value, reason = "cases read better")]
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

/// States and commands by name.
pub(crate) type Named<T> = Vec<(&'static str, T)>;

/// Checks what every command comes to in every state.
///
/// A line of `table` names a command, the states (with commas between them, `*` for all that no
/// other line names) and the outcome: event types without context and version joined by `+`,
/// `-` for nothing, or `!` and the code of a refusal.
#[track_caller]
pub(crate) fn check_table<D: Decider>(
    states: &Named<Vec<D::Event>>,
    commands: &Named<D::Command>,
    table: &str,
) {
    let lines: Vec<[&str; 3]> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|line| !line.is_empty())
        .map(|line| line.try_into().expect("a line has three columns"))
        .collect();
    let known = |name: &str| states.iter().any(|(state, _)| *state == name);
    for [command, named, _] in &lines {
        assert!(commands.iter().any(|(name, _)| name == command), "no command {command}");
        assert!(*named == "*" || named.split(',').all(known), "no such state in {named}");
    }
    let mut wrong = Vec::new();
    for (name, command) in commands {
        for (state_name, history) in states {
            let row = |states: &str| states.split(',').any(|state| state == *state_name);
            let of_command = || lines.iter().filter(|[command, ..]| command == name);
            let exact = of_command().find(|[_, states, _]| row(states));
            let expected = exact.or_else(|| of_command().find(|[_, states, _]| *states == "*"));
            let expected = expected.map_or("(not in the table)", |[.., outcome]| *outcome);
            let state = history.iter().fold(D::default(), D::evolve);
            let actual = outcome(&state.decide(command));
            if actual != expected {
                wrong.push(format!("{name} {state_name}: expected {expected}, got {actual}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn outcome<D: schemas::Event, R: schemas::Refusal>(answer: &Result<Vec<D>, R>) -> String {
    match answer {
        Err(refusal) => format!("!{}", refusal.code()),
        Ok(events) if events.is_empty() => "-".to_owned(),
        Ok(events) => {
            let short = |event: &D| {
                let encoded = event.encode().expect("events can be written");
                encoded.event_type.split('.').nth(1).unwrap_or_default().to_owned()
            };
            events.iter().map(short).collect::<Vec<_>>().join("+")
        }
    }
}

/// Asks one command after the other, and the same again right after each where `repeatable` says
/// that this must change nothing. Gives everything that happened; `check` sees each state.
///
/// That nothing panics on the way is the first law.
#[track_caller]
pub(crate) fn live<D: Decider<Command: Debug, Event: PartialEq> + Debug>(
    commands: &[D::Command],
    repeatable: impl Fn(&D::Command) -> bool,
    mut check: impl FnMut(&D, &[D::Event]),
) -> Vec<D::Event> {
    let (mut state, mut history) = (D::default(), Vec::new());
    for command in commands {
        let events = state.decide(command).unwrap_or_default();
        for event in events {
            state = state.evolve(&event);
            history.push(event);
        }
        check(&state, &history);
        if repeatable(command) {
            let again = state.decide(command).unwrap_or_default();
            assert_eq!(again, [], "{command:?} again changed {state:?}");
        }
    }
    history
}

/// That a snapshot taken anywhere, written, read back and brought up to date, is the full fold.
#[track_caller]
pub(crate) fn check_snapshots<D: Decider + PartialEq + Debug>(history: &[D::Event]) {
    let fold = |state, events: &[D::Event]| events.iter().fold(state, D::evolve);
    let whole = fold(D::default(), history);
    for cut in 0..=history.len() {
        let (head, tail) = history.split_at(cut);
        let taken = serde_json::to_string(&fold(D::default(), head)).expect("it can be written");
        let read = serde_json::from_str(&taken).expect("it can be read back");
        assert_eq!(fold(read, tail), whole, "cut at {cut}: {taken}");
    }
}

/// That the codes of refusals are different, and written as codes.
#[track_caller]
pub(crate) fn check_codes<R: schemas::Refusal>(refusals: &[R]) {
    let codes: BTreeSet<_> = refusals.iter().map(schemas::Refusal::code).collect();
    assert_eq!(codes.len(), refusals.len(), "{codes:?}");
    let fits = |code: &str| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    assert!(codes.iter().all(|code| fits(code)), "{codes:?}");
}
