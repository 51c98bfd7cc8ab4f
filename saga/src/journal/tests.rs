//! The journal, tried with the smallest saga that has a deadline of its own.

use std::time::Duration;

use schemas::{OrderId, Recorded, order};
use serde_json::json;

use super::*;
use crate::definition::names;
use crate::{Output, Patience};

names! {
    /// What it asks for.
    enum Step {
        Ask = "ask",
    }
}

names! {
    /// What it waits for.
    enum Deadline {
        Decision = "decision",
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Input {
    Begun,
    Noted,
    Answered,
    Late,
    Broken,
}

/// Asks, waits for a decision, and gives up after an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Poll {
    #[default]
    New,
    Open,
    Closed,
}

impl Saga for Poll {
    const NAME: &'static str = "poll";
    const VERSION: u16 = 1;
    type Input = Input;
    type Step = Step;
    type Timer = Deadline;

    fn correlate(_event: &Recorded) -> Option<(Uuid, Input)> {
        None
    }

    fn react(self, _version: u16, input: &Input, _now: Timestamp) -> Reaction<Self> {
        let hour = Duration::from_hours(1);
        match (self, input) {
            (Self::New, Input::Begun) => Reaction::next(Self::Open)
                .send(Step::Ask, ask())
                .and(Output::StartTimer(Deadline::Decision, hour)),
            (Self::New, _) => Reaction::Deferred,
            (Self::Open, Input::Noted) => {
                Reaction::next(self).and(Output::StartTimer(Deadline::Decision, hour))
            }
            (Self::Open, Input::Answered) => Reaction::next(Self::Closed)
                .and(Output::StopTimer(Deadline::Decision))
                .and(Output::Finish("answered")),
            (Self::Open, Input::Late) => {
                Reaction::next(Self::Closed).and(Output::Finish("unanswered"))
            }
            (Self::Open, Input::Broken) => Reaction::next(self).and(Output::Park("broken")),
            _ => Reaction::Ignored,
        }
    }

    fn answers(input: &Input) -> Option<(Step, Answer)> {
        matches!(input, Input::Answered).then_some((Step::Ask, Answer::Done))
    }

    fn patience(_step: Step) -> Option<Patience> {
        let (wait, wait_max) = (Duration::from_mins(1), Duration::from_mins(1));
        Some(Patience { wait, wait_max, sendings_max: 2, park: "silent" })
    }

    fn fired(_timer: Deadline) -> Input {
        Input::Late
    }

    fn name(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

fn ask() -> Command {
    let id = OrderId::new(Uuid::nil());
    Command::Order { id, command: order::Command::Confirm }
}

/// A journal, and what it wrote the last time.
#[derive(Default)]
struct Told {
    journal: Journal<Poll>,
    heard: u128,
    written: Vec<Event>,
}

impl Told {
    fn hears(self, input: Input) -> Self {
        self.put(What::Input(input))
    }

    fn fires(self, name: &str, epoch: u32) -> Self {
        self.put(What::TimerFired { name: name.to_owned(), epoch })
    }

    fn put(self, what: What<Input>) -> Self {
        let heard = self.heard + 1;
        let (source, at) = (Uuid::from_u128(heard), Timestamp::UNIX_EPOCH);
        let input = Heard { key: Uuid::nil(), source, at, what };
        let written = self.journal.decide(&input).unwrap();
        let journal = written.iter().fold(self.journal, Journal::evolve);
        Self { journal, heard, written }
    }

    #[track_caller]
    fn wrote(self, expected: &[&str]) -> Self {
        let names = self.written.iter().map(|event| schemas::Event::encode(event).unwrap());
        let names = names.map(|event| event.event_type).collect::<Vec<_>>();
        let names = names.iter().map(|name| &name["saga.".len()..name.len() - ".v1".len()]);
        assert_eq!(names.collect::<Vec<_>>(), expected);
        self
    }
}

#[test]
fn it_begins_once() {
    let begun = ["started", "input_received", "command_issued", "timer_started", "timer_started"];
    Told::default().hears(Input::Begun).wrote(&begun).hears(Input::Begun).wrote(&["input_ignored"]);
}

#[test]
fn a_deadline_fires_once_and_only_in_its_latest_epoch() {
    let told = Told::default().hears(Input::Begun).hears(Input::Noted);
    told.wrote(&["input_received", "timer_started"])
        .fires("decision", 1)
        .wrote(&[])
        .fires("decision", 2)
        .wrote(&["input_received", "finished"])
        .fires("decision", 2)
        .wrote(&[]);
}

#[test]
fn an_answer_ends_the_patience_with_its_step_without_a_word() {
    let told = Told::default().hears(Input::Begun).hears(Input::Answered);
    told.wrote(&["input_received", "timer_stopped", "finished"]).fires("ask", 1).wrote(&[]);
}

#[test]
fn silence_is_asked_about_and_then_parked() {
    Told::default()
        .hears(Input::Begun)
        .fires("ask", 1)
        .wrote(&["input_received", "command_issued", "timer_started"])
        .fires("ask", 2)
        .wrote(&["input_received", "parked"]);
}

#[test]
fn a_parked_saga_puts_off_what_it_hears_and_its_deadlines() {
    let parked = Told::default().hears(Input::Begun).hears(Input::Broken);
    parked
        .wrote(&["input_received", "timer_stopped", "parked"])
        .hears(Input::Answered)
        .wrote(&["input_deferred"])
        .fires("decision", 1)
        .wrote(&["input_deferred"])
        .fires("ask", 1)
        .wrote(&[]);
}

#[test]
fn what_was_put_off_is_heard_in_order_when_it_can_be_understood() {
    Told::default()
        .hears(Input::Noted)
        .wrote(&["input_deferred"])
        .hears(Input::Answered)
        .wrote(&["input_deferred"])
        .hears(Input::Begun)
        .wrote(&[
            "started",
            "input_received",
            "command_issued",
            "timer_started",
            "timer_started",
            "input_received",
            "timer_started",
            "input_received",
            "timer_stopped",
            "finished",
        ]);
}

#[test]
fn a_journal_of_a_newer_release_is_left_alone() {
    let (definition, business_key) = ("poll".to_owned(), Uuid::nil());
    let newer = Event::Started { definition, definition_version: 2, business_key };
    let strange = Event::InputDeferred { source: Uuid::nil(), input: json!({ "sung": 1 }) };
    for event in [newer, strange] {
        let journal = Journal::<Poll>::default().evolve(&event);
        let (source, at) = (Uuid::max(), Timestamp::UNIX_EPOCH);
        let heard = Heard { key: Uuid::nil(), source, at, what: What::Input(Input::Begun) };
        assert!(journal.decide(&heard).is_err());
    }
}
