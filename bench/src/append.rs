//! One event per command through the store, with more and more callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use event_store::{Append, Meta, Store, Write};
use schemas::{Category, Clock, CommandId, Encoded, Ids, StreamId, Version};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

/// Every fourth append begins a stream; the others go on with one that exists.
const APPENDS_PER_STREAM: Version = 4;

/// Events of one call, where many are written at once.
const BATCH: usize = 100;

/// The event that everybody writes.
const EVENT_TYPE: &str = "order.placed.v1";

/// A command that appends `count` events to `stream`.
fn events(stream: StreamId, expected: Version, payload: &str, count: usize) -> Append {
    let command = Ids::system().next();
    let encoded = Encoded { event_type: EVENT_TYPE.to_owned(), payload: payload.to_owned() };
    Append {
        meta: Meta {
            command_id: CommandId::new(command),
            request_hash: [7; 32],
            correlation_id: stream.id,
            causation_id: command,
            occurred_at: Clock::system().now(),
            actor: "bench".to_owned(),
            traceparent: None,
            expected: None,
            keep_refusal: false,
        },
        writes: vec![Write { stream, expected, events: vec![encoded; count] }],
        answers: (stream, expected),
        refused: None,
    }
}

/// Events a second with `callers` callers, each waiting for its answer before the next.
///
/// # Errors
/// The first append that fails.
pub(crate) async fn rate(
    store: &Store,
    callers: usize,
    seconds: u64,
    payload: &str,
) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (store, done, payload) = (store.clone(), Arc::clone(&done), payload.to_owned());
        tasks.spawn(async move {
            while Instant::now() < end {
                let stream = StreamId::new(Category::Order, Ids::system().next());
                for expected in 0..APPENDS_PER_STREAM {
                    store.append(events(stream, expected, &payload, 1)).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let events = done.load(Ordering::Relaxed) as f64;
    Ok(events / started.elapsed().as_secs_f64())
}

/// Events a second of one caller that appends [`BATCH`] at a time, each to a stream of its own.
///
/// # Errors
/// The first append that fails.
pub(crate) async fn batch_rate(store: &Store, seconds: u64, payload: &str) -> Result<f64> {
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let mut calls = 0_u32;
    while Instant::now() < end {
        let stream = StreamId::new(Category::Order, Ids::system().next());
        store.append(events(stream, 0, payload, BATCH)).await?;
        calls += 1;
    }
    Ok(per_second(calls, started))
}

/// Rows a second of one connection that inserts [`BATCH`] at a time into the plain table.
///
/// # Errors
/// The first insert that fails.
pub(crate) async fn unnest_rate(pool: &PgPool, seconds: u64, payload: &str) -> Result<f64> {
    const INSERT: &str = "insert into plain_events (stream_id, stream_version, slice, category, \
        event_type, event_id, command_id, correlation_id, causation_id, occurred_at, actor, payload) \
        select * from unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::text[], $5::text[], \
        $6::uuid[], $7::uuid[], $8::uuid[], $9::uuid[], $10::timestamptz[], $11::text[], $12::text[]::json[])";
    let mut connection = pool.acquire().await?;
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let mut calls = 0_u32;
    while Instant::now() < end {
        let (stream, command) = (Ids::system().next(), Ids::system().next());
        let ids: Vec<Uuid> = (0..BATCH).map(|_| Ids::system().next()).collect();
        let versions: Vec<i64> = (1..).take(BATCH).collect();
        sqlx::query(INSERT)
            .bind(vec![stream; BATCH])
            .bind(versions)
            .bind(vec![7_i16; BATCH])
            .bind(vec!["order"; BATCH])
            .bind(vec![EVENT_TYPE; BATCH])
            .bind(ids)
            .bind(vec![command; BATCH])
            .bind(vec![stream; BATCH])
            .bind(vec![command; BATCH])
            .bind(vec![Clock::system().now(); BATCH])
            .bind(vec!["bench"; BATCH])
            .bind(vec![payload; BATCH])
            .execute(&mut *connection)
            .await?;
        calls += 1;
    }
    Ok(per_second(calls, started))
}

/// Events a second after so many calls of [`BATCH`] each.
fn per_second(calls: u32, started: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let batch = BATCH as f64;
    f64::from(calls) * batch / started.elapsed().as_secs_f64()
}
