//! Long streams are loaded through a snapshot, which is never more than a cache.

use event_store::{AppendError, Error, ExecuteError, Meta};
use schemars::JsonSchema;
use schemas::{Category, Decider, StreamId, Version};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::task::JoinSet;

use super::{Log, append, log, meta, order, superuser};
use crate::world::until;

/// What was counted: in every state, as much as there are events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Tally {
    sum: i64,
}

/// The same in another release, which also keeps how often.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Counted {
    sum: i64,
    times: i64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Event {
    #[serde(rename = "order.counted.v1")]
    Counted { by: i64 },
}

#[derive(Debug, thiserror::Error)]
enum Never {}

impl schemas::Event for Event {
    const CATEGORY: Category = Category::Order;
}

impl schemas::Refusal for Never {
    fn code(&self) -> &'static str {
        match *self {}
    }
}

impl Decider for Tally {
    const NAME: &'static str = "tally";
    type Command = usize;
    type Event = Event;
    type Refusal = Never;

    fn decide(&self, times: &usize) -> Result<Vec<Event>, Never> {
        Ok((0..*times).map(|_| Event::Counted { by: 1 }).collect())
    }

    fn evolve(self, Event::Counted { by }: &Event) -> Self {
        Self { sum: self.sum + by }
    }
}

impl Decider for Counted {
    const NAME: &'static str = "tally";
    type Command = usize;
    type Event = Event;
    type Refusal = Never;

    fn decide(&self, _: &usize) -> Result<Vec<Event>, Never> {
        Ok(Vec::new())
    }

    fn evolve(self, Event::Counted { by }: &Event) -> Self {
        Self { sum: self.sum + by, times: self.times + 1 }
    }
}

/// A stream of `thousands` times a thousand events.
async fn long(log: &Log, thousands: i64) -> StreamId {
    let stream = order();
    for thousand in 0..thousands {
        log.store.append(append(&[(stream, thousand * 1000)], 1000)).await.unwrap();
    }
    stream
}

/// The versions of the snapshots that there are of a stream.
async fn taken(pool: &PgPool, stream: StreamId) -> Vec<(Version, Vec<u8>)> {
    let rows = sqlx::query_as("select version, shape from snapshots where stream_id = $1");
    rows.bind(stream.id).fetch_all(pool).await.unwrap()
}

/// Loads the stream by itself, so that there is a snapshot of it.
async fn photographed(log: &Log, pool: &PgPool, stream: StreamId) {
    log.store.load::<Tally>(stream).await.unwrap();
    until("a snapshot", || async { (!taken(pool, stream).await.is_empty()).then_some(()) }).await;
}

#[tokio::test]
async fn ten_thousand_events_are_loaded_through_a_snapshot_and_only_the_tail_is_read() {
    let (url, log) = log().await;
    let pool = superuser(&url).await;
    let stream = long(&log, 10).await;
    let first = log.store.load::<Tally>(stream).await.unwrap();
    assert_eq!((first.version, first.state.sum, first.read), (10_000, 10_000, 10_000));
    until("a snapshot", || async { (taken(&pool, stream).await.len() == 1).then_some(()) }).await;
    log.store.append(append(&[(stream, 10_000)], 10)).await.unwrap();

    // Not by its own word alone: whoever read what lies before the snapshot could not fold it.
    let mut connection = pool.acquire().await.unwrap();
    sqlx::query("set session_replication_role = replica").execute(&mut *connection).await.unwrap();
    sqlx::query(
        "update events set event_type = 'order.mangled.v1'
         where stream_id = $1 and stream_version <= 10000",
    )
    .bind(stream.id)
    .execute(&mut *connection)
    .await
    .unwrap();
    let fresh = Log::open(&url).await;
    let loaded = fresh.store.load::<Tally>(stream).await.unwrap();
    assert_eq!((loaded.version, loaded.state.sum, loaded.read), (10_010, 10_010, 10));
    let done = fresh.store.execute::<Tally>(&[stream], &1, &meta()).await.unwrap();
    assert_eq!(done.version, 10_011);

    sqlx::query("delete from snapshots").execute(&pool).await.unwrap();
    let bare = Log::open(&url).await;
    let error = bare.store.load::<Tally>(stream).await.unwrap_err();
    assert!(matches!(error, Error::Unreadable { version: 1, .. }), "{error:?}");
    for log in [log, fresh, bare] {
        log.end().await;
    }
}

