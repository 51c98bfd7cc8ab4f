//! Folds single rows anew from the log, and compares them with what a table says.
//!
//! Rows are found through the log and not in the table: an event is picked by chance, and the
//! rows that it touches are folded from its stream. So a row that is missing is found like one
//! that is wrong, and nobody has to know which stream a key belongs to. Only where several streams
//! touch a row ([`Projection::SHARED_ROWS`]) is the key asked ([`Projection::streams`]); rows that
//! do not tell are not looked at.

use std::fmt;

use schemas::{Chance, Position, Recorded, StreamId};
use serde_json::{Map, Value};
use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use crate::events::{self, COLUMNS, LeftOut, recorded};
use crate::fold::Fold;
use crate::projection::Projection;
use crate::row::{Row, SCHEMA};

/// How many positions are searched for an event that the read model listens to.
const WINDOW_POSITIONS: i64 = 1_000;

/// How many events are read of them.
const WINDOW_EVENTS: i64 = 20;

/// The most events that are folded for a sample.
const STREAM_EVENTS_MAX: i64 = 10_000;

/// Characters of a value that are told.
const VALUE_CHARS_MAX: usize = 400;

/// A row that is not what its events say.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// Of which read model.
    pub projection: &'static str,
    /// Its key.
    pub key: Uuid,
    /// The stream that it is folded from.
    pub stream: StreamId,
    /// The position that it was folded up to.
    pub position: Position,
    /// The row that the table has; none where it has none.
    pub stored: Option<Value>,
    /// The row that the events make; none where they make none.
    pub folded: Option<Value>,
}

impl Drift {
    /// The names of the columns that differ; none where one of the rows is not there.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        let (Some(Value::Object(stored)), Some(folded)) = (&self.stored, &self.folded) else {
            return Vec::new();
        };
        let differs = |name: &&String| folded.get(name.as_str()) != stored.get(name.as_str());
        stored.keys().filter(differs).map(String::as_str).collect()
    }

    /// A row as far as it differs, shortened.
    fn told(&self, row: Option<&Value>) -> String {
        let Some(row) = row else { return "no row".to_owned() };
        let columns = self.columns();
        let whole = columns.is_empty();
        let differing: Map<String, Value> = row
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| whole || columns.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut text = Value::Object(differing).to_string();
        if let Some((end, _)) = text.char_indices().nth(VALUE_CHARS_MAX) {
            text.truncate(end);
            text.push('…');
        }
        text
    }

    /// What the table has, as far as it differs.
    #[must_use]
    pub fn stored_told(&self) -> String {
        self.told(self.stored.as_ref())
    }

    /// What the events make, as far as it differs.
    #[must_use]
    pub fn folded_told(&self) -> String {
        self.told(self.folded.as_ref())
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { projection, key, stream, position, .. } = self;
        let (stored, folded) = (self.stored_told(), self.folded_told());
        write!(
            f,
            "row {key} of {projection} is not what {stream} says up to position {position}: \
             the table has {stored}, its events make {folded}"
        )
    }
}

/// What came of looking at a row.
#[derive(Debug)]
pub(crate) enum Checked {
    /// There was nothing to look at this time.
    Nothing,
    /// It is what its events say.
    Same,
    /// It is not.
    Different(Box<Drift>),
}

