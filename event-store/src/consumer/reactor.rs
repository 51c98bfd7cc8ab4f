//! Runs a reactor: many events in flight, those of one key in order.

mod hands;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use schemas::{Position, Recorded};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lease::{AdvanceError, Lease, RENEW_EVERY};
use super::window::Window;
use super::{Backoff, Reactor, chain, crew, parked};
use crate::feed::Tail;
use crate::{FeedHandle, Store};
use hands::{Hands, Outcome};

/// Events that were taken from the feed and are not done.
const IN_FLIGHT_MAX: usize = 1_024;

/// Events after the checkpoint, done or not: as many may be repeated after a crash.
const SPAN_EVENTS_MAX: usize = 16_384;

/// Events that are taken from the feed at once.
const TAKE_EVENTS_MAX: usize = 256;

/// How often progress is saved, and after how many events at the latest.
const SAVE_EVERY: Duration = Duration::from_millis(100);
const SAVE_EVENTS: Position = 256;

/// How long saving may take before it is given up until the next time.
const SAVE_WAIT_MAX: Duration = Duration::from_secs(2);

/// How often to look whether somebody wants a parked key to be tried again.
const RETRY_LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long to wait, when asked to stop, for what has begun.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// Runs a reactor until `drain` is cancelled; then finishes what it has begun.
///
/// Several may run under one name, in one process or in many: they share the slices of the keys
/// among them, as many ranges as [`scale`](super::scale) says, and whoever is left over stands by.
pub async fn run_reactor<R: Reactor>(
    store: Store,
    feed: FeedHandle,
    reactor: R,
    drain: CancellationToken,
) {
    let reactor = Arc::new(reactor);
    let work = |lease: Lease, drain: CancellationToken| {
        let (store, feed, reactor) = (store.clone(), feed.clone(), reactor.clone());
        async move {
            let hands = Hands::new(&*reactor, &store, lease.clone(), &drain);
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
            worker.lease.retire(store.pool(), matches!(end, End::Lost)).await;
        }
    };
    crew::run(store.pool(), reactor.name(), true, &drain, work).await;
}

/// Why a worker stops leading.
enum End {
    /// It was asked to, or has come to where its range waits for others.
    Drained,
    /// Somebody else has the lease.
    Lost,
}

/// What is to be done for a key.
enum Task {
    Take(Arc<Recorded>),
    /// What is parked is tried again.
    Retry,
}

/// A task that is through: its key, and the position of the event that it took.
type Finished = (Uuid, Option<Position>, Outcome);

/// Keys that are to be tried again, as the database says.
type Due = BoxFuture<'static, Result<Vec<Uuid>, sqlx::Error>>;

/// A checkpoint on its way to the database, and how far it goes. It travels beside the events
/// in flight: they may hold every connection of the pool.
type Saving = BoxFuture<'static, (Position, Result<Result<(), AdvanceError>, Elapsed>)>;

/// A tail on its way to fetch events; it comes back with them.
type Reading = BoxFuture<'static, (Tail, Vec<Arc<Recorded>>)>;

struct Worker<'a, R> {
    hands: &'a Hands<'a, R>,
    lease: Lease,
    window: Window,
    /// For each key that has a task in flight, those that wait behind it.
    keys: HashMap<Uuid, VecDeque<Task>>,
    parked: HashSet<Uuid>,
    running: FuturesUnordered<BoxFuture<'a, Finished>>,
    saving: Option<Saving>,
    saved: Instant,
    faults: Backoff,
}

impl<R: Reactor> Worker<'_, R> {
    async fn lead(&mut self, feed: &FeedHandle) -> End {
        loop {
            match parked::keys(self.hands.store.pool(), &self.lease.consumer).await {
                Ok(keys) => break self.parked = keys,
                Err(error) => self.failed(&error),
            }
            if self.hands.pause(self.faults.delay()).await.is_break() {
                return End::Drained;
            }
        }
        let mut idle = Some(feed.tail(self.lease.position));
        let mut reading: Option<Reading> = None;
        let mut looking: Option<Due> = None;
        let mut tick = interval(SAVE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = interval(RETRY_LOOK_EVERY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let drain = self.hands.drain;
        loop {
            if self.lease.stop_at.is_some_and(|stop| self.window.low() >= stop) {
                return self.finish().await;
            }
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
                due = maybe(&mut looking) => {
                    looking = None;
                    match due {
                        Ok(keys) => keys.into_iter().for_each(|key| self.queue(key, Task::Retry)),
                        Err(error) => self.failed(&error),
                    }
                    Ok(())
                }
                _ = retry.tick(), if looking.is_none() && !self.parked.is_empty() => {
                    let (pool, lease) = (self.hands.store.pool().clone(), self.lease.clone());
                    let look = async move {
                        parked::due(&pool, &lease.consumer, lease.slices).await
                    };
                    looking = Some(look.boxed());
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
            if self.lease.stops_before(event.position) {
                return; // It is read again by whoever has the range then.
            }
            let key = self.hands.reactor.key(&event).filter(|key| self.lease.slices.holds(*key));
            self.window.admit(event.position, key.is_none());
            if let Some(key) = key {
                self.queue(key, Task::Take(event));
            }
        }
    }

    /// Starts a task, or lets it wait for its turn.
    fn queue(&mut self, key: Uuid, task: Task) {
        match self.keys.entry(key) {
            // What waits already need not be asked for again.
            Entry::Occupied(_) if matches!(task, Task::Retry) => {}
            Entry::Occupied(mut waiting) => waiting.get_mut().push_back(task),
            Entry::Vacant(free) => {
                free.insert(VecDeque::new());
                self.start(key, task);
            }
        }
    }

    fn start(&mut self, key: Uuid, task: Task) {
        let hands = self.hands;
        let parked = self.parked.contains(&key);
        let acting = async move {
            match task {
                Task::Take(event) => {
                    let outcome = hands.take(key, &event, parked).await;
                    (key, Some(event.position), outcome)
                }
                Task::Retry => (key, None, hands.retry(key).await),
            }
        };
        self.running.push(acting.boxed());
    }

    /// Notes what became of a task, and starts the next one of its key.
    fn finished(&mut self, (key, position, outcome): Finished) -> Result<(), End> {
        match outcome {
            Outcome::Done => drop(self.parked.remove(&key)),
            Outcome::Parked => drop(self.parked.insert(key)),
            Outcome::Dropped => return Ok(()), // Its key stands still: nothing overtakes.
            Outcome::Lost => return Err(End::Lost),
        }
        if let Some(position) = position {
            self.window.finish(position);
        }
        match self.keys.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(task) => self.start(key, task),
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
        let saving = self.lease.save(self.hands.store.pool().clone(), to);
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
