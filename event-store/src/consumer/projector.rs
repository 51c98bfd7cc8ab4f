//! Runs a projector: one transaction per batch, for the rows and the checkpoint together.

use std::collections::HashSet;
use std::sync::Arc;

use schemas::{Position, Recorded};
use sqlx::PgPool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::checkpoint::{AdvanceError, Lease, RENEW_EVERY, stand_by};
use super::{Backoff, Fault, Projector, TRIES_MAX, backoff, chain, parked};
use crate::{FeedHandle, Store};

/// Events in one transaction.
const BATCH_EVENTS_MAX: usize = 500;

/// Runs a projector until `drain` is cancelled.
///
/// Several may run under one name: one of them works, the others stand by.
pub async fn run_projector<P: Projector>(
    store: Store,
    feed: FeedHandle,
    mut projector: P,
    drain: CancellationToken,
) {
    let name = projector.name().to_owned();
    let pool = store.pool();
    while let Some(lease) = stand_by(pool, &name, &drain).await {
        let mut worker = Worker {
            pool,
            projector: &mut projector,
            lease,
            parked: HashSet::new(),
            drain: &drain,
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
    pool: &'a PgPool,
    projector: &'a mut P,
    lease: Lease,
    parked: HashSet<Uuid>,
    drain: &'a CancellationToken,
    faults: Backoff,
}

impl<P: Projector> Worker<'_, P> {
    async fn lead(&mut self, feed: &FeedHandle) -> End {
        loop {
            match parked::keys(self.pool, &self.lease.consumer).await {
                Ok(keys) => break self.parked = keys,
                Err(error) => {
                    if let Err(end) = self.pause(&chain(&error)).await {
                        return end;
                    }
                }
            }
        }
        let mut tail = feed.tail(self.lease.position);
        loop {
            let batch = tokio::select! {
                biased;
                () = self.drain.cancelled() => return End::Drained,
                batch = tail.next(BATCH_EVENTS_MAX) => batch,
                () = lose(&self.lease, self.pool) => return End::Lost,
            };
            if let Err(end) = self.take(&batch).await {
                return end;
            }
        }
    }

    /// Applies a batch; cuts it smaller where one of its events is poison, and parks that one.
    async fn take(&mut self, batch: &[Arc<Recorded>]) -> Result<(), End> {
        let mut work = vec![batch]; // The next slice is the last.
        let mut tries = 0;
        while let Some(slice) = work.pop() {
            match self.commit(slice).await {
                Ok(()) => {
                    tries = 0;
                    if self.faults.recovered() {
                        let Lease { consumer, position, .. } = &self.lease;
                        tracing::info!(consumer, position, "consumer goes on");
                    }
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
        Ok(())
    }

    /// Moves the checkpoint behind `slice` and applies it, together or not at all.
    async fn commit(&mut self, slice: &[Arc<Recorded>]) -> Result<(), Stop> {
        let Some(last) = slice.last() else { return Ok(()) };
        let mut tx = self.pool.begin().await?;
        if self.lease.advance(&mut tx, last.position).await? {
            let held: Vec<_> = slice
                .iter()
                .filter(|event| self.parked.contains(&event.stream.id))
                .map(|event| (event.stream.id, event.position))
                .collect();
            if held.is_empty() {
                self.projector.apply(&mut tx, slice).await?;
            } else {
                let keys: Vec<_> = held.iter().map(|(key, _)| *key).collect();
                let consumer = &self.lease.consumer;
                let still = parked::still_parked(&mut tx, consumer, &keys).await?;
                let (held, fresh): (Vec<_>, Vec<_>) =
                    slice.iter().cloned().partition(|event| still.contains(&event.stream.id));
                let held: Vec<_> =
                    held.iter().map(|event| (event.stream.id, event.position)).collect();
                parked::hold(&mut tx, consumer, &held).await?;
                if !fresh.is_empty() {
                    self.projector.apply(&mut tx, &fresh).await?;
                }
                self.parked.retain(|key| still.contains(key) || !keys.contains(key));
            }
            tx.commit().await?;
        }
        self.lease.moved(last.position);
        Ok(())
    }

    /// Parks an event's stream. False if the database was away.
    async fn park(&mut self, event: &Recorded, why: &str) -> Result<bool, End> {
        let key = event.stream.id;
        let parking = async {
            let mut tx = self.pool.begin().await?;
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
        self.lease.moved(event.position);
        self.parked.insert(key);
        let (consumer, position) = (&self.lease.consumer, event.position);
        tracing::error!(consumer, position, stream = %event.stream, why, "stream parked");
        Ok(true)
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
        match self.lease.renew(self.pool).await {
            Ok(false) => Err(End::Lost),
            Ok(true) | Err(_) => Ok(()),
        }
    }
}

/// Gives signs of life until the lease is lost.
async fn lose(lease: &Lease, pool: &PgPool) {
    loop {
        sleep(RENEW_EVERY).await;
        if let Ok(false) = lease.renew(pool).await {
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
