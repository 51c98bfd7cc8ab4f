//! From the log to its consumers: relay, feed, checkpoints, parked streams.
//!
//! Goal: whatever happens on the way, every consumer takes every event once and in order.
//! Method: the store's own components on real Postgres and JetStream, with consumers that write
//! down what they were given, and the faults made by hand.

pub(crate) mod consumers;
mod faults;
mod jetstream;
mod lease;
mod poison;
mod reactor;
mod wire;
mod workers;

use std::time::Duration;

use event_store::{Append, Feed, FeedHandle, Meta, Options, Relay, Store, Write};
use schemas::{Category, Clock, CommandId, Encoded, Ids, Position, StreamId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::services;

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_mins(1);

/// One log: a database, and a name in JetStream.
pub(crate) struct Log {
    pub(crate) url: String,
    pub(crate) name: String,
    pub(crate) nats: async_nats::Client,
    /// Sees everything and may do everything.
    pub(crate) database: sqlx::PgPool,
}

impl Log {
    pub(crate) async fn new() -> Self {
        Self::on(&services::nats().await).await
    }

    /// One on a NATS of the test's own.
    pub(crate) async fn on(nats_url: &str) -> Self {
        Self::at(services::database().await, nats_url).await
    }

    /// One in the empty database at `url`.
    pub(crate) async fn at(url: String, nats_url: &str) -> Self {
        Store::migrate(&url).await.unwrap();
        let nats = services::client(nats_url).await;
        let database = sqlx::PgPool::connect(&url).await.unwrap();
        sqlx::raw_sql(
            "create table seen (consumer text, position bigint, stream_id uuid, version bigint,
                                primary key (consumer, position), check (version < 1000));
             grant select, insert on seen to waybill_write;",
        )
        .execute(&database)
        .await
        .unwrap();
        let mut name = format!("d{}", Ids::system().next().simple());
        name.truncate(32);
        Self { url, name, nats, database }
    }

    /// The same log once more.
    pub(crate) fn again(&self) -> Self {
        let Self { url, name, nats, database } = self;
        let (url, name) = (url.clone(), name.clone());
        Self { url, name, nats: nats.clone(), database: database.clone() }
    }

    /// Another process on this log, with a writer and a feed.
    pub(crate) async fn process(&self) -> Process {
        let options =
            Options { database_url: self.url.clone(), log: self.name.clone(), connections_max: 8 };
        let (store, writer) = Store::open(&options, Some(self.nats.clone())).await.unwrap();
        let (feed, handle) = Feed::new(store.clone(), self.nats.clone());
        let drain = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(drain.clone()));
        tasks.spawn(feed.run(drain.clone()));
        Process { store, feed: handle, nats: self.nats.clone(), drain, tasks }
    }

    pub(crate) fn stream(&self) -> String {
        format!("WAYBILL_{}", self.name)
    }

    pub(crate) fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(self.nats.clone())
    }

    /// The positions that `consumer` wrote down.
    pub(crate) async fn seen(&self, consumer: &str) -> Vec<Position> {
        sqlx::query_scalar("select position from seen where consumer = $1 order by position")
            .bind(consumer)
            .fetch_all(&self.database)
            .await
            .unwrap()
    }

    /// Where all workers of `consumer` stand at least; 0 while it has never run.
    pub(crate) async fn checkpoint(&self, consumer: &str) -> Position {
        sqlx::query_scalar("select coalesce(min(position), 0) from checkpoints where consumer = $1")
            .bind(consumer)
            .fetch_one(&self.database)
            .await
            .unwrap()
    }

    pub(crate) async fn wait_for(&self, consumer: &str, position: Position) {
        eventually(consumer, async || self.checkpoint(consumer).await >= position).await;
    }

    pub(crate) async fn execute(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.database).await.unwrap();
    }
}

/// What runs in one process.
pub(crate) struct Process {
    pub(crate) store: Store,
    pub(crate) feed: FeedHandle,
    nats: async_nats::Client,
    pub(crate) drain: CancellationToken,
    pub(crate) tasks: JoinSet<()>,
}

impl Process {
    pub(crate) fn relay(&mut self) {
        let relay = Relay::new(self.store.clone(), self.nats.clone());
        let drain = self.drain.clone();
        self.tasks.spawn(async move { relay.run(drain).await.unwrap() });
    }

    pub(crate) fn projector(&mut self, projector: impl event_store::Projector) {
        let (store, feed, drain) = (self.store.clone(), self.feed.clone(), self.drain.clone());
        self.tasks.spawn(event_store::run_projector(store, feed, projector, drain));
    }

    pub(crate) fn reactor(&mut self, reactor: impl event_store::Reactor) {
        let (store, feed, drain) = (self.store.clone(), self.feed.clone(), self.drain.clone());
        self.tasks.spawn(event_store::run_reactor(store, feed, reactor, drain));
    }

    /// Appends `count` events to a stream, and returns the position of the last.
    pub(crate) async fn append(&self, stream: Uuid, expected: i64, count: i64) -> Position {
        append(&self.store, stream, expected, count).await
    }

    /// Stops everything in order.
    pub(crate) async fn stop(mut self) {
        self.drain.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// Stops everything at once, as SIGKILL would.
    pub(crate) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }
}

pub(crate) fn stream() -> Uuid {
    Ids::system().next()
}

pub(crate) async fn append(store: &Store, stream: Uuid, expected: i64, count: i64) -> Position {
    let command_id = CommandId::new(Ids::system().next());
    let stream = StreamId::new(Category::Order, stream);
    let event = |number| Encoded {
        event_type: "order.probed.v1".to_owned(),
        payload: format!("{{\"number\":{number}}}"),
    };
    let append = Append {
        meta: Meta {
            command_id,
            request_hash: [0; 32],
            correlation_id: stream.id,
            causation_id: command_id.uuid(),
            occurred_at: Clock::system().now(),
            actor: "customer".to_owned(),
            traceparent: None,
            expected: None,
            keep_refusal: true,
        },
        writes: vec![Write { stream, expected, events: (0..count).map(event).collect() }],
        answers: (stream, expected),
        refused: None,
    };
    store.append(append).await.unwrap().position
}

/// Waits until `holds`.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
