//! Looking into the log, and into how things stood: a handle that can change nothing.

use std::sync::Arc;

use metrics::counter;
use schemas::{
    Category, CommandId, Decider, Event as _, EventId, Fact, Position, Recorded, StreamId,
    Timestamp, Version,
};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgPool, Row as _};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::Error;
use crate::cache::Known;
use crate::json::Json;
use crate::metrics::{SNAPSHOTS_UNREADABLE, SNAPSHOTS_USED};
use crate::snapshot::{EVERY_EVENTS, SLOW_FOLD, SLOW_FOLD_EVENTS_MIN, Shape};

/// How many events of a stream are read at a time.
const PAGE: i64 = 1000;

/// The log, to be read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct History {
    pool: PgPool,
    /// A position that the log surely has.
    hint: watch::Receiver<Position>,
}

/// A moment of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Now.
    End,
    /// After this many events.
    Version(Version),
    /// After the last event that the log had been told by then, by the database's clock.
    Recorded(Timestamp),
}

/// Where a stream was at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The version that it had then; 0 before its first event.
    pub version: Version,
    /// The version that it has now.
    pub latest: Version,
}

/// An event as it is stored, unread.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its place in the log.
    pub position: Position,
    /// Its place in the stream.
    pub version: Version,
    /// Its own id.
    pub event_id: Uuid,
    /// The command that it answers.
    pub command_id: Uuid,
    /// The whole conversation.
    pub correlation_id: Uuid,
    /// The event or command that led to the command.
    pub causation_id: Uuid,
    /// When it happened, as far as whoever told us knows.
    pub occurred_at: Timestamp,
    /// When it was written to the log.
    pub recorded_at: Timestamp,
    /// Name and version of its type.
    pub event_type: String,
    /// Who asked.
    pub actor: String,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// JSON.
    pub payload: String,
}

struct Row {
    stream: StreamId,
    event: Stored,
}

/// By number, in the order in which [`History::read`] and its like name the columns: who reads many
/// has better things to do than to look each up by its name.
impl<'r> FromRow<'r, PgRow> for Row {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let category = row.try_get::<&str, _>(2)?.parse::<Category>();
        let category = category.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Self {
            stream: StreamId::new(category, row.try_get(1)?),
            event: Stored {
                position: row.try_get(0)?,
                version: row.try_get(3)?,
                event_id: row.try_get(4)?,
                command_id: row.try_get(5)?,
                correlation_id: row.try_get(6)?,
                causation_id: row.try_get(7)?,
                occurred_at: row.try_get(8)?,
                recorded_at: row.try_get(9)?,
                event_type: row.try_get(10)?,
                actor: row.try_get(11)?,
                traceparent: row.try_get(12)?,
                payload: row.try_get::<Json<String>, _>(13)?.0,
            },
        })
    }
}

impl From<Row> for Arc<Recorded> {
    fn from(Row { stream, event }: Row) -> Self {
        Self::new(Recorded {
            position: event.position,
            stream,
            version: event.version,
            fact: Fact::decode(stream.category, &event.event_type, &event.payload),
            event_type: event.event_type,
            event_id: EventId::new(event.event_id),
            command_id: CommandId::new(event.command_id),
            correlation_id: event.correlation_id,
            causation_id: event.causation_id,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            traceparent: event.traceparent,
            actor: event.actor,
        })
    }
}

fn recorded(rows: Vec<Row>) -> Vec<Arc<Recorded>> {
    rows.into_iter().map(Into::into).collect()
}

/// A stream on the way to being folded.
#[derive(Debug)]
pub(crate) struct Folded<D> {
    pub(crate) known: Known<D>,
    /// The position of the last event that was folded; 0 where none was.
    pub(crate) position: Position,
    /// How many events were read for it.
    pub(crate) read: usize,
    took: Duration,
    /// Whether its snapshot could not be read.
    distrusted: bool,
}

