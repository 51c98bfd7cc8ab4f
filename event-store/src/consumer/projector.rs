//! Runs a projector: one transaction per batch, for the rows and the checkpoint together.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use schemas::{Position, Recorded};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lease::{AdvanceError, Lease, RENEW_EVERY};
use super::{Backoff, Fault, Projector, TRIES_MAX, backoff, chain, crew, parked};
use crate::{FeedHandle, Store};

/// Events in one transaction.
const BATCH_EVENTS_MAX: usize = 500;

/// How long the checkpoint may stay behind events that are others' or mean nothing here: those who
/// wait for the events themselves come first.
const PASS_WAIT_MAX: Duration = Duration::from_millis(20);

/// How often to look whether somebody wants a parked stream to be tried again.
const RETRY_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs a projector until `drain` is cancelled.
///
/// Several may run under one name, in one process or in many: they share its slices among them, as
/// many ranges as [`scale`](super::scale) says, and whoever is left over stands by.
pub async fn run_projector<P: Projector>(
    store: Store,
    feed: FeedHandle,
    projector: P,
    drain: CancellationToken,
) {
    let projector = Arc::new(projector);
    let work = |lease: Lease, drain: CancellationToken| {
        let (store, feed, projector) = (store.clone(), feed.clone(), projector.clone());
        async move {
            let mut worker = Worker {
                store: &store,
                projector: &*projector,
                passed: lease.position,
                lease,
                past_since: Instant::now(),
                parked: HashSet::new(),
                drain,
                faults: Backoff::default(),
            };
            let end = worker.lead(&feed).await;
            worker.lease.retire(store.pool(), matches!(end, End::Lost)).await;
        }
    };
    crew::run(store.pool(), projector.name(), projector.spreads(), &drain, work).await;
}

/// Why a worker stops leading.
enum End {
    /// It was asked to, or has come to where its range waits for others.
    Drained,
    /// Somebody else has the lease.
    Lost,
}

/// Why a batch was rolled back.
enum Stop {
    Lost,
    System(String),
    /// One of the events cannot be taken; which one, if that is known.
    Poison(Option<Position>, String),
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::System(chain(&error))
    }
}

impl From<AdvanceError> for Stop {
    fn from(error: AdvanceError) -> Self {
        match error {
            AdvanceError::Lost => Self::Lost,
            AdvanceError::Database(error) => error.into(),
        }
    }
}

impl From<crate::Error> for Stop {
    fn from(error: crate::Error) -> Self {
        Self::System(chain(&error))
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Poison { position, why } => Self::Poison(Some(position), why),
            Fault::Data(why) => Self::Poison(None, why),
            Fault::System(why) => Self::System(why),
        }
    }
}

struct Worker<'a, P> {
    store: &'a Store,
    projector: &'a P,
    lease: Lease,
    /// Up to here there is nothing of ours beyond the checkpoint.
    passed: Position,
    /// Since when there is anything between the two.
    past_since: Instant,
    parked: HashSet<Uuid>,
    drain: CancellationToken,
    faults: Backoff,
}

