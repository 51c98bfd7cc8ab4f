//! How far behind the log each read model is.

use schemas::{Position, Timestamp};
use sqlx::{PgPool, Row as _};

use crate::{checkpoint, registry};

/// How one read model stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// Its name.
    pub name: &'static str,
    /// The version that its table holds.
    pub version: i32,
    /// Everything up to this position is in its table or parked.
    pub position: Position,
    /// The end of the log.
    pub head: Position,
    /// How many events are to come.
    pub lag_events: i64,
    /// How long the oldest of them has waited, in seconds; 0 where none does.
    pub lag_seconds: i64,
    /// How many streams are parked.
    pub parked: i64,
    /// When its table was last rebuilt.
    pub rebuilt_at: Option<Timestamp>,
}

/// How every read model stands, by the log and not by the workers' own word.
///
/// # Errors
/// Where the database is away.
pub async fn list(pool: &PgPool) -> Result<Vec<Status>, sqlx::Error> {
    let names = registry::names();
    let consumers: Vec<_> = names.iter().map(|name| checkpoint(name)).collect();
    let rows = sqlx::query(
        "select coalesce(v.version, 0) as version, coalesce(c.position, 0) as position, head.position as head,
                coalesce(extract(epoch from clock_timestamp() - (
                    select l.recorded_at from read_models.log l
                    where l.position = coalesce(c.position, 0) + 1
                )), 0)::bigint as lag_seconds,
                v.rebuilt_at,
                (select count(*) from parked_streams p where p.consumer = n.consumer) as parked
         from unnest($1::text[], $2::text[]) with ordinality as n (name, consumer, ordinal)
         cross join (select coalesce(max(position), 0) as position from read_models.log) as head
         left join read_models.versions v on v.name = n.name
         left join checkpoints c on c.consumer = n.consumer
         order by n.ordinal",
    )
    .bind(&names)
    .bind(&consumers)
    .fetch_all(pool)
    .await?;
    let status = |(name, row): (&'static str, &sqlx::postgres::PgRow)| {
        let (position, head): (i64, i64) = (row.try_get("position")?, row.try_get("head")?);
        Ok(Status {
            name,
            version: row.try_get("version")?,
            position,
            head,
            lag_events: (head - position).max(0),
            // By the database's clock, which also stamps the events.
            lag_seconds: row.try_get::<i64, _>("lag_seconds")?.max(0),
            parked: row.try_get("parked")?,
            rebuilt_at: row.try_get("rebuilt_at")?,
        })
    };
    names.into_iter().zip(&rows).map(status).collect()
}
