//! The partitions of the log.

use schemas::{Position, Timestamp};
use sqlx::{AssertSqlSafe, Connection as _, FromRow, PgConnection, PgPool};

use crate::Error;

/// What the note of a frozen leaf starts with.
const FROZEN: &str = "frozen at ";

/// Which table a leaf is a part of, and which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Of `events`, by position; the last one is in it.
    Events {
        /// The first position that it may hold.
        first: Position,
        /// The last one.
        last: Position,
    },
    /// Of `commands`, the ledger, by the time of the answer.
    Commands {
        /// When it starts.
        from: Timestamp,
        /// When it has ended.
        before: Timestamp,
    },
}

/// A partition as it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The name of its table.
    pub name: String,
    /// Which part of what.
    pub part: Part,
    /// How many rows the last `analyze` saw; none where there has been none.
    pub rows: Option<u64>,
    /// Table and indexes, in bytes.
    pub bytes: u64,
    /// Since when it has been frozen, where it has been.
    pub frozen: Option<String>,
    /// Whether every position it may hold is in a sealed segment.
    pub sealed: bool,
}

/// How many whole leaves lie beyond what is written to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Of `events`.
    pub events: usize,
    /// Of `commands`.
    pub commands: usize,
}

#[derive(FromRow)]
struct Row {
    leaf: String,
    from_position: Option<Position>,
    before_position: Option<Position>,
    from_time: Option<Timestamp>,
    before_time: Option<Timestamp>,
    live_rows: i64,
    bytes: i64,
    note: Option<String>,
    sealed_to: Position,
}

impl Row {
    fn leaf(self) -> Option<Leaf> {
        let part = match self {
            Self { from_position: Some(first), before_position: Some(before), .. } => {
                // Positions are counted from 1.
                Part::Events { first: first.max(1), last: before - 1 }
            }
            Self { from_time: Some(from), before_time: Some(before), .. } => {
                Part::Commands { from, before }
            }
            _ => return None,
        };
        let frozen = self.note.and_then(|note| Some(note.strip_prefix(FROZEN)?.to_owned()));
        Some(Leaf {
            name: self.leaf,
            rows: u64::try_from(self.live_rows).ok(),
            bytes: self.bytes.unsigned_abs(),
            frozen,
            sealed: matches!(part, Part::Events { last, .. } if last <= self.sealed_to),
            part,
        })
    }
}

const LEAVES: &str = "select leaf, from_position, before_position, from_time, before_time, \
         live_rows, bytes, note, \
         coalesce((select max(last_position) from segments), 0) as sealed_to \
     from log_leaves order by parent desc, from_position, from_time";

/// Every partition: of `events` by position, then of the ledger by time.
///
/// # Errors
/// [`Error::Database`].
pub async fn leaves(pool: &PgPool) -> Result<Vec<Leaf>, Error> {
    let rows: Vec<Row> = sqlx::query_as(LEAVES).fetch_all(pool).await?;
    Ok(rows.into_iter().filter_map(Row::leaf).collect())
}

/// How many leaves are ready for what comes.
///
/// # Errors
/// [`Error::Database`].
pub async fn ahead(pool: &PgPool) -> Result<Ahead, Error> {
    let (events, commands): (i64, i64) = sqlx::query_as(
        "select \
             count(*) filter (where from_position > \
                 coalesce((select position from events order by position desc limit 1), 0)), \
             count(*) filter (where from_time > now()) \
         from log_leaves",
    )
    .fetch_one(pool)
    .await?;
    let count = |count: i64| usize::try_from(count).unwrap_or(0);
    Ok(Ahead { events: count(events), commands: count(commands) })
}

/// Freezes every leaf of `events` that is sealed from end to end and has not been frozen: nothing
/// in it changes any more, so Postgres never needs to look at it again. Names the leaves.
///
/// # Errors
/// [`Error::Config`] where the user does not own the log, or [`Error::Database`].
pub async fn maintain(owner_url: &str) -> Result<Vec<String>, Error> {
    let mut owner = PgConnection::connect(owner_url).await?;
    let owns: bool = sqlx::query_scalar(
        "select pg_has_role(relowner, 'member') from pg_class where oid = 'events'::regclass",
    )
    .fetch_one(&mut owner)
    .await?;
    if !owns {
        // Postgres would only warn, and skip the table.
        return Err(Error::Config(
            "only the owner of the log may freeze its leaves: give the URL that `waybill migrate` \
             is given"
                .to_owned(),
        ));
    }
    let rows: Vec<Row> = sqlx::query_as(LEAVES).fetch_all(&mut owner).await?;
    let mut frozen = Vec::new();
    for leaf in rows.into_iter().filter_map(Row::leaf) {
        if !leaf.sealed || leaf.frozen.is_some() {
            continue;
        }
        let name = &leaf.name;
        sqlx::raw_sql(AssertSqlSafe(format!("vacuum (freeze, analyze) {name}")))
            .execute(&mut owner)
            .await?;
        sqlx::raw_sql(AssertSqlSafe(format!(
            "do $$ begin execute format('comment on table {name} is %L', \
             '{FROZEN}' || to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')); \
             end $$"
        )))
        .execute(&mut owner)
        .await?;
        frozen.push(leaf.name);
    }
    owner.close().await?;
    Ok(frozen)
}
