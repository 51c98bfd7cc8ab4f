//! Rows as Postgres copies them out in its binary format, and the same bytes made from values.

use schemas::{Position, Timestamp, Version};
use uuid::Uuid;

use super::canon::{COPY_HEADER, COPY_TRAILER};

/// How many columns an event has, and how many a row of the ledger.
const EVENT_COLUMNS: u16 = 15;
const ANSWER_COLUMNS: u16 = 8;

/// Seconds from the start of 1970 to the start of 2000: Postgres counts from the latter.
const POSTGRES_EPOCH_SECONDS: i64 = 946_684_800;

/// Bytes that are not the row that was asked for: somebody changed the table, or the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a row of the log")]
pub struct Malformed;

/// An event as it lies in the log, its texts borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRow<'a> {
    /// Its place in the log.
    pub position: Position,
    /// Whose event it is.
    pub stream_id: Uuid,
    /// Its place in the stream.
    pub stream_version: Version,
    /// Its own id.
    pub event_id: Uuid,
    /// The command that it answers.
    pub command_id: Uuid,
    /// The whole conversation.
    pub correlation_id: Uuid,
    /// What led to the command.
    pub causation_id: Uuid,
    /// When it happened: microseconds since the start of 2000.
    pub occurred_at: i64,
    /// When it was written, the same.
    pub recorded_at: i64,
    /// The slice of its stream.
    pub slice: i16,
    /// The context.
    pub category: &'a str,
    /// Name and version of its type.
    pub event_type: &'a str,
    /// Who asked.
    pub actor: &'a str,
    /// W3C trace context of the request.
    pub traceparent: Option<&'a str>,
    /// The JSON text, byte for byte as stored.
    pub payload: &'a str,
}

/// A row of the ledger, its texts borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerRow<'a> {
    /// The command.
    pub command_id: Uuid,
    /// SHA-256 of what was asked.
    pub request_hash: &'a [u8],
    /// The stream that answered.
    pub stream_id: Uuid,
    /// Its version then.
    pub version: Version,
    /// The position of the command's last event, or the head of the log then.
    pub position: Position,
    /// When it was answered: microseconds since the start of 2000.
    pub recorded_at: i64,
    /// The rule that said no.
    pub refusal_code: Option<&'a str>,
    /// The same for people.
    pub refusal_detail: Option<&'a str>,
}

/// Microseconds since the start of 2000.
#[must_use]
pub fn to_micros(at: Timestamp) -> i64 {
    at.timestamp_micros() - POSTGRES_EPOCH_SECONDS * 1_000_000
}

/// The time that is so many microseconds after the start of 2000; none where no calendar has it.
#[must_use]
pub fn from_micros(micros: i64) -> Option<Timestamp> {
    let since_1970 = micros.checked_add(POSTGRES_EPOCH_SECONDS * 1_000_000)?;
    Timestamp::from_timestamp_micros(since_1970)
}

/// Walks through copied rows.
#[derive(Debug)]
pub(crate) struct Rows<'a>(&'a [u8]);

impl<'a> Rows<'a> {
    /// Over whole rows, perhaps with the header before them and the trailer behind.
    pub(crate) fn new(copied: &'a [u8]) -> Self {
        Self(copied.strip_prefix(COPY_HEADER).unwrap_or(copied))
    }

    /// Whether there is no further row.
    pub(crate) fn is_done(&self) -> bool {
        self.0.is_empty() || self.0 == COPY_TRAILER
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    /// The next event, and its bytes.
    pub(crate) fn event(&mut self) -> Result<(EventRow<'a>, &'a [u8]), Malformed> {
        let before = self.0;
        self.columns(EVENT_COLUMNS)?;
        let event = EventRow {
            position: i64::from_be_bytes(self.fixed()?),
            stream_id: Uuid::from_bytes(self.fixed()?),
            stream_version: i64::from_be_bytes(self.fixed()?),
            event_id: Uuid::from_bytes(self.fixed()?),
            command_id: Uuid::from_bytes(self.fixed()?),
            correlation_id: Uuid::from_bytes(self.fixed()?),
            causation_id: Uuid::from_bytes(self.fixed()?),
            occurred_at: i64::from_be_bytes(self.fixed()?),
            recorded_at: i64::from_be_bytes(self.fixed()?),
            slice: i16::from_be_bytes(self.fixed()?),
            category: self.text()?.ok_or(Malformed)?,
            event_type: self.text()?.ok_or(Malformed)?,
            actor: self.text()?.ok_or(Malformed)?,
            traceparent: self.text()?,
            payload: self.text()?.ok_or(Malformed)?,
        };
        Ok((event, &before[..before.len() - self.0.len()]))
    }

    /// The next row of the ledger.
    pub(super) fn answer(&mut self) -> Result<AnswerRow<'a>, Malformed> {
        self.columns(ANSWER_COLUMNS)?;
        Ok(AnswerRow {
            command_id: Uuid::from_bytes(self.fixed()?),
            request_hash: self.bytes()?.ok_or(Malformed)?,
            stream_id: Uuid::from_bytes(self.fixed()?),
            version: i64::from_be_bytes(self.fixed()?),
            position: i64::from_be_bytes(self.fixed()?),
            recorded_at: i64::from_be_bytes(self.fixed()?),
            refusal_code: self.text()?,
            refusal_detail: self.text()?,
        })
    }

