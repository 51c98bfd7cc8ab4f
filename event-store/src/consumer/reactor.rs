//! Runs a reactor: many events in flight, those of one key in order.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use schemas::{Position, Recorded};
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::checkpoint::{AdvanceError, Lease, RENEW_EVERY, stand_by};
use super::window::Window;
use super::{Backoff, Fault, Reactor, TRIES_MAX, backoff, chain, parked};
use crate::feed::Tail;
use crate::{FeedHandle, Store};

/// Events that were taken from the feed and are not done.
const IN_FLIGHT_MAX: usize = 1_024;

/// Events after the checkpoint, done or not: as many may be repeated after a crash.
const SPAN_EVENTS_MAX: usize = 16_384;

/// Events that are acted on at the same time.
const CONCURRENT_MAX: usize = 64;

/// Events that are taken from the feed at once.
const TAKE_EVENTS_MAX: usize = 256;

/// How often progress is saved, and after how many events at the latest.
const SAVE_EVERY: Duration = Duration::from_millis(100);
const SAVE_EVENTS: Position = 256;

/// How long saving may take before it is given up until the next time.
const SAVE_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long to wait, when asked to stop, for what has begun.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// Runs a reactor until `drain` is cancelled; then finishes what it has begun.
///
/// Several may run under one name: one of them works, the others stand by.
pub async fn run_reactor<R: Reactor>(
    store: Store,
    feed: FeedHandle,
    reactor: R,
    drain: CancellationToken,
) {
    let pool = store.pool();
    while let Some(lease) = stand_by(pool, reactor.name(), &drain).await {
        let hands = Hands {
            reactor: &reactor,
            pool,
            slots: Semaphore::new(CONCURRENT_MAX),
            epoch: lease.epoch,
            drain: &drain,
            health: Mutex::new(HashSet::new()),
        };
        let mut worker = Worker {
            hands: &hands,
            window: Window::after(lease.position),
            lease,
            keys: HashMap::new(),
            parked: HashSet::new(),
            running: FuturesUnordered::new(),
            saving: None,
            saved: Instant::now(),
            faults: Backoff::default(),
        };
        let end = worker.lead(&feed).await;
        worker.lease.retire(pool, matches!(end, End::Lost)).await;
    }
}

/// Why a worker stops leading.
enum End {
    /// It was asked to.
    Drained,
    /// Somebody else has the lease.
    Lost,
}

/// What became of one event.
enum Outcome {
    /// The reactor took it.
    Done,
    /// It waits behind what is parked, or is what is parked.
    Parked,
    /// There was no time left for it: it comes again.
    Dropped,
    /// Somebody else has the lease.
    Lost,
}

/// What every event in flight needs.
struct Hands<'a, R> {
    reactor: &'a R,
    pool: &'a PgPool,
    slots: Semaphore,
    epoch: i64,
    drain: &'a CancellationToken,
    /// Keys that wait for the system, so that only the first and the last of them are told.
    health: Mutex<HashSet<Uuid>>,
}

