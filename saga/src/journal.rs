//! The journal of a saga, as a decider: its state is the fold of what it heard.
//!
//! Nothing is stored twice. `InputReceived` holds what was heard, and reading it back calls
//! `react` again; the events behind it (commands, timers, parking, the end) are what `react`
//! wanted, written down so that others can act on them.

mod act;
mod draft;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use schemars::JsonSchema;
use schemas::saga::{Event, Verb};
use schemas::{Command, Decider, SagaId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::act::{Act, Choice, Legal, Outcome, Refusal};
use self::draft::Draft;
use crate::{Answer, Name, Reaction, Saga};

/// How a saga ends that a person ends.
const ABANDONED: &str = "abandoned";

/// What is put to a journal: a fact, a timer or what a person does, once.
#[derive(Debug, Clone)]
pub struct Heard<I> {
    /// The business key, which the saga's id is derived from.
    pub key: Uuid,
    /// The event it comes from, or the id of a timer's firing or of a person's act.
    pub source: Uuid,
    /// The time it goes by.
    pub at: Timestamp,
    /// What it is.
    pub what: What<I>,
}

/// Something a saga can hear, as its journal stores it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum What<I> {
    /// A timer went off: a deadline of the saga's, or its patience with a step.
    #[serde(rename = "timer_fired")]
    TimerFired {
        /// Which one.
        name: String,
        /// Which start of it.
        epoch: u32,
    },
    /// A person did something about it, which is an event of its own.
    #[serde(skip)]
    Act(Act),
    /// A fact, in the saga's own words.
    #[serde(untagged)]
    Input(I),
}

/// What came of a saga's journal.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(bound = "")]
pub struct Journal<S: Saga> {
    /// The definition's version, once it began.
    version: Option<u16>,
    state: Arc<S>,
    /// Why a person has to look, while one has to.
    parked: Option<String>,
    /// Whether it has ended; what comes in later is still heard.
    finished: bool,
    /// Whether a person ended it: nothing counts any more.
    abandoned: bool,
    /// The step that the last input said no to.
    refused: Option<S::Step>,
    /// The step whose no parked it, until it is sent again or was done after all.
    failed: Option<S::Step>,
    heard: BTreeSet<Uuid>,
    deferred: VecDeque<(Uuid, Arc<S::Input>)>,
    /// What persons said, by their acts, until it is heard from who knows: then it is no news.
    said: BTreeMap<Uuid, Option<Arc<S::Input>>>,
    steps: BTreeMap<S::Step, Issued>,
    timers: BTreeMap<String, Timer>,
    fault: Option<String>,
}

/// A step that was sent at least once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Issued {
    command: Arc<Command>,
    attempt: u32,
    sending: u32,
    compensation: bool,
    /// What became of it; none while nobody has said anything.
    answer: Option<Answer>,
    /// Whether it does not matter any more: the saga turned round, or ended.
    dropped: bool,
}

impl Issued {
    /// Whether it still waits for an answer.
    fn is_open(&self) -> bool {
        matches!(self.answer, None | Some(Answer::Unknown))
    }
}

/// A timer that was started at least once.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
struct Timer {
    epoch: u32,
    runs: bool,
}

impl<S: Saga> Default for Journal<S> {
    fn default() -> Self {
        Self {
            version: None,
            state: Arc::new(S::default()),
            parked: None,
            finished: false,
            abandoned: false,
            refused: None,
            failed: None,
            heard: BTreeSet::new(),
            deferred: VecDeque::new(),
            said: BTreeMap::new(),
            steps: BTreeMap::new(),
            timers: BTreeMap::new(),
            fault: None,
        }
    }
}

