//! One row per saga: where it is, what it asked for, what it waits for.

use schemas::saga::Event;
use schemas::{Category, CommandId, Fact, OrderId, Recorded, SagaId, Text, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::projection::{Keys, Projection};
use crate::row;
use crate::walk::{self, List, Only, Part, Place, Placed};
use crate::words::words;

words! {
    /// How a step stands.
    pub enum StepStatus {
        /// Told, and nobody answers it.
        Told = "told",
        /// Asked for, not answered.
        Pending = "pending",
        /// It did what was asked.
        Succeeded = "succeeded",
        /// It did not.
        Failed = "failed",
    }
}

/// Something that the saga asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Step {
    /// Its name.
    pub step: String,
    /// Whether it gives something back.
    pub compensation: bool,
    /// The context that was asked.
    pub context: String,
    /// How it stands.
    pub status: StepStatus,
    /// The attempt that counts, from 1; grows only after a definite failure.
    pub attempt: u32,
    /// How often that attempt was sent, from 1; grows where nobody answered.
    pub sending: u32,
    /// The command of that attempt.
    pub command_id: CommandId,
    /// When it was first asked for.
    pub issued_at: Timestamp,
    /// When it was answered.
    pub settled_at: Option<Timestamp>,
}

/// A time at which the saga wants to be woken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Timer {
    /// Its name.
    pub name: String,
    /// Which start of it.
    pub epoch: u32,
    /// When.
    pub due: Timestamp,
}

/// Why the saga cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Parked {
    /// Why.
    pub reason: String,
    /// The state that it goes on from.
    pub resume_state: String,
    /// Since when.
    pub since: Timestamp,
}

crate::table! {
    /// A saga.
    pub struct Row {
        /// The saga.
        saga_id: Uuid,
        /// What it is about.
        order_id: Uuid,
        /// Which saga.
        definition: String,
        /// Which version of its table.
        definition_version: i32,
        /// The state that it is in.
        state: String,
        /// How it ended.
        outcome: Option<String>,
        /// Why it gives back what it took, where it does.
        compensating: Option<String>,
        /// Why it cannot go on, where it cannot.
        parked: Option<Json<Parked>>,
        /// What it asked for, each step once, in the order of the first asking.
        steps: Json<Vec<Step>>,
        /// The timers that run.
        timers: Json<Vec<Timer>>,
        /// How many inputs it keeps for later.
        deferred: i64,
        /// Which these are, by their sources.
        deferred_sources: Json<Vec<Uuid>>,
        /// How many inputs changed nothing.
        ignored: i64,
        /// When it began.
        started_at: Timestamp,
        /// When it ended.
        finished_at: Option<Timestamp>,
        /// When its last event was recorded.
        updated_at: Timestamp,
        /// The version of its stream.
        version: i64,
    }
}

impl Row {
    /// The saga's id.
    #[must_use]
    pub const fn id(&self) -> SagaId {
        SagaId::new(self.saga_id)
    }

    /// The order that it sees through.
    #[must_use]
    pub const fn order(&self) -> OrderId {
        OrderId::new(self.order_id)
    }

    /// A saga of which nothing is known but that it is there: it may hear before it starts.
    fn new(key: Uuid, event: &Recorded) -> Self {
        Self {
            saga_id: key,
            order_id: event.correlation_id,
            definition: String::new(),
            definition_version: 0,
            state: "new".to_owned(),
            outcome: None,
            compensating: None,
            parked: None,
            steps: Json(Vec::new()),
            timers: Json(Vec::new()),
            deferred: 0,
            deferred_sources: Json(Vec::new()),
            ignored: 0,
            started_at: event.recorded_at,
            finished_at: None,
            updated_at: event.recorded_at,
            version: 0,
        }
    }

