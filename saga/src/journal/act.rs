//! What a person does about a saga that is parked, and what of it is possible.
//!
//! Every verb ends the parking, and what was put off is heard in order. They differ in what they
//! do besides: `retry` sends again what nobody answered and what failed; `resume` sends nothing
//! and waits anew; `skip` and `set-outcome` take a step's answer from the person; `compensate`
//! turns the saga round; `abandon` ends it.

use std::sync::Arc;

use schemas::saga::{Event, Verb};
use schemas::{Text, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::draft::{Draft, json};
use super::{ABANDONED, Journal};
use crate::{Name as _, Output, Reaction, Saga};

/// What a person does.
#[derive(Debug, Clone)]
pub struct Act {
    /// What is done.
    pub verb: Verb,
    /// To which step, by its name; for `skip` and `set-outcome`.
    pub step: Option<String>,
    /// What became of that step; for `set-outcome`.
    pub outcome: Option<Outcome>,
    /// Whether to do it although money or goods may still be held; for `abandon`.
    pub force: bool,
    /// Who.
    pub actor: Text,
    /// Why.
    pub reason: Text,
    /// What shows that it is so.
    pub evidence: Option<Text>,
}

/// What became of a step, as a person says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// What was asked was done.
    Done,
    /// It was not, and will not be.
    Failed,
}

impl Outcome {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Done, Self::Failed];

    const fn is_done(self) -> bool {
        matches!(self, Self::Done)
    }
}

/// Something that may be done now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Legal {
    /// What.
    pub verb: Verb,
    /// The steps that it may name; of the others it names none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Choice>,
    /// Whether it has to be forced, since money or goods may still be held.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// A step that may be named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Choice {
    /// Which one.
    pub step: &'static str,
    /// What may be said of it.
    pub outcomes: Vec<Outcome>,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The journal holds something that this release cannot read.
    #[error("the journal cannot be read: {0}")]
    Unreadable(String),
    /// It has not begun, or does not wait for anybody in person.
    #[error("the saga is not parked: it is {0}, and goes on by itself")]
    NotParked(&'static str),
    /// Not in this state.
    #[error("`{verb}` is not possible now; possible are: {legal}")]
    VerbNotLegal {
        /// What was to be done.
        verb: &'static str,
        /// What could be.
        legal: String,
    },
    /// Not this step, now.
    #[error("the step cannot be named here; these can: {0}")]
    StepNotLegal(String),
    /// This cannot be said of the step.
    #[error("this cannot be said of the step now")]
    OutcomeNotLegal,
    /// Nobody else would look after it.
    #[error("money or goods may still be held: see to them, and force it")]
    StillHeld,
}

impl schemas::Refusal for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "journal_unreadable",
            Self::NotParked(_) => "not_parked",
            Self::VerbNotLegal { .. } => "verb_not_legal",
            Self::StepNotLegal(_) => "step_not_legal",
            Self::OutcomeNotLegal => "outcome_not_legal",
            Self::StillHeld => "still_held",
        }
    }
}

impl<S: Saga> Journal<S> {
    /// What a person may do now; nothing, unless it is parked.
    #[must_use]
    pub fn verbs(&self) -> Vec<Legal> {
        if !self.is_parked() || self.fault.is_some() {
            return Vec::new();
        }
        Verb::ALL.into_iter().filter_map(|verb| self.legal(verb)).collect()
    }

    /// The steps that nobody has answered, and the one whose no parked it.
    fn open_steps(&self) -> Vec<S::Step> {
        let mut open: Vec<_> = self.awaited().chain(self.failed).collect();
        open.sort_unstable();
        open.dedup();
        open
    }

    fn legal(&self, verb: Verb) -> Option<Legal> {
        let is = |whether: bool| whether.then(|| Legal { verb, steps: Vec::new(), force: false });
        match verb {
            Verb::Retry => is(!self.open_steps().is_empty()),
            // After a no there is nobody to wait for.
            Verb::Resume => is(self.failed.is_none()),
            Verb::Skip => self.about(verb, |step, outcome| S::may_skip(step) && outcome.is_done()),
            Verb::SetOutcome => self.about(verb, |_, _| true),
            Verb::Compensate => is(!self.finished && self.turned().is_some()),
            Verb::Abandon => is(!self.finished).map(|legal| Legal { force: self.holds(), ..legal }),
        }
    }

    fn about(&self, verb: Verb, may: impl Fn(S::Step, Outcome) -> bool) -> Option<Legal> {
        let choice = |step: S::Step| {
            let outcomes = Outcome::ALL.into_iter();
            let said =
                |outcome: &Outcome| may(step, *outcome) && self.said(step, *outcome).is_some();
            Choice { step: step.as_str(), outcomes: outcomes.filter(said).collect() }
        };
        let steps = self.open_steps().into_iter().map(choice);
        let steps: Vec<_> = steps.filter(|choice| !choice.outcomes.is_empty()).collect();
        (!steps.is_empty()).then_some(Legal { verb, steps, force: false })
    }

    /// The input that stands for what is said of a step, where the table takes it.
    fn said(&self, step: S::Step, outcome: Outcome) -> Option<S::Input> {
        let input = self.state.said(step, outcome.is_done())?;
        // Whether a row listens is a matter of the state, and not of the time.
        let reaction = self.react(&input, Timestamp::UNIX_EPOCH);
        matches!(reaction, Reaction::Taken(..)).then_some(input)
    }

