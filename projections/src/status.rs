//! How far behind the log each read model is.

use event_store::{Health, History, Progress};
use schemas::{Position, Timestamp};
use sqlx::PgPool;

use crate::{checkpoint, registry};

/// How one read model stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Status {
    /// Its name.
    pub name: &'static str,
    /// The version that its table holds.
    pub version: i32,
    /// The worst that can be said of a worker: `current`, `behind` or `stuck`.
    pub health: &'static str,
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
    /// The parts that it is folded in, by slice.
    pub workers: Vec<Worker>,
}

/// How one part of a read model stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Worker {
    /// Which slices, as `0-511`.
    pub slices: String,
    /// `current`, `behind` (it moves) or `stuck` (it does not, or nobody does the work).
    pub health: &'static str,
    /// Who folds it, or did last.
    pub owner: Option<String>,
    /// Whether that one has given a sign of life of late.
    pub alive: bool,
    /// Everything up to this position is in the table or parked.
    pub position: Position,
    /// How many events are to come.
    pub lag_events: i64,
    /// How long the oldest of them has waited, in seconds.
    pub lag_seconds: i64,
}

impl From<&Progress> for Worker {
    fn from(progress: &Progress) -> Self {
        Self {
            slices: progress.slices().to_string(),
            health: progress.health().as_str(),
            owner: progress.owner.clone(),
            alive: progress.held,
            position: progress.position,
            lag_events: progress.lag_events(),
            lag_seconds: progress.lag_seconds,
        }
    }
}

/// How every read model stands, by the log and not by the workers' own word.
///
/// # Errors
/// [`event_store::Error::Database`].
pub async fn list(pool: &PgPool) -> Result<Vec<Status>, event_store::Error> {
    let names = registry::names();
    let consumers: Vec<_> = names.iter().map(|name| checkpoint(name)).collect();
    let tables: Vec<(i32, Option<Timestamp>, i64)> = sqlx::query_as(
        "select coalesce(v.version, 0), v.rebuilt_at,
                (select count(*) from parked_streams p where p.consumer = n.consumer)
         from unnest($1::text[], $2::text[]) with ordinality as n (name, consumer, ordinal)
         left join read_models.versions v on v.name = n.name
         order by n.ordinal",
    )
    .bind(&names)
    .bind(&consumers)
    .fetch_all(pool)
    .await?;
    let progress = event_store::positions(pool).await?;
    let head = History::new(pool.clone()).head().await?;
    let status = |((name, consumer), (version, rebuilt_at, parked))| {
        let parts: Vec<_> = progress.iter().filter(|part| part.consumer == consumer).collect();
        let position = parts.iter().map(|part| part.position).min().unwrap_or(0);
        Status {
            name,
            version,
            // Nobody has ever folded it, though there is something to fold.
            health: parts
                .iter()
                .map(|part| part.health())
                .max()
                .unwrap_or(match head {
                    0 => Health::Current,
                    _ => Health::Stuck,
                })
                .as_str(),
            position,
            head,
            lag_events: (head - position).max(0),
            lag_seconds: parts.iter().map(|part| part.lag_seconds).max().unwrap_or(0),
            parked,
            rebuilt_at,
            workers: parts.into_iter().map(Worker::from).collect(),
        }
    };
    Ok(names.into_iter().zip(consumers.clone()).zip(tables).map(status).collect())
}
