//! Reading streams and the log.

use std::sync::Arc;

use schemas::{
    Category, CommandId, Decider, DecodeError, Event as _, EventId, Fact, Position, Recorded,
    StreamId, Timestamp, Version,
};
use sqlx::FromRow;
use uuid::Uuid;

use crate::batch::Answered;
use crate::cache::Known;
use crate::json::Json;
use crate::{Error, Refused, Store};

/// How many events of a stream are read at a time.
const PAGE: i64 = 1000;

/// A stream, folded.
#[derive(Debug, Clone)]
pub struct Loaded<S> {
    /// What came of its events.
    pub state: S,
    /// How many there are.
    pub version: Version,
}

/// As much of an event as folding needs.
#[derive(FromRow)]
struct Folded {
    stream_id: Uuid,
    stream_version: Version,
    event_type: String,
    payload: Json<String>,
}

#[derive(FromRow)]
struct Row {
    position: Position,
    stream_id: Uuid,
    stream_version: Version,
    event_id: Uuid,
    command_id: Uuid,
    correlation_id: Uuid,
    causation_id: Uuid,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    category: String,
    event_type: String,
    actor: String,
    traceparent: Option<String>,
    payload: Json<String>,
}

impl TryFrom<Row> for Arc<Recorded> {
    type Error = DecodeError;

    fn try_from(row: Row) -> Result<Self, DecodeError> {
        let category: Category = row.category.parse()?;
        Ok(Self::new(Recorded {
            position: row.position,
            stream: StreamId::new(category, row.stream_id),
            version: row.stream_version,
            fact: Fact::decode(category, &row.event_type, &row.payload.0),
            event_type: row.event_type,
            event_id: EventId::new(row.event_id),
            command_id: CommandId::new(row.command_id),
            correlation_id: row.correlation_id,
            causation_id: row.causation_id,
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
            traceparent: row.traceparent,
            actor: row.actor,
        }))
    }
}

fn recorded(rows: Vec<Row>) -> Result<Vec<Arc<Recorded>>, Error> {
    let decoded: Result<_, DecodeError> = rows.into_iter().map(TryInto::try_into).collect();
    decoded.map_err(|error| Error::Database(sqlx::Error::Decode(Box::new(error))))
}

impl Store {
    /// A stream, folded.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Unreadable`].
    pub async fn load<D: Decider>(&self, stream: StreamId) -> Result<Loaded<D>, Error> {
        let mut known = self.fold::<D>(&[stream]).await?;
        let Known { state, version, .. } = known.remove(0);
        Ok(Loaded { state: Arc::unwrap_or_clone(state), version })
    }

