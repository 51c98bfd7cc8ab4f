//! States of long streams, written down off the way of those who append.
//!
//! Whoever notices that a snapshot is due hands the state to a queue and goes on. One task of the
//! process writes what is in it; what no longer fits is dropped, since the next long fold offers
//! it again. A snapshot that is missing, of another shape, unreadable or ahead of its stream costs
//! a fold, and never an answer.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

use metrics::counter;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{Schema, SchemaGenerator};
use schemas::{Decider, Position, StreamId, Version};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cache::Known;
use crate::consumer::chain;
use crate::json::Json;
use crate::metrics::{SNAPSHOTS_DROPPED, SNAPSHOTS_WRITTEN};

/// A snapshot is due after so many events of a stream: about what one round trip brings at no
/// more cost than the round trip itself.
pub(crate) const EVERY_EVENTS: usize = 256;

/// A fold that takes this long makes one due before that...
pub(crate) const SLOW_FOLD: Duration = Duration::from_millis(20);

/// ...if it went over this many events: below, the machine is slow and not the fold.
pub(crate) const SLOW_FOLD_EVENTS_MIN: usize = 32;

/// The most states that wait to be written.
const QUEUE_STATES_MAX: usize = 64;

/// The largest state that is written, in bytes of JSON.
const STATE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long writing one may take.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);

/// Which snapshots a decider can read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) decider: &'static str,
    /// SHA-256 of name, revision and the JSON Schema of the state.
    pub(crate) hash: [u8; 32],
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.decider, hex::encode(&self.hash[..4]))
    }
}

/// Shapes that were worked out before: what is hashed is a few kilobytes of JSON.
static SHAPES: LazyLock<RwLock<HashMap<TypeId, Shape>>> = LazyLock::new(RwLock::default);

impl Shape {
    /// The shape of `D`'s states in this release.
    pub(crate) fn of<D: Decider>() -> Self {
        let known = SHAPES.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(shape) = known.get(&TypeId::of::<D>()) {
            return *shape;
        }
        drop(known);
        let shape = Self { decider: D::NAME, hash: hash::<D>() };
        SHAPES.write().unwrap_or_else(PoisonError::into_inner).insert(TypeId::of::<D>(), shape);
        shape
    }
}

fn hash<D: Decider>() -> [u8; 32] {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<D>();
    // Words for people may change without making a state of old unreadable.
    RecursiveTransform(|schema: &mut Schema| {
        schema.remove("title");
        schema.remove("description");
    })
    .transform(&mut schema);
    let mut hash = Sha256::new();
    hash.update(D::NAME);
    hash.update([0]);
    hash.update(D::REVISION.to_be_bytes());
    hash.update(schema.as_value().to_string());
    hash.finalize().into()
}

/// A state that is to be written.
pub(crate) struct Due {
    stream: StreamId,
    shape: Shape,
    version: Version,
    position: Position,
    /// Makes JSON of it, when its turn has come.
    encode: Box<dyn FnOnce() -> serde_json::Result<String> + Send>,
}

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {}@{}", self.shape, self.stream, self.version)
    }
}

/// Where states are handed to. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots(mpsc::Sender<Due>);

impl Snapshots {
    pub(crate) fn new(pool: PgPool) -> (Self, Snapshotter) {
        let (queue, waiting) = mpsc::channel(QUEUE_STATES_MAX);
        (Self(queue), Snapshotter { queue: waiting, pool })
    }

    /// How many states wait to be written, and how many may.
    pub(crate) fn queue(&self) -> (usize, usize) {
        let max = self.0.max_capacity();
        (max - self.0.capacity(), max)
    }

    /// Hands over a state; no later event of the stream stands at or before `position`.
    pub(crate) fn offer<D: Decider>(&self, stream: StreamId, known: &Known<D>, position: Position) {
        let state = Arc::clone(&known.state);
        let due = Due {
            stream,
            shape: Shape::of::<D>(),
            version: known.version,
            position,
            encode: Box::new(move || serde_json::to_string(&*state)),
        };
        if self.0.try_send(due).is_err() {
            counter!(SNAPSHOTS_DROPPED).increment(1);
        }
    }

    /// The same, where a command took the stream past the next multiple of [`EVERY_EVENTS`]: one
    /// command does, whichever process carries it out.
    pub(crate) fn offer_if_due<D: Decider>(
        &self,
        stream: StreamId,
        before: Version,
        known: &Known<D>,
        position: Position,
    ) {
        let block = |version: Version| usize::try_from(version).unwrap_or(0) / EVERY_EVENTS;
        if block(before) != block(known.version) {
            self.offer(stream, known, position);
        }
    }
}

/// The task that writes them.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    queue: mpsc::Receiver<Due>,
    pool: PgPool,
}

/// Why a state was not written.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the state cannot be written as JSON")]
    Encode(#[from] serde_json::Error),
    #[error("the state has {0} bytes, {STATE_BYTES_MAX} are the most")]
    TooLarge(usize),
    #[error("the database is away")]
    Database(#[from] sqlx::Error),
    #[error("the database does not answer")]
    TooSlow,
}

impl Snapshotter {
    /// Writes what is handed over until `drain` is cancelled. What then waits is dropped.
    pub(crate) async fn run(mut self, drain: CancellationToken) {
        let mut failing = false;
        while let Some(Some(due)) = drain.run_until_cancelled(self.queue.recv()).await {
            let what = format!("{due:?}");
            let written = timeout(WRITE_TIME_MAX, self.write(due)).await;
            match written.unwrap_or(Err(Failure::TooSlow)) {
                Ok(()) => {
                    counter!(SNAPSHOTS_WRITTEN).increment(1);
                    failing = false;
                }
                Err(failure) => {
                    counter!(SNAPSHOTS_DROPPED).increment(1);
                    // Once, until it goes well again: nothing is lost but time.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(what, error = chain(&failure), "no snapshot was written");
                    }
                }
            }
        }
    }

    /// Whichever was there is replaced: any is right, and a newer one may be unreadable.
    async fn write(&self, due: Due) -> Result<(), Failure> {
        let state = (due.encode)()?;
        if state.len() > STATE_BYTES_MAX {
            return Err(Failure::TooLarge(state.len()));
        }
        sqlx::query(
            "insert into snapshots (stream_id, decider, shape, version, position, state) \
             values ($1, $2, $3, $4, $5, $6) \
             on conflict (stream_id, decider) do update set shape = excluded.shape, \
             version = excluded.version, position = excluded.position, taken_at = now(), \
             state = excluded.state",
        )
        .bind(due.stream.id)
        .bind(due.shape.decider)
        .bind(&due.shape.hash[..])
        .bind(due.version)
        .bind(due.position)
        .bind(Json(state))
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
