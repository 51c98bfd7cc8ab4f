//! Events as the log holds them, for who folds apart from the consumers.

use std::collections::{HashMap, HashSet};

use schemas::{Category, CommandId, EventId, Fact, Position, Recorded, StreamId};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::row::Columns;

/// What [`recorded`] reads, in this order.
pub(crate) const COLUMNS: &str = "position, stream_id, stream_version, category, event_type, \
     event_id, command_id, correlation_id, causation_id, occurred_at, recorded_at, actor, \
     traceparent, payload::text";

/// An event whose [`COLUMNS`] were selected.
///
/// # Errors
/// Where a column holds something else.
pub(crate) fn recorded(row: &PgRow) -> Result<Recorded, sqlx::Error> {
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
    let traceparent = columns.next()?;
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
        traceparent,
        actor,
        fact: Fact::decode(category, event_type, payload),
    })
}

/// What a consumer leaves out of its table.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    /// Parked streams, and from where on.
    parked: HashMap<Uuid, Position>,
    /// Events that people decided to leave out.
    dropped: HashSet<Position>,
}

impl LeftOut {
    /// What `consumer` leaves out now.
    ///
    /// # Errors
    /// Where the database is away.
    pub(crate) async fn of(
        connection: &mut PgConnection,
        consumer: &str,
    ) -> Result<Self, sqlx::Error> {
        let parked: Vec<(Uuid, Position)> =
            sqlx::query_as("select key, first_position from parked_streams where consumer = $1")
                .bind(consumer)
                .fetch_all(&mut *connection)
                .await?;
        let dropped: Vec<Position> =
            sqlx::query_scalar("select position from dropped_events where consumer = $1")
                .bind(consumer)
                .fetch_all(connection)
                .await?;
        Ok(Self { parked: parked.into_iter().collect(), dropped: dropped.into_iter().collect() })
    }

    /// Whether something of this stream is left out.
    pub(crate) fn parks(&self, stream: Uuid) -> bool {
        self.parked.contains_key(&stream)
    }

    /// Whether this event is.
    pub(crate) fn holds(&self, event: &Recorded) -> bool {
        self.parked.get(&event.stream.id).is_some_and(|first| event.position >= *first)
            || self.dropped.contains(&event.position)
    }
}

/// The events of a stream up to `through`, in order; at most `limit` of them.
///
/// # Errors
/// Where the database is away.
pub(crate) async fn of_stream(
    connection: &mut PgConnection,
    stream: Uuid,
    through: Position,
    limit: i64,
) -> Result<Vec<Recorded>, sqlx::Error> {
    // The positions tell which leaves of the log to look into.
    let query = format!(
        "select {COLUMNS} from events e, lateral ( \
             select first_position, last_position from streams where stream_id = $1) s \
         where e.stream_id = $1 and e.position between s.first_position and s.last_position \
             and e.position <= $2 order by e.stream_version limit $3"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(stream)
        .bind(through)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(recorded).collect()
}
