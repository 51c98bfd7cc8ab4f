//! Seals: a hash chain over segments of the log.

use futures_util::TryStreamExt as _;
use schemas::{Position, Timestamp};
use sqlx::{FromRow, PgConnection, PgPool};

use super::canon::{self, COPY_HEADER, COPY_TRAILER, Hash, NO_SEAL};
use crate::Error;

/// How many positions a segment has. Fixed for ever: it decides what a seal is over.
pub const SEGMENT_POSITIONS: i64 = 4096;

/// The lock that whoever seals holds: one at a time.
const SEALING_LOCK: i64 = 24_560_174_593_821_774;

/// A sealed segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Counted from 1.
    pub number: i64,
    /// The first position in it.
    pub first: Position,
    /// The last one.
    pub last: Position,
    /// The name of the log, which is part of what is sealed.
    pub log: String,
    /// SHA-256 over the seal before it and every event in it; 32 bytes, unless somebody cut it.
    pub seal: Vec<u8>,
    /// When it was made. Not sealed itself.
    pub sealed_at: Timestamp,
}

impl Seal {
    /// What `waybill log verify --expect` takes: number and seal.
    #[must_use]
    pub fn expectation(&self) -> String {
        format!("{}:{}", self.number, hex::encode(&self.seal))
    }
}

#[derive(FromRow)]
struct Row {
    number: i64,
    first_position: Position,
    last_position: Position,
    log: String,
    seal: Vec<u8>,
    sealed_at: Timestamp,
}

impl From<Row> for Seal {
    fn from(row: Row) -> Self {
        Self {
            number: row.number,
            first: row.first_position,
            last: row.last_position,
            log: row.log,
            seal: row.seal,
            sealed_at: row.sealed_at,
        }
    }
}

/// What came of trying to seal the next segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealing {
    /// It is sealed.
    Sealed(Seal),
    /// It is not full yet, or somebody else is at it.
    Waiting,
    /// It cannot be sealed: what is wrong with the log.
    Broken(String),
}

/// Every seal, in order.
///
/// # Errors
/// [`Error::Database`].
pub async fn seals(pool: &PgPool) -> Result<Vec<Seal>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "select number, first_position, last_position, log, seal, sealed_at from segments \
         order by number",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(Seal::from).collect())
}

/// Seals the next segment of the log that is called `log`, if it is full.
///
/// # Errors
/// [`Error::Database`].
pub async fn seal_next(pool: &PgPool, log: &str) -> Result<Sealing, Error> {
    let mut tx = crate::begin(pool).await?;
    let ours: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock($1)")
        .bind(SEALING_LOCK)
        .fetch_one(&mut *tx)
        .await?;
    if !ours {
        return Ok(Sealing::Waiting);
    }
    let before: Option<Row> = sqlx::query_as(
        "select number, first_position, last_position, log, seal, sealed_at from segments \
         order by number desc limit 1",
    )
    .fetch_optional(&mut *tx)
    .await?;
    let (number, first, previous) = match before {
        None => (1, 1, NO_SEAL),
        Some(before) if before.log != log => {
            return Ok(Sealing::Broken(format!(
                "the log was sealed under the name `{}` and is now called `{log}`; give every \
                 process the same --log-name",
                before.log
            )));
        }
        Some(before) => match <[u8; 32]>::try_from(before.seal) {
            Ok(seal) => (before.number + 1, before.last_position + 1, seal),
            Err(_) => return Ok(Sealing::Broken("the last seal has been cut".to_owned())),
        },
    };
    let last = first + SEGMENT_POSITIONS - 1;
    let full: bool = sqlx::query_scalar("select exists (select from events where position >= $1)")
        .bind(last)
        .fetch_one(&mut *tx)
        .await?;
    if !full {
        return Ok(Sealing::Waiting);
    }
    let mut hash = Hash::new(log, number, &previous, first, last);
    let events = hash_events(&mut tx, first, last, &mut hash).await?;
    if events != SEGMENT_POSITIONS {
        return Ok(Sealing::Broken(format!(
            "there are {events} events from position {first} to {last}; run `waybill log verify`"
        )));
    }
    let sealed: Row = sqlx::query_as(
        "insert into segments (number, first_position, last_position, log, seal) \
         values ($1, $2, $3, $4, $5) \
         returning number, first_position, last_position, log, seal, sealed_at",
    )
    .bind(number)
    .bind(first)
    .bind(last)
    .bind(log)
    .bind(hash.seal())
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Sealing::Sealed(sealed.into()))
}

/// Adds the events of a range to `hash`, and counts them.
async fn hash_events(
    connection: &mut PgConnection,
    first: Position,
    last: Position,
    hash: &mut Hash,
) -> Result<i64, sqlx::Error> {
    let mut copy = connection.copy_out_raw(&canon::copy_events(first, last)).await?;
    let mut events = 0;
    // Postgres sends the header with the first event, every event whole, and the trailer last.
    while let Some(message) = copy.try_next().await? {
        let event = message.strip_prefix(COPY_HEADER).unwrap_or(&message);
        if event != COPY_TRAILER && !event.is_empty() {
            hash.update(event);
            events += 1;
        }
    }
    Ok(events)
}
