//! What consumers could not take: whose, since when, why, and how much waits behind it.

use std::collections::HashSet;
use std::sync::Arc;

use schemas::{Position, Recorded, StreamId, Timestamp};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::Store;
use crate::slice::Slices;

mod act;
mod fingerprint;

pub use act::{Act, Action, By, Extent, RATE_MAX, Selection, act, acts};
pub use fingerprint::{Fingerprint, NoFingerprint};

/// Groups that one call lists.
pub const LIST_MAX: i64 = 1_000;

/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 2_000;

/// One parked stream of one consumer.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Parked {
    /// Whose progress it would have been.
    pub consumer: String,
    /// What waits in order: the stream for projections, the reactor's key for reactors.
    pub key: Uuid,
    /// The stream of the event that could not be taken.
    pub stream_id: Uuid,
    /// Its context.
    pub category: String,
    /// The event that could not be taken.
    pub first_position: Position,
    /// Why not.
    pub reason: String,
    /// The same for what probably has the same cause.
    pub fingerprint: Fingerprint,
    /// Since when.
    pub parked_at: Timestamp,
    /// Events that wait, the first one included.
    pub waiting: i64,
    /// How often it was tried again in vain.
    pub tries: i32,
    /// When it is to be tried again; none where nobody asked for that.
    pub retry_at: Option<Timestamp>,
}

/// Streams that one consumer parked and that probably have one cause.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Group {
    /// Whose progress it would have been.
    pub consumer: String,
    /// What they have in common.
    pub fingerprint: Fingerprint,
    /// How many there are.
    pub streams: i64,
    /// Events that wait in all of them.
    pub waiting: i64,
    /// Since when the first is parked.
    pub since: Timestamp,
    /// Why not, in the words of the first.
    pub reason: String,
}

/// What is parked, by consumer and cause, the most streams first; at most 1,000 groups.
///
/// # Errors
/// If the database is away.
pub async fn groups(pool: &PgPool) -> Result<Vec<Group>, crate::Error> {
    let rows = sqlx::query_as(
        "select consumer, fingerprint, count(*) as streams, sum(waiting)::bigint as waiting,
                min(parked_at) as since, (array_agg(reason order by parked_at, key))[1] as reason
         from parked_streams p, lateral (
             select count(*) as waiting from parked_events e
             where e.consumer = p.consumer and e.key = p.key) as held
         group by consumer, fingerprint order by streams desc, consumer, fingerprint limit $1",
    );
    Ok(rows.bind(LIST_MAX).fetch_all(pool).await?)
}

/// A place in [`list`]: since when, whose, which key.
pub type Place = (Timestamp, String, Uuid);

/// What is parked, oldest first: at most `limit` streams after the place `after`. Only those with
/// this fingerprint, if one is given.
///
/// # Errors
/// If the database is away.
pub async fn list(
    pool: &PgPool,
    fingerprint: Option<&Fingerprint>,
    after: Option<&Place>,
    limit: i64,
) -> Result<Vec<Parked>, crate::Error> {
    let (since, consumer, key) = match after {
        Some((since, consumer, key)) => (Some(since), Some(consumer), Some(key)),
        None => (None, None, None),
    };
    let rows = sqlx::query_as(
        "select consumer, key, stream_id, category, first_position, reason, fingerprint, parked_at,
                tries, retry_at,
                (select count(*) from parked_events
                 where parked_events.consumer = parked_streams.consumer
                   and parked_events.key = parked_streams.key) as waiting
         from parked_streams
         where ($1::text is null or fingerprint = $1)
           and ($2::timestamptz is null or (parked_at, consumer, key) > ($2, $3, $4))
         order by parked_at, consumer, key limit $5",
    );
    let rows = rows.bind(fingerprint).bind(since).bind(consumer).bind(key).bind(limit);
    Ok(rows.fetch_all(pool).await?)
}

/// How many streams each consumer has parked; those with none are left out.
///
/// # Errors
/// If the database is away.
pub async fn counts(pool: &PgPool) -> Result<Vec<(String, i64)>, crate::Error> {
    let rows = sqlx::query_as(
        "select consumer, count(*) from parked_streams group by consumer order by consumer",
    );
    Ok(rows.fetch_all(pool).await?)
}

/// The keys that `consumer` has parked.
pub(super) async fn keys(pool: &PgPool, consumer: &str) -> Result<HashSet<Uuid>, sqlx::Error> {
    let rows = sqlx::query_scalar("select key from parked_streams where consumer = $1");
    Ok(rows.bind(consumer).fetch_all(pool).await?.into_iter().collect())
}

/// Which of `keys` are still parked. They stay so until the transaction ends.
pub(super) async fn still_parked(
    connection: &mut PgConnection,
    consumer: &str,
    keys: &[Uuid],
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let rows = sqlx::query_scalar(
        "select key from parked_streams where consumer = $1 and key = any($2) for share",
    );
    Ok(rows.bind(consumer).bind(keys).fetch_all(connection).await?.into_iter().collect())
}