impl<R: Reactor> Hands<'_, R> {
    /// Acts on one event until it is done or parked.
    async fn handle(&self, key: Uuid, event: &Recorded, parked: bool) -> Outcome {
        if parked {
            return self.park(key, event, None).await;
        }
        let mut poisoned = 0;
        let mut faults = Backoff::default();
        loop {
            let Ok(slot) = self.slots.acquire().await else { return Outcome::Dropped };
            let result = self.reactor.react(event).await;
            drop(slot);
            let wait = match result {
                Ok(()) => {
                    self.well(key);
                    return Outcome::Done;
                }
                Err(Fault::System(why)) => {
                    self.unwell(key, event.position, &why);
                    faults.failed();
                    faults.delay()
                }
                Err(Fault::Poison { why, .. } | Fault::Data(why)) => {
                    self.well(key);
                    poisoned += 1;
                    if poisoned == TRIES_MAX {
                        return self.park(key, event, Some(&why)).await;
                    }
                    backoff::wait(poisoned)
                }
            };
            if self.pause(wait).await.is_break() {
                return Outcome::Dropped;
            }
        }
    }

    /// Parks `key` from this event on, or lets the event wait behind what is parked already.
    async fn park(&self, key: Uuid, event: &Recorded, why: Option<&str>) -> Outcome {
        let consumer = self.reactor.name();
        let position = event.position;
        let mut faults = Backoff::default();
        loop {
            match self.try_park(key, event, why).await {
                Ok(true) => {
                    if let Some(why) = why {
                        let stream = event.stream;
                        tracing::error!(consumer, position, %stream, %key, why, "key parked");
                    }
                    return Outcome::Parked;
                }
                Ok(false) => return Outcome::Lost,
                Err(error) => {
                    if faults.failed() {
                        let error = chain(&error);
                        tracing::warn!(consumer, position, error, "cannot park for now");
                    }
                }
            }
            if self.pause(faults.delay()).await.is_break() {
                return Outcome::Dropped;
            }
        }
    }

    /// False where somebody else has the lease.
    async fn try_park(
        &self,
        key: Uuid,
        event: &Recorded,
        why: Option<&str>,
    ) -> Result<bool, sqlx::Error> {
        let consumer = self.reactor.name();
        let mut tx = self.pool.begin().await?;
        let ours = sqlx::query(
            "select 1 from checkpoints where consumer = $1 and epoch = $2 for key share",
        );
        if ours.bind(consumer).bind(self.epoch).fetch_optional(&mut *tx).await?.is_none() {
            return Ok(false);
        }
        match why {
            Some(why) => parked::park(&mut tx, consumer, key, event, why).await?,
            None => parked::hold(&mut tx, consumer, &[(key, event.position)]).await?,
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Waits; breaks off when there is no time left.
    async fn pause(&self, wait: Duration) -> std::ops::ControlFlow<()> {
        tokio::select! {
            biased;
            () = self.drain.cancelled() => std::ops::ControlFlow::Break(()),
            () = sleep(wait) => std::ops::ControlFlow::Continue(()),
        }
    }

    fn unwell(&self, key: Uuid, position: Position, why: &str) {
        let mut waiting = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let first = waiting.is_empty();
        waiting.insert(key);
        if first {
            tracing::warn!(consumer = self.reactor.name(), position, why, "waits for the system");
        }
    }

    fn well(&self, key: Uuid) {
        let mut waiting = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.remove(&key) && waiting.is_empty() {
            tracing::info!(consumer = self.reactor.name(), "nothing waits for the system any more");
        }
    }
}

/// An event that is through, and its key.
type Finished = (Uuid, Position, Outcome);

/// A checkpoint on its way to the database, and how far it goes. It travels beside the events
/// in flight: they may hold every connection of the pool.
type Saving = BoxFuture<'static, (Position, Result<Result<(), AdvanceError>, Elapsed>)>;

/// A tail on its way to fetch events; it comes back with them.
type Reading = BoxFuture<'static, (Tail, Vec<Arc<Recorded>>)>;

struct Worker<'a, R> {
    hands: &'a Hands<'a, R>,
    lease: Lease,
    window: Window,
    /// For each key that has an event in flight, those that wait behind it.
    keys: HashMap<Uuid, VecDeque<Arc<Recorded>>>,
    parked: HashSet<Uuid>,
    running: FuturesUnordered<BoxFuture<'a, Finished>>,
    saving: Option<Saving>,
    saved: Instant,
    faults: Backoff,
}