impl<S: Saga> Journal<S> {
    /// The state it is in.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Whether a person has to look.
    #[must_use]
    pub const fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// The name of the state it is in.
    fn state_name(&self) -> &'static str {
        if self.abandoned { ABANDONED } else { self.state.name() }
    }

    fn react(&self, input: &S::Input, at: Timestamp) -> Reaction<S> {
        S::clone(&self.state).react(self.version.unwrap_or(S::VERSION), input, at)
    }

    fn runs(&self, timer: &str, epoch: u32) -> bool {
        self.timers.get(timer).is_some_and(|timer| timer.runs && timer.epoch == epoch)
    }

    fn stop(&mut self, timer: &str) {
        if let Some(timer) = self.timers.get_mut(timer) {
            timer.runs = false;
        }
    }

    /// What a firing is to the table: none where it is about the patience with a step.
    fn deadline(name: &str) -> Option<S::Input> {
        S::Timer::parse(name).map(S::fired)
    }

    fn hear(&mut self, what: &What<S::Input>, at: Timestamp) {
        let deadline;
        let input = match what {
            What::Input(input) => input,
            What::TimerFired { name, .. } => {
                self.stop(name);
                let Some(input) = Self::deadline(name) else { return };
                deadline = input;
                &deadline
            }
            What::Act(_) => return,
        };
        if let Reaction::Taken(state, _) = self.react(input, at) {
            self.state = Arc::new(state);
        }
    }

    fn settle(&mut self, step: &str, succeeded: Option<bool>) {
        let answer = match succeeded {
            Some(true) => Answer::Done,
            Some(false) => Answer::Failed,
            None => Answer::Unknown,
        };
        if answer != Answer::Unknown {
            self.stop(step);
        }
        let Some(step) = S::Step::parse(step) else { return };
        if let Some(sent) = self.steps.get_mut(&step) {
            sent.answer = Some(answer);
            sent.dropped &= answer != Answer::Unknown;
        }
        self.refused = (answer == Answer::Failed).then_some(step);
        if answer == Answer::Done && self.failed == Some(step) {
            self.failed = None;
        }
    }

    fn issue(&mut self, step: &str, issued: Issued) {
        let known = S::Step::parse(step).ok_or_else(|| format!("step {step}"));
        let Some(step) = self.read(known) else { return };
        self.steps.insert(step, issued);
        self.failed = self.failed.filter(|failed| *failed != step);
        // A new question has an answer of its own.
        let of = |input: &S::Input| S::answers(input).map(|(step, _)| step);
        self.said.retain(|_, said| said.as_deref().is_none_or(|said| of(said) != Some(step)));
    }

    /// Leaves the steps alone for which this holds.
    fn drop_steps(&mut self, whether: impl Fn(&Issued) -> bool) {
        for (step, sent) in self.steps.iter_mut().filter(|(_, sent)| whether(sent)) {
            sent.dropped = true;
            self.failed = self.failed.filter(|failed| failed != step);
        }
    }

    /// The steps whose answer somebody waits for.
    fn awaited(&self) -> impl Iterator<Item = S::Step> {
        let waits = |step: S::Step, sent: &Issued| {
            sent.is_open() && !sent.dropped && S::patience(step).is_some()
        };
        let steps = self.steps.iter().filter(move |(step, sent)| waits(**step, sent));
        steps.map(|(step, _)| *step)
    }

    /// It is not parked any more, and is as patient as in the beginning.
    fn resume(&mut self) {
        self.parked = None;
        for step in self.awaited().collect::<Vec<_>>() {
            if let Some(sent) = self.steps.get_mut(&step) {
                sent.sending = 0;
            }
        }
    }

    fn note_act(&mut self, act: Uuid, verb: Verb) {
        self.heard.insert(act);
        match verb {
            Verb::Compensate => {
                let version = self.version.unwrap_or(S::VERSION);
                if let Reaction::Taken(state, _) = S::clone(&self.state).compensate(version) {
                    self.state = Arc::new(state);
                }
            }
            Verb::Abandon => {
                self.parked = None;
                self.abandoned = true;
            }
            Verb::Skip | Verb::SetOutcome => {
                self.said.insert(act, None);
            }
            Verb::Retry | Verb::Resume => {}
        }
    }

    /// The act of a person who said `input` before it was heard.
    fn said_by(&self, input: &S::Input) -> Option<Uuid> {
        if self.said.is_empty() {
            return None;
        }
        let json = |input: &S::Input| serde_json::to_value(input).ok();
        let input = json(input)?;
        let same =
            |said: &Option<Arc<S::Input>>| said.as_deref().and_then(json) == Some(input.clone());
        self.said.iter().find(|(_, said)| same(said)).map(|(act, _)| *act)
    }

    fn read<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.fault = Some(why)).ok()
    }

    fn put_off(&mut self, source: Uuid, value: &serde_json::Value) {
        self.heard.insert(source);
        match self.read(input::<S::Input>(value)) {
            Some(What::Input(input)) => self.deferred.push_back((source, Arc::new(input))),
            Some(What::TimerFired { name, .. }) => {
                self.stop(&name);
                if let Some(input) = Self::deadline(&name) {
                    self.deferred.push_back((source, Arc::new(input)));
                }
            }
            Some(What::Act(_)) | None => {}
        }
    }

    fn forget(&mut self, source: Uuid) {
        self.heard.insert(source);
        self.deferred.retain(|(deferred, _)| *deferred != source);
    }
}