    fn note(&mut self, fact: &Event, at: Timestamp) {
        match fact {
            Event::Started { definition, definition_version, business_key } => {
                definition.clone_into(&mut self.definition);
                self.definition_version = i32::from(*definition_version);
                self.order_id = *business_key;
                self.started_at = at;
            }
            Event::InputReceived { source, step, succeeded, state, .. } => {
                self.hear(*source);
                state.clone_into(&mut self.state);
                self.parked = None;
                if let (Some(step), Some(succeeded)) = (step, succeeded) {
                    self.settle(step, *succeeded, at);
                }
            }
            Event::InputDeferred { source, .. } => {
                self.deferred_sources.0.push(*source);
                self.deferred += 1;
            }
            Event::InputIgnored { source, .. } => {
                self.hear(*source);
                self.ignored += 1;
            }
            Event::CommandIssued { command_id, step, attempt, sending, compensation, command } => {
                self.issue(Step {
                    step: step.clone(),
                    compensation: *compensation,
                    context: context(command).to_owned(),
                    status: StepStatus::Told,
                    attempt: *attempt,
                    sending: *sending,
                    command_id: *command_id,
                    issued_at: at,
                    settled_at: None,
                });
            }
            Event::TimerStarted { name, epoch, due } => {
                self.timers.0.retain(|timer| timer.name != *name);
                self.timers.0.push(Timer { name: name.clone(), epoch: *epoch, due: *due });
                // Whose answer is waited for has a timer of its name.
                self.step(name, |step| step.status = StepStatus::Pending);
            }
            Event::TimerStopped { name, epoch } => {
                self.timers.0.retain(|timer| timer.name != *name || timer.epoch > *epoch);
            }
            Event::Alerted { .. } => {}
            Event::CompensationStarted { reason } => self.compensating = Some(reason.clone()),
            Event::Parked { reason, resume } => {
                let (reason, resume_state) = (reason.clone(), resume.clone());
                self.parked = Some(Json(Parked { reason, resume_state, since: at }));
            }
            Event::OperatorActed { state, .. } => state.clone_into(&mut self.state),
            Event::Resumed { .. } => self.parked = None,
            Event::Finished { outcome } => {
                self.parked = None;
                self.outcome = Some(outcome.clone());
                self.finished_at = Some(at);
                self.timers.0.clear();
            }
        }
    }

    /// What was kept for later is heard now, if it was kept.
    fn hear(&mut self, source: Uuid) {
        let kept = &mut self.deferred_sources.0;
        kept.retain(|deferred| *deferred != source);
        self.deferred = i64::try_from(kept.len()).unwrap_or(i64::MAX);
    }

    fn issue(&mut self, issued: Step) {
        match self.steps.0.iter_mut().find(|known| known.step == issued.step) {
            Some(known) => {
                let issued_at = known.issued_at;
                *known = Step { issued_at, ..issued };
            }
            None => self.steps.0.push(issued),
        }
    }

    fn settle(&mut self, step: &str, succeeded: bool, at: Timestamp) {
        self.timers.0.retain(|timer| timer.name != step);
        self.step(step, |known| {
            known.status = if succeeded { StepStatus::Succeeded } else { StepStatus::Failed };
            known.settled_at = Some(at);
        });
    }

    fn step(&mut self, name: &str, change: impl FnOnce(&mut Step)) {
        if let Some(known) = self.steps.0.iter_mut().find(|known| known.step == name) {
            change(known);
        }
    }
}

const fn context(command: &schemas::Command) -> &'static str {
    match command {
        schemas::Command::Order { .. } => Category::Order.as_str(),
        schemas::Command::Payment { .. } => Category::Payment.as_str(),
        schemas::Command::Inventory { .. } => Category::Inventory.as_str(),
        schemas::Command::Shipping { .. } => Category::Shipping.as_str(),
    }
}

/// Sagas, as operators see them.
#[derive(Debug)]
pub struct SagaView;

impl Projection for SagaView {
    const NAME: &'static str = "saga_view";
    const VERSION: u16 = 3;
    const CATEGORIES: &'static [Category] = &[Category::Saga];
    type Row = Row;