#[tokio::test]
async fn a_snapshot_of_another_shape_is_ignored_and_replaced() {
    let (url, log) = log().await;
    let pool = superuser(&url).await;
    let stream = long(&log, 1).await;
    photographed(&log, &pool, stream).await;
    let old = taken(&pool, stream).await;

    let newer = Log::open(&url).await;
    let loaded = newer.store.load::<Counted>(stream).await.unwrap();
    assert_eq!((loaded.state, loaded.read), (Counted { sum: 1000, times: 1000 }, 1000));
    until("another shape", || async { (taken(&pool, stream).await != old).then_some(()) }).await;
    let again = Log::open(&url).await;
    let loaded = again.store.load::<Counted>(stream).await.unwrap();
    assert_eq!((loaded.state, loaded.read), (Counted { sum: 1000, times: 1000 }, 0));
    for log in [log, newer, again] {
        log.end().await;
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_ignored_and_replaced() {
    let (url, log) = log().await;
    let pool = superuser(&url).await;
    let stream = long(&log, 1).await;
    photographed(&log, &pool, stream).await;
    for broken in [r#"{"sum":"many"}"#, "null", "[]"] {
        sqlx::query("update snapshots set state = $1::json")
            .bind(broken)
            .execute(&pool)
            .await
            .unwrap();
        let fresh = Log::open(&url).await;
        let loaded = fresh.store.load::<Tally>(stream).await.unwrap();
        assert_eq!((loaded.state.sum, loaded.version, loaded.read), (1000, 1000, 1000), "{broken}");
        until("a snapshot that can be read", || async {
            let state: String = sqlx::query_scalar("select state::text from snapshots")
                .fetch_one(&pool)
                .await
                .unwrap();
            (state == r#"{"sum":1000}"#).then_some(())
        })
        .await;
        fresh.end().await;
    }
    log.end().await;
}

#[tokio::test]
async fn a_snapshot_ahead_of_its_stream_is_not_trusted() {
    let (url, log) = log().await;
    let pool = superuser(&url).await;
    let stream = long(&log, 1).await;
    photographed(&log, &pool, stream).await;
    // As after a restore that brought back this table and an older log.
    sqlx::query(r#"update snapshots set version = 1001, state = '{"sum":1001}'"#)
        .execute(&pool)
        .await
        .unwrap();
    let fresh = Log::open(&url).await;
    let loaded = fresh.store.load::<Tally>(stream).await.unwrap();
    assert_eq!((loaded.state.sum, loaded.version, loaded.read), (1000, 1000, 1000));
    let history = fresh.store.history();
    assert_eq!(history.fold_to::<Tally>(stream, 400).await.unwrap(), Tally { sum: 400 });
    for log in [log, fresh] {
        log.end().await;
    }
}

/// Executes until nobody was faster at every attempt.
async fn count(log: &Log, stream: StreamId, times: usize) {
    let meta = Meta { keep_refusal: false, ..meta() };
    loop {
        match log.store.execute::<Tally>(&[stream], &times, &meta).await {
            Ok(_) => return,
            Err(ExecuteError::Contended | ExecuteError::Append(AppendError::Overloaded)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_race_leave_right_snapshots_behind() {
    let (url, first) = log().await;
    let pool = superuser(&url).await;
    let second = Log::open(&url).await;
    let logs = std::sync::Arc::new([first, second]);
    let stream = order();
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let logs = logs.clone();
        writers.spawn(async move {
            for _ in 0..10 {
                count(&logs[writer % 2], stream, 23).await;
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    // 1,840 events: the seventh multiple of 256 was passed by one of them, and none since.
    until("the last snapshot", || async {
        let versions = taken(&pool, stream).await;
        versions.iter().any(|(version, _)| *version >= 7 * 256).then_some(())
    })
    .await;
    let right: bool =
        sqlx::query_scalar("select bool_and((state ->> 'sum')::bigint = version) from snapshots")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!(right);
    let fresh = Log::open(&url).await;
    let loaded = fresh.store.load::<Tally>(stream).await.unwrap();
    assert_eq!((loaded.state.sum, loaded.version), (1840, 1840));
    assert!(loaded.read < 256, "{}", loaded.read);
    fresh.end().await;
    for log in std::sync::Arc::into_inner(logs).unwrap() {
        log.end().await;
    }
}

#[tokio::test]
async fn who_serves_may_replace_snapshots_and_who_reads_may_look() {
    let (url, log) = log().await;
    let pool = superuser(&url).await;
    for (role, allowed) in [
        ("waybill_write", &["select", "insert", "update", "delete"][..]),
        ("waybill_read", &["select"][..]),
    ] {
        for right in ["select", "insert", "update", "delete", "truncate", "references", "trigger"] {
            let may: bool = sqlx::query_scalar("select has_table_privilege($1, 'snapshots', $2)")
                .bind(role)
                .bind(right)
                .fetch_one(&pool)
                .await
                .unwrap();
            assert_eq!(may, allowed.contains(&right), "{role}: {right}");
        }
    }
    log.end().await;
}