impl<D: Decider> Folded<D> {
    /// Whether the next one should not have to do that again.
    pub(crate) fn calls_for_a_snapshot(&self) -> bool {
        self.read >= EVERY_EVENTS
            || (self.read >= SLOW_FOLD_EVENTS_MIN && self.took >= SLOW_FOLD)
            || (self.read > 0 && self.distrusted)
    }

    /// Starts from a snapshot, if it can be read.
    fn start(&mut self, stream: StreamId, taken: Version, state: &str) -> Result<(), ()> {
        match serde_json::from_str(state) {
            Ok(state) => {
                counter!(SNAPSHOTS_USED).increment(1);
                self.known = Known { state: Arc::new(state), version: taken, made_by: None };
                Ok(())
            }
            Err(error) => {
                counter!(SNAPSHOTS_UNREADABLE).increment(1);
                let decider = D::NAME;
                tracing::warn!(%stream, decider, version = taken, %error,
                    "a snapshot cannot be read: folding the stream, and replacing it");
                self.distrusted = true;
                Err(())
            }
        }
    }

    fn take(&mut self, stream: StreamId, event: &Happened) -> Result<(), Error> {
        let decoded = D::Event::decode(&event.event_type, &event.payload.0);
        let decoded = decoded.map_err(|error| {
            let why = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            Error::Unreadable { stream, version: event.stream_version, why }
        })?;
        self.known.evolve(&decoded);
        self.position = event.position;
        self.read += 1;
        Ok(())
    }
}

/// As much of an event as folding needs.
#[derive(FromRow)]
struct Happened {
    position: Position,
    stream_version: Version,
    event_type: String,
    payload: Json<String>,
}

/// A row of [`History::page`]: an event, or a snapshot, or the first event after a snapshot.
struct Step {
    stream_id: Uuid,
    snapshot: Option<(Version, Json<String>)>,
    event: Option<Happened>,
}

impl<'r> FromRow<'r, PgRow> for Step {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let state: Option<Json<String>> = row.try_get("state")?;
        let taken: Option<Version> = row.try_get("taken")?;
        let position: Option<Position> = row.try_get("position")?;
        Ok(Self {
            stream_id: row.try_get("stream_id")?,
            snapshot: taken.zip(state),
            event: position.map(|_| Happened::from_row(row)).transpose()?,
        })
    }
}

