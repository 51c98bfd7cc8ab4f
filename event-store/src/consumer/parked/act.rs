//! What people do about parked streams: try them again, or leave events out. Every act is recorded.

use schemas::Timestamp;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::Fingerprint;
use crate::Error;

/// Streams a second that may be tried again.
pub const RATE_MAX: u16 = 1_000;

/// Characters of a name or reason that are kept.
const TEXT_CHARS_MAX: usize = 1_000;

/// Which parked streams are meant: those of one cause, and of these perhaps only one consumer's or
/// one key's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The cause.
    pub fingerprint: Fingerprint,
    /// Only this consumer's.
    pub consumer: Option<String>,
    /// Only this stream, or whatever the reactor keeps in order.
    pub key: Option<Uuid>,
}

/// What to do about parked streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The workers try them again, so many of them a second, oldest first. What is poison still
    /// stays parked, from that event on.
    Retry {
        /// Streams a second, from 1 to [`RATE_MAX`].
        rate: u16,
    },
    /// Every event that waits in them is left out, for good: the consumer goes on with what comes
    /// after them, and a rebuild leaves them out as well.
    Drop,
}

/// Who does something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// A person's name, or a program's.
    pub actor: String,
    /// For those who ask later.
    pub reason: String,
}

/// How much an act is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Extent {
    /// Parked streams.
    pub streams: i64,
    /// Events that wait in them.
    pub events: i64,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Act {
    /// Its number; later ones are larger.
    pub act: i64,
    /// When.
    pub acted_at: Timestamp,
    /// Who did it.
    pub actor: String,
    /// `retry` or `drop`.
    pub action: String,
    /// About which cause.
    pub fingerprint: Option<Fingerprint>,
    /// Only about this consumer.
    pub consumer: Option<String>,
    /// Only about this key.
    pub key: Option<Uuid>,
    /// Why.
    pub reason: String,
    /// About how many streams.
    pub streams: i64,
    /// About how many events.
    pub events: i64,
}

/// Does what was asked, all of it or nothing, and says how much it is about. Where it is a dry run
/// it only says that.
///
/// # Errors
/// [`Error::Config`] where the rate is out of its range, or who or why is not told;
/// [`Error::Database`].
pub async fn act(
    pool: &PgPool,
    selection: &Selection,
    action: Action,
    by: &By,
    dry_run: bool,
) -> Result<Extent, Error> {
    by.check()?;
    match action {
        Action::Retry { rate } if !(1..=RATE_MAX).contains(&rate) => {
            Err(Error::Config(format!("{rate} streams a second: from 1 to {RATE_MAX} may be")))
        }
        _ if dry_run => measure(&mut *pool.acquire().await?, selection).await,
        Action::Retry { rate } => retry(pool, selection, rate, by).await,
        Action::Drop => drop(pool, selection, by).await,
    }
}

async fn retry(pool: &PgPool, selection: &Selection, rate: u16, by: &By) -> Result<Extent, Error> {
    let mut tx = crate::begin(pool).await?;
    let extent = measure(&mut tx, selection).await?;
    sqlx::query(
        "with chosen as (
             select consumer, key, row_number() over (order by parked_at, consumer, key) - 1 as number
             from parked_streams
             where fingerprint = $1 and ($2::text is null or consumer = $2)
               and ($3::uuid is null or key = $3))
         update parked_streams p
         set retry_at = clock_timestamp() + make_interval(secs => number::float8 / $4)
         from chosen c where p.consumer = c.consumer and p.key = c.key",
    )
    .bind(&selection.fingerprint)
    .bind(&selection.consumer)
    .bind(selection.key)
    .bind(f64::from(rate))
    .execute(&mut *tx)
    .await?;
    record(&mut tx, "retry", selection, by, extent).await?;
    tx.commit().await?;
    Ok(extent)
}

async fn drop(pool: &PgPool, selection: &Selection, by: &By) -> Result<Extent, Error> {
    let mut tx = crate::begin(pool).await?;
    // Locked first, so that no worker lets one more wait meanwhile.
    sqlx::query(
        "select 1 from parked_streams
         where fingerprint = $1 and ($2::text is null or consumer = $2)
           and ($3::uuid is null or key = $3)
         order by consumer, key for update",
    )
    .bind(&selection.fingerprint)
    .bind(&selection.consumer)
    .bind(selection.key)
    .execute(&mut *tx)
    .await?;
    let extent = measure(&mut tx, selection).await?;
    sqlx::query(
        "with gone as (
             delete from parked_streams
             where fingerprint = $1 and ($2::text is null or consumer = $2)
               and ($3::uuid is null or key = $3)
             returning consumer, key)
         insert into dropped_events (consumer, position)
         select consumer, position from parked_events join gone using (consumer, key)
         on conflict do nothing",
    )
    .bind(&selection.fingerprint)
    .bind(&selection.consumer)
    .bind(selection.key)
    .execute(&mut *tx)
    .await?;
    record(&mut tx, "drop", selection, by, extent).await?;
    tx.commit().await?;
    Ok(extent)
}

/// What was done, the latest first: at most `limit` acts before the one with the number `before`.
///
/// # Errors
/// [`Error::Database`].
pub async fn acts(pool: &PgPool, before: Option<i64>, limit: i64) -> Result<Vec<Act>, Error> {
    let rows = sqlx::query_as(
        "select act, acted_at, actor, action, fingerprint, consumer, key, reason, streams, events
         from parked_acts where act < $1 order by act desc limit $2",
    );
    Ok(rows.bind(before.unwrap_or(i64::MAX)).bind(limit).fetch_all(pool).await?)
}

impl By {
    fn check(&self) -> Result<(), Error> {
        for (what, text) in [("the actor", &self.actor), ("the reason", &self.reason)] {
            let length = text.trim().chars().count();
            if !(1..=TEXT_CHARS_MAX).contains(&length) || text.contains('\0') {
                return Err(Error::Config(format!(
                    "{what} has {length} characters: from 1 to {TEXT_CHARS_MAX} may be, and no NUL"
                )));
            }
        }
        Ok(())
    }
}

async fn measure(
    connection: &mut PgConnection,
    Selection { fingerprint, consumer, key }: &Selection,
) -> Result<Extent, Error> {
    let extent = sqlx::query_as(
        "select count(*) as streams, coalesce(sum(waiting), 0)::bigint as events
         from parked_streams p, lateral (
             select count(*) as waiting from parked_events e
             where e.consumer = p.consumer and e.key = p.key) as held
         where fingerprint = $1 and ($2::text is null or consumer = $2)
           and ($3::uuid is null or key = $3)",
    );
    Ok(extent.bind(fingerprint).bind(consumer).bind(key).fetch_one(connection).await?)
}

async fn record(
    connection: &mut PgConnection,
    action: &str,
    selection: &Selection,
    by: &By,
    extent: Extent,
) -> Result<(), Error> {
    if extent.streams == 0 {
        return Ok(()); // Nothing was done.
    }
    sqlx::query(
        "insert into parked_acts
             (actor, action, consumer, fingerprint, key, reason, streams, events)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&by.actor)
    .bind(action)
    .bind(&selection.consumer)
    .bind(&selection.fingerprint)
    .bind(selection.key)
    .bind(&by.reason)
    .bind(extent.streams)
    .bind(extent.events)
    .execute(connection)
    .await?;
    Ok(())
}
