//! Runs a projector: a batch at a time, its rows and its checkpoint together.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use schemas::{Position, Recorded};
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use trace::{Kind, Span};
use uuid::Uuid;

use super::batch::{Batch, Moved};
use super::lease::{Lease, RENEW_EVERY};
use super::{Backoff, Fault, Projector, TRIES_MAX, backoff, chain, crew, parked};
use crate::{FeedHandle, Store};

/// Events in one transaction.
const BATCH_EVENTS_MAX: usize = 500;

/// How long the checkpoint may stay behind events that are others' or mean nothing here: those who
/// wait for the events themselves come first.
const PASS_WAIT_MAX: Duration = Duration::from_millis(20);

/// How often to look whether somebody wants a parked stream to be tried again.
const RETRY_LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long parked streams are tried again before the others have as long.
const RETRY_TURN: Duration = Duration::from_millis(100);

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
                connection: None,
                past_since: Instant::now(),
                parked: HashSet::new(),
                drain,
                faults: Backoff::default(),
            };
            let end = worker.lead(&feed).await;
            store.moves().forget(projector.name(), worker.lease.slices);
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
            Fault::Lost => Self::Lost,
        }
    }
}

struct Worker<'a, P> {
    store: &'a Store,
    projector: &'a P,
    lease: Lease,
    /// Kept while there is work: to be taken from the pool and given back costs a way to the database.
    connection: Option<PoolConnection<Postgres>>,
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
        let mut held = loop {
            match self.begin().await {
                Ok(held) => break held,
                Err(fault) => {
                    if let Err(end) = self.pause(&fault.to_string()).await {
                        return end;
                    }
                }
            }
        };
        let mut tail = feed.tail(self.lease.position);
        let mut look_at = Instant::now();
        let mut quiet_since = Instant::now();
        while !self.lease.is_at_stop() {
            let done = tokio::select! {
                biased;
                () = self.drain.cancelled() => return End::Drained,
                // Whoever waits for parked streams to be tried again is at rest all the same.
                () = sleep_until(look_at), if !self.parked.is_empty() => {
                    let wait = self.retry(&mut held).await;
                    wait.map(|wait| look_at = Instant::now() + wait)
                }
                batch = tail.next(BATCH_EVENTS_MAX) => {
                    quiet_since = Instant::now();
                    self.take(&mut held, &batch).await
                }
                () = sleep_until(self.past_since + PASS_WAIT_MAX), if self.is_past() => self.pass().await,
                () = sleep_until(quiet_since + RENEW_EVERY) => {
                    quiet_since = Instant::now();
                    self.rest().await
                }
            };
            if let Err(end) = done {
                return end;
            }
        }
        End::Drained
    }

    async fn begin(&mut self) -> Result<P::Held, Fault> {
        let pool = self.store.pool();
        self.parked = parked::keys(pool, &self.lease.consumer).await?;
        self.projector.begin(pool).await
    }

    /// Applies a batch; cuts it smaller where one of its events is poison, and parks that one.
    async fn take(&mut self, held: &mut P::Held, batch: &[Arc<Recorded>]) -> Result<(), End> {
        let stop = batch.partition_point(|event| !self.lease.stops_before(event.position));
        let mut work = vec![&batch[..stop]]; // The next slice is the last.
        let mut tries = 0;
        while let Some(slice) = work.pop() {
            match self.commit(held, slice).await {
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
    async fn commit(&mut self, held: &mut P::Held, slice: &[Arc<Recorded>]) -> Result<(), Stop> {
        // An attempt of which nobody knew may have gone through: see `pause`.
        let new = slice.partition_point(|event| event.position <= self.lease.position);
        let slice = &slice[new..];
        let Some(last) = slice.last() else { return Ok(()) };
        let ours = self.ours(slice);
        if ours.is_empty() {
            if !self.is_past() {
                self.past_since = Instant::now();
            }
            self.passed = last.position; // The checkpoint follows, see `pass`.
            return Ok(());
        }
        let _span = self.span(&ours);
        let (pool, connection) = (self.store.pool(), self.connection.take());
        let batch = Batch::new(pool, &self.lease, connection, last.position);
        let moved = if ours.iter().any(|event| self.parked.contains(&event.stream.id)) {
            let (parked, moved) = self.hold_back(held, batch, &ours).await?;
            self.parked = parked;
            moved
        } else {
            self.projector.apply(held, batch, &ours).await?
        };
        self.keep(moved);
        self.moved(last.position);
        Ok(())
    }

    /// The span of a batch, of every trace that is in it.
    fn span(&self, batch: &[Arc<Recorded>]) -> Span {
        let causes = batch.iter().map(|event| event.traceparent.as_deref());
        let mut span = Span::heard(Kind::Consumer, || self.lease.consumer.clone(), causes);
        span.set("messaging.system", "nats");
        span.set("messaging.batch.message_count", i64::try_from(batch.len()).unwrap_or(i64::MAX));
        span
    }

    /// Notes that the checkpoint has moved.
    fn moved(&mut self, position: Position) {
        self.lease.moved(position);
        self.passed = position;
        self.store.moves().tell(&self.lease.consumer, self.lease.slices, position);
    }

    /// Keeps the connection for the next batch, unless others may be waiting for one.
    fn keep(&mut self, Moved { connection }: Moved) {
        let pool = self.store.pool();
        let plenty = pool.size() < pool.options().get_max_connections() || pool.num_idle() > 0;
        self.connection = connection.filter(|_| plenty);
    }

    fn is_past(&self) -> bool {
        self.passed > self.lease.position
    }

    /// Moves the checkpoint past events that are not ours.
    async fn pass(&mut self) -> Result<(), End> {
        let to = self.passed;
        let (pool, connection) = (self.store.pool(), self.connection.take());
        match Batch::new(pool, &self.lease, connection, to).commit().await {
            Ok(moved) => {
                self.keep(moved);
                self.moved(to);
                self.well();
                Ok(())
            }
            Err(Fault::Lost) => Err(End::Lost),
            Err(fault) => self.pause(&fault.to_string()).await,
        }
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

    /// Applies events of which some belong to streams that were parked, and may be no longer. Says
    /// which are parked now.
    async fn hold_back(
        &self,
        held: &mut P::Held,
        mut batch: Batch<'_>,
        all: &[Arc<Recorded>],
    ) -> Result<(HashSet<Uuid>, Moved), Stop> {
        let consumer = &self.lease.consumer;
        let tx = batch.transaction().await?;
        let keys: Vec<_> = all.iter().map(|event| event.stream.id).collect();
        let keys: Vec<_> = keys.into_iter().filter(|key| self.parked.contains(key)).collect();
        let still = parked::still_parked(tx, consumer, &keys).await?;
        let (waiting, fresh): (Vec<_>, Vec<_>) =
            all.iter().cloned().partition(|event| still.contains(&event.stream.id));
        let waiting: Vec<_> =
            waiting.iter().map(|event| (event.stream.id, event.position)).collect();
        parked::hold(tx, consumer, &waiting).await?;
        let moved = match fresh.as_slice() {
            [] => batch.commit().await?,
            fresh => self.projector.apply(held, batch, fresh).await?,
        };
        let gone = |key: &Uuid| keys.contains(key) && !still.contains(key);
        Ok((self.parked.iter().filter(|key| !gone(key)).copied().collect(), moved))
    }

    /// Parks an event's stream. False if the database was away.
    async fn park(&mut self, event: &Recorded, why: &str) -> Result<bool, End> {
        let key = event.stream.id;
        let parking = async {
            let mut batch = Batch::new(self.store.pool(), &self.lease, None, event.position);
            let tx = batch.transaction().await?;
            parked::park(tx, &self.lease.consumer, key, event, why).await?;
            batch.commit().await.map_err(Stop::from)
        };
        match parking.await {
            Ok(_) => {}
            Err(Stop::System(why) | Stop::Poison(_, why)) => {
                self.pause(&why).await?;
                // It may have come through although nobody heard so.
                if self.lease.position < event.position {
                    return Ok(false);
                }
            }
            Err(Stop::Lost) => return Err(End::Lost),
        }
        self.moved(event.position.max(self.lease.position));
        self.parked.insert(key);
        let (consumer, position) = (&self.lease.consumer, event.position);
        tracing::error!(consumer, position, stream = %event.stream, why, "stream parked");
        Ok(true)
    }

    /// Tries the parked streams again that somebody wants to be tried and whose time has come, for
    /// one turn at most. Says when to look again.
    async fn retry(&mut self, held: &mut P::Held) -> Result<Duration, End> {
        let due = parked::due(self.store.pool(), &self.lease.consumer, self.lease.slices).await;
        let due = match due {
            Ok(due) => due,
            Err(error) => {
                self.pause(&chain(&error)).await?;
                return Ok(RETRY_LOOK_EVERY);
            }
        };
        let turn_ends = Instant::now() + RETRY_TURN;
        for key in due {
            self.retry_one(held, key, turn_ends).await?;
            if Instant::now() >= turn_ends {
                return Ok(RETRY_TURN);
            }
        }
        Ok(RETRY_LOOK_EVERY)
    }

    /// Tries a parked stream again, until nothing waits, or its first event is poison, or some of it
    /// is done and the turn ends.
    async fn retry_one(
        &mut self,
        held: &mut P::Held,
        key: Uuid,
        turn_ends: Instant,
    ) -> Result<(), End> {
        let mut events_max = BATCH_EVENTS_MAX;
        while !self.drain.is_cancelled() {
            match self.try_again(held, key, events_max).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    self.well();
                    if Instant::now() >= turn_ends {
                        return Ok(());
                    }
                }
                // One by one up to the one that it is.
                Err(Stop::Poison(..)) if events_max > 1 => events_max = 1,
                Err(Stop::Poison(_, why)) => match self.park_again(key, &why).await {
                    Ok(()) => return Ok(()),
                    Err(Stop::Lost) => return Err(End::Lost),
                    Err(Stop::System(why) | Stop::Poison(_, why)) => self.pause(&why).await?,
                },
                Err(Stop::Lost) => return Err(End::Lost),
                Err(Stop::System(why)) => self.pause(&why).await?,
            }
        }
        Ok(())
    }

    /// Applies the next events that a parked stream holds back; true where none is left, and the
    /// stream is parked no more.
    async fn try_again(
        &mut self,
        held: &mut P::Held,
        key: Uuid,
        events_max: usize,
    ) -> Result<bool, Stop> {
        let consumer = &self.lease.consumer;
        let mut batch = Batch::in_place(self.store.pool(), &self.lease).await?;
        let tx = batch.transaction().await?;
        let events = parked::waiting(tx, self.store, consumer, key, events_max).await?;
        let Some(last) = events.last() else {
            parked::release(tx, consumer, key).await?;
            batch.commit().await?;
            self.parked.remove(&key);
            tracing::info!(consumer, %key, "stream taken up again");
            return Ok(true);
        };
        parked::caught_up(tx, consumer, key, last.position).await?;
        self.projector.apply(held, batch, &events).await?;
        Ok(false)
    }

    async fn park_again(&self, key: Uuid, why: &str) -> Result<(), Stop> {
        let consumer = &self.lease.consumer;
        let mut batch = Batch::in_place(self.store.pool(), &self.lease).await?;
        parked::failed_again(batch.transaction().await?, self.store, consumer, key, why).await?;
        batch.commit().await?;
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
        let end = Instant::now() + self.faults.delay();
        while Instant::now() < end {
            tokio::select! {
                () = self.drain.cancelled() => return Err(End::Drained),
                () = sleep_until(end.min(Instant::now() + RENEW_EVERY)) => {}
            }
            self.renew().await?;
        }
        Ok(())
    }

    /// Nothing has come for a while: gives the connection back, and says that the holder lives.
    async fn rest(&mut self) -> Result<(), End> {
        self.connection = None;
        self.renew().await
    }

    /// Says that the holder lives, and looks where the checkpoint stands.
    async fn renew(&mut self) -> Result<(), End> {
        let renewed = tokio::select! {
            () = self.drain.cancelled() => return Err(End::Drained),
            renewed = self.lease.renew(self.store.pool()) => renewed,
        };
        match renewed {
            // Another holds it, or a crash of the database took back what was written last: then
            // whoever takes the lease anew begins where the checkpoint is.
            Ok(None) => Err(End::Lost),
            Ok(Some(position)) if position < self.lease.position => Err(End::Lost),
            // What was written last may have come through although nobody heard so.
            Ok(Some(position)) => {
                self.lease.moved(position);
                self.passed = self.passed.max(position);
                Ok(())
            }
            Err(_) => Ok(()),
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
