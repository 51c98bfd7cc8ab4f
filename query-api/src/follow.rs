//! Follows what grows, once per process, and hands it to everybody who wants to hear of it.
//!
//! A [`Hub`] asks for what is new while anybody listens, and puts it into a queue for each
//! [`Reader`]. A reader begins with what is there already, a page at a time and as fast as it is
//! read, and then joins. Each batch says after which position it begins, so whatever a reader has
//! not heard by then it fetches itself: nothing is missed, and nothing is told twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use event_store::Error;
use schemas::Position;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use crate::sse::{self, End};

/// How often a hub asks for what is new while somebody listens.
const POLL_EVERY: Duration = Duration::from_millis(25);

/// How long a hub waits after a fault.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// The most events that are read at a time.
pub(crate) const PAGE_EVENTS: i64 = 500;

/// The most bytes that are handed to a connection at a time, unless one event is larger.
const CHUNK_BYTES: usize = 64 * 1024;

/// Something that grows by events with positions.
pub(crate) trait Source: Send + Sync + 'static {
    /// Which events a reader wants.
    type Filter: Send + Sync + 'static;
    /// What a filter looks at.
    type Key: Send + Sync + 'static;

    /// How far it has grown.
    fn head(&self) -> impl Future<Output = Result<Position, Error>> + Send;

    /// What a filter lets through after a position, about [`PAGE_EVENTS`] of it; everything where
    /// there is none.
    fn read(
        &self,
        filter: Option<&Self::Filter>,
        after: Position,
    ) -> impl Future<Output = Result<Page<Self::Key>, Error>> + Send;

    /// Whether a filter lets an event through.
    fn wants(filter: &Self::Filter, key: &Self::Key) -> bool;

    /// The event as whoever has that filter may see it.
    fn shown<'a>(_: &Self::Filter, told: &'a Told<Self::Key>) -> &'a Bytes {
        &told.frame
    }
}

/// An event, ready to be sent.
pub(crate) struct Told<K> {
    pub(crate) position: Position,
    pub(crate) key: K,
    pub(crate) frame: Bytes,
}

/// What was read.
pub(crate) struct Page<K> {
    pub(crate) told: Vec<Told<K>>,
    /// Everything up to here has been told.
    pub(crate) until: Position,
    /// Whether there is more already.
    pub(crate) more: bool,
}

/// What is handed to readers together.
struct Batch<K> {
    after: Position,
    until: Position,
    told: Vec<Told<K>>,
}

/// Follows one source for all of its readers.
pub(crate) struct Hub<S: Source> {
    source: S,
    queue_batches_max: usize,
    state: Mutex<State<S>>,
    joined: Notify,
}

struct State<S: Source> {
    /// Everything up to here was handed on.
    last: Position,
    queues: Vec<Queue<S>>,
    closed: bool,
}

/// The way to one reader.
struct Queue<S: Source> {
    filter: Arc<S::Filter>,
    batches: mpsc::Sender<Arc<Batch<S::Key>>>,
    /// Whether it has been told where the hub is.
    met: bool,
}

impl<S: Source> Hub<S> {
    pub(crate) fn new(source: S, queue_batches_max: usize) -> Self {
        let state = State { last: 0, queues: Vec::new(), closed: false };
        Self { source, queue_batches_max, state: Mutex::new(state), joined: Notify::new() }
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    /// Follows the source whenever there are readers, for ever.
    pub(crate) async fn run(&self) {
        loop {
            while self.is_idle() {
                self.joined.notified().await;
            }
            self.follow().await;
        }
    }

    /// Ends all readers, those that are still to come too.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.queues.clear();
    }

    /// Follows the source from its head, until nobody listens any more.
    async fn follow(&self) {
        let (mut last, mut failing) = (None, false);
        while !self.is_idle() {
            let pause = match self.advance(&mut last).await {
                Ok(more) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(position = last, "what is new can be read again");
                    }
                    if more { Duration::ZERO } else { POLL_EVERY }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::warn!(%error, cause, "what is new cannot be read: event streams wait");
                    }
                    RETRY_EVERY
                }
            };
            sleep(pause).await;
        }
    }

    /// Hands on what is new. True where there is more.
    async fn advance(&self, last: &mut Option<Position>) -> Result<bool, Error> {
        let (page, after) = if let Some(after) = *last {
            (self.source.read(None, after).await?, after)
        } else {
            let head = self.source.head().await?;
            (Page { told: Vec::new(), until: head, more: false }, head)
        };
        *last = Some(page.until);
        self.hand_on(Batch { after, until: page.until, told: page.told });
        Ok(page.more)
    }

    /// Gives a batch to everybody who wants anything of it. Who has no room left is cut loose.
    fn hand_on(&self, batch: Batch<S::Key>) {
        let batch = Arc::new(batch);
        let mut state = self.state();
        state.last = batch.until;
        state.queues.retain_mut(|queue| {
            let met = std::mem::replace(&mut queue.met, true);
            let wanted = || batch.told.iter().any(|told| S::wants(&queue.filter, &told.key));
            (met && !wanted()) || queue.batches.try_send(batch.clone()).is_ok()
        });
    }

    /// Takes part from now on. The first batch, which may be empty, comes in any case.
    fn join(&self, filter: &Arc<S::Filter>) -> mpsc::Receiver<Arc<Batch<S::Key>>> {
        let (batches, receiver) = mpsc::channel(self.queue_batches_max);
        let mut state = self.state();
        if !state.closed {
            state.queues.push(Queue { filter: filter.clone(), batches, met: false });
            self.joined.notify_one();
        }
        receiver
    }

    fn is_idle(&self) -> bool {
        let mut state = self.state();
        state.queues.retain(|queue| !queue.batches.is_closed());
        state.queues.is_empty()
    }

    fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who is told every event after a position that a filter lets through, once and in order.
