//! Follows the whole log: JetStream delivers quickly, Postgres fills every hole.
//!
//! One feed per process decodes each event once and hands it to every consumer of the process.
//! Two futures do the work: the *listener* takes messages from JetStream, as they come; the
//! *follower* puts them in sequence, fills holes, and polls Postgres whenever JetStream is away
//! or silent for longer than the log is.

mod follow;
mod listen;
mod sequence;
mod tail;
pub(crate) mod wake;
pub(crate) mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemas::{Position, Recorded};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use tail::Tail;

use crate::Store;
use tail::Live;

/// Events in one page from Postgres, and in one batch from JetStream.
const BATCH_EVENTS_MAX: usize = 512;

/// Batches that wait for one consumer before it is cut loose.
const QUEUE_BATCHES_MAX: usize = 64;

/// How often Postgres is asked while nothing else says what is new.
const POLL_AWAY: Duration = Duration::from_millis(50);

/// How often Postgres is asked while JetStream is connected and silent.
const POLL_IDLE: Duration = Duration::from_secs(1);

/// How long the log has not grown when an event is alone: then it is read from Postgres at once,
/// which is faster than the way through relay and JetStream, and costs nobody anything.
const ALONE: Duration = Duration::from_millis(1);

/// How long JetStream may take to bring what is known to be in the log.
const PATIENCE: Duration = Duration::from_millis(50);

/// Events that are handed on together; shared by all consumers.
type Batch = Arc<[Arc<Recorded>]>;

/// The task that follows the log. Run it once per process.
#[derive(Debug)]
pub struct Feed {
    hub: Arc<Hub>,
    nats: Option<async_nats::Client>,
}

/// Where consumers take events from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FeedHandle {
    hub: Arc<Hub>,
}

impl Feed {
    /// A feed of `store`'s log. Without `nats` it follows Postgres alone.
    #[must_use]
    pub fn new(store: Store, nats: impl Into<Option<async_nats::Client>>) -> (Self, FeedHandle) {
        let hub = Arc::new(Hub { store, state: Mutex::new(State::default()) });
        (Self { hub: hub.clone(), nats: nats.into() }, FeedHandle { hub })
    }

    /// Follows the log until `drain` is cancelled. Without NATS it polls Postgres.
    pub async fn run(self, drain: CancellationToken) {
        let (messages, arrivals) = mpsc::channel(QUEUE_BATCHES_MAX);
        self.hub.state().arrivals = Some(messages.downgrade());
        let (connected, connection) = watch::channel(false);
        let listening = async {
            match &self.nats {
                Some(nats) => {
                    listen::run(nats, self.hub.store.log(), &messages, &connected).await;
                }
                None => std::future::pending().await,
            }
        };
        let following = follow::run(&self.hub, self.nats.as_ref(), arrivals, connection);
        tokio::select! {
            () = drain.cancelled() => {}
            () = listening => {}
            () = following => {}
        }
        self.hub.close();
    }
}

impl FeedHandle {
    /// Every event after `from`.
    #[must_use]
    pub fn tail(&self, from: Position) -> Tail {
        Tail::new(self.hub.clone(), from)
    }

    /// How full everything is.
    pub(crate) fn look(&self) -> Look {
        let state = self.hub.state();
        let arrivals = state.arrivals.as_ref().and_then(mpsc::WeakSender::upgrade);
        Look {
            position: state.last,
            tails: state.queues.len(),
            fullest: state.queues.iter().map(waiting).max().unwrap_or(0),
            arrivals: arrivals.as_ref().map_or(0, waiting),
            batches_max: QUEUE_BATCHES_MAX,
        }
    }
}

/// How a feed is getting on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// The last event that was handed on; none while the feed does not run.
    pub(crate) position: Option<Position>,
    /// How many keep up.
    pub(crate) tails: usize,
    /// Batches that wait for the slowest of them.
    pub(crate) fullest: usize,
    /// Batches that came from JetStream and wait for the follower.
    pub(crate) arrivals: usize,
    /// The most batches that wait in any of these queues.
    pub(crate) batches_max: usize,
}

/// How much waits in a queue.
fn waiting<T>(queue: &mpsc::Sender<T>) -> usize {
    queue.max_capacity() - queue.capacity()
}

/// What the feed and its consumers share.
#[derive(Debug)]
struct Hub {
    store: Store,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last event that was handed on; none while the feed does not run.
    last: Option<Position>,
    /// Who is keeping up.
    queues: Vec<mpsc::Sender<Batch>>,
    /// What comes from JetStream; weak, so that the follower hears of the listener's end.
    arrivals: Option<mpsc::WeakSender<Vec<Recorded>>>,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where the feed starts.
    fn open(&self, last: Position) {
        self.state().last = Some(last);
    }

    /// Cuts every consumer loose.
    fn close(&self) {
        *self.state() = State::default();
    }

    /// Takes part in the feed from its next event on; none while it does not run.
    fn join(&self) -> Option<Live> {
        let mut state = self.state();
        let after = state.last?;
        let (queue, batches) = mpsc::channel(QUEUE_BATCHES_MAX);
        state.queues.push(queue);
        Some(Live { batches, after })
    }

    /// Hands `events` to whoever keeps up. They follow on what was handed on before.
    fn hand_on(&self, events: Vec<Arc<Recorded>>) {
        let Some(last) = events.last().map(|event| event.position) else { return };
        let batch: Batch = events.into();
        let mut state = self.state();
        debug_assert!(state.last.is_some_and(|before| before + 1 == batch[0].position));
        state.last = Some(last);
        state.queues.retain(|queue| queue.try_send(batch.clone()).is_ok());
    }
}
