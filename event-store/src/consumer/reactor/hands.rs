//! What is done with one event, or one parked key, until it is done or parked.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemas::{Position, Recorded};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use trace::{Kind, Span};
use uuid::Uuid;

use crate::Store;
use crate::consumer::lease::{AdvanceError, Lease};
use crate::consumer::{Backoff, Fault, Reactor, TRIES_MAX, backoff, chain, parked};

/// Events that are acted on at the same time.
const CONCURRENT_MAX: usize = 64;

/// Events behind a parked key that are read at once.
const RETRY_EVENTS_MAX: usize = 64;

/// What became of a task.
pub(super) enum Outcome {
    /// The reactor took it: its key is not parked, or no longer.
    Done,
    /// It waits behind what is parked, or is what is parked.
    Parked,
    /// There was no time left for it: it comes again.
    Dropped,
    /// Somebody else has the lease.
    Lost,
}

/// What every event in flight needs.
pub(super) struct Hands<'a, R> {
    pub(super) reactor: &'a R,
    pub(super) store: &'a Store,
    slots: Semaphore,
    /// As it was when it was taken.
    lease: Lease,
    pub(super) drain: &'a CancellationToken,
    /// Keys that wait for the system, so that only the first and the last of them are told.
    health: Mutex<HashSet<Uuid>>,
}

impl<'a, R: Reactor> Hands<'a, R> {
    pub(super) fn new(
        reactor: &'a R,
        store: &'a Store,
        lease: Lease,
        drain: &'a CancellationToken,
    ) -> Self {
        let (slots, health) = (Semaphore::new(CONCURRENT_MAX), Mutex::default());
        Self { reactor, store, slots, lease, drain, health }
    }

    /// Acts on one event until it is done or parked.
    pub(super) async fn take(&self, key: Uuid, event: &Recorded, parked: bool) -> Outcome {
        let position = event.position;
        if parked {
            match self.note(key, Note::Hold(position)).await {
                Ok(Noted::Parked) => return Outcome::Parked,
                Ok(_) => {} // Taken up again, or dropped.
                Err(outcome) => return outcome,
            }
        }
        let why = match self.act(key, event).await {
            Ok(()) => return Outcome::Done,
            Err(Stop::Ended(outcome)) => return outcome,
            Err(Stop::Poison(why)) => why,
        };
        match self.note(key, Note::Park(event, &why)).await {
            Ok(_) => {
                let (consumer, stream) = (self.reactor.name(), event.stream);
                tracing::error!(consumer, position, %stream, %key, why, "key parked");
                Outcome::Parked
            }
            Err(outcome) => outcome,
        }
    }

    /// Acts on one event until it is done or turns out to be poison.
    async fn act(&self, key: Uuid, event: &Recorded) -> Result<(), Stop> {
        let mut poisoned = 0;
        let mut faults = Backoff::default();
        loop {
            let slot = self.slots.acquire().await;
            let Ok(slot) = slot else { return Err(Stop::Ended(Outcome::Dropped)) };
            let result = self.react(event).await;
            drop(slot);
            let wait = match result {
                Ok(()) => {
                    self.well(key);
                    return Ok(());
                }
                Err(fault @ (Fault::System(_) | Fault::Lost)) => {
                    self.unwell(key, event.position, &fault.to_string());
                    faults.failed();
                    faults.delay()
                }
                Err(Fault::Poison { why, .. } | Fault::Data(why)) => {
                    self.well(key);
                    poisoned += 1;
                    if poisoned == TRIES_MAX {
                        return Err(Stop::Poison(why));
                    }
                    backoff::wait(poisoned)
                }
            };
            if self.pause(wait).await.is_break() {
                return Err(Stop::Ended(Outcome::Dropped));
            }
        }
    }

    /// Has the reactor act on an event, and measures it where somebody collects spans.
    async fn react(&self, event: &Recorded) -> Result<(), Fault> {
        let name = || format!("{} {}", self.reactor.name(), event.event_type);
        let mut span = Span::heard(Kind::Consumer, name, [event.traceparent.as_deref()]);
        if !span.is_on() {
            return self.reactor.react(event).await;
        }
        span.set("messaging.system", "nats");
        span.set("waybill.position", event.position);
        let result = span.around(Box::pin(self.reactor.react(event))).await;
        if let Err(fault) = &result {
            span.failed(|| fault.to_string());
        }
        result
    }