/// An event of `P`'s by chance, not later than `through`: half the time from anywhere in the log,
/// half the time one of the last `recent`.
pub(crate) async fn pick<P: Projection>(
    connection: &mut PgConnection,
    chance: Chance,
    through: Position,
    recent: i64,
) -> Result<Option<Recorded>, sqlx::Error> {
    let anywhere = below(chance, 2) == 0;
    let first = if anywhere { 1 } else { (through - recent + 1).max(1) };
    let start = first + below(chance, through - first + 1);
    let categories: Vec<_> = P::CATEGORIES.iter().map(|category| category.as_str()).collect();
    let query = format!(
        "select {COLUMNS} from events where position >= $1 and position < $2 and position <= $3 \
         and category = any($4) order by position limit $5"
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(start)
        .bind(start + WINDOW_POSITIONS)
        .bind(through)
        .bind(categories)
        .bind(WINDOW_EVENTS)
        .fetch_all(connection)
        .await?;
    for row in &rows {
        let event = recorded(row)?;
        if !P::keys(&event).as_slice().is_empty() {
            return Ok(Some(event));
        }
    }
    Ok(None)
}

/// A number from 0 to `bound` − 1; 0 where there is none.
pub(crate) fn below(chance: Chance, bound: i64) -> i64 {
    let number = u64::from_le_bytes(chance.bytes());
    i64::try_from(number % bound.max(1).unsigned_abs()).unwrap_or_default()
}

/// Folds the first row that `event` touches anew, up to `through`, and compares it with `table`.
pub(crate) async fn compare<P: Projection>(
    connection: &mut PgConnection,
    table: &str,
    leaves_out: &LeftOut,
    event: Recorded,
    through: Position,
) -> Result<Checked, sqlx::Error> {
    let Some(key) = P::keys(&event).as_slice().first().copied() else {
        return Ok(Checked::Nothing);
    };
    let stream = event.stream;
    let streams = if P::SHARED_ROWS { P::streams(key) } else { vec![stream.id] };
    let parked = streams.iter().any(|stream| leaves_out.parks(*stream));
    if streams.is_empty() || parked || event.position > through {
        return Ok(Checked::Nothing);
    }
    let events = if P::WRITES_ONCE {
        vec![event]
    } else {
        let mut events = Vec::new();
        for stream in streams {
            events.extend(
                events::of_stream(connection, stream, through, STREAM_EVENTS_MAX + 1).await?,
            );
        }
        events.sort_unstable_by_key(|event| event.position);
        events
    };
    if i64::try_from(events.len()).is_ok_and(|events| events > STREAM_EVENTS_MAX) {
        return Ok(Checked::Nothing);
    }
    let mut fold = Fold::<P>::new();
    for event in events.iter().filter(|event| !leaves_out.holds(event)) {
        fold.apply(event);
    }
    let (stored, folded) = both::<P::Row>(connection, table, key, fold.take(key)).await?;
    Ok(if stored == folded {
        Checked::Same
    } else {
        let projection = P::NAME;
        let position = through;
        Checked::Different(Box::new(Drift { projection, key, stream, position, stored, folded }))
    })
}

/// The row of `table` and the one that was folded, both as Postgres shows them.
async fn both<R: Row>(
    connection: &mut PgConnection,
    table: &str,
    key: Uuid,
    folded: Option<R>,
) -> Result<(Option<Value>, Option<Value>), sqlx::Error> {
    let (key_name, columns) = (R::COLUMNS[0], R::COLUMNS.join(", "));
    let stored = format!("select {columns} from {SCHEMA}.{table} where {key_name} = $1");
    let query = format!("select to_jsonb(stored) from ({stored}) as stored");
    let stored: Option<Value> =
        sqlx::query_scalar(AssertSqlSafe(query)).bind(key).fetch_optional(&mut *connection).await?;
    let Some(folded) = folded else { return Ok((stored, None)) };
    let arrays: PgArguments = R::arrays(&[&folded]).map_err(sqlx::Error::Encode)?;
    let places: Vec<_> = (1..=R::COLUMNS.len()).map(|n| format!("${n}")).collect();
    let query =
        format!("select to_jsonb(folded) from unnest({}) as folded ({columns})", places.join(", "));
    let row = sqlx::query_with(AssertSqlSafe(query), arrays).fetch_one(connection).await?;
    Ok((stored, Some(row.try_get(0)?)))
}

#[cfg(test)]
mod tests {
    use schemas::Category;
    use serde_json::json;

    use super::*;

    fn drift(stored: Option<Value>, folded: Option<Value>) -> Drift {
        let stream = StreamId::new(Category::Order, Uuid::nil());
        Drift { projection: "sample", key: Uuid::nil(), stream, position: 7, stored, folded }
    }

    #[test]
    fn only_what_differs_is_told() {
        let stored = json!({ "id": 1, "status": "open", "lines": [1] });
        let folded = json!({ "id": 1, "status": "closed", "lines": [1] });
        let told = drift(Some(stored), Some(folded));
        assert_eq!(told.columns(), ["status"]);
        assert!(
            told.to_string().ends_with(
                r#"the table has {"status":"open"}, its events make {"status":"closed"}"#
            )
        );
    }

    #[test]
    fn a_row_that_is_not_there_is_told_as_such_and_a_long_one_is_cut() {
        let told = drift(None, Some(json!({ "text": "ü".repeat(VALUE_CHARS_MAX) })));
        assert_eq!(told.stored_told(), "no row");
        assert_eq!(told.folded_told().chars().count(), VALUE_CHARS_MAX + 1);
    }

    #[test]
    fn a_number_by_chance_stays_below_its_bound() {
        let chance = Chance::from_fn(|bytes| bytes.fill(0xff));
        for bound in [1, 2, 1_000, i64::MAX] {
            assert!((0..bound).contains(&below(chance, bound)));
        }
        assert_eq!(below(chance, 0), 0);
    }
}
