//! The journal of a saga, as a decider: its state is the fold of what it heard.
//!
//! Nothing is stored twice. `InputReceived` holds what was heard, and reading it back calls
//! `react` again; the events behind it (commands, timers, parking, the end) are what `react`
//! wanted, written down so that others can act on them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use schemas::saga::Event;
use schemas::{Command, CommandId, Decider, SagaId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Name, Output, Reaction, Saga};

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
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
struct Issued {
    command: Arc<Command>,
    command_id: CommandId,
    attempt: u32,
    sending: u32,
    compensation: bool,
    settled: bool,
}

/// A timer that was started at least once.
#[derive(Debug, Clone, Copy)]
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
    type Command = Heard<S::Input>;
    type Event = Event;
    type Refusal = Unreadable;

    fn decide(&self, heard: &Heard<S::Input>) -> Result<Vec<Event>, Unreadable> {
        // The ledger of the log knows this too, but forgets it after its window.
        if self.heard.contains(&heard.source) {
            return Ok(Vec::new());
        }
        let mut draft = Draft {
            journal: self.clone(),
            events: Vec::new(),
            saga: SagaId::derive(heard.key, S::NAME),
            key: heard.key,
            at: heard.at,
        };
        draft.hear(heard.source, &heard.what)?;
        draft.hear_deferred()?;
        match draft.journal.fault {
            Some(why) => Err(Unreadable(why)),
            None => Ok(draft.events),
        }
    }

    fn evolve(mut self, event: &Event) -> Self {
        match event {
            Event::Started { definition_version, .. } => self.version = Some(*definition_version),
            Event::InputReceived { source, input: value, at, step, .. } => {
                self.forget(*source);
                if let Some(what) = self.read(input(value)) {
                    self.hear(&what, *at);
                }
                if let Some(step) = step {
                    self.stop(step);
                    let issued = S::Step::parse(step).and_then(|step| self.steps.get_mut(&step));
                    if let Some(issued) = issued {
                        issued.settled = true;
                    }
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
            Event::CommandIssued { command_id, step, attempt, sending, compensation, command } => {
                let known = S::Step::parse(step).ok_or_else(|| format!("step {step}"));
                if let Some(known) = self.read(known) {
                    let issued = Issued {
                        command: Arc::new(command.clone()),
                        command_id: *command_id,
                        attempt: *attempt,
                        sending: *sending,
                        compensation: *compensation,
                        settled: false,
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

/// The answer to one input, as it is being written.
struct Draft<S: Saga> {
    journal: Journal<S>,
    events: Vec<Event>,
    saga: SagaId,
    key: Uuid,
    at: Timestamp,
}

impl<S: Saga> Draft<S> {
    fn emit(&mut self, event: Event) {
        let journal = std::mem::take(&mut self.journal);
        self.journal = journal.evolve(&event);
        self.events.push(event);
    }

    fn hear(&mut self, source: Uuid, what: &What<S::Input>) -> Result<(), Unreadable> {
        match what {
            // It was stopped, or started anew, or has gone off already.
            What::TimerFired { name, epoch } if !self.journal.runs(name, *epoch) => {}
            _ if self.journal.parked => {
                self.emit(Event::InputDeferred { source, input: json(what)? });
            }
            What::Input(input) => self.take(source, input, json(what)?),
            What::TimerFired { name, .. } => match Journal::<S>::deadline(name) {
                Some(input) => self.take(source, &input, json(what)?),
                None => self.lose_patience(source, name, json(what)?),
            },
        }
        Ok(())
    }

    /// Puts an input to the table.
    fn take(&mut self, source: Uuid, input: &S::Input, stored: serde_json::Value) {
        let (state, outputs) = match self.journal.react(input, self.at) {
            Reaction::Taken(state, outputs) => (state, outputs),
            Reaction::Deferred => return self.emit(Event::InputDeferred { source, input: stored }),
            Reaction::Ignored => {
                let state = self.journal.state.name().to_owned();
                return self.emit(Event::InputIgnored { source, input: stored, state });
            }
        };
        if self.journal.version.is_none() {
            self.emit(Event::Started {
                definition: S::NAME.to_owned(),
                definition_version: S::VERSION,
                business_key: self.key,
            });
        }
        let open = |step: &S::Step| self.journal.steps.get(step).is_some_and(|sent| !sent.settled);
        let settled = S::settles(input).filter(|(step, _)| open(step));
        self.emit(Event::InputReceived {
            source,
            input: stored,
            at: self.at,
            step: settled.map(|(step, _)| step.as_str().to_owned()),
            succeeded: settled.map(|(_, succeeded)| succeeded),
            state: state.name().to_owned(),
        });
        for output in outputs {
            self.put(output);
        }
    }

    /// A step got no answer in time: send it again, or call a person.
    fn lose_patience(&mut self, source: Uuid, name: &str, stored: serde_json::Value) {
        let state = self.journal.state.name().to_owned();
        self.emit(Event::InputReceived {
            source,
            input: stored,
            at: self.at,
            step: None,
            succeeded: None,
            state,
        });
        let Some(step) = S::Step::parse(name) else { return };
        match (S::patience(step), self.journal.steps.get(&step)) {
            (Some(patience), Some(sent)) if sent.sending >= patience.sendings_max => {
                self.put(Output::Park(patience.park));
            }
            _ => self.put(Output::Resend(step)),
        }
    }

    /// Takes what was put off and can be understood now, in order.
    fn hear_deferred(&mut self) -> Result<(), Unreadable> {
        while !self.journal.parked {
            let ready = self.journal.deferred.iter().find(|(_, input)| {
                !matches!(self.journal.react(input, self.at), Reaction::Deferred)
            });
            let Some((source, input)) = ready.cloned() else { break };
            self.take(source, &input, json(&*input)?);
        }
        Ok(())
    }

    fn put(&mut self, output: Output<S>) {
        match output {
            Output::Send { step, command, compensation } => {
                let attempt = self.journal.steps.get(&step).map_or(1, |sent| sent.attempt + 1);
                let name = format!("{}/{attempt}", step.as_str());
                let command_id = CommandId::derive(self.saga.uuid(), &name);
                let (command, sending) = (Arc::new(command), 1);
                let settled = false;
                self.issue(
                    step,
                    &Issued { command, command_id, attempt, sending, compensation, settled },
                );
            }
            Output::Resend(step) => {
                if let Some(sent) = self.journal.steps.get(&step).cloned() {
                    self.issue(step, &Issued { sending: sent.sending + 1, ..sent });
                }
            }
            Output::StartTimer(timer, wait) => self.start_timer(timer.as_str(), wait),
            Output::StopTimer(timer) => self.stop_timer(timer.as_str()),
            Output::StartCompensation(reason) => {
                self.stop_waiting(|sent| !sent.compensation);
                self.emit(Event::CompensationStarted { reason: reason.to_owned() });
            }
            Output::Park(reason) => {
                self.stop_waiting(|_| true);
                let resume = self.journal.state.name().to_owned();
                self.emit(Event::Parked { reason: reason.to_owned(), resume });
            }
            Output::Finish(outcome) => self.emit(Event::Finished { outcome: outcome.to_owned() }),
        }
    }

    fn issue(&mut self, step: S::Step, issued: &Issued) {
        self.emit(Event::CommandIssued {
            command_id: issued.command_id,
            step: step.as_str().to_owned(),
            attempt: issued.attempt,
            sending: issued.sending,
            compensation: issued.compensation,
            command: Command::clone(&issued.command),
        });
        if let Some(patience) = S::patience(step) {
            self.start_timer(step.as_str(), patience.after(issued.sending));
        }
    }

    fn start_timer(&mut self, name: &str, wait: Duration) {
        let epoch = self.journal.timers.get(name).map_or(1, |timer| timer.epoch + 1);
        self.emit(Event::TimerStarted { name: name.to_owned(), epoch, due: self.at + wait });
    }

    fn stop_timer(&mut self, name: &str) {
        if let Some(timer) = self.journal.timers.get(name).filter(|timer| timer.runs) {
            self.emit(Event::TimerStopped { name: name.to_owned(), epoch: timer.epoch });
        }
    }

    fn stop_waiting(&mut self, whether: impl Fn(&Issued) -> bool) {
        let steps = self.journal.steps.iter().filter(|(_, sent)| whether(sent));
        let names = steps.map(|(step, _)| step.as_str()).collect::<Vec<_>>();
        for name in names {
            self.stop_timer(name);
        }
    }
}

fn json(value: &impl Serialize) -> Result<serde_json::Value, Unreadable> {
    serde_json::to_value(value).map_err(|error| Unreadable(error.to_string()))
}
