//! Reads the log in pages, ahead of whoever folds it.

use std::collections::HashMap;

use schemas::{Category, CommandId, EventId, Fact, Position, Recorded, StreamId};
use sqlx::PgPool;
use sqlx::postgres::PgRow;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::RebuildError;
use crate::row::Columns;

/// How many positions one page spans. What the read model does not listen to is left out of it.
const PAGE_POSITIONS: i64 = 10_000;

/// How many pages are read ahead.
const PAGES_AHEAD: usize = 2;

/// Consecutive events, without those that do not matter.
pub(super) struct Page {
    pub(super) events: Vec<Recorded>,
    /// Everything up to this position has been seen.
    pub(super) through: Position,
}

/// A page as Postgres sent it.
type Raw = Result<(Vec<PgRow>, Position), sqlx::Error>;

/// The log between two positions.
pub(super) struct Scan {
    pages: mpsc::Receiver<Raw>,
    /// Reads ahead; stopped when the scan is dropped.
    _reader: JoinSet<()>,
    pool: PgPool,
    consumer: String,
    /// From where on the events of a stream are left out, as the live table leaves them out.
    parked: HashMap<Uuid, Position>,
}

impl Scan {
    /// Starts to read the events of `categories` after `after`, up to and including `through`.
    /// Streams that the consumer has parked end where it parked them.
    pub(super) async fn start(
        pool: &PgPool,
        consumer: &str,
        categories: &[Category],
        after: Position,
        through: Position,
    ) -> Result<Self, sqlx::Error> {
        let (sender, pages) = mpsc::channel(PAGES_AHEAD);
        let mut reader = JoinSet::new();
        let categories = categories.iter().map(|category| category.as_str()).collect();
        reader.spawn(read(pool.clone(), categories, after, through, sender));
        let parked = parked(pool, consumer).await?;
        let (pool, consumer) = (pool.clone(), consumer.to_owned());
        Ok(Self { pages, _reader: reader, pool, consumer, parked })
    }

    /// The next page; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Page>, RebuildError> {
        let Some(raw) = self.pages.recv().await else { return Ok(None) };
        let (rows, through) = raw?;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            let event = recorded(row)?;
            if self.is_parked(&event) {
                continue;
            }
            if let Fact::Unknown { why, .. } = &event.fact {
                // It may have been parked since the scan began.
                self.parked = parked(&self.pool, &self.consumer).await?;
                if !self.is_parked(&event) {
                    let (stream, position) = (event.stream, event.position);
                    return Err(RebuildError::Unreadable { stream, position, why: why.clone() });
                }
                continue;
            }
            events.push(event);
        }
        Ok(Some(Page { events, through }))
    }

    fn is_parked(&self, event: &Recorded) -> bool {
        let first = self.parked.get(&event.stream.id);
        first.is_some_and(|first| event.position >= *first)
    }
}

/// The streams that a consumer has parked, and from where on.
async fn parked(pool: &PgPool, consumer: &str) -> Result<HashMap<Uuid, Position>, sqlx::Error> {
    let rows: Vec<(Uuid, Position)> =
        sqlx::query_as("select key, first_position from parked_streams where consumer = $1")
            .bind(consumer)
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().collect())
}

/// Reads page after page until there is no more, or nobody takes them.
async fn read(
    pool: PgPool,
    categories: Vec<&'static str>,
    mut after: Position,
    through: Position,
    pages: mpsc::Sender<Raw>,
) {
    while after < through {
        let end = through.min(after + PAGE_POSITIONS);
        let rows = sqlx::query(
            "select position, stream_id, stream_version, category, event_type, event_id, command_id,
                    correlation_id, causation_id, occurred_at, recorded_at, actor, payload::text
             from events
             where position > $1 and position <= $2 and category = any($3) order by position",
        )
        .bind(after)
        .bind(end)
        .bind(&categories)
        .fetch_all(&pool)
        .await;
        let failed = rows.is_err();
        let taken = pages.send(rows.map(|rows| (rows, end))).await;
        if failed || taken.is_err() {
            return;
        }
        after = end;
    }
}

fn recorded(row: &PgRow) -> Result<Recorded, sqlx::Error> {
    let mut columns = Columns::of(row);
    let position = columns.next()?;
    let id = columns.next()?;
    let version = columns.next()?;
    let category: &str = columns.next()?;
    let category: Category =
        category.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let event_type: &str = columns.next()?;
    let event_id = EventId::new(columns.next()?);
    let command_id = CommandId::new(columns.next()?);
    let correlation_id = columns.next()?;
    let causation_id = columns.next()?;
    let occurred_at = columns.next()?;
    let recorded_at = columns.next()?;
    let actor = columns.next()?;
    let payload: &str = columns.next()?;
    Ok(Recorded {
        position,
        stream: StreamId::new(category, id),
        version,
        event_type: event_type.to_owned(),
        event_id,
        command_id,
        correlation_id,
        causation_id,
        occurred_at,
        recorded_at,
        // No read model shows it.
        traceparent: None,
        actor,
        fact: Fact::decode(category, event_type, payload),
    })
}
