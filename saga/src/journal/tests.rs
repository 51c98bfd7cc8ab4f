//! The journal, tried with the smallest saga that has a deadline of its own.

use std::time::Duration;

use schemas::{OrderId, Recorded, Text, order};
use serde_json::json;

use super::*;
use crate::definition::names;
use crate::{Never, Output, Patience};

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
    Refused,
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
    type Alert = Never;

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
            (Self::Open, Input::Refused) => Reaction::next(self).and(Output::Park("refused")),
            _ => Reaction::Ignored,
        }
    }

    fn answers(input: &Input) -> Option<(Step, Answer)> {
        match input {
            Input::Answered => Some((Step::Ask, Answer::Done)),
            Input::Refused => Some((Step::Ask, Answer::Failed)),
            _ => None,
        }
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

    fn said(&self, _step: Step, done: bool) -> Option<Input> {
        done.then_some(Input::Answered)
    }

    fn compensate(self, _version: u16) -> Reaction<Self> {
        match self {
            Self::Open => Reaction::next(Self::Closed).and(Output::Finish("withdrawn")),
            Self::New | Self::Closed => Reaction::Ignored,
        }
    }
}

fn does(verb: Verb) -> Act {
    Act {
        verb,
        step: None,
        outcome: None,
        force: false,
        actor: Text::literal("Ada"),
        reason: Text::literal("the bank called"),
        evidence: None,
    }
}

fn says(outcome: Outcome) -> Act {
    let step = Some("ask".to_owned());
    Act { step, outcome: Some(outcome), ..does(Verb::SetOutcome) }
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

    fn acts(self, act: Act) -> Self {
        self.put(What::Act(act))
    }

    #[track_caller]
    fn refuses(&self, act: Act, expected: &str) {
        let (source, at) = (Uuid::max(), Timestamp::UNIX_EPOCH);
        let heard = Heard { key: Uuid::nil(), source, at, what: What::Act(act) };
        let refusal = self.journal.decide(&heard).unwrap_err();
        assert_eq!(schemas::Refusal::code(&refusal), expected, "{refusal}");
    }

    #[track_caller]
    fn may(self, expected: &[&str]) -> Self {
        let verbs = self.journal.verbs();
        let verbs = verbs.iter().map(|legal| legal.verb.as_str());
        assert_eq!(verbs.collect::<Vec<_>>(), expected);
        self
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

/// Asked twice, and nobody answered.
fn silent() -> Told {
    Told::default().hears(Input::Begun).fires("ask", 1).fires("ask", 2)
}

fn refused() -> Told {
    Told::default().hears(Input::Begun).hears(Input::Refused)
}

#[test]
fn what_goes_on_by_itself_waits_for_no_person() {
    Told::default().may(&[]).refuses(does(Verb::Retry), "not_parked");
    let begun = Told::default().hears(Input::Begun).may(&[]);
    for verb in Verb::ALL {
        begun.refuses(does(verb), "not_parked");
    }
}

#[test]
fn retry_asks_again_under_the_same_id_and_is_patient_anew() {
    let before = silent().may(&["retry", "resume", "set-outcome", "compensate", "abandon"]);
    let asked = before.acts(does(Verb::Retry)).wrote(&[
        "operator_acted",
        "resumed",
        "command_issued",
        "timer_started",
    ]);
    let Event::CommandIssued { attempt: 1, sending: 1, .. } = asked.written[2] else {
        panic!("{:?}", asked.written)
    };
    asked
        .fires("ask", 3)
        .wrote(&["input_received", "command_issued", "timer_started"])
        .fires("ask", 4)
        .wrote(&["input_received", "parked"]);
}

#[test]
fn resume_asks_nothing_and_is_patient_anew() {
    let resumed = ["operator_acted", "resumed", "timer_started"];
    let waits = silent().acts(does(Verb::Resume)).wrote(&resumed).may(&[]);
    waits
        .fires("ask", 3)
        .wrote(&["input_received", "command_issued", "timer_started"])
        .fires("ask", 4)
        .wrote(&["input_received", "command_issued", "timer_started"])
        .fires("ask", 5)
        .wrote(&["input_received", "parked"]);
}

#[test]
fn what_was_put_off_is_heard_before_anything_is_asked_again() {
    for verb in [Verb::Retry, Verb::Resume] {
        silent().hears(Input::Noted).hears(Input::Answered).acts(does(verb)).wrote(&[
            "operator_acted",
            "resumed",
            "input_received",
            "timer_started",
            "input_received",
            "timer_stopped",
            "finished",
        ]);
    }
}

#[test]
fn a_no_is_asked_about_anew_and_never_waited_out() {
    let told = refused().may(&["retry", "set-outcome", "compensate", "abandon"]);
    told.refuses(does(Verb::Resume), "verb_not_legal");
    let again = told.acts(does(Verb::Retry));
    let Event::CommandIssued { attempt: 2, sending: 1, .. } = again.written[2] else {
        panic!("a new question: {:?}", again.written)
    };
    again.hears(Input::Refused).wrote(&["input_received", "parked"]);
}

#[test]
fn what_was_refused_may_have_been_done_since() {
    let answered = ["operator_acted", "resumed", "input_received", "timer_stopped", "finished"];
    refused().hears(Input::Answered).acts(does(Verb::Retry)).wrote(&answered);
    refused().acts(says(Outcome::Done)).wrote(&answered);
}

#[test]
fn an_outcome_is_heard_as_though_it_had_come() {
    let told = silent();
    told.refuses(Act { step: None, ..says(Outcome::Done) }, "step_not_legal");
    told.refuses(Act { step: Some("sing".to_owned()), ..says(Outcome::Done) }, "step_not_legal");
    told.refuses(Act { outcome: None, ..says(Outcome::Done) }, "outcome_not_legal");
    told.refuses(says(Outcome::Failed), "outcome_not_legal");
    told.refuses(Act { step: Some("ask".to_owned()), ..does(Verb::Skip) }, "verb_not_legal");
    let told = told.acts(says(Outcome::Done));
    let Event::OperatorActed { step: Some(step), succeeded: Some(true), .. } = &told.written[0]
    else {
        panic!("{:?}", told.written)
    };
    assert_eq!(step, "ask");
    told.wrote(&["operator_acted", "resumed", "input_received", "timer_stopped", "finished"]);
}

#[test]
fn to_compensate_is_to_turn_round_as_the_saga_does() {
    let told = silent().acts(does(Verb::Compensate));
    assert!(matches!(told.journal.state(), Poll::Closed));
    told.wrote(&["operator_acted", "resumed", "finished"]).may(&[]);
}

#[test]
fn what_is_abandoned_is_left_alone_for_good() {
    let told = silent().hears(Input::Noted);
    told.refuses(does(Verb::Abandon), "still_held");
    told.acts(Act { force: true, ..does(Verb::Abandon) })
        .wrote(&["operator_acted", "input_ignored", "finished"])
        .may(&[])
        .hears(Input::Answered)
        .wrote(&["input_ignored"])
        .fires("decision", 1)
        .wrote(&[])
        .refuses(does(Verb::Retry), "not_parked");
}

#[test]
fn an_act_is_done_once() {
    let told = silent();
    let (source, at) = (Uuid::from_u128(99), Timestamp::UNIX_EPOCH);
    let what = What::Act(does(Verb::Retry));
    let heard = Heard { key: Uuid::nil(), source, at, what };
    let written = told.journal.decide(&heard).unwrap();
    let journal = written.iter().fold(told.journal, Journal::evolve);
    assert_eq!(journal.decide(&heard).unwrap(), []);
}
