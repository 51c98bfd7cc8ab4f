//! One consumer's place in the log: pages from Postgres while behind, the live feed once met.

use std::collections::VecDeque;
use std::sync::Arc;

use schemas::{Position, Recorded};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Batch, Hub, POLL_AWAY};
use crate::consumer::Backoff;

/// Every event after a position, in order, without a hole and without a repetition.
///
/// A tail that does not keep up is cut loose by the feed and reads the log itself until it
/// meets the feed again, so that it holds up nobody else.
#[derive(Debug)]
pub struct Tail {
    hub: Arc<Hub>,
    /// The last event that was handed out.
    last: Position,
    /// Taken from the feed or from Postgres, and not yet handed out.
    ready: VecDeque<Arc<Recorded>>,
    live: Option<Live>,
    faults: Backoff,
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) batches: mpsc::Receiver<Batch>,
    /// The feed brings what comes after this; everything up to it is in Postgres.
    pub(super) after: Position,
}

impl Tail {
    pub(super) fn new(hub: Arc<Hub>, last: Position) -> Self {
        Self { hub, last, ready: VecDeque::new(), live: None, faults: Backoff::default() }
    }

    /// The next events, at least one and at most `max`. Waits while there are none, and while
    /// Postgres is away. Dropping the future loses nothing.
    ///
    /// # Panics
    /// If `max` is 0.
    pub async fn next(&mut self, max: usize) -> Vec<Arc<Recorded>> {
        assert!(max > 0, "nothing was asked for");
        while self.ready.is_empty() {
            match &mut self.live {
                Some(live) if self.last >= live.after => match live.batches.recv().await {
                    Some(batch) => self.accept(&batch),
                    None => self.live = None, // Too slow, or the feed has stopped.
                },
                _ => self.read(max).await,
            }
        }
        while self.ready.len() < max
            && let last = self.last_ready()
            && let Some(live) = &mut self.live
            && last >= live.after
            && let Ok(batch) = live.batches.try_recv()
        {
            self.accept(&batch);
        }
        let events: Vec<_> = self.ready.drain(..max.min(self.ready.len())).collect();
        self.last = events.last().map_or(self.last, |event| event.position);
        events
    }

    /// The last event that was handed out or is ready to be.
    fn last_ready(&self) -> Position {
        self.ready.back().map_or(self.last, |event| event.position)
    }

    fn accept(&mut self, batch: &Batch) {
        let last = self.last_ready();
        let new = batch.partition_point(|event| event.position <= last);
        match batch.get(new) {
            Some(event) if event.position == last + 1 => {
                self.ready.extend(batch[new..].iter().cloned());
            }
            Some(_) => self.live = None, // A hole: let Postgres fill it.
            None => {}
        }
    }

    /// Reads a page, and joins the feed where the page ends at the head of the log.
    async fn read(&mut self, max: usize) {
        match self.hub.store.read(self.last, i64::try_from(max).unwrap_or(i64::MAX)).await {
            Ok(page) => {
                if self.faults.recovered() {
                    tracing::info!(position = self.last, "the log can be read again");
                }
                if self.live.is_none() && page.len() < max {
                    self.live = self.hub.join();
                }
                let met = self.live.as_ref().is_some_and(|live| live.after <= self.last);
                if page.is_empty() && !met {
                    sleep(POLL_AWAY).await; // There is no feed to wait for.
                }
                self.ready.extend(page);
            }
            Err(error) => {
                if self.faults.failed() {
                    tracing::warn!(position = self.last, %error, "the log cannot be read");
                }
                sleep(self.faults.delay()).await;
            }
        }
    }
}