    /// The position of the last event in the log.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn head(&self) -> Result<Position, Error> {
        let hint = *self.head_watch().borrow();
        let head = sqlx::query_scalar(
            "select position from events where position >= $1 order by position desc limit 1",
        );
        Ok(head.bind(hint).fetch_optional(self.pool()).await?.unwrap_or(hint))
    }

    /// At most `limit` events after `after`, in order.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn read(&self, after: Position, limit: i64) -> Result<Vec<Arc<Recorded>>, Error> {
        // Positions have no gaps, so the end of the range is known and other leaves are left alone.
        let rows = sqlx::query_as(
            "select position, stream_id, stream_version, event_id, command_id, correlation_id, \
             causation_id, occurred_at, recorded_at, category, event_type, actor, traceparent, payload \
             from events where position > $1 and position <= $1 + $2 order by position",
        );
        recorded(rows.bind(after).bind(limit).fetch_all(self.pool()).await?)
    }

    /// At most `limit` events of a stream after version `after`, in order.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn read_stream(
        &self,
        stream: StreamId,
        after: Version,
        limit: i64,
    ) -> Result<Vec<Arc<Recorded>>, Error> {
        let rows = sqlx::query_as(
            "select e.position, e.stream_id, e.stream_version, e.event_id, e.command_id, \
             e.correlation_id, e.causation_id, e.occurred_at, e.recorded_at, e.category, \
             e.event_type, e.actor, e.traceparent, e.payload \
             from streams s cross join lateral ( \
                 select * from events e \
                 where e.stream_id = s.stream_id and e.stream_version > $3 \
                 and e.position between s.first_position and s.last_position \
                 order by e.stream_version limit $4) e \
             where s.stream_id = $1 and s.category = $2 order by e.stream_version",
        )
        .bind(stream.id)
        .bind(stream.category.as_str())
        .bind(after)
        .bind(limit);
        recorded(rows.fetch_all(self.pool()).await?)
    }

    /// Streams as they stand in the log, folded on top of what is remembered of them.
    pub(crate) async fn fold<D: Decider>(
        &self,
        streams: &[StreamId],
    ) -> Result<Vec<Known<D>>, Error> {
        let remembered = |stream: &StreamId| self.cache().written(*stream).unwrap_or_default();
        let mut known: Vec<Known<D>> = streams.iter().map(remembered).collect();
        let mut reading: Vec<usize> = (0..streams.len()).collect();
        while !reading.is_empty() {
            let rows =
                self.page(reading.iter().map(|&at| (streams[at], known[at].version))).await?;
            let mut more = Vec::new();
            let mut rows = rows.into_iter().peekable();
            for at in reading {
                let mut count = 0;
                while let Some(row) = rows.next_if(|row| row.stream_id == streams[at].id) {
                    let decoded = D::Event::decode(&row.event_type, &row.payload.0);
                    let event = decoded.map_err(|error| unreadable(streams[at], &row, &error))?;
                    known[at].evolve(&event);
                    count += 1;
                }
                if count == PAGE {
                    more.push(at);
                }
            }
            reading = more;
        }
        for (stream, known) in streams.iter().zip(&known).filter(|(_, known)| known.version > 0) {
            self.cache().put(*stream, known.clone());
        }
        Ok(known)
    }

    /// At most [`PAGE`] events of each stream, stream by stream in the order asked for.
    async fn page(
        &self,
        streams: impl Iterator<Item = (StreamId, Version)>,
    ) -> Result<Vec<Folded>, sqlx::Error> {
        let (ids, after): (Vec<Uuid>, Vec<Version>) =
            streams.map(|(stream, after)| (stream.id, after)).unzip();
        sqlx::query_as(
            "select e.stream_id, e.stream_version, e.event_type, e.payload \
             from unnest($1::uuid[], $2::bigint[]) with ordinality as asked (id, after, ordinal) \
             join streams s on s.stream_id = asked.id and s.version > asked.after \
             cross join lateral ( \
                 select e.stream_id, e.stream_version, e.event_type, e.payload from events e \
                 where e.stream_id = s.stream_id and e.stream_version > asked.after \
                 and e.position between s.first_position and s.last_position \
                 order by e.stream_version limit $3) e \
             order by asked.ordinal, e.stream_version",
        )
        .bind(ids)
        .bind(after)
        .bind(PAGE)
        .fetch_all(self.pool())
        .await
    }

    /// What a command was answered before.
    pub(crate) async fn answered(&self, command: CommandId) -> Result<Option<Answered>, Error> {
        #[derive(FromRow)]
        struct Row {
            request_hash: Vec<u8>,
            version: Version,
            position: Position,
            refusal_code: Option<String>,
            refusal_detail: Option<String>,
        }
        let row: Option<Row> = sqlx::query_as(
            "select request_hash, version, position, refusal_code, refusal_detail \
             from commands where command_id = $1",
        )
        .bind(command.uuid())
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| Answered {
            request_hash: row.request_hash,
            version: row.version,
            position: row.position,
            refused: row
                .refusal_code
                .map(|code| Refused { code, detail: row.refusal_detail.unwrap_or_default() }),
        }))
    }
}

fn unreadable(stream: StreamId, row: &Folded, error: &DecodeError) -> Error {
    let why = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    Error::Unreadable { stream, version: row.stream_version, why }
}
