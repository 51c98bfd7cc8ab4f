//! Reads the log in pages, ahead of whoever folds it.

use std::collections::HashSet;

use event_store::Slices;
use schemas::{Category, Fact, Position, Recorded};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::RebuildError;
use super::plan;
use crate::events::{COLUMNS, LeftOut, recorded};

/// How many positions one page spans where every slice is read; of half of them twice as many, so
/// that pages are about as full. What the read model does not listen to is left out of them.
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

/// The log between two positions, as far as it is in some slices.
pub(super) struct Scan {
    pages: mpsc::Receiver<Raw>,
    /// Reads ahead; stopped when the scan is dropped.
    _reader: JoinSet<()>,
    pool: PgPool,
    consumer: String,
    leaves_out: LeftOut,
    left_out: HashSet<Uuid>,
}

impl Scan {
    /// Starts to read the events of `categories` in `group` after `after`, up to and including
    /// `through`. What the consumer leaves out of its table is left out.
    pub(super) async fn start(
        pool: &PgPool,
        consumer: &str,
        categories: &[Category],
        group: Slices,
        (after, through): (Position, Position),
    ) -> Result<Self, sqlx::Error> {
        let (sender, pages) = mpsc::channel(PAGES_AHEAD);
        let mut reader = JoinSet::new();
        let categories = categories.iter().map(|category| category.as_str()).collect();
        reader.spawn(read(pool.clone(), categories, group, (after, through), sender));
        Ok(Self {
            pages,
            _reader: reader,
            leaves_out: LeftOut::of(&mut *pool.acquire().await?, consumer).await?,
            pool: pool.clone(),
            consumer: consumer.to_owned(),
            left_out: HashSet::new(),
        })
    }

    /// The next page; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Page>, RebuildError> {
        let Some(raw) = self.pages.recv().await else { return Ok(None) };
        let (rows, through) = raw?;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            let event = recorded(row)?;
            if let Fact::Unknown { why, .. } = &event.fact
                && !self.leaves_out.holds(&event)
            {
                // It may have been parked since the scan began.
                let mut connection = self.pool.acquire().await?;
                self.leaves_out = LeftOut::of(&mut connection, &self.consumer).await?;
                if !self.leaves_out.holds(&event) {
                    let (stream, position) = (event.stream, event.position);
                    return Err(RebuildError::Unreadable { stream, position, why: why.clone() });
                }
            }
            if !self.leaves_out.holds(&event) {
                events.push(event);
            } else if self.leaves_out.parks(event.stream.id) {
                self.left_out.insert(event.stream.id);
            }
        }
        Ok(Some(Page { events, through }))
    }

    /// The streams of which something was left out because they are parked.
    pub(super) fn left_out(&self) -> Vec<Uuid> {
        self.left_out.iter().copied().collect()
    }
}

/// Reads page after page until there is no more, or nobody takes them.
async fn read(
    pool: PgPool,
    categories: Vec<&'static str>,
    group: Slices,
    (mut after, through): (Position, Position),
    pages: mpsc::Sender<Raw>,
) {
    let query = format!(
        "select {COLUMNS} from events where position > $1 and position <= $2 \
         and category = any($3) and slice >= $4 and slice < $5 order by position"
    );
    let positions = PAGE_POSITIONS * plan::count(Slices::ALL) / plan::count(group);
    while after < through {
        let end = through.min(after + positions);
        let rows = sqlx::query(AssertSqlSafe(query.as_str()))
            .bind(after)
            .bind(end)
            .bind(&categories)
            .bind(group.from())
            .bind(group.before())
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
