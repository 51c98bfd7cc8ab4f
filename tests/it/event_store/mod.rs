//! The log by itself: what is written, what is refused, and what survives.

mod append;
mod chaos;
mod execute;
mod library;
mod log;
mod poison;
mod pool;
mod snapshots;
mod vault;

use event_store::{Append, Meta, Options, Store, Write};
use schemas::{Category, CommandId, Encoded, Ids, StreamId, Version};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A store with its writer at work.
struct Log {
    store: Store,
    drain: CancellationToken,
    writer: JoinSet<()>,
}

impl Log {
    async fn open(url: &str) -> Self {
        let options =
            Options { database_url: url.to_owned(), log: "main".to_owned(), connections_max: 4 };
        let (store, writer) = Store::open(&options, None).await.unwrap();
        let drain = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(drain.clone()));
        Self { store, drain, writer: tasks }
    }

    /// Stops the writer, which finishes what is queued.
    async fn end(mut self) {
        self.drain.cancel();
        self.writer.join_next().await.unwrap().unwrap();
    }
}

/// A migrated database and a log in it.
async fn log() -> (String, Log) {
    let url = crate::services::database().await;
    Store::migrate(&url).await.unwrap();
    let log = Log::open(&url).await;
    (url, log)
}

/// A connection that may do anything, unlike the store's own.
async fn superuser(url: &str) -> PgPool {
    PgPool::connect(url).await.unwrap()
}

fn new_id() -> Uuid {
    Ids::system().next()
}

fn order() -> StreamId {
    StreamId::new(Category::Order, new_id())
}

fn meta() -> Meta {
    let id = new_id();
    Meta {
        command_id: CommandId::new(id),
        request_hash: [1; 32],
        correlation_id: id,
        causation_id: id,
        occurred_at: schemas::Clock::system().now(),
        actor: "customer".to_owned(),
        traceparent: None,
        expected: None,
        keep_refusal: true,
    }
}

fn events(count: usize) -> Vec<Encoded> {
    let event =
        Encoded { event_type: "order.counted.v1".to_owned(), payload: r#"{"by":1}"#.to_owned() };
    vec![event; count]
}

/// `count` events for each stream, which is at the version named with it.
fn append(streams: &[(StreamId, Version)], count: usize) -> Append {
    let write = |&(stream, expected): &_| Write { stream, expected, events: events(count) };
    Append {
        meta: meta(),
        writes: streams.iter().map(write).collect(),
        answers: streams[0],
        refused: None,
    }
}
