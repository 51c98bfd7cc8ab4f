//! The journal of a saga, as a decider: its state is the fold of what it heard.
//!
//! Nothing is stored twice. `InputReceived` holds what was heard, and reading it back calls
//! `react` again; the events behind it (commands, timers, parking, the end) are what `react`
//! wanted, written down so that others can act on them.

mod draft;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use schemars::JsonSchema;
use schemas::saga::Event;
use schemas::{Command, Decider, SagaId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::draft::Draft;
use crate::{Answer, Name, Reaction, Saga};

/// What is put to a journal: a fact or a timer, once.
#[derive(Debug, Clone)]
pub struct Heard<I> {
    /// The business key, which the saga's id is derived from.
    pub key: Uuid,
    /// The event it comes from, or the id of a timer's firing.
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
    /// A fact, in the saga's own words.
    #[serde(untagged)]
    Input(I),
}

/// The journal holds something that this release cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be read: {0}")]
pub struct Unreadable(String);

impl schemas::Refusal for Unreadable {
    fn code(&self) -> &'static str {
        "journal_unreadable"
    }
}

/// What came of a saga's journal.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(bound = "")]
pub struct Journal<S: Saga> {
    /// The definition's version, once it began.
    version: Option<u16>,
    state: Arc<S>,
    parked: bool,
    heard: BTreeSet<Uuid>,
    deferred: VecDeque<(Uuid, Arc<S::Input>)>,
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
            parked: false,
            heard: BTreeSet::new(),
            deferred: VecDeque::new(),
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
        self.parked
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
        if let Some(sent) = S::Step::parse(step).and_then(|step| self.steps.get_mut(&step)) {
            sent.answer = Some(answer);
        }
    }

    fn read<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.fault = Some(why)).ok()
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
    type Refusal = Unreadable;

    fn decide(&self, heard: &Heard<S::Input>) -> Result<Vec<Event>, Unreadable> {
        // The ledger of the log knows this too, but forgets it after its window.
        if self.heard.contains(&heard.source) {
            return Ok(Vec::new());
        }
        let mut draft = Draft::new(self.clone(), SagaId::derive(heard.key, S::NAME), heard);
        draft.hear(heard.source, &heard.what)?;
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
                }
                if let Some(step) = step {
                    self.settle(step, *succeeded);
                }
            }
            Event::InputDeferred { source, input: value } => {
                self.heard.insert(*source);
                match self.read(input::<S::Input>(value)) {
                    Some(What::Input(input)) => {
                        self.deferred.push_back((*source, Arc::new(input)));
                    }
                    Some(What::TimerFired { name, .. }) => {
                        self.stop(&name);
                        if let Some(input) = Self::deadline(&name) {
                            self.deferred.push_back((*source, Arc::new(input)));
                        }
                    }
                    None => {}
                }
            }
            Event::InputIgnored { source, input: value, .. } => {
                self.forget(*source);
                if let Some(What::TimerFired { name, .. }) = self.read(input::<S::Input>(value)) {
                    self.stop(&name);
                }
            }
            Event::CommandIssued { step, attempt, sending, compensation, command, .. } => {
                let known = S::Step::parse(step).ok_or_else(|| format!("step {step}"));
                if let Some(known) = self.read(known) {
                    let issued = Issued {
                        command: Arc::new(command.clone()),
                        attempt: *attempt,
                        sending: *sending,
                        compensation: *compensation,
                        answer: None,
                    };
                    self.steps.insert(known, issued);
                }
            }
            Event::TimerStarted { name, epoch, .. } => {
                self.timers.insert(name.clone(), Timer { epoch: *epoch, runs: true });
            }
            Event::TimerStopped { name, .. } => self.stop(name),
            Event::CompensationStarted { .. } => {}
            Event::Parked { .. } => self.parked = true,
            Event::Finished { .. } => {
                self.timers.values_mut().for_each(|timer| timer.runs = false);
            }
        }
        self
    }
}
