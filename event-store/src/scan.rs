//! Reading much of the log: whole pages copied out in Postgres's binary form, side by side.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use schemas::{Category, CommandId, EventId, Fact, Position, Recorded, StreamId};
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::task::JoinSet;

use crate::log::{EventRow, Malformed, Rows, copy_events, from_micros};
use crate::{Error, History};

/// How many events a page has.
const PAGE: usize = 4000;

/// How many pages are on their way at once.
const PAGES_AHEAD: usize = 3;

impl History {
    /// Every event after `after` up to `until`, in order, a page at a time: the fastest way to read
    /// much. Pages are fetched and decoded in tasks of their own, a few ahead of whoever takes them;
    /// each item may be [`Error::Database`].
    pub fn scan(
        &self,
        after: Position,
        until: Position,
    ) -> impl Stream<Item = Result<Vec<Arc<Recorded>>, Error>> + use<> {
        let pool = self.pool().clone();
        let pages = (after..until).step_by(PAGE).map(move |start| {
            let end = until.min(start + i64::try_from(PAGE).unwrap_or(i64::MAX));
            let page = page(pool.clone(), start + 1, end);
            async move {
                let mut task = JoinSet::new(); // Ends with whoever waits for it.
                task.spawn(page);
                let page = task.join_next().await.and_then(Result::ok);
                page.unwrap_or(Err(Error::Database(sqlx::Error::WorkerCrashed)))
            }
        });
        stream::iter(pages).buffered(PAGES_AHEAD)
    }
}

/// The events from `first` to `last`.
async fn page(pool: PgPool, first: Position, last: Position) -> Result<Vec<Arc<Recorded>>, Error> {
    let mut copying = Copying { connection: pool.acquire().await?, ended: false };
    let mut messages = copying.connection.copy_out_raw(&copy_events(first, last)).await?;
    let mut events = Vec::with_capacity(usize::try_from(last - first + 1).unwrap_or_default());
    while let Some(message) = messages.try_next().await? {
        // Postgres puts the header before the first event, sends every event whole, and the trailer last.
        let mut rows = Rows::new(&message);
        while !rows.is_done() {
            let event = rows.event().and_then(|(event, _)| recorded(&event));
            events.push(event.map_err(|error| sqlx::Error::Decode(Box::new(error)))?);
        }
    }
    drop(messages);
    copying.ended = true;
    Ok(events)
}

/// A connection that copies. Whoever leaves before the end closes it: what was still on its way would
/// be taken for the answer to the next statement.
struct Copying {
    connection: PoolConnection<Postgres>,
    ended: bool,
}

impl Drop for Copying {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}

fn recorded(row: &EventRow<'_>) -> Result<Arc<Recorded>, Malformed> {
    let category = row.category.parse::<Category>().map_err(|_| Malformed)?;
    Ok(Arc::new(Recorded {
        position: row.position,
        stream: StreamId::new(category, row.stream_id),
        version: row.stream_version,
        event_type: row.event_type.to_owned(),
        event_id: EventId::new(row.event_id),
        command_id: CommandId::new(row.command_id),
        correlation_id: row.correlation_id,
        causation_id: row.causation_id,
        occurred_at: from_micros(row.occurred_at).ok_or(Malformed)?,
        recorded_at: from_micros(row.recorded_at).ok_or(Malformed)?,
        traceparent: row.traceparent.map(str::to_owned),
        actor: row.actor.to_owned(),
        fact: Fact::decode(category, row.event_type, row.payload),
    }))
}
