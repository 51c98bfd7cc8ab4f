//! Reading: the whole log, and single streams.

use std::time::Duration;

use aggregates::inventory::Inventory;
use anyhow::{Result, ensure};
use event_store::{Append, Options, Store, Write};
use futures_util::StreamExt as _;
use schemas::inventory::{Event, stock_stream};
use schemas::{Event as _, Fact, Ids, Position, Quantity, Sku, StreamId};
use sqlx::PgPool;
use sqlx::postgres::PgPoolCopyExt as _;
use tokio::time::{Instant, sleep};

use crate::contention;
use crate::log::Log;
use crate::report::Turns;

/// Events of the long stream, and of the short one.
const LONG: usize = 10_000;
const SHORT: usize = 10;
/// Loads of each.
const LOADS: usize = 50;

/// Events a second of a scan of the whole log, each decoded into its type.
///
/// # Errors
/// Where a page cannot be read, or an event is not understood.
pub(crate) async fn scan_rate(store: &Store) -> Result<f64> {
    let head = store.head().await?;
    let started = Instant::now();
    let mut pages = store.history().scan(0, head);
    let mut seen: Position = 0;
    while let Some(page) = pages.next().await {
        for event in page? {
            seen += 1;
            ensure!(event.position == seen, "{seen} is missing");
            ensure!(!matches!(event.fact, Fact::Unknown { .. }), "{seen} is not understood");
        }
    }
    ensure!(seen == head, "{seen} of {head} events were read");
    Ok(per_second(head, started))
}

/// Rows a second of `COPY` of the same rows as text.
///
/// # Errors
/// Where it fails.
pub(crate) async fn copy_rate(pool: &PgPool) -> Result<f64> {
    let started = Instant::now();
    let mut rows = 0;
    let copy = "copy (select position, stream_id, stream_version, event_id, command_id, \
        correlation_id, causation_id, occurred_at, recorded_at, category, event_type, actor, \
        traceparent, payload from events order by position) to stdout";
    let mut chunks = pool.copy_out_raw(copy).await?;
    while let Some(chunk) = chunks.next().await {
        chunk?; // One row: so Postgres sends them.
        rows += 1;
    }
    Ok(per_second(rows, started))
}

fn per_second(events: i64, started: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let events = events as f64;
    events / started.elapsed().as_secs_f64()
}

/// Microseconds of a load of a stream of [`LONG`] events that a snapshot was taken of, and of one of
/// [`SHORT`], by a process that remembers neither.
///
/// # Errors
/// Where an append or a load fails.
pub(crate) async fn load_times(log: &Log) -> Result<Turns> {
    let few = write_stream(&log.store, SHORT).await?;
    let many = write_stream(&log.store, LONG).await?;
    // Whoever loads a long stream for the first time has a snapshot of it written.
    log.store.load::<Inventory>(many).await?;
    while !has_snapshot(&log.owner, many).await? {
        sleep(Duration::from_millis(10)).await;
    }
    let mut turns = Turns::default();
    for _ in 0..LOADS {
        let few_us = load_time(log, few).await?;
        turns.add(load_time(log, many).await?, few_us);
    }
    Ok(turns)
}

async fn has_snapshot(owner: &PgPool, stream: StreamId) -> Result<bool> {
    let found = sqlx::query_scalar("select exists (select from snapshots where stream_id = $1)");
    Ok(found.bind(stream.id).fetch_one(owner).await?)
}

async fn load_time(log: &Log, stream: StreamId) -> Result<f64> {
    let options = Options {
        database_url: log.url.clone(),
        log: log.store.log().to_owned(),
        connections_max: 1,
    };
    let (store, _writer) = Store::open(&options, None).await?;
    // The connection's first query also reads the catalogue.
    store.load::<Inventory>(StreamId::new(stream.category, Ids::system().next())).await?;
    let started = Instant::now();
    store.load::<Inventory>(stream).await?;
    let took = started.elapsed();
    store.pool().close().await;
    Ok(took.as_secs_f64() * 1e6)
}

/// A sku that so many deliveries came in of.
async fn write_stream(store: &Store, events: usize) -> Result<StreamId> {
    const CALL: usize = 500;
    let sku: Sku = format!("long-{}", Ids::system().next().simple()).parse()?;
    let stream = stock_stream(&sku);
    let event = Event::StockReceived { sku, quantity: Quantity::new(1)?, reference: None };
    let encoded = event.encode()?;
    for expected in (0..events).step_by(CALL) {
        let events = vec![encoded.clone(); CALL.min(events - expected)];
        let expected = i64::try_from(expected)?;
        let write = Write { stream, expected, events };
        let append = Append {
            meta: contention::meta(),
            writes: vec![write],
            answers: (stream, expected),
            refused: None,
        };
        store.append(append).await?;
    }
    Ok(stream)
}