    /// Acts on everything that waits behind a parked key, in order, until one of it is poison
    /// again or nothing is left. Nothing else of that key is in flight meanwhile.
    pub(super) async fn retry(&self, key: Uuid) -> Outcome {
        match self.try_all(key).await {
            Ok(()) => Outcome::Done,
            Err(outcome) => outcome,
        }
    }

    async fn try_all(&self, key: Uuid) -> Result<(), Outcome> {
        let consumer = self.reactor.name();
        while let Noted::Waiting(events) = self.note(key, Note::Next).await? {
            for event in events {
                let position = event.position;
                match self.act(key, &event).await {
                    Ok(()) => drop(self.note(key, Note::Done(position)).await?),
                    Err(Stop::Ended(outcome)) => return Err(outcome),
                    Err(Stop::Poison(why)) => {
                        tracing::error!(consumer, position, %key, why, "key parked again");
                        self.note(key, Note::Failed(&why)).await?;
                        return Err(Outcome::Parked);
                    }
                }
            }
        }
        tracing::info!(consumer, %key, "key taken up again");
        Ok(())
    }

    /// Notes something about what is parked, again and again while the database is away.
    async fn note(&self, key: Uuid, note: Note<'_>) -> Result<Noted, Outcome> {
        let mut faults = Backoff::default();
        loop {
            let error = match self.try_note(key, note).await {
                Ok(noted) => return Ok(noted),
                Err(Unheld::Lost) => return Err(Outcome::Lost),
                Err(Unheld::Away(error)) => error,
            };
            if faults.failed() {
                let consumer = self.reactor.name();
                tracing::warn!(consumer, %key, error, "cannot note what is parked for now");
            }
            if self.pause(faults.delay()).await.is_break() {
                return Err(Outcome::Dropped);
            }
        }
    }

    async fn try_note(&self, key: Uuid, note: Note<'_>) -> Result<Noted, Unheld> {
        let (consumer, store) = (self.reactor.name(), self.store);
        let mut tx = crate::begin(store.pool()).await?;
        self.lease.hold(&mut tx).await?;
        let noted = match note {
            Note::Park(event, why) => {
                parked::park(&mut tx, consumer, key, event, why).await?;
                Noted::Parked
            }
            Note::Hold(position) => {
                if parked::still_parked(&mut tx, consumer, &[key]).await?.is_empty() {
                    return Ok(Noted::Free);
                }
                parked::hold(&mut tx, consumer, &[(key, position)]).await?;
                Noted::Parked
            }
            Note::Next => {
                let events =
                    parked::waiting(&mut tx, store, consumer, key, RETRY_EVENTS_MAX).await?;
                if events.is_empty() {
                    parked::release(&mut tx, consumer, key).await?;
                    Noted::Free
                } else {
                    Noted::Waiting(events)
                }
            }
            Note::Done(position) => {
                parked::caught_up(&mut tx, consumer, key, position).await?;
                Noted::Parked
            }
            Note::Failed(why) => {
                parked::failed_again(&mut tx, store, consumer, key, why).await?;
                Noted::Parked
            }
        };
        tx.commit().await?;
        Ok(noted)
    }

    /// Waits; breaks off when there is no time left.
    pub(super) async fn pause(&self, wait: Duration) -> std::ops::ControlFlow<()> {
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

/// Why an event was not taken.
enum Stop {
    Poison(String),
    Ended(Outcome),
}

/// What there is to note about a parked key.
#[derive(Clone, Copy)]
enum Note<'a> {
    /// It is parked from this event on.
    Park(&'a Recorded, &'a str),
    /// One more event waits, if it is parked still.
    Hold(Position),
    /// Which events wait? Where there are none, it is parked no more.
    Next,
    /// What waited is done up to there.
    Done(Position),
    /// The first that waits is poison still.
    Failed(&'a str),
}

/// How a key stands then.
enum Noted {
    Free,
    Parked,
    /// It is parked, and these wait.
    Waiting(Vec<Arc<Recorded>>),
}

/// Why something about a parked key could not be noted.
enum Unheld {
    /// Somebody else has the lease.
    Lost,
    Away(String),
}

impl From<sqlx::Error> for Unheld {
    fn from(error: sqlx::Error) -> Self {
        Self::Away(chain(&error))
    }
}

impl From<crate::Error> for Unheld {
    fn from(error: crate::Error) -> Self {
        Self::Away(chain(&error))
    }
}

impl From<AdvanceError> for Unheld {
    fn from(error: AdvanceError) -> Self {
        match error {
            AdvanceError::Lost => Self::Lost,
            AdvanceError::Database(error) => error.into(),
        }
    }
}