impl<P: Projector> Worker<'_, P> {
    async fn lead(&mut self, feed: &FeedHandle) -> End {
        while let Err(fault) = self.begin().await {
            if let Err(end) = self.pause(&fault.to_string()).await {
                return end;
            }
        }
        let mut tail = feed.tail(self.lease.position);
        let mut retry = interval(RETRY_LOOK_EVERY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.lease.is_at_stop() {
            let done = tokio::select! {
                biased;
                () = self.drain.cancelled() => return End::Drained,
                _ = retry.tick(), if !self.parked.is_empty() => self.retry().await,
                batch = tail.next(BATCH_EVENTS_MAX) => self.take(&batch).await,
                () = sleep_until(self.past_since + PASS_WAIT_MAX), if self.is_past() => self.pass().await,
                () = lose(&self.lease, self.store) => return End::Lost,
            };
            if let Err(end) = done {
                return end;
            }
        }
        End::Drained
    }

    async fn begin(&mut self) -> Result<(), Fault> {
        let pool = self.store.pool();
        self.projector.begin(pool).await?;
        self.parked = parked::keys(pool, &self.lease.consumer).await?;
        Ok(())
    }

    /// Applies a batch; cuts it smaller where one of its events is poison, and parks that one.
    async fn take(&mut self, batch: &[Arc<Recorded>]) -> Result<(), End> {
        let stop = batch.partition_point(|event| !self.lease.stops_before(event.position));
        let mut work = vec![&batch[..stop]]; // The next slice is the last.
        let mut tries = 0;
        while let Some(slice) = work.pop() {
            match self.commit(slice).await {
                Ok(()) => {
                    tries = 0;
                    self.well();
                }
                Err(Stop::Lost) => return Err(End::Lost),
                Err(Stop::System(why)) => {
                    work.push(slice);
                    self.pause(&why).await?;
                }
                Err(Stop::Poison(position, _)) if slice.len() > 1 => {
                    work.extend(cut(slice, position));
                }
                Err(Stop::Poison(_, why)) => {
                    tries += 1;
                    if tries < TRIES_MAX {
                        work.push(slice);
                        sleep(backoff::wait(tries)).await;
                    } else if self.park(&slice[0], &why).await? {
                        tries = 0;
                    } else {
                        work.push(slice);
                    }
                }
            }
        }
        let stop = self.lease.stop_at.is_some_and(|stop| self.passed >= stop);
        if self.is_past() && (stop || self.past_since.elapsed() >= PASS_WAIT_MAX) {
            self.pass().await?;
        }
        Ok(())
    }

    /// Moves the checkpoint behind `slice` and applies what is ours of it, together or not at all.
    async fn commit(&mut self, slice: &[Arc<Recorded>]) -> Result<(), Stop> {
        let Some(last) = slice.last() else { return Ok(()) };
        let ours = self.ours(slice);
        if ours.is_empty() {
            if !self.is_past() {
                self.past_since = Instant::now();
            }
            self.passed = last.position; // The checkpoint follows, see `pass`.
            return Ok(());
        }
        let mut tx = crate::begin(self.store.pool()).await?;
        if self.lease.advance(&mut tx, last.position).await? {
            let (held, fresh): (Vec<_>, Vec<_>) =
                ours.iter().cloned().partition(|event| self.parked.contains(&event.stream.id));
            if held.is_empty() {
                self.projector.apply(&mut tx, &ours).await?;
            } else {
                self.hold_back(&mut tx, &ours, &held, fresh).await?;
            }
            tx.commit().await?;
        }
        self.moved(last.position);
        Ok(())
    }

    /// Notes that the checkpoint has moved.
    fn moved(&mut self, position: Position) {
        self.lease.moved(position);
        self.passed = position;
    }

    fn is_past(&self) -> bool {
        self.passed > self.lease.position
    }

    /// Moves the checkpoint past events that are not ours.
    async fn pass(&mut self) -> Result<(), End> {
        let to = self.passed;
        match self.try_pass(to).await {
            Ok(()) => {
                self.moved(to);
                self.well();
                Ok(())
            }
            Err(Stop::Lost) => Err(End::Lost),
            Err(Stop::System(why) | Stop::Poison(_, why)) => self.pause(&why).await,
        }
    }

    async fn try_pass(&self, to: Position) -> Result<(), Stop> {
        let mut tx = crate::begin(self.store.pool()).await?;
        if self.lease.advance(&mut tx, to).await? {
            tx.commit().await?;
        }
        Ok(())
    }

    /// What of a batch is in our range and wanted.
    fn ours<'e>(&self, slice: &'e [Arc<Recorded>]) -> Cow<'e, [Arc<Recorded>]> {
        let slices = self.lease.slices;
        let ours =
            |event: &Arc<Recorded>| slices.holds(event.stream.id) && self.projector.wants(event);
        if slice.iter().all(ours) {
            return Cow::Borrowed(slice);
        }
        slice.iter().filter(|event| ours(event)).cloned().collect()
    }

    /// Applies events of which some belong to streams that were parked, and may be no longer.
    async fn hold_back(
        &mut self,
        tx: &mut sqlx::PgConnection,
        all: &[Arc<Recorded>],
        held: &[Arc<Recorded>],
        mut fresh: Vec<Arc<Recorded>>,
    ) -> Result<(), Stop> {
        let keys: Vec<_> = held.iter().map(|event| event.stream.id).collect();
        let consumer = &self.lease.consumer;
        let still = parked::still_parked(tx, consumer, &keys).await?;
        let held = held.iter().filter(|event| still.contains(&event.stream.id));
        let held: Vec<_> = held.map(|event| (event.stream.id, event.position)).collect();
        parked::hold(tx, consumer, &held).await?;
        if held.len() < keys.len() {
            let waits = |event: &&Arc<Recorded>| !still.contains(&event.stream.id);
            fresh = all.iter().filter(waits).cloned().collect();
        }
        if !fresh.is_empty() {
            self.projector.apply(tx, &fresh).await?;
        }
        self.parked.retain(|key| still.contains(key) || !keys.contains(key));
        Ok(())
    }

    /// Parks an event's stream. False if the database was away.
    async fn park(&mut self, event: &Recorded, why: &str) -> Result<bool, End> {
        let key = event.stream.id;
        let parking = async {
            let mut tx = crate::begin(self.store.pool()).await?;
            if self.lease.advance(&mut tx, event.position).await? {
                parked::park(&mut tx, &self.lease.consumer, key, event, why).await?;
                tx.commit().await?;
            }
            Ok::<_, Stop>(())
        };
        match parking.await {
            Ok(()) => {}
            Err(Stop::System(why) | Stop::Poison(_, why)) => {
                self.pause(&why).await?;
                return Ok(false);
            }
            Err(Stop::Lost) => return Err(End::Lost),
        }
        self.moved(event.position);
        self.parked.insert(key);
        let (consumer, position) = (&self.lease.consumer, event.position);
        tracing::error!(consumer, position, stream = %event.stream, why, "stream parked");
        Ok(true)
    }

    /// Tries the parked streams again that somebody wants to be tried and whose time has come.
    async fn retry(&mut self) -> Result<(), End> {
        let due = parked::due(self.store.pool(), &self.lease.consumer, self.lease.slices).await;
        let due = match due {
            Ok(due) => due,
            Err(error) => return self.pause(&chain(&error)).await,
        };
        for key in due {
            let mut events_max = BATCH_EVENTS_MAX;
            while !self.drain.is_cancelled() {
                match self.try_again(key, events_max).await {
                    Ok(true) => break,
                    Ok(false) => self.well(),
                    // One by one up to the one that it is.
                    Err(Stop::Poison(..)) if events_max > 1 => events_max = 1,
                    Err(Stop::Poison(_, why)) => match self.park_again(key, &why).await {
                        Ok(()) => break,
                        Err(Stop::Lost) => return Err(End::Lost),
                        Err(Stop::System(why) | Stop::Poison(_, why)) => self.pause(&why).await?,
                    },
                    Err(Stop::Lost) => return Err(End::Lost),
                    Err(Stop::System(why)) => self.pause(&why).await?,
                }
            }
        }
        Ok(())
    }

    /// Applies the next events that a parked stream holds back; true where none is left, and the
    /// stream is parked no more.
    async fn try_again(&mut self, key: Uuid, events_max: usize) -> Result<bool, Stop> {
        let mut tx = crate::begin(self.store.pool()).await?;
        self.lease.hold(&mut tx).await?;
        let consumer = &self.lease.consumer;
        let events = parked::waiting(&mut tx, self.store, consumer, key, events_max).await?;
        let released = match events.last() {
            None => {
                parked::release(&mut tx, consumer, key).await?;
                true
            }
            Some(last) => {
                self.projector.apply(&mut tx, &events).await?;
                parked::caught_up(&mut tx, consumer, key, last.position).await?;
                false
            }
        };
        tx.commit().await?;
        if released {
            self.parked.remove(&key);
            tracing::info!(consumer, %key, "stream taken up again");
        }
        Ok(released)
    }

    async fn park_again(&self, key: Uuid, why: &str) -> Result<(), Stop> {
        let consumer = &self.lease.consumer;
        let mut tx = crate::begin(self.store.pool()).await?;
        self.lease.hold(&mut tx).await?;
        parked::failed_again(&mut tx, self.store, consumer, key, why).await?;
        tx.commit().await?;
        tracing::error!(consumer, %key, why, "stream parked again");
        Ok(())
    }

    fn well(&mut self) {
        if self.faults.recovered() {
            let Lease { consumer, position, .. } = &self.lease;
            tracing::info!(consumer, position, "consumer goes on");
        }
    }

    /// Waits because something around us is down, and keeps the lease if it can.
    async fn pause(&mut self, why: &str) -> Result<(), End> {
        let Lease { consumer, position, .. } = &self.lease;
        if self.faults.failed() {
            tracing::warn!(consumer, position, why, "consumer waits for the system");
        }
        tokio::select! {
            () = self.drain.cancelled() => return Err(End::Drained),
            () = sleep(self.faults.delay()) => {}
        }
        match self.lease.renew(self.store.pool()).await {
            Ok(false) => Err(End::Lost),
            Ok(true) | Err(_) => Ok(()),
        }
    }
}

/// Gives signs of life until the lease is lost.
async fn lose(lease: &Lease, store: &Store) {
    loop {
        sleep(RENEW_EVERY).await;
        if let Ok(false) = lease.renew(store.pool()).await {
            return;
        }
    }
}

/// Cuts a slice that holds poison: around it where it is known, in halves where it is not. The
/// parts come back last first.
fn cut<T: AsRef<Recorded>>(slice: &[T], poison: Option<Position>) -> Vec<&[T]> {
    let known =
        poison.and_then(|poison| slice.iter().position(|event| event.as_ref().position == poison));
    let cuts = match known {
        Some(at) => [0, at, at + 1, slice.len()],
        None => [0, slice.len() / 2, slice.len(), slice.len()],
    };
    let parts = cuts.windows(2).rev().map(|pair| &slice[pair[0]..pair[1]]);
    parts.filter(|part| !part.is_empty()).collect()
}
