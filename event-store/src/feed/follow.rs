//! Puts what arrives in sequence, and reads from Postgres what does not arrive.

use std::sync::Arc;

use schemas::{Position, Recorded};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::sequence::{Sequence, Verdict};
use super::{ALONE, BATCH_EVENTS_MAX, Hub, PATIENCE, POLL_AWAY, POLL_IDLE, wake};
use crate::consumer::Backoff;

/// What the follower waits for.
enum Next {
    /// JetStream brought events.
    Arrived(Vec<Recorded>),
    /// Somebody says that the log has grown.
    Grown,
    /// JetStream came or went.
    Connection,
    /// It is time to look into Postgres.
    Due,
    /// The listener is gone.
    Closed,
}

/// Follows the log from its present head, until the listener is gone.
pub(super) async fn run(
    hub: &Hub,
    nats: Option<&async_nats::Client>,
    mut arrivals: mpsc::Receiver<Vec<Recorded>>,
    mut connection: watch::Receiver<bool>,
) {
    let mut follower = Follower { hub, sequence: Sequence::after(0), faults: Backoff::default() };
    follower.start().await;
    let mut grown = hub.store.head_watch();
    let mut pokes = match nats {
        Some(nats) => wake::pokes(nats, hub.store.log()).await,
        None => None,
    };
    let mut due = Instant::now();
    let mut grown_at = Instant::now();
    loop {
        let last = follower.sequence.last();
        let next = tokio::select! {
            biased;
            arrived = arrivals.recv() => arrived.map_or(Next::Closed, Next::Arrived),
            _ = connection.changed() => Next::Connection,
            () = wake::grows(&mut grown, last) => Next::Grown,
            () = wake::poked(&mut pokes, last) => Next::Grown,
            () = sleep_until(due) => Next::Due,
        };
        let connected = *connection.borrow_and_update();
        match next {
            Next::Closed => return,
            Next::Arrived(events) => {
                follower.arrived(events).await;
                due = Instant::now() + POLL_IDLE;
            }
            // One of many: JetStream will bring them all. Alone, or without JetStream: look at once.
            Next::Grown if connected && grown_at.elapsed() < ALONE => {
                grown_at = Instant::now();
                due = due.min(Instant::now() + PATIENCE);
            }
            // What happened between the last look and the subscription is brought by nobody.
            Next::Grown | Next::Connection | Next::Due => {
                grown_at = Instant::now();
                follower.poll().await;
                due = Instant::now() + if connected { POLL_IDLE } else { POLL_AWAY };
            }
        }
    }
}

struct Follower<'a> {
    hub: &'a Hub,
    sequence: Sequence,
    faults: Backoff,
}

impl Follower<'_> {
    /// Starts at the head: consumers that are behind read the log themselves.
    async fn start(&mut self) {
        loop {
            match self.hub.store.head().await {
                Ok(head) => break self.sequence = Sequence::after(head),
                Err(error) => self.unreadable(&error).await,
            }
        }
        self.readable();
        self.hub.open(self.sequence.last());
    }

    /// Hands on what JetStream brought, and whatever is missing before it.
    async fn arrived(&mut self, events: Vec<Recorded>) {
        let mut ready = Vec::with_capacity(events.len());
        for event in events {
            let mut verdict = self.sequence.offer(event.position);
            if verdict == Verdict::Gap {
                self.hub.hand_on(std::mem::take(&mut ready));
                self.fill(event.position).await;
                verdict = self.sequence.offer(event.position);
            }
            match verdict {
                Verdict::Next => ready.push(Arc::new(event)),
                Verdict::Seen => {}
                Verdict::Gap => {
                    let position = event.position;
                    tracing::warn!(position, "a message from beyond the head of the log: dropped");
                }
            }
        }
        self.hub.hand_on(ready);
    }

    /// Reads everything before `position`, as far as the log goes. Waits while Postgres is away.
    async fn fill(&mut self, position: Position) {
        while self.sequence.last() + 1 < position {
            match self.page().await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => self.unreadable(&error).await,
            }
        }
    }

    /// Reads whatever Postgres has. Does not insist.
    async fn poll(&mut self) {
        loop {
            match self.page().await {
                Ok(read) if read == BATCH_EVENTS_MAX => {}
                Ok(_) => return,
                Err(error) => return self.unreadable(&error).await,
            }
        }
    }

    /// Reads one page, hands it on, and tells how much it was.
    async fn page(&mut self) -> Result<usize, crate::Error> {
        let limit = i64::try_from(BATCH_EVENTS_MAX).unwrap_or(i64::MAX);
        let mut page = self.hub.store.read(self.sequence.last(), limit).await?;
        self.readable();
        let read = page.len();
        page.retain(|event| self.sequence.offer(event.position) == Verdict::Next);
        self.hub.hand_on(page);
        Ok(read)
    }

    fn readable(&mut self) {
        if self.faults.recovered() {
            tracing::info!(position = self.sequence.last(), "the feed can read the log again");
        }
    }

    async fn unreadable(&mut self, error: &crate::Error) {
        if self.faults.failed() {
            let position = self.sequence.last();
            tracing::warn!(position, error = %crate::consumer::chain(error), "the feed cannot read the log");
        }
        sleep(self.faults.delay()).await;
    }
}
