//! The one task of a process that writes: gathers what waits, and sends it on its way.
//!
//! Two batches are on their way at once where there is enough to do: while Postgres works on one,
//! the next is encoded and sent, and waits there for the log's lock; the answers to the last one
//! are handed out meanwhile. Batches that are on their way at once share no stream and no command, so
//! neither builds on the other, and which comes first does not matter.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backlog::Backlog;
use crate::lane::{Lane, Link};
use crate::metrics;
use crate::request::Request;

/// The most commands in a batch.
pub(crate) const BATCH_COMMANDS_MAX: usize = 512;
/// About the most bytes in a batch; a single command may be larger.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// How many batches are on their way at once.
pub(crate) const LANES: usize = 2;
/// The fewest commands that are worth a second batch: every batch costs as much as a handful of
/// commands, and a commit.
const SECOND_COMMANDS_MIN: usize = 16;
/// How often partitions are made ahead.
const AHEAD_EVERY: Duration = Duration::from_mins(10);

/// The task that writes. Run it once per store.
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::UnboundedReceiver<Request>,
    backlog: Arc<Backlog>,
    /// Taken from the queue, and not yet on its way; oldest first.
    waiting: Vec<Request>,
    idle: Vec<Lane>,
    /// What is on its way in each lane.
    loads: [Load; LANES],
    /// Whether the batch that came back last had several commands.
    crowded: bool,
    beside: Vec<Beside>,
}

/// A task that runs beside the writer, and ends when it does.
struct Beside(Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>);

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beside")
    }
}

/// The batch that a lane is busy with.
#[derive(Debug, Default)]
struct Load {
    commands: usize,
    /// The streams it builds on, and its commands: nobody else with one of these sets out before
    /// it is back.
    names: HashSet<Uuid>,
}

impl Load {
    fn meets(&self, request: &Request) -> bool {
        !self.names.is_empty() && names(request).any(|name| self.names.contains(&name))
    }
}

fn names(request: &Request) -> impl Iterator<Item = Uuid> {
    let streams = request.bases().map(|(stream, _)| stream.id);
    streams.chain([request.append.meta.command_id.uuid()])
}

impl Writer {
    pub(crate) fn new(
        queue: mpsc::UnboundedReceiver<Request>,
        backlog: Arc<Backlog>,
        link: Link,
    ) -> Self {
        let link = Arc::new(link);
        let idle = (0..LANES).map(|number| Lane::new(number, Arc::clone(&link))).collect();
        Self {
            queue,
            backlog,
            waiting: Vec::new(),
            idle,
            loads: <[Load; LANES]>::default(),
            crowded: false,
            beside: Vec::new(),
        }
    }

    /// Has `task` run beside it. The task ends when its token is cancelled, or when nothing is
    /// announced any more.
    pub(crate) fn beside<F>(&mut self, task: impl FnOnce(CancellationToken) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.beside.push(Beside(Box::new(|drain| task(drain).boxed())));
    }

    /// Writes batches until `drain` is cancelled and the queue is empty; snapshots and pokes, in tasks
    /// of their own.
    pub async fn run(mut self, drain: CancellationToken) {
        let mut beside = JoinSet::new();
        for Beside(task) in std::mem::take(&mut self.beside) {
            beside.spawn(task(drain.clone()));
        }
        self.write_batches(drain).await;
        // What they are at is finished, in a bounded time.
        while beside.join_next().await.is_some() {}
    }

