//! How far every consumer has come, as the database knows it.

use schemas::{Position, Timestamp};
use sqlx::PgPool;

use crate::slice::Slices;

/// Where one worker's part of a consumer stands.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Progress {
    /// The consumer's name.
    pub consumer: String,
    /// The first slice of the part.
    pub from_slice: i16,
    /// The first slice beyond it.
    pub before_slice: i16,
    /// Everything up to this position is done or parked.
    pub position: Position,
    /// How often the lease has changed hands.
    pub epoch: i64,
    /// Who holds the lease, or held it last.
    pub owner: Option<String>,
    /// Whether somebody holds it, by the database's clock.
    pub held: bool,
    /// When the position last moved.
    pub updated_at: Timestamp,
    /// How long ago that is, in seconds.
    pub still_seconds: i64,
    /// How long the oldest event that it has yet to take has waited, in seconds; 0 where none does.
    pub lag_seconds: i64,
    /// The end of the log.
    pub head: Position,
}

/// How a worker is getting on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It has taken everything.
    Current,
    /// It has events to take, and moves.
    Behind,
    /// It has events to take and does not move, or nobody does its work.
    Stuck,
}

/// How long a worker that has events to take may stand still, in seconds.
const STILL_S_MAX: i64 = 10;

impl Health {
    /// As it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Behind => "behind",
            Self::Stuck => "stuck",
        }
    }
}

impl Progress {
    /// Its part of the slices.
    #[must_use]
    pub const fn slices(&self) -> Slices {
        Slices::new(self.from_slice, self.before_slice)
    }

    /// How many events it has yet to take, those of others included.
    #[must_use]
    pub const fn lag_events(&self) -> i64 {
        let lag = self.head - self.position;
        if lag > 0 { lag } else { 0 }
    }

    /// Stuck or only behind: told by the log and the clock of the database, not by the worker.
    #[must_use]
    pub const fn health(&self) -> Health {
        let waiting = self.lag_seconds > STILL_S_MAX && self.still_seconds > STILL_S_MAX;
        if self.lag_events() == 0 {
            Health::Current
        } else if waiting {
            Health::Stuck
        } else {
            Health::Behind
        }
    }
}

/// Where every part of every consumer stands, by name and slice.
///
/// # Errors
/// If the database is away.
pub async fn positions(pool: &PgPool) -> Result<Vec<Progress>, crate::Error> {
    let rows = sqlx::query_as(
        "select c.consumer, c.from_slice, c.before_slice, c.position, c.epoch, c.owner,
                coalesce(c.leased_until > clock_timestamp(), false) as held, c.updated_at,
                greatest(extract(epoch from clock_timestamp() - c.updated_at), 0)::bigint
                    as still_seconds,
                greatest(coalesce(extract(epoch from clock_timestamp() - (
                    select e.recorded_at from events e where e.position = c.position + 1
                )), 0), 0)::bigint as lag_seconds,
                head.position as head
         from checkpoints c
         cross join (select coalesce(max(position), 0) as position from events) as head
         order by c.consumer, c.from_slice",
    );
    Ok(rows.fetch_all(pool).await?)
}
