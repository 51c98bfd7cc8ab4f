//! A log that is filled to millions of events, as if they had been appended.

use anyhow::Result;
use event_store::slice;
use schemas::{Clock, EventId, Ids, Position};
use sqlx::PgPool;
use sqlx::postgres::PgPoolCopyExt as _;

/// Events in the small log.
pub(crate) const SMALL: Position = 100_000;
/// What every event holds.
pub(crate) const PAYLOAD: &str = r#"{"filled":true}"#;
/// Events of a stream, all of one command.
const STREAM_EVENTS: Position = 4;
/// Streams written at a time.
const STREAMS: usize = 10_000;
/// The signature, flags and empty extension of a binary `COPY`.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What ends it.
const TRAILER: [u8; 2] = [0xff, 0xff];
/// Midnight of 2000-01-01 in microseconds of Unix time, from which Postgres counts.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// Rows of one table in the binary form of `COPY`.
struct Rows {
    bytes: Vec<u8>,
}

impl Rows {
    fn new() -> Self {
        Self { bytes: HEADER.to_vec() }
    }

    fn row(&mut self, columns: i16) -> &mut Self {
        self.bytes.extend(columns.to_be_bytes());
        self
    }

    fn field(&mut self, value: &[u8]) -> &mut Self {
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(value);
        self
    }

    fn null(&mut self) -> &mut Self {
        self.bytes.extend((-1_i32).to_be_bytes());
        self
    }

    async fn send(mut self, pool: &PgPool, copy: &'static str) -> Result<()> {
        self.bytes.extend(TRAILER);
        let mut sink = pool.copy_in_raw(copy).await?;
        sink.send(self.bytes).await?;
        sink.finish().await?;
        Ok(())
    }
}

/// Fills the log up to `events` events, in whole streams, and has Postgres do what it would have done
/// meanwhile.
///
/// # Errors
/// Where a `COPY` fails.
pub(crate) async fn fill(owner: &PgPool, events: Position) -> Result<()> {
    let head: Position = sqlx::query_scalar("select coalesce(max(position), 0) from events")
        .fetch_one(owner)
        .await?;
    let now_us = Clock::system().now().timestamp_micros() - POSTGRES_EPOCH_US;
    let mut first = head + 1;
    while first + STREAM_EVENTS - 1 <= events {
        let left = usize::try_from((events - first + 1) / STREAM_EVENTS)?;
        first = copy_streams(owner, first, left.min(STREAMS), now_us).await?;
    }
    sqlx::raw_sql("vacuum (analyze) events").execute(owner).await?;
    sqlx::raw_sql("vacuum (analyze) streams").execute(owner).await?;
    sqlx::raw_sql("vacuum (analyze) commands").execute(owner).await?;
    sqlx::raw_sql("checkpoint").execute(owner).await?;
    Ok(())
}

/// Adds so many streams of [`STREAM_EVENTS`] events each, which readers see all at once.
///
/// # Errors
/// Where a `COPY` fails.
pub(crate) async fn add(owner: &PgPool, streams: usize) -> Result<Position> {
    let head: Position = sqlx::query_scalar("select coalesce(max(position), 0) from events")
        .fetch_one(owner)
        .await?;
    let now_us = Clock::system().now().timestamp_micros() - POSTGRES_EPOCH_US;
    Ok(copy_streams(owner, head + 1, streams, now_us).await? - 1)
}

/// Writes so many streams from position `first`, and gives the next one.
async fn copy_streams(
    owner: &PgPool,
    mut first: Position,
    streams: usize,
    now_us: i64,
) -> Result<Position> {
    let (mut events, mut heads, mut commands) = (Rows::new(), Rows::new(), Rows::new());
    let now = now_us.to_be_bytes();
    for _ in 0..streams {
        let (stream, command) = (Ids::system().next(), Ids::system().next());
        let last = first + STREAM_EVENTS - 1;
        for (version, position) in (1_i64..).zip(first..=last) {
            let event = EventId::derive(command, &(version - 1).to_string()).uuid();
            events
                .row(15)
                .field(&position.to_be_bytes())
                .field(stream.as_bytes())
                .field(&version.to_be_bytes())
                .field(event.as_bytes())
                .field(command.as_bytes())
                .field(stream.as_bytes())
                .field(command.as_bytes())
                .field(&now)
                .field(&now)
                .field(&slice(stream).to_be_bytes())
                .field(b"order")
                .field(b"order.filled.v1")
                .field(b"bench")
                .null()
                .field(PAYLOAD.as_bytes());
        }
        heads
            .row(5)
            .field(stream.as_bytes())
            .field(b"order")
            .field(&STREAM_EVENTS.to_be_bytes())
            .field(&first.to_be_bytes())
            .field(&last.to_be_bytes());
        commands
            .row(6)
            .field(command.as_bytes())
            .field(&[7; 32])
            .field(stream.as_bytes())
            .field(&STREAM_EVENTS.to_be_bytes())
            .field(&last.to_be_bytes())
            .field(&now);
        first = last + 1;
    }
    events
        .send(
            owner,
            "copy events (position, stream_id, stream_version, event_id, command_id, \
             correlation_id, causation_id, occurred_at, recorded_at, slice, category, event_type, \
             actor, traceparent, payload) from stdin (format binary)",
        )
        .await?;
    heads
        .send(
            owner,
            "copy streams (stream_id, category, version, first_position, last_position) \
             from stdin (format binary)",
        )
        .await?;
    commands
        .send(
            owner,
            "copy commands (command_id, request_hash, stream_id, version, position, recorded_at) \
             from stdin (format binary)",
        )
        .await?;
    Ok(first)
}