    /// How it turns round, where it can.
    fn turned(&self) -> Option<(S, Vec<Output<S>>)> {
        match S::clone(&self.state).compensate(self.version.unwrap_or(S::VERSION)) {
            Reaction::Taken(state, outputs) => Some((state, outputs)),
            Reaction::Ignored | Reaction::Deferred => None,
        }
    }

    /// Whether money or goods may still be held.
    fn holds(&self) -> bool {
        let mut undone = self.open_steps().into_iter();
        let gives_back =
            |step: S::Step| self.steps.get(&step).is_some_and(|sent| sent.compensation);
        self.state.holds() || undone.any(gives_back)
    }

    /// What `act` makes the saga hear of a step, if anything.
    fn permit(&self, act: &Act) -> Result<Option<S::Input>, Refusal> {
        if !self.is_parked() {
            return Err(Refusal::NotParked(self.state_name()));
        }
        let Some(legal) = self.legal(act.verb) else {
            let verb = act.verb.as_str();
            let legal: Vec<_> = self.verbs().iter().map(|legal| legal.verb.as_str()).collect();
            return Err(Refusal::VerbNotLegal { verb, legal: legal.join(", ") });
        };
        if legal.force && !act.force {
            return Err(Refusal::StillHeld);
        }
        let outcome = match act.verb {
            Verb::Skip => Outcome::Done,
            Verb::SetOutcome => act.outcome.ok_or(Refusal::OutcomeNotLegal)?,
            Verb::Retry | Verb::Resume | Verb::Compensate | Verb::Abandon => return Ok(None),
        };
        let choice = legal.steps.iter().find(|choice| act.step.as_deref() == Some(choice.step));
        let choice = choice.ok_or_else(|| {
            let steps: Vec<_> = legal.steps.iter().map(|choice| choice.step).collect();
            Refusal::StepNotLegal(steps.join(", "))
        })?;
        let step = S::Step::parse(choice.step).filter(|_| choice.outcomes.contains(&outcome));
        let input = step.and_then(|step| self.said(step, outcome));
        input.map(Some).ok_or(Refusal::OutcomeNotLegal)
    }
}

impl<S: Saga> Draft<S> {
    /// Does what a person asks for, or says why not.
    pub(super) fn act(&mut self, source: Uuid, act: &Act) -> Result<(), Refusal> {
        if let Some(why) = self.journal.fault.clone() {
            return Err(Refusal::Unreadable(why));
        }
        let said = self.journal.permit(act)?;
        let reason = self.journal.parked.clone();
        let turned = self.journal.turned().filter(|_| act.verb == Verb::Compensate);
        let state = match (&turned, act.verb) {
            (Some((state, _)), _) => state.name(),
            (None, Verb::Abandon) => ABANDONED,
            _ => self.journal.state.name(),
        };
        self.emit(note(source, act, self.at, state));
        if act.verb == Verb::Abandon {
            return self.end();
        }
        self.emit(Event::Resumed { state: state.to_owned() });
        for output in turned.into_iter().flat_map(|(_, outputs)| outputs) {
            self.put(output);
        }
        if let Some(input) = said {
            self.take(source, &input, json(&input)?);
        }
        // What came in meanwhile may be the answer: nothing is asked again before it is heard.
        self.hear_deferred()?;
        self.wait_for_the_rest(act.verb == Verb::Retry);
        // Who is said no to and does not ask again would wait for nobody.
        if let (false, Some(_), Some(reason)) =
            (self.journal.is_parked(), self.journal.failed, reason)
        {
            self.park(reason);
        }
        Ok(())
    }

    /// Waits for every step that is open and not waited for, since it was parked; or asks again.
    fn wait_for_the_rest(&mut self, asks: bool) {
        if self.journal.is_parked() {
            return;
        }
        for step in self.journal.open_steps() {
            let waits = self.journal.timers.get(step.as_str()).is_some_and(|timer| timer.runs);
            let failed = self.journal.failed == Some(step);
            match (waits, asks, failed) {
                (true, ..) | (false, false, true) => {}
                (false, true, _) => self.ask_again(step),
                (false, false, false) => self.wait_again(step),
            }
        }
    }

    /// Ends it as it stands.
    fn end(&mut self) -> Result<(), Refusal> {
        let deferred: Vec<(Uuid, Arc<S::Input>)> = self.journal.deferred.iter().cloned().collect();
        for (source, input) in deferred {
            self.ignore(source, json(&*input)?);
        }
        self.emit(Event::Finished { outcome: ABANDONED.to_owned() });
        Ok(())
    }
}

fn note(source: Uuid, act: &Act, at: Timestamp, state: &str) -> Event {
    let (step, succeeded) = match act.verb {
        Verb::Skip => (act.step.clone(), Some(true)),
        Verb::SetOutcome => (act.step.clone(), act.outcome.map(Outcome::is_done)),
        Verb::Retry | Verb::Resume | Verb::Compensate | Verb::Abandon => (None, None),
    };
    Event::OperatorActed {
        act: source,
        verb: act.verb,
        step,
        succeeded,
        forced: act.force,
        actor: act.actor.clone(),
        reason: act.reason.clone(),
        evidence: act.evidence.clone(),
        at,
        state: state.to_owned(),
    }
}