    fn columns(&mut self, count: u16) -> Result<(), Malformed> {
        let (found, rest) = self.0.split_first_chunk::<2>().ok_or(Malformed)?;
        self.0 = rest;
        if u16::from_be_bytes(*found) == count { Ok(()) } else { Err(Malformed) }
    }

    fn bytes(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(Malformed)?;
        self.0 = rest;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(Some(bytes))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes()?.ok_or(Malformed)?.try_into().map_err(|_| Malformed)
    }

    fn text(&mut self) -> Result<Option<&'a str>, Malformed> {
        let bytes = self.bytes()?;
        bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| Malformed)).transpose()
    }
}

/// One column; a null where there are no bytes.
fn put(copied: &mut Vec<u8>, column: Option<&[u8]>) {
    match column {
        None => copied.extend((-1_i32).to_be_bytes()),
        Some(bytes) => {
            // Postgres keeps no column of a gigabyte.
            copied.extend(i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
            copied.extend(bytes);
        }
    }
}

impl EventRow<'_> {
    /// Adds the event as Postgres would copy it: the form that is sealed.
    pub fn copy_to(&self, copied: &mut Vec<u8>) {
        copied.extend(EVENT_COLUMNS.to_be_bytes());
        put(copied, Some(&self.position.to_be_bytes()));
        put(copied, Some(self.stream_id.as_bytes()));
        put(copied, Some(&self.stream_version.to_be_bytes()));
        for id in [self.event_id, self.command_id, self.correlation_id, self.causation_id] {
            put(copied, Some(id.as_bytes()));
        }
        put(copied, Some(&self.occurred_at.to_be_bytes()));
        put(copied, Some(&self.recorded_at.to_be_bytes()));
        put(copied, Some(&self.slice.to_be_bytes()));
        for text in [self.category, self.event_type, self.actor] {
            put(copied, Some(text.as_bytes()));
        }
        put(copied, self.traceparent.map(str::as_bytes));
        put(copied, Some(self.payload.as_bytes()));
    }
}

impl AnswerRow<'_> {
    /// Adds the row as Postgres would copy it.
    pub fn copy_to(&self, copied: &mut Vec<u8>) {
        copied.extend(ANSWER_COLUMNS.to_be_bytes());
        put(copied, Some(self.command_id.as_bytes()));
        put(copied, Some(self.request_hash));
        put(copied, Some(self.stream_id.as_bytes()));
        put(copied, Some(&self.version.to_be_bytes()));
        put(copied, Some(&self.position.to_be_bytes()));
        put(copied, Some(&self.recorded_at.to_be_bytes()));
        put(copied, self.refusal_code.map(str::as_bytes));
        put(copied, self.refusal_detail.map(str::as_bytes));
    }
}

/// Adds a row of `streams` as Postgres would copy it.
pub(super) fn copy_stream(
    copied: &mut Vec<u8>,
    (id, category, version, first, last): (Uuid, &str, Version, Position, Position),
) {
    copied.extend(5_u16.to_be_bytes());
    put(copied, Some(id.as_bytes()));
    put(copied, Some(category.as_bytes()));
    for number in [version, first, last] {
        put(copied, Some(&number.to_be_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> EventRow<'static> {
        EventRow {
            position: 7,
            stream_id: Uuid::from_u128(1),
            stream_version: 2,
            event_id: Uuid::from_u128(3),
            command_id: Uuid::from_u128(4),
            correlation_id: Uuid::from_u128(5),
            causation_id: Uuid::from_u128(6),
            occurred_at: -1,
            recorded_at: i64::MAX,
            slice: 1023,
            category: "order",
            event_type: "order.placed.v1",
            actor: "",
            traceparent: None,
            payload: "{\"ä\": 1 }",
        }
    }

    #[test]
    fn a_row_is_read_back_as_it_was_written() {
        let mut copied = COPY_HEADER.to_vec();
        event().copy_to(&mut copied);
        event().copy_to(&mut copied);
        copied.extend(COPY_TRAILER);
        let mut rows = Rows::new(&copied);
        let (first, bytes) = rows.event().unwrap();
        assert_eq!(first, event());
        assert_eq!(rows.event().unwrap().1, bytes);
        assert!(rows.is_done());
    }

    #[test]
    fn bytes_that_are_cut_are_refused() {
        let mut copied = Vec::new();
        event().copy_to(&mut copied);
        for length in 0..copied.len() {
            assert!(Rows::new(&copied[..length]).event().is_err(), "{length}");
        }
    }

    #[test]
    fn times_are_counted_from_the_start_of_2000() {
        let start: Timestamp = "2000-01-01T00:00:00.000001Z".parse().unwrap();
        assert_eq!(to_micros(start), 1);
        assert_eq!(from_micros(1), Some(start));
        assert_eq!(from_micros(i64::MAX), None);
    }
}