    fn keys(event: &Recorded) -> Keys {
        match event.fact {
            Fact::Saga(_) => Keys::One(event.stream.id),
            _ => Keys::None,
        }
    }

    fn evolve(row: Option<Row>, key: Uuid, event: &Recorded) -> Option<Row> {
        let Fact::Saga(fact) = &event.fact else { return row };
        let mut row = row.unwrap_or_else(|| Row::new(key, event));
        row.note(fact, event.recorded_at);
        Some(Row { version: event.version, updated_at: event.recorded_at, ..row })
    }
}

/// One saga.
///
/// # Errors
/// Where the database is away.
pub async fn get(pool: &PgPool, saga: SagaId) -> Result<Option<Row>, sqlx::Error> {
    row::get(pool, SagaView::NAME, saga.uuid()).await
}

impl Placed for Row {
    fn place(&self) -> Place {
        (self.started_at, self.saga_id)
    }
}

/// Which sagas are wanted.
#[derive(Debug, Clone, Default)]
pub enum Filter {
    /// All.
    #[default]
    Any,
    /// In one of these states.
    States(Vec<Text>),
    /// That ended in one of these ways.
    Outcomes(Vec<Text>),
    /// That have not ended.
    Running,
    /// That cannot go on.
    Parked,
    /// That cannot go on for one of these reasons.
    Reasons(Vec<Text>),
}

/// The sagas of `part` that `filter` lets through, by the time at which they began.
///
/// # Errors
/// Where the database is away.
pub async fn list(pool: &PgPool, filter: &Filter, part: &Part) -> Result<Vec<Row>, sqlx::Error> {
    walk::read(pool, list_query(filter, part)).await
}

/// What [`list`] asks, for whoever looks at how it is planned.
#[must_use]
pub fn list_query(filter: &Filter, part: &Part) -> QueryBuilder<Postgres> {
    const SAGAS: List =
        List { prefix: "", from: "read_models.saga_view", time: "started_at", id: "saga_id" };
    let (always, either) = match filter {
        Filter::Any => (vec![], vec![]),
        Filter::States(states) => (vec![], Only::any("state", states)),
        Filter::Outcomes(outcomes) => (vec![], Only::any("outcome", outcomes)),
        Filter::Running => (vec![Only::That("outcome is null")], vec![]),
        Filter::Parked => (vec![Only::That("parked is not null")], vec![]),
        Filter::Reasons(reasons) => {
            (vec![Only::That("parked is not null")], Only::any("parked ->> 'reason'", reasons))
        }
    };
    SAGAS.query::<Row>(&always, &either, part)
}