impl History {
    /// The log in the database that `pool` connects to; selecting is all that is asked of it.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self::hinted(pool, watch::channel(0).1)
    }

    /// The same, for who knows a position that the log surely has.
    pub(crate) fn hinted(pool: PgPool, hint: watch::Receiver<Position>) -> Self {
        Self { pool, hint }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The position of the last event in the log.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn head(&self) -> Result<Position, Error> {
        let hint = *self.hint.borrow();
        let head = sqlx::query_scalar(
            "select position from events where position >= $1 order by position desc limit 1",
        );
        Ok(head.bind(hint).fetch_optional(&self.pool).await?.unwrap_or(hint))
    }

    /// At most `limit` events after `after`, in order.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn read(&self, after: Position, limit: i64) -> Result<Vec<Arc<Recorded>>, Error> {
        // Positions have no gaps, so the end of the range is known and other leaves are left alone.
        let rows = sqlx::query_as(
            "select position, stream_id, category, stream_version, event_id, command_id, \
             correlation_id, causation_id, occurred_at, recorded_at, event_type, actor, traceparent, \
             payload from events where position > $1 and position <= $1 + $2 order by position",
        );
        Ok(recorded(rows.bind(after).bind(limit).fetch_all(&self.pool).await?))
    }

    /// The events at these positions, in order.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) async fn read_these(
        &self,
        positions: &[Position],
    ) -> Result<Vec<Arc<Recorded>>, Error> {
        let rows = sqlx::query_as(
            "select position, stream_id, category, stream_version, event_id, command_id, \
             correlation_id, causation_id, occurred_at, recorded_at, event_type, actor, traceparent, \
             payload from events where position = any($1) order by position",
        );
        Ok(recorded(rows.bind(positions).fetch_all(&self.pool).await?))
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
        Ok(recorded(self.rows(stream, after, Version::MAX, limit).await?))
    }

    /// The same as they are stored, and none after version `until`.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn stored(
        &self,
        stream: StreamId,
        after: Version,
        until: Version,
        limit: i64,
    ) -> Result<Vec<Stored>, Error> {
        let rows = self.rows(stream, after, until, limit).await?;
        Ok(rows.into_iter().map(|row| row.event).collect())
    }

    /// The events after `after` up to `until`, in order and as they are stored, with the streams
    /// that they are of: all, or those of one category, of one type, or of both.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn stored_between(
        &self,
        after: Position,
        until: Position,
        category: Option<Category>,
        event_type: Option<&str>,
    ) -> Result<Vec<(StreamId, Stored)>, Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "select position, stream_id, category, stream_version, event_id, command_id, \
             correlation_id, causation_id, occurred_at, recorded_at, event_type, actor, traceparent, \
             payload from events where position > $1 and position <= $2 \
             and ($3::text is null or category = $3) and ($4::text is null or event_type = $4) \
             order by position",
        )
        .bind(after)
        .bind(until)
        .bind(category.map(Category::as_str))
        .bind(event_type)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.stream, row.event)).collect())
    }

    async fn rows(
        &self,
        stream: StreamId,
        after: Version,
        until: Version,
        limit: i64,
    ) -> Result<Vec<Row>, sqlx::Error> {
        sqlx::query_as(
            "select e.position, e.stream_id, e.category, e.stream_version, e.event_id, \
             e.command_id, e.correlation_id, e.causation_id, e.occurred_at, e.recorded_at, \
             e.event_type, e.actor, e.traceparent, e.payload \
             from streams s cross join lateral ( \
                 select * from events e \
                 where e.stream_id = s.stream_id and e.stream_version > $3 \
                 and e.stream_version <= $4 \
                 and e.position between s.first_position and s.last_position \
                 order by e.stream_version limit $5) e \
             where s.stream_id = $1 and s.category = $2 order by e.stream_version",
        )
        .bind(stream.id)
        .bind(stream.category.as_str())
        .bind(after)
        .bind(until)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
    }

    /// Where a stream was at a moment; none where there is no such stream.
    ///
    /// A version beyond its last is answered with the last. Events are recorded in the order of
    /// their versions, so what was recorded by a time is a prefix of the stream.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn moment(&self, stream: StreamId, at: At) -> Result<Option<Moment>, Error> {
        let recorded = match at {
            At::Recorded(time) => Some(time),
            At::End | At::Version(_) => None,
        };
        let found: Option<(Version, Option<Version>)> = sqlx::query_as(
            "select s.version, case when $3::timestamptz is not null then ( \
                 select e.stream_version from events e \
                 where e.stream_id = s.stream_id and e.recorded_at <= $3 \
                 and e.position between s.first_position and s.last_position \
                 order by e.stream_version desc limit 1) end \
             from streams s where s.stream_id = $1 and s.category = $2",
        )
        .bind(stream.id)
        .bind(stream.category.as_str())
        .bind(recorded)
        .fetch_optional(&self.pool)
        .await?;
        Ok(found.map(|(latest, by_then)| {
            let version = match at {
                At::End => latest,
                At::Version(version) => version.clamp(0, latest),
                At::Recorded(_) => by_then.unwrap_or(0),
            };
            Moment { version, latest }
        }))
    }

    /// A stream as its first `version` events leave it, from a snapshot where one helps.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Unreadable`].
    pub async fn fold_to<D: Decider>(
        &self,
        stream: StreamId,
        version: Version,
    ) -> Result<D, Error> {
        let folded = self.fold::<D>(&[stream], vec![Known::default()], version).await?;
        let state = folded.into_iter().next().map(|folded| folded.known.state);
        Ok(state.map(Arc::unwrap_or_clone).unwrap_or_default())
    }

    /// Streams folded on top of what is known of them, and no further than version `until`.
    pub(crate) async fn fold<D: Decider>(
        &self,
        streams: &[StreamId],
        known: Vec<Known<D>>,
        until: Version,
    ) -> Result<Vec<Folded<D>>, Error> {
        let fresh = |known| {
            let took = Duration::ZERO;
            Folded { known, position: 0, read: 0, took, distrusted: false }
        };
        let mut folds: Vec<Folded<D>> = known.into_iter().map(fresh).collect();
        let mut reading: Vec<usize> = (0..streams.len()).collect();
        // Later pages go on from events, and one whose snapshot is unreadable from the beginning.
        let mut shape = Some(Shape::of::<D>());
        while !reading.is_empty() {
            let asked = reading.iter().map(|&at| (streams[at], folds[at].known.version));
            let steps = self.page(asked, shape.take(), until).await?;
            let mut steps = steps.into_iter().peekable();
            let mut more = Vec::new();
            for at in reading {
                let (stream, fold) = (streams[at], &mut folds[at]);
                let (started, mut count) = (Instant::now(), 0);
                let mut usable = Ok(());
                while let Some(step) = steps.next_if(|step| step.stream_id == stream.id) {
                    if let Some((taken, state)) = &step.snapshot {
                        usable = fold.start(stream, *taken, &state.0);
                    }
                    if let (Ok(()), Some(event)) = (usable, &step.event) {
                        fold.take(stream, event)?;
                        count += 1;
                    }
                }
                fold.took += started.elapsed();
                if count == PAGE || usable.is_err() {
                    more.push(at);
                }
            }
            reading = more;
        }
        Ok(folds)
    }

    /// At most [`PAGE`] events of each stream, stream by stream in the order asked for, after its
    /// snapshot of this shape, if there is one that is newer than what is known.
    async fn page(
        &self,
        streams: impl Iterator<Item = (StreamId, Version)>,
        shape: Option<Shape>,
        until: Version,
    ) -> Result<Vec<Step>, sqlx::Error> {
        let (mut ids, mut categories, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for (stream, version) in streams {
            ids.push(stream.id);
            categories.push(stream.category.as_str());
            after.push(version);
        }
        sqlx::query_as(
            "select s.stream_id, n.version as taken, case when e.position is null \
             or e.stream_version = n.version + 1 then n.state end as state, \
             e.position, e.stream_version, e.event_type, e.payload \
             from unnest($1::uuid[], $2::bigint[], $7::text[]) with ordinality \
             as asked (id, after, category, ordinal) \
             join streams s on s.stream_id = asked.id and s.category = asked.category \
             and s.version > asked.after \
             left join snapshots n on n.stream_id = s.stream_id and n.decider = $4 \
             and n.shape = $5 and n.version > asked.after and n.version <= least(s.version, $6) \
             left join lateral ( \
                 select e.position, e.stream_version, e.event_type, e.payload from events e \
                 where e.stream_id = s.stream_id \
                 and e.stream_version > coalesce(n.version, asked.after) \
                 and e.stream_version <= $6 \
                 and e.position > coalesce(n.position, s.first_position - 1) \
                 and e.position <= s.last_position \
                 order by e.stream_version limit $3) e on true \
             order by asked.ordinal, e.stream_version",
        )
        .bind(ids)
        .bind(after)
        .bind(PAGE)
        .bind(shape.map_or("", |shape| shape.decider))
        .bind(shape.map_or(Vec::new(), |shape| shape.hash.to_vec()))
        .bind(until)
        .bind(categories)
        .fetch_all(&self.pool)
        .await
    }
}