pub(crate) struct Reader<S: Source> {
    hub: Arc<Hub<S>>,
    filter: Arc<S::Filter>,
    /// Everything up to here is ready or was handed out.
    last: Position,
    ready: VecDeque<Bytes>,
    /// None until everything that was there has been read.
    live: Option<Live<S>>,
    heartbeat: Duration,
    /// When silence has lasted long enough.
    beat: Instant,
    ended: bool,
}

struct Live<S: Source> {
    batches: mpsc::Receiver<Arc<Batch<S::Key>>>,
    /// Begins after something that has yet to be fetched.
    ahead: Option<Arc<Batch<S::Key>>>,
    /// Whether the hub has said where it is.
    met: bool,
}

impl<S: Source> Reader<S> {
    pub(crate) fn new(
        hub: Arc<Hub<S>>,
        filter: S::Filter,
        after: Position,
        heartbeat: Duration,
    ) -> Self {
        let (filter, beat) = (Arc::new(filter), Instant::now() + heartbeat);
        let (ready, ended) = (VecDeque::new(), false);
        Self { hub, filter, last: after, ready, live: None, heartbeat, beat, ended }
    }

    /// Reads the first page of what is there already. True where that is anything.
    ///
    /// # Errors
    /// Where the database is away.
    pub(crate) async fn begin(&mut self) -> Result<bool, Error> {
        self.fetch().await?;
        Ok(!self.ready.is_empty())
    }

    /// What to send next: events, a sign of life after a silence, or last of all why it ends.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let bytes = loop {
            if let Some(chunk) = self.chunk() {
                break chunk;
            }
            match timeout_at(self.beat, self.step()).await {
                Ok(Ok(())) => {}
                Ok(Err(end)) => {
                    self.ended = true;
                    break end.frame();
                }
                Err(_) => break sse::heartbeat(self.seen()),
            }
        };
        self.beat = Instant::now() + self.heartbeat;
        Some(bytes)
    }

    /// Comes closer to having something ready. Dropping the future loses nothing.
    async fn step(&mut self) -> Result<(), End> {
        let Some(live) = &mut self.live else {
            if self.hub.is_closed() {
                return Err(End::Closing);
            }
            return self.fetch().await.map_err(|error| End::interrupted(&error));
        };
        let ahead = match live.ahead.take() {
            Some(batch) => batch,
            None => match live.batches.recv().await {
                Some(batch) => batch,
                None if self.hub.is_closed() => return Err(End::Closing),
                None => return Err(End::Lagging),
            },
        };
        live.met = true;
        if ahead.after <= self.last {
            self.take(&ahead.told, ahead.until);
            return Ok(());
        }
        let (last, hole) = (self.last, ahead.after);
        live.ahead = Some(ahead);
        self.fetch().await.map_err(|error| End::interrupted(&error))?;
        if self.last == last && last < hole {
            sleep(POLL_EVERY).await; // What was told before has been taken back for a moment.
        }
        Ok(())
    }

    /// Reads a page, and joins the hub where that was all.
    async fn fetch(&mut self) -> Result<(), Error> {
        let page = self.hub.source.read(Some(&self.filter), self.last).await?;
        self.take(&page.told, page.until);
        if !page.more && self.live.is_none() {
            let batches = self.hub.join(&self.filter);
            self.live = Some(Live { batches, ahead: None, met: false });
        }
        Ok(())
    }

    fn take(&mut self, told: &[Told<S::Key>], until: Position) {
        let (last, filter) = (self.last, &*self.filter);
        let wanted = |told: &&Told<S::Key>| told.position > last && S::wants(filter, &told.key);
        self.ready.extend(told.iter().filter(wanted).map(|told| S::shown(filter, told).clone()));
        self.last = last.max(until);
    }

    /// As much as goes into one piece.
    fn chunk(&mut self) -> Option<Bytes> {
        let first = self.ready.pop_front()?;
        let mut bytes = first.len();
        let fits = self.ready.iter().take_while(|frame| {
            bytes += frame.len();
            bytes <= CHUNK_BYTES
        });
        let fits = fits.count();
        if fits == 0 {
            return Some(first);
        }
        let mut chunk = first.to_vec();
        for frame in self.ready.drain(..fits) {
            chunk.extend_from_slice(&frame);
        }
        Some(chunk.into())
    }

    /// A position up to which everything was handed out, while nothing is ready.
    fn seen(&self) -> Position {
        match &self.live {
            Some(live) if live.met && live.ahead.is_none() => {
                let state = self.hub.state();
                // What was handed on and is not in the queue was not wanted.
                let idle = live.batches.is_empty() && !live.batches.is_closed();
                if idle { self.last.max(state.last) } else { self.last }
            }
            _ => self.last,
        }
    }
}