/// How many sagas are parked, by reason.
///
/// # Errors
/// Where the database is away.
pub async fn parked(pool: &PgPool) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as(
        "select parked ->> 'reason', count(*) from read_models.saga_view
         where parked is not null group by 1",
    )
    .fetch_all(pool)
    .await
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::Value;

    use super::*;
    use crate::given::{given, order_id, saga_started};

    fn issued(step: &str, attempt: u32, sending: u32) -> Event {
        Event::CommandIssued {
            command_id: CommandId::derive(Uuid::nil(), &format!("{step}/{attempt}")),
            step: step.to_owned(),
            attempt,
            sending,
            compensation: step == "void",
            command: schemas::Command::Order {
                id: order_id(),
                command: schemas::order::Command::Confirm,
            },
        }
    }

    fn heard(step: Option<&str>, succeeded: Option<bool>, state: &str) -> Event {
        Event::InputReceived {
            source: Uuid::nil(),
            input: Value::Null,
            at: DateTime::UNIX_EPOCH,
            step: step.map(str::to_owned),
            succeeded,
            state: state.to_owned(),
        }
    }

    fn after(events: impl IntoIterator<Item = Event>) -> Row {
        let events = events.into_iter().map(Fact::Saga);
        given::<SagaView>([saga_started()].into_iter().chain(events)).one()
    }

    #[test]
    fn a_step_is_one_line_however_often_it_is_sent() {
        let row = after([
            issued("authorise", 1, 1),
            issued("authorise", 1, 2),
            heard(Some("authorise"), Some(false), "paying"),
            issued("authorise", 2, 1),
            heard(Some("authorise"), Some(true), "confirming"),
        ]);
        let [step] = &row.steps.0[..] else { panic!("{:?}", row.steps) };
        assert_eq!((step.attempt, step.sending, step.status), (2, 1, StepStatus::Succeeded));
        assert_eq!(row.state, "confirming");
        assert_eq!((row.order_id, row.version), (order_id().uuid(), 6));
    }

    #[test]
    fn a_step_that_nobody_answers_is_told() {
        let timer =
            Event::TimerStarted { name: "reserve".into(), epoch: 1, due: DateTime::UNIX_EPOCH };
        let row = after([issued("reserve", 1, 1), timer, issued("record_payment", 1, 1)]);
        let steps = row.steps.0.iter().map(|step| step.status);
        assert_eq!(steps.collect::<Vec<_>>(), [StepStatus::Pending, StepStatus::Told]);
    }

    #[test]
    fn giving_back_is_marked() {
        let reason = "payment_declined".to_owned();
        let row =
            after([Event::CompensationStarted { reason: reason.clone() }, issued("void", 1, 1)]);
        assert_eq!(row.compensating, Some(reason));
        assert!(row.steps.0[0].compensation);
    }

    #[test]
    fn timers_run_until_they_are_stopped() {
        let timer = |epoch| Event::TimerStarted {
            name: "reserve".to_owned(),
            epoch,
            due: DateTime::UNIX_EPOCH,
        };
        let stop = |epoch| Event::TimerStopped { name: "reserve".to_owned(), epoch };
        assert_eq!(after([timer(1), timer(2)]).timers.0.len(), 1);
        assert_eq!(after([timer(1), timer(2), stop(1)]).timers.0.len(), 1);
        assert!(after([timer(1), timer(2), stop(2)]).timers.0.is_empty());
    }

    #[test]
    fn a_parked_saga_says_why_until_it_goes_on() {
        let parked =
            || Event::Parked { reason: "refund_failed".into(), resume: "unwinding".into() };
        let row = after([parked()]);
        assert_eq!(row.parked.unwrap().resume_state, "unwinding");
        assert!(after([parked(), heard(None, None, "unwinding")]).parked.is_none());
    }

    #[test]
    fn a_resumed_saga_is_not_parked_and_hears_what_it_kept() {
        let parked = Event::Parked { reason: "refund_failed".into(), resume: "unwinding".into() };
        let keeps = |source| Event::InputDeferred { source, input: Value::Null };
        let (one, other) = (Uuid::from_u128(1), Uuid::nil());
        let story = [parked, keeps(one), keeps(other)];
        assert_eq!(after(story.clone()).deferred, 2);
        let state = || "unwinding".to_owned();
        let resumed = Event::Resumed { state: state() };
        let ignored = Event::InputIgnored { source: one, input: Value::Null, state: state() };
        let more = [resumed, heard(None, None, "finalising"), ignored];
        let row = after(story.into_iter().chain(more));
        assert!(row.parked.is_none());
        assert_eq!((row.deferred, row.ignored, row.state.as_str()), (0, 1, "finalising"));
    }

    #[test]
    fn a_finished_saga_waits_for_nothing() {
        let timer =
            Event::TimerStarted { name: "reserve".into(), epoch: 1, due: DateTime::UNIX_EPOCH };
        let row = after([timer, Event::Finished { outcome: "completed".into() }]);
        assert_eq!(row.outcome.as_deref(), Some("completed"));
        assert!(row.timers.0.is_empty() && row.finished_at.is_some());
    }
}