fn input<I: serde::de::DeserializeOwned>(value: &serde_json::Value) -> Result<What<I>, String> {
    What::deserialize(value).map_err(|error| format!("input: {error}"))
}

impl<S: Saga> Decider for Journal<S> {
    const NAME: &'static str = S::NAME;
    const REVISION: u16 = S::REVISION;
    type Command = Heard<S::Input>;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, heard: &Heard<S::Input>) -> Result<Vec<Event>, Refusal> {
        // The ledger of the log knows this too, but forgets it after its window.
        if self.heard.contains(&heard.source) {
            return Ok(Vec::new());
        }
        let mut draft = Draft::new(self.clone(), SagaId::derive(heard.key, S::NAME), heard);
        match &heard.what {
            What::Act(act) => draft.act(heard.source, act)?,
            what => draft.hear(heard.source, what)?,
        }
        draft.hear_deferred()?;
        draft.finish()
    }

    fn evolve(mut self, event: &Event) -> Self {
        match event {
            Event::Started { definition_version: version, .. } => {
                self.version = Some(*version);
                if *version > S::VERSION {
                    self.fault = Some(format!("version {version} of {} is not known", S::NAME));
                }
            }
            Event::InputReceived { source, input: value, at, step, succeeded, .. } => {
                self.forget(*source);
                if let Some(what) = self.read(input(value)) {
                    self.hear(&what, *at);
                    if let (What::Input(input), Some(said)) = (what, self.said.get_mut(source)) {
                        *said = Some(Arc::new(input));
                    }
                }
                self.refused = None;
                if let Some(step) = step {
                    self.settle(step, *succeeded);
                }
            }
            Event::InputDeferred { source, input: value } => self.put_off(*source, value),
            Event::InputIgnored { source, input: value, .. } => {
                self.forget(*source);
                match self.read(input::<S::Input>(value)) {
                    Some(What::TimerFired { name, .. }) => self.stop(&name),
                    Some(What::Input(input)) => {
                        if let Some(act) = self.said_by(&input) {
                            self.said.remove(&act);
                        }
                    }
                    Some(What::Act(_)) | None => {}
                }
            }
            Event::CommandIssued { step, attempt, sending, compensation, command, .. } => {
                let issued = Issued {
                    command: Arc::new(command.clone()),
                    attempt: *attempt,
                    sending: *sending,
                    compensation: *compensation,
                    answer: None,
                    dropped: false,
                };
                self.issue(step, issued);
            }
            Event::TimerStarted { name, epoch, .. } => {
                self.timers.insert(name.clone(), Timer { epoch: *epoch, runs: true });
            }
            Event::TimerStopped { name, .. } => self.stop(name),
            Event::Alerted { .. } => {}
            Event::CompensationStarted { .. } => {
                self.drop_steps(|sent| !sent.compensation && sent.answer != Some(Answer::Unknown));
            }
            Event::Parked { reason, .. } => {
                self.parked = Some(reason.clone());
                self.failed = self.refused.or(self.failed);
            }
            Event::OperatorActed { act, verb, .. } => self.note_act(*act, *verb),
            Event::Resumed { .. } => self.resume(),
            Event::Finished { .. } => {
                self.timers.values_mut().for_each(|timer| timer.runs = false);
                self.finished = true;
                self.drop_steps(|_| true);
            }
        }
        self
    }
}
