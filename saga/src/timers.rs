//! Timers: a table made from the journals, and a poller that fires what is due.
//!
//! The journals are the truth: a timer that fires twice, or late, or after it was stopped is
//! told apart by its epoch and changes nothing. So a poller may crash, and several may run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use event_store::{AtOnce, Batch, Fault, Moved, Projector, Store};
use futures_util::{StreamExt as _, stream};
use metrics::{counter, describe_counter};
use schemas::saga::Event;
use schemas::{Category, Clock, Fact, OrderId, Recorded, SagaId, Timestamp};
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::operate::{self, Begun};
use crate::registry;

/// How long a poller sleeps at least: what is due may be in another poller's hands.
const POLL_MS_MIN: u64 = 10;
/// How long a poller sleeps at most.
const POLL_MS_MAX: u64 = 500;
/// How many timers one poll fires.
const FIRED_MAX: i64 = 200;
/// How many timers are fired side by side.
const FIRING_MAX: usize = 16;
/// How long a claimed timer is left to the poller that claimed it.
const CLAIM: Duration = Duration::from_secs(10);
/// How late a timer may fire before somebody should hear of it.
const LAG_MS_MAX: i64 = 30_000;

/// What sagas told people of without waiting for them.
const ALERTS: &str = "waybill_saga_alerts_total";

/// Says what every number of this crate means. Once per process, after its recorder is there.
pub fn describe_metrics() {
    describe_counter!(ALERTS, "Orders that are late, by what they wait for");
    for reason in registry::alerts() {
        counter!(ALERTS, "reason" => reason).increment(0);
    }
}

/// Keeps `saga_timers`: one row for each timer that runs.
#[derive(Debug)]
pub struct Timers {
    write: AtOnce,
}

impl Timers {
    /// The keeper of the table.
    #[must_use]
    pub fn new() -> Self {
        Self { write: statements() }
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self::new()
    }
}

/// What a batch of events comes to.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    finished: BTreeSet<Uuid>,
    /// The last word on each timer: when it is due, or that it does not run.
    timers: BTreeMap<(Uuid, String), Option<(u32, Timestamp)>>,
}

impl Changes {
    fn fold(mut self, saga: Uuid, event: &Event) -> Self {
        match event {
            Event::TimerStarted { name, epoch, due } => {
                self.timers.insert((saga, name.clone()), Some((*epoch, *due)));
            }
            Event::Finished { .. } => {
                self.timers.retain(|(other, _), _| *other != saga);
                self.finished.insert(saga);
            }
            other => {
                if let Some(name) = stopped(other) {
                    self.timers.insert((saga, name.to_owned()), None);
                }
            }
        }
        self
    }

    /// The arguments of [`statements`].
    fn arguments(self) -> Result<PgArguments, BoxDynError> {
        let (mut stopped, mut started) =
            (<(Vec<_>, Vec<_>)>::default(), <(Vec<_>, Vec<_>)>::default());
        let (mut epochs, mut dues) = (Vec::new(), Vec::new());
        for ((saga, name), start) in self.timers {
            let (sagas, names) = if start.is_some() { &mut started } else { &mut stopped };
            sagas.push(saga);
            names.push(name);
            if let Some((epoch, due)) = start {
                epochs.push(i64::from(epoch));
                dues.push(due);
            }
        }
        let mut arguments = PgArguments::default();
        arguments.add(self.finished.into_iter().collect::<Vec<_>>())?;
        arguments.add(stopped.0)?;
        arguments.add(stopped.1)?;
        arguments.add(started.0)?;
        arguments.add(started.1)?;
        arguments.add(epochs)?;
        arguments.add(dues)?;
        Ok(arguments)
    }
}

/// The timer that does not run any more after `event`: stopped, gone off, or named after a step
/// whose answer has come.
pub(crate) fn stopped(event: &Event) -> Option<&str> {
    match event {
        Event::TimerStopped { name, .. } => Some(name),
        Event::InputReceived { step: Some(step), succeeded: Some(_), .. } => Some(step),
        Event::InputReceived { input, .. }
        | Event::InputDeferred { input, .. }
        | Event::InputIgnored { input, .. } => input.get("timer_fired")?.get("name")?.as_str(),
        Event::Started { .. }
        | Event::CommandIssued { .. }
        | Event::TimerStarted { .. }
        | Event::CompensationStarted { .. }
        | Event::Alerted { .. }
        | Event::Parked { .. }
        | Event::OperatorActed { .. }
        | Event::Resumed { .. }
        | Event::Finished { .. } => None,
    }
}