impl<R: Reactor> Worker<'_, R> {
    async fn lead(&mut self, feed: &FeedHandle) -> End {
        loop {
            match parked::keys(self.hands.pool, &self.lease.consumer).await {
                Ok(keys) => break self.parked = keys,
                Err(error) => self.failed(&error),
            }
            if self.hands.pause(self.faults.delay()).await.is_break() {
                return End::Drained;
            }
        }
        let mut idle = Some(feed.tail(self.lease.position));
        let mut reading: Option<Reading> = None;
        let mut tick = interval(SAVE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let drain = self.hands.drain;
        loop {
            let room = self.room();
            if room > 0
                && let Some(mut tail) = idle.take()
            {
                let read = async move {
                    let events = tail.next(room).await;
                    (tail, events)
                };
                reading = Some(read.boxed());
            }
            let kept = tokio::select! {
                biased;
                () = drain.cancelled() => return self.finish().await,
                Some(finished) = self.running.next() => self.finished(finished),
                saved = maybe(&mut self.saving) => self.saved(saved),
                (tail, events) = maybe(&mut reading) => {
                    idle = Some(tail);
                    reading = None;
                    self.take(events);
                    Ok(())
                }
                _ = tick.tick() => {
                    self.save_if(|behind, since| behind > 0 || since > RENEW_EVERY);
                    Ok(())
                }
            };
            if let Err(end) = kept {
                return end;
            }
            self.save_if(|behind, _| behind >= SAVE_EVENTS);
        }
    }

    /// How many events may be taken now.
    fn room(&self) -> usize {
        let in_flight = IN_FLIGHT_MAX.saturating_sub(self.window.open());
        let span = SPAN_EVENTS_MAX.saturating_sub(self.window.span());
        in_flight.min(span).min(TAKE_EVENTS_MAX)
    }

    fn take(&mut self, events: Vec<Arc<Recorded>>) {
        for event in events {
            let key = self.hands.reactor.key(&event);
            self.window.admit(event.position, key.is_none());
            let Some(key) = key else { continue };
            match self.keys.entry(key) {
                Entry::Occupied(mut waiting) => waiting.get_mut().push_back(event),
                Entry::Vacant(free) => {
                    free.insert(VecDeque::new());
                    self.start(key, event);
                }
            }
        }
    }

    fn start(&mut self, key: Uuid, event: Arc<Recorded>) {
        let hands = self.hands;
        let parked = self.parked.contains(&key);
        let acting = async move {
            let outcome = hands.handle(key, &event, parked).await;
            (key, event.position, outcome)
        };
        self.running.push(acting.boxed());
    }

    /// Notes what became of an event, and starts the next one of its key.
    fn finished(&mut self, (key, position, outcome): Finished) -> Result<(), End> {
        match outcome {
            Outcome::Done => {}
            Outcome::Parked => drop(self.parked.insert(key)),
            Outcome::Dropped => return Ok(()), // Its key stands still: nothing overtakes.
            Outcome::Lost => return Err(End::Lost),
        }
        self.window.finish(position);
        match self.keys.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(event) => self.start(key, event),
            None => drop(self.keys.remove(&key)),
        }
        Ok(())
    }

    /// Starts to save how far everything is done, if that is wanted and not under way: `wanted`
    /// hears how many events are unsaved, and how long ago something was saved.
    fn save_if(&mut self, wanted: impl Fn(Position, Duration) -> bool) {
        let unsaved = self.window.low() - self.lease.position;
        if self.saving.is_none() && wanted(unsaved, self.saved.elapsed()) {
            self.saving = Some(self.save());
        }
    }

    fn save(&self) -> Saving {
        let to = self.window.low();
        let saving = self.lease.save(self.hands.pool.clone(), to);
        async move { (to, timeout(SAVE_WAIT_MAX, saving).await) }.boxed()
    }

    /// Notes what became of a checkpoint.
    fn saved(&mut self, (to, result): <Saving as Future>::Output) -> Result<(), End> {
        self.saving = None;
        self.saved = Instant::now();
        match result {
            Ok(Ok(())) => {
                self.lease.moved(to);
                if self.faults.recovered() {
                    let consumer = &self.lease.consumer;
                    tracing::info!(consumer, position = to, "the checkpoint moves again");
                }
            }
            Ok(Err(AdvanceError::Lost)) => return Err(End::Lost),
            Ok(Err(error)) => self.failed(&error),
            Err(elapsed) => self.failed(&elapsed),
        }
        Ok(())
    }

    /// Finishes what has begun, within bounds, and saves where it stands.
    async fn finish(&mut self) -> End {
        self.keys.values_mut().for_each(VecDeque::clear);
        let deadline = Instant::now() + DRAIN_WAIT_MAX;
        while !self.running.is_empty() {
            let finished = tokio::select! {
                Some(finished) = self.running.next() => finished,
                () = sleep_until(deadline) => break,
            };
            if self.finished(finished).is_err() {
                return End::Lost;
            }
        }
        self.running.clear(); // What is left comes again.
        let under_way = self.saving.take();
        for saving in under_way.into_iter().chain([self.save()]) {
            let saved = saving.await;
            if self.saved(saved).is_err() {
                return End::Lost;
            }
        }
        End::Drained
    }

    /// Logs the first failure in a row.
    fn failed(&mut self, error: &dyn std::error::Error) {
        if self.faults.failed() {
            let Lease { consumer, position, .. } = &self.lease;
            let error = chain(error);
            tracing::warn!(consumer, position, error, "the checkpoint cannot be reached");
        }
    }
}

/// Waits for the future, for ever where there is none.
async fn maybe<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