    async fn write_batches(mut self, drain: CancellationToken) {
        let mut ahead = interval(AHEAD_EVERY);
        ahead.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut on_their_way = Vec::with_capacity(LANES);
        let mut ended = false;
        while !ended || !self.waiting.is_empty() || !on_their_way.is_empty() {
            let room = (LANES * BATCH_COMMANDS_MAX).saturating_sub(self.waiting.len());
            tokio::select! {
                biased;
                () = drain.cancelled(), if !self.queue.is_closed() => self.queue.close(),
                lane = next_back(&mut on_their_way) => self.is_back(lane),
                _ = ahead.tick(), if !self.idle.is_empty() => {
                    on_their_way.extend(self.idle.pop().map(make_partitions));
                }
                received = self.queue.recv_many(&mut self.waiting, room),
                    if !ended && room > 0 && !self.idle.is_empty() => ended = received == 0,
            }
            // Those who have just been answered may already have their next commands ready.
            if self.crowded {
                yield_now().await;
            }
            while self.waiting.len() < LANES * BATCH_COMMANDS_MAX {
                let Ok(request) = self.queue.try_recv() else { break };
                self.waiting.push(request);
            }
            while let Some(lane) = self.idle.pop() {
                let batch = self.gather(lane.number);
                if batch.is_empty() {
                    self.idle.push(lane);
                    break;
                }
                on_their_way.push(write(lane, batch, Arc::clone(&self.backlog)));
            }
        }
    }

    fn is_back(&mut self, lane: Lane) {
        let load = &mut self.loads[lane.number];
        self.crowded = load.commands > 1;
        load.commands = 0;
        load.names.clear();
        self.idle.push(lane);
    }

    /// A batch for lane `number`, or nothing where waiting for more is better: what waits, in its
    /// order, up to the limits of a batch, and without those that meet a batch on its way or
    /// somebody who has to wait.
    fn gather(&mut self, number: usize) -> Vec<Request> {
        let others: usize = self.loads.iter().map(|load| load.commands).sum();
        let share = match others {
            // Half of what waits, so that the other half can follow at once.
            0 => self.waiting.len().div_ceil(2).max(SECOND_COMMANDS_MIN),
            _ if self.waiting.len() < SECOND_COMMANDS_MIN.max(others / 2) => return Vec::new(),
            _ => BATCH_COMMANDS_MAX,
        };
        let mut batch = Vec::with_capacity(share.min(self.waiting.len()));
        let mut load = std::mem::take(&mut self.loads[number]);
        let mut left = Load::default();
        let (mut full, mut bytes) = (false, 0);
        for request in std::mem::take(&mut self.waiting) {
            let size = request.bytes();
            full |= batch.len() == BATCH_COMMANDS_MAX
                || !batch.is_empty() && bytes + size > BATCH_BYTES_MAX;
            // Once it is full nobody sets out any more, so nobody can be overtaken.
            if full {
                self.waiting.push(request);
                continue;
            }
            let meets =
                left.meets(&request) || self.loads.iter().any(|other| other.meets(&request));
            // Beyond the share only those go who could not go with the other half either.
            if meets || batch.len() >= share && !load.meets(&request) {
                left.names.extend(names(&request));
                self.waiting.push(request);
            } else {
                bytes += size;
                load.names.extend(names(&request));
                batch.push(request);
            }
        }
        load.commands = batch.len();
        self.loads[number] = load;
        self.backlog.leave(batch.len(), bytes);
        batch
    }
}

/// Waits for whichever lane is back first. (`FuturesUnordered` wakes its task once more for every
/// future that is not ready, and with it another thread.)
async fn next_back(on_their_way: &mut Vec<BoxFuture<'static, Lane>>) -> Lane {
    poll_fn(|context| {
        for at in 0..on_their_way.len() {
            if let Poll::Ready(lane) = on_their_way[at].as_mut().poll(context) {
                drop(on_their_way.swap_remove(at));
                return Poll::Ready(lane);
            }
        }
        Poll::Pending
    })
    .await
}

/// Has `lane` write a batch, and gives it back.
fn write(mut lane: Lane, batch: Vec<Request>, backlog: Arc<Backlog>) -> BoxFuture<'static, Lane> {
    async move {
        let (started, commands) = (Instant::now(), batch.len());
        lane.write(batch).await;
        let took = started.elapsed();
        backlog.learn(took);
        metrics::batch_written(commands, took);
        lane
    }
    .boxed()
}

/// Has `lane` make the partitions that the next appends need, and gives it back.
fn make_partitions(mut lane: Lane) -> BoxFuture<'static, Lane> {
    async move {
        lane.make_partitions().await;
        lane
    }
    .boxed()
}