impl Projector for Timers {
    type Held = ();

    fn name(&self) -> &'static str {
        "saga/timers"
    }

    fn wants(&self, event: &Recorded) -> bool {
        event.stream.category == Category::Saga
    }

    async fn begin(&self, _: &PgPool) -> Result<(), Fault> {
        Ok(())
    }

    async fn apply(
        &self,
        (): &mut (),
        batch: Batch<'_>,
        events: &[Arc<Recorded>],
    ) -> Result<Moved, Fault> {
        let mut changes = Changes::default();
        for event in events {
            match &event.fact {
                Fact::Saga(fact) => changes = changes.fold(event.stream.id, fact),
                Fact::Unknown { why, .. } if event.stream.category == Category::Saga => {
                    return Err(Fault::Poison { position: event.position, why: why.clone() });
                }
                _ => {}
            }
        }
        let arguments = changes.arguments().map_err(sqlx::Error::Encode)?;
        let moved = batch.at_once(&self.write, arguments).await?;
        tell_parked(events);
        tell_alerts(events);
        Ok(moved)
    }
}

/// Says who waits for a person, unless somebody has come already.
fn tell_parked(events: &[Arc<Recorded>]) {
    let mut parked = BTreeMap::new();
    for event in events {
        match &event.fact {
            Fact::Saga(Event::Parked { reason, resume }) => {
                parked.insert(event.stream.id, (reason, resume));
            }
            Fact::Saga(Event::Resumed { .. } | Event::OperatorActed { .. }) => {
                parked.remove(&event.stream.id);
            }
            _ => {}
        }
    }
    for (saga, (reason, state)) in parked {
        let saga = SagaId::new(saga);
        tracing::warn!(
            saga.id = %saga, reason, state,
            "a saga is parked and waits for a person: see `waybill sagas show {saga}` and \
             docs/sagas.md"
        );
    }
}

/// Says what goes on by itself and should not.
fn tell_alerts(events: &[Arc<Recorded>]) {
    for event in events {
        let Fact::Saga(Event::Alerted { reason, state }) = &event.fact else { continue };
        let (saga, order) = (SagaId::new(event.stream.id), OrderId::new(event.correlation_id));
        counter!(ALERTS, "reason" => reason.clone()).increment(1);
        tracing::warn!(
            saga.id = %saga, order.id = %order, reason, state,
            "an order is late: see docs/sagas.md"
        );
    }
}

/// Writes what [`Changes::arguments`] says.
fn statements() -> AtOnce {
    AtOnce::new(
        &[
            // What is started after its saga has ended is written below.
            "delete from saga_timers as timer
             where saga_id = any($1::uuid[]) and not exists (
                 select from unnest($4::uuid[], $5::text[]) as started (saga_id, name)
                 where timer.saga_id = started.saga_id and timer.name = started.name)"
                .to_owned(),
            "delete from saga_timers as timer
             using unnest($2::uuid[], $3::text[]) as stopped (saga_id, name)
             where timer.saga_id = stopped.saga_id and timer.name = stopped.name"
                .to_owned(),
            "insert into saga_timers (saga_id, name, epoch, due)
             select saga_id, name, epoch, due
             from unnest($4::uuid[], $5::text[], $6::bigint[], $7::timestamptz[])
                  as started (saga_id, name, epoch, due)
             on conflict (saga_id, name)
             do update set epoch = excluded.epoch, due = excluded.due, claimed_until = null"
                .to_owned(),
        ],
        7,
    )
}

/// Fires due timers. Any number of them may run.
#[derive(Debug)]
pub struct TimerPoller {
    store: Store,
    clock: Clock,
}

/// A timer that is due.
#[derive(Debug, sqlx::FromRow)]
struct Due {
    saga_id: Uuid,
    name: String,
    epoch: i64,
    at: Timestamp,
}

