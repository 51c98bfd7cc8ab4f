//! Writing down the answer to one input.

use std::time::Duration;

use schemas::saga::Event;
use schemas::{Command, CommandId, Decider as _, SagaId, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use super::{Heard, Issued, Journal, Refusal, What};
use crate::{Answer, Name as _, Output, Reaction, Saga};

/// The answer to one input, as it is being written.
pub(super) struct Draft<S: Saga> {
    pub(super) journal: Journal<S>,
    events: Vec<Event>,
    saga: SagaId,
    key: Uuid,
    pub(super) at: Timestamp,
}

impl<S: Saga> Draft<S> {
    pub(super) fn new(journal: Journal<S>, saga: SagaId, heard: &Heard<S::Input>) -> Self {
        Self { journal, events: Vec::new(), saga, key: heard.key, at: heard.at }
    }

    /// What is to be appended.
    pub(super) fn finish(self) -> Result<Vec<Event>, Refusal> {
        match self.journal.fault {
            Some(why) => Err(Refusal::Unreadable(why)),
            None => Ok(self.events),
        }
    }

    pub(super) fn emit(&mut self, event: Event) {
        let journal = std::mem::take(&mut self.journal);
        self.journal = journal.evolve(&event);
        self.events.push(event);
    }

    pub(super) fn hear(&mut self, source: Uuid, what: &What<S::Input>) -> Result<(), Refusal> {
        match what {
            // It was stopped, or started anew, or has gone off already.
            What::TimerFired { name, epoch } if !self.journal.runs(name, *epoch) => {}
            What::Act(_) => {}
            _ if self.journal.abandoned => self.ignore(source, json(what)?),
            _ if self.journal.is_parked() => {
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
    pub(super) fn take(&mut self, source: Uuid, input: &S::Input, stored: serde_json::Value) {
        // A person knew it before.
        if self.journal.said_by(input).is_some() {
            return self.ignore(source, stored);
        }
        let (state, outputs) = match self.journal.react(input, self.at) {
            Reaction::Taken(state, outputs) => (state, outputs),
            Reaction::Deferred => return self.emit(Event::InputDeferred { source, input: stored }),
            Reaction::Ignored => return self.ignore(source, stored),
        };
        if self.journal.version.is_none() {
            self.emit(Event::Started {
                definition: S::NAME.to_owned(),
                definition_version: S::VERSION,
                business_key: self.key,
            });
        }
        // An unknown outcome counts also where the step seemed to be answered: it was asked twice.
        // And what parked it may have been done since, by hand.
        let failed = self.journal.failed;
        let waits = |step, sent: &Issued, answer| {
            sent.is_open()
                || answer == Answer::Unknown
                || (answer == Answer::Done && failed == Some(step))
        };
        let answered = S::answers(input).filter(|(step, answer)| {
            self.journal.steps.get(step).is_some_and(|sent| waits(*step, sent, *answer))
        });
        self.emit(Event::InputReceived {
            source,
            input: stored,
            at: self.at,
            step: answered.map(|(step, _)| step.as_str().to_owned()),
            succeeded: answered.and_then(|(_, answer)| match answer {
                Answer::Done => Some(true),
                Answer::Failed => Some(false),
                Answer::Unknown => None,
            }),
            state: state.name().to_owned(),
        });
        if let Some((step, Answer::Unknown)) = answered {
            self.wait_again(step);
        }
        for output in outputs {
            self.put(output);
        }
    }

    pub(super) fn ignore(&mut self, source: Uuid, input: serde_json::Value) {
        let state = self.journal.state_name().to_owned();
        self.emit(Event::InputIgnored { source, input, state });
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
        let Some(sent) = self.journal.steps.get(&step).cloned() else { return };
        match S::patience(step) {
            Some(patience) if sent.sending >= patience.sendings_max => {
                self.put(Output::Park(patience.park));
            }
            _ => self.ask_again(step),
        }
    }

    /// Puts the same question again: as a new one where the old one was answered, however little
    /// the answer says.
    pub(super) fn ask_again(&mut self, step: S::Step) {
        let Some(sent) = self.journal.steps.get(&step).cloned() else { return };
        let attempt = if sent.answer.is_none() { sent.attempt } else { sent.attempt + 1 };
        // What was parked for its no begins anew; otherwise patience goes on.
        let sending = if sent.answer == Some(Answer::Failed) { 1 } else { sent.sending + 1 };
        self.issue(step, attempt, sending, sent.compensation, &sent.command);
    }

    /// Takes what was put off and can be understood now, in order.
    pub(super) fn hear_deferred(&mut self) -> Result<(), Refusal> {
        while !self.journal.is_parked() && !self.journal.abandoned {
            let ready = self.journal.deferred.iter().find(|(_, input)| {
                !matches!(self.journal.react(input, self.at), Reaction::Deferred)
            });
            let Some((source, input)) = ready.cloned() else { break };
            self.take(source, &input, json(&*input)?);
        }
        Ok(())
    }

    pub(super) fn put(&mut self, output: Output<S>) {
        match output {
            Output::Send { step, command, compensation } => {
                let attempt = self.journal.steps.get(&step).map_or(1, |sent| sent.attempt + 1);
                self.issue(step, attempt, 1, compensation, &command);
            }
            Output::Resend(step) => {
                if let Some(sent) = self.journal.steps.get(&step).cloned() {
                    let sending = sent.sending + 1;
                    self.issue(step, sent.attempt, sending, sent.compensation, &sent.command);
                }
            }
            Output::StartTimer(timer, wait) => self.start_timer(timer.as_str(), wait),
            Output::StopTimer(timer) => self.stop_timer(timer.as_str()),
            Output::StartCompensation(reason) => {
                let unknown = |sent: &Issued| sent.answer == Some(Answer::Unknown);
                self.stop_waiting(|sent| !sent.compensation && !unknown(sent));
                self.emit(Event::CompensationStarted { reason: reason.to_owned() });
            }
            Output::Alert(reason) => {
                let reason = reason.as_str().to_owned();
                let state = self.journal.state.name().to_owned();
                self.emit(Event::Alerted { reason, state });
            }
            Output::Park(reason) => self.park(reason.to_owned()),
            Output::Finish(outcome) => self.emit(Event::Finished { outcome: outcome.to_owned() }),
        }
    }

    pub(super) fn park(&mut self, reason: String) {
        self.stop_waiting(|_| true);
        let resume = self.journal.state.name().to_owned();
        self.emit(Event::Parked { reason, resume });
    }

    fn issue(
        &mut self,
        step: S::Step,
        attempt: u32,
        sending: u32,
        compensation: bool,
        command: &Command,
    ) {
        let name = step.as_str();
        self.emit(Event::CommandIssued {
            command_id: CommandId::derive(self.saga.uuid(), &format!("{name}/{attempt}")),
            step: name.to_owned(),
            attempt,
            sending,
            compensation,
            command: command.clone(),
        });
        if let Some(patience) = S::patience(step) {
            self.start_timer(name, patience.after(sending));
        }
    }

    /// An outcome that nobody knows has to be cleared up, also where the saga has turned round.
    pub(super) fn wait_again(&mut self, step: S::Step) {
        let waits = self.journal.timers.get(step.as_str()).is_some_and(|timer| timer.runs);
        let sending = self.journal.steps.get(&step).map(|sent| sent.sending);
        if let (false, Some(sending), Some(patience)) = (waits, sending, S::patience(step)) {
            self.start_timer(step.as_str(), patience.after(sending));
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

pub(super) fn json(value: &impl Serialize) -> Result<serde_json::Value, Refusal> {
    serde_json::to_value(value).map_err(|error| Refusal::Unreadable(error.to_string()))
}