/// The keys in `slices` that are to be tried again now, in the order in which that was asked for.
pub(super) async fn due(
    pool: &PgPool,
    consumer: &str,
    slices: Slices,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let rows = sqlx::query_scalar(
        "select key from parked_streams where consumer = $1 and retry_at <= clock_timestamp()
         order by retry_at, key limit $2",
    );
    let mut keys: Vec<Uuid> = rows.bind(consumer).bind(LIST_MAX).fetch_all(pool).await?;
    keys.retain(|key| slices.holds(*key));
    Ok(keys)
}

/// The first events that wait behind `key`, which nobody releases or drops until the transaction
/// ends.
pub(super) async fn waiting(
    connection: &mut PgConnection,
    store: &Store,
    consumer: &str,
    key: Uuid,
    limit: usize,
) -> Result<Vec<Arc<Recorded>>, crate::Error> {
    sqlx::query("select 1 from parked_streams where consumer = $1 and key = $2 for update")
        .bind(consumer)
        .bind(key)
        .execute(&mut *connection)
        .await?;
    let positions: Vec<Position> = sqlx::query_scalar(
        "select position from parked_events where consumer = $1 and key = $2
         order by position limit $3",
    )
    .bind(consumer)
    .bind(key)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    store.history().read_these(&positions).await
}

/// Notes that what waited behind `key` is done up to `position`.
pub(super) async fn caught_up(
    connection: &mut PgConnection,
    consumer: &str,
    key: Uuid,
    position: Position,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with done as (delete from parked_events where consumer = $1 and key = $2 and position <= $3)
         update parked_streams set first_position = coalesce((
             select min(position) from parked_events
             where consumer = $1 and key = $2 and position > $3), first_position)
         where consumer = $1 and key = $2",
    )
    .bind(consumer)
    .bind(key)
    .bind(position)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes `key` up again. Nothing may wait behind it.
pub(super) async fn release(
    connection: &mut PgConnection,
    consumer: &str,
    key: Uuid,
) -> Result<(), sqlx::Error> {
    let released = sqlx::query("delete from parked_streams where consumer = $1 and key = $2");
    released.bind(consumer).bind(key).execute(connection).await?;
    Ok(())
}

/// Leaves `key` parked, for another reason perhaps.
pub(super) async fn failed_again(
    connection: &mut PgConnection,
    store: &Store,
    consumer: &str,
    key: Uuid,
    reason: &str,
) -> Result<(), crate::Error> {
    let first = waiting(connection, store, consumer, key, 1).await?;
    let Some(event) = first.first() else { return Ok(()) }; // Dropped meanwhile.
    sqlx::query(
        "update parked_streams
         set retry_at = null, tries = tries + 1, reason = $3, fingerprint = $4
         where consumer = $1 and key = $2",
    )
    .bind(consumer)
    .bind(key)
    .bind(shortened(reason))
    .bind(Fingerprint::of(&event.event_type, reason))
    .execute(connection)
    .await?;
    Ok(())
}

/// Parks `key` for `consumer`, from `event` on.
pub(super) async fn park(
    connection: &mut PgConnection,
    consumer: &str,
    key: Uuid,
    event: &Recorded,
    reason: &str,
) -> Result<(), sqlx::Error> {
    let StreamId { category, id } = event.stream;
    sqlx::query(
        "insert into parked_streams
             (consumer, key, stream_id, category, first_position, reason, fingerprint)
         values ($1, $2, $3, $4, $5, $6, $7) on conflict (consumer, key) do nothing",
    )
    .bind(consumer)
    .bind(key)
    .bind(id)
    .bind(category.as_str())
    .bind(event.position)
    .bind(shortened(reason))
    .bind(Fingerprint::of(&event.event_type, reason))
    .execute(&mut *connection)
    .await?;
    hold(connection, consumer, &[(key, event.position)]).await
}

/// Lets events wait behind what is parked.
pub(super) async fn hold(
    connection: &mut PgConnection,
    consumer: &str,
    events: &[(Uuid, Position)],
) -> Result<(), sqlx::Error> {
    let (keys, positions): (Vec<Uuid>, Vec<Position>) = events.iter().copied().unzip();
    sqlx::query(
        "insert into parked_events (consumer, key, position)
         select $1, key, position from unnest($2::uuid[], $3::bigint[]) as held (key, position)
         on conflict do nothing",
    )
    .bind(consumer)
    .bind(keys)
    .bind(positions)
    .execute(connection)
    .await?;
    Ok(())
}

/// Cuts at a character's edge, and leaves out what Postgres cannot store.
fn shortened(reason: &str) -> String {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let long = "ü\0".repeat(REASON_BYTES_MAX);
        let kept = shortened(&long);
        assert!(kept.len() <= REASON_BYTES_MAX && kept.chars().all(|char| char == 'ü'));
    }
}