impl TimerPoller {
    /// A poller of `store`'s timers, which goes by `clock`.
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Fires what is due until `drain` is cancelled. While the database is away it waits.
    pub async fn run(self, drain: CancellationToken) {
        loop {
            let wait = match self.poll().await {
                Ok(wait) => wait,
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "the timers cannot be read; trying again");
                    Duration::from_millis(POLL_MS_MAX)
                }
            };
            tokio::select! {
                () = drain.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Fires what is due, and tells how long until the next.
    async fn poll(&self) -> Result<Duration, sqlx::Error> {
        let due = self.claim().await?;
        stream::iter(&due).for_each_concurrent(FIRING_MAX, |due| self.fire(due)).await;
        let next = sqlx::query_scalar::<_, Option<Timestamp>>(
            "select min(greatest(due, coalesce(claimed_until, due))) from saga_timers",
        )
        .fetch_one(self.store.pool())
        .await?;
        let shortest = Duration::from_millis(POLL_MS_MIN);
        let longest = Duration::from_millis(POLL_MS_MAX);
        let wait = next.map(|next| (next - self.clock.now()).to_std().unwrap_or_default());
        Ok(wait.map_or(longest, |wait| wait.clamp(shortest, longest)))
    }

    /// Takes due timers, the longest due first, and keeps other pollers off them for a while.
    /// The rows go when the projector has read of their firing.
    async fn claim(&self) -> Result<Vec<Due>, sqlx::Error> {
        let now = self.clock.now();
        let mut due = sqlx::query_as::<_, Due>(
            "update saga_timers as timer set claimed_until = $2
             from (select saga_id, name from saga_timers
                   where due <= $1 and (claimed_until is null or claimed_until <= $1)
                   order by due limit $3
                   for update skip locked) as ready
             where timer.saga_id = ready.saga_id and timer.name = ready.name
             returning timer.saga_id, timer.name, timer.epoch, timer.due as at",
        )
        .bind(now)
        .bind(now + CLAIM)
        .bind(FIRED_MAX)
        .fetch_all(self.store.pool())
        .await?;
        due.sort_by_key(|timer| timer.at);
        Ok(due)
    }

    async fn fire(&self, timer: &Due) {
        let lag_ms = (self.clock.now() - timer.at).num_milliseconds();
        let (saga, name) = (SagaId::new(timer.saga_id), timer.name.as_str());
        if lag_ms > LAG_MS_MAX {
            tracing::warn!(saga.id = %saga, timer = name, lag_ms, "a timer fires late");
        } else {
            tracing::debug!(saga.id = %saga, timer = name, lag_ms, "a timer fires");
        }
        if let Err(error) = self.hear(saga, timer).await {
            let error: &dyn std::error::Error = &*error;
            tracing::warn!(saga.id = %saga, timer = name, error, "a timer could not be fired");
        }
    }

    async fn hear(
        &self,
        saga: SagaId,
        timer: &Due,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let begun = operate::begun(&self.store, saga).await?;
        let Begun { definition, key } = begun.ok_or("its saga has no beginning")?;
        let (name, epoch) = (timer.name.clone(), u32::try_from(timer.epoch)?);
        let firing = Firing { key, saga, name, epoch, at: self.clock.now().max(timer.at) };
        registry::fire(&self.store, self.clock, &definition, firing).await
    }
}

/// One firing of one timer.
#[derive(Debug)]
pub(crate) struct Firing {
    /// The saga's business key.
    pub(crate) key: Uuid,
    /// Whose timer.
    pub(crate) saga: SagaId,
    /// Which one.
    pub(crate) name: String,
    /// Which start of it.
    pub(crate) epoch: u32,
    /// When it fires. Not when it was due: after a long stop every further wait would be over
    /// before it began, and patience lost with somebody who had no time to answer.
    pub(crate) at: Timestamp,
}

impl Firing {
    /// The id that stands for the event which a timer does not have.
    pub(crate) fn source(&self) -> Uuid {
        let name = format!("timer/{}/{}", self.name, self.epoch);
        Uuid::new_v5(&self.saga.uuid(), name.as_bytes())
    }
}
