//! Lines of JSON. Each is an object with one member that says what it is: `header`, `seal`,
//! `event`, `answer`, `end`.

use std::borrow::Cow;
use std::io::{self, BufRead, Write as _};

use anyhow::{Context as _, bail};
use event_store::log::{AnswerRow, Counts, EventRow, Header, Record, Seal, from_micros, to_micros};
use schemas::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Item, Sink, Take};

/// The longest line, in bytes: the largest event, every byte of it escaped, and room.
const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The form of these lines.
const FORM: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line<'a> {
    Header(HeaderLine<'a>),
    Seal(SealLine<'a>),
    #[serde(borrow)]
    Event(EventLine<'a>),
    Answer(AnswerLine<'a>),
    End {
        events: u64,
        answers: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine<'a> {
    waybill_export: u32,
    log: Option<Cow<'a, str>>,
    from: i64,
    to: i64,
    whole: bool,
    ledger_from: Option<Timestamp>,
    segment_positions: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealLine<'a> {
    number: i64,
    first_position: i64,
    last_position: i64,
    log: Cow<'a, str>,
    seal: String,
    sealed_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventLine<'a> {
    position: i64,
    stream_id: Uuid,
    stream_version: i64,
    event_id: Uuid,
    command_id: Uuid,
    correlation_id: Uuid,
    causation_id: Uuid,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    slice: i16,
    #[serde(borrow)]
    category: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    actor: Cow<'a, str>,
    #[serde(borrow)]
    traceparent: Option<Cow<'a, str>>,
    /// The JSON text as a string: what is sealed is its bytes.
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerLine<'a> {
    command_id: Uuid,
    request_hash: String,
    stream_id: Uuid,
    version: i64,
    position: i64,
    recorded_at: Timestamp,
    #[serde(borrow)]
    refusal_code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    refusal_detail: Option<Cow<'a, str>>,
}

/// Lines that are being written.
pub(super) struct Writer(Sink);

impl Writer {
    pub(super) fn create(mut sink: Sink, header: &Header) -> io::Result<Self> {
        sink.write_all(self::header(header)?.as_bytes())?;
        Ok(Self(sink))
    }

    pub(super) fn put(&mut self, record: Record<'_>) -> io::Result<()> {
        match record {
            Record::Seal(seal) => self.line(&Line::Seal(SealLine {
                number: seal.number,
                first_position: seal.first,
                last_position: seal.last,
                log: Cow::Borrowed(&seal.log),
                seal: hex::encode(&seal.seal),
                sealed_at: seal.sealed_at,
            })),
            Record::Event(event) => self.line(&Line::Event(EventLine {
                position: event.position,
                stream_id: event.stream_id,
                stream_version: event.stream_version,
                event_id: event.event_id,
                command_id: event.command_id,
                correlation_id: event.correlation_id,
                causation_id: event.causation_id,
                occurred_at: time(event.occurred_at)?,
                recorded_at: time(event.recorded_at)?,
                slice: event.slice,
                category: Cow::Borrowed(event.category),
                event_type: Cow::Borrowed(event.event_type),
                actor: Cow::Borrowed(event.actor),
                traceparent: event.traceparent.map(Cow::Borrowed),
                payload: Cow::Borrowed(event.payload),
            })),
            Record::Answer(row) => self.line(&Line::Answer(AnswerLine {
                command_id: row.command_id,
                request_hash: hex::encode(row.request_hash),
                stream_id: row.stream_id,
                version: row.version,
                position: row.position,
                recorded_at: time(row.recorded_at)?,
                refusal_code: row.refusal_code.map(Cow::Borrowed),
                refusal_detail: row.refusal_detail.map(Cow::Borrowed),
            })),
        }
    }

    pub(super) fn finish(mut self, counts: Counts) -> io::Result<()> {
        self.0.write_all(end(counts)?.as_bytes())?;
        self.0.flush()
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, line)?;
        self.0.write_all(b"\n")
    }
}

/// The first line.
pub(super) fn header(header: &Header) -> io::Result<String> {
    let line = Line::Header(HeaderLine {
        waybill_export: FORM,
        log: header.log.as_deref().map(Cow::Borrowed),
        from: header.from,
        to: header.to,
        whole: header.whole,
        ledger_from: header.ledger_from,
        segment_positions: header.segment_positions,
    });
    Ok(serde_json::to_string(&line)? + "\n")
}

/// The last line.
pub(super) fn end(counts: Counts) -> io::Result<String> {
    let Counts { events, answers } = counts;
    Ok(serde_json::to_string(&Line::End { events, answers })? + "\n")
}

fn time(micros: i64) -> io::Result<Timestamp> {
    from_micros(micros)
        .ok_or_else(|| io::Error::other("the log holds a time that no calendar knows"))
}

/// Hands `take` what stands on every line.
pub(super) fn read(mut lines: impl BufRead, take: Take<'_>) -> anyhow::Result<()> {
    let mut text = String::new();
    for number in 1_u64.. {
        text.clear();
        let bytes = io::Read::take(&mut lines, LINE_BYTES_MAX).read_line(&mut text);
        let at = || format!("line {number}");
        if bytes.with_context(at)? == 0 {
            return Ok(());
        }
        // A line that was cut in the middle is the end of a file that was cut.
        if !text.ends_with('\n') {
            return Ok(());
        }
        let line: Line<'_> = serde_json::from_str(&text).with_context(at)?;
        piece(line, take).with_context(at)?;
    }
    Ok(())
}

fn piece(line: Line<'_>, take: Take<'_>) -> anyhow::Result<()> {
    match line {
        Line::Header(header) => {
            if header.waybill_export != FORM {
                bail!("an export of form {}, and this program reads {FORM}", header.waybill_export);
            }
            take(Item::Header(Header {
                log: header.log.map(Cow::into_owned),
                from: header.from,
                to: header.to,
                whole: header.whole,
                ledger_from: header.ledger_from,
                segment_positions: header.segment_positions,
            }))
        }
        Line::Seal(seal) => take(Item::Record(Record::Seal(&Seal {
            number: seal.number,
            first: seal.first_position,
            last: seal.last_position,
            log: seal.log.into_owned(),
            seal: hex::decode(&seal.seal).context("the seal is not hexadecimal")?,
            sealed_at: seal.sealed_at,
        }))),
        Line::Event(event) => take(Item::Record(Record::Event(EventRow {
            position: event.position,
            stream_id: event.stream_id,
            stream_version: event.stream_version,
            event_id: event.event_id,
            command_id: event.command_id,
            correlation_id: event.correlation_id,
            causation_id: event.causation_id,
            occurred_at: to_micros(event.occurred_at),
            recorded_at: to_micros(event.recorded_at),
            slice: event.slice,
            category: &event.category,
            event_type: &event.event_type,
            actor: &event.actor,
            traceparent: event.traceparent.as_deref(),
            payload: &event.payload,
        }))),
        Line::Answer(row) => {
            let hash = hex::decode(&row.request_hash).context("the hash is not hexadecimal")?;
            take(Item::Record(Record::Answer(AnswerRow {
                command_id: row.command_id,
                request_hash: &hash,
                stream_id: row.stream_id,
                version: row.version,
                position: row.position,
                recorded_at: to_micros(row.recorded_at),
                refusal_code: row.refusal_code.as_deref(),
                refusal_detail: row.refusal_detail.as_deref(),
            })))
        }
        Line::End { events, answers } => take(Item::End(Counts { events, answers })),
    }
}
