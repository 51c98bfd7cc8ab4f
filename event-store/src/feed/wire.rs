//! An event on its way through JetStream: a `CloudEvents` message in binary mode, and back.
//!
//! Attributes travel as `ce-*` headers, the event's JSON as the body. What `CloudEvents` has no
//! name for is an extension attribute, so that an event can be rebuilt completely from its
//! message and nobody needs to ask Postgres.

use async_nats::{HeaderMap, HeaderName};
use chrono::{DateTime, SecondsFormat};
use schemas::{
    Category, CommandId, EventId, Fact, Position, Recorded, StreamId, Timestamp, Version,
};
use sqlx::PgConnection;
use trace::{Kind, Span};
use uuid::Uuid;

/// JetStream drops a message whose id it has seen lately.
const MESSAGE_ID: &str = "Nats-Msg-Id";
const ID: &str = "ce-id";
const SOURCE: &str = "ce-source";
const TYPE: &str = "ce-type";
const SUBJECT: &str = "ce-subject";
const TIME: &str = "ce-time";
const SPEC_VERSION: &str = "ce-specversion";
const CONTENT_TYPE: &str = "ce-datacontenttype";
const RECORDED_TIME: &str = "ce-recordedtime";
const CORRELATION_ID: &str = "ce-correlationid";
const CAUSATION_ID: &str = "ce-causationid";
const COMMAND_ID: &str = "ce-commandid";
const ACTOR: &str = "ce-actor";
const CATEGORY: &str = "ce-category";
const STREAM_VERSION: &str = "ce-streamversion";
const SLICE: &str = "ce-slice";
pub(crate) const POSITION: &str = "ce-position";
const TRACE_PARENT: &str = "traceparent";

/// What stands in a header of every message, for whoever reads the stream without us.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Its name.
    pub name: &'static str,
    /// The form of its value.
    pub value: HeaderValue,
    /// Whether it may be missing.
    pub optional: bool,
    /// What it means.
    pub what: &'static str,
}

/// The form of a header's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderValue {
    /// Any text on one line.
    Text,
    /// A UUID with hyphens.
    Uuid,
    /// A moment in UTC, after RFC 3339, to the microsecond.
    Time,
    /// A whole number in decimal digits.
    Number,
    /// This and nothing else.
    Always(&'static str),
}

/// The headers of every message.
pub const HEADERS: [Header; 18] = [
    header(
        MESSAGE_ID,
        HeaderValue::Text,
        "`<log>:<position>`, by which JetStream drops repetitions.",
    ),
    header(ID, HeaderValue::Uuid, "The event's id."),
    header(SOURCE, HeaderValue::Text, "`/waybill/<log>`."),
    header(TYPE, HeaderValue::Text, "Name and version of the event's type."),
    header(SUBJECT, HeaderValue::Uuid, "Whose event it is: the id of the stream."),
    header(TIME, HeaderValue::Time, "When it happened, as far as whoever told us knows."),
    header(SPEC_VERSION, HeaderValue::Always("1.0"), "The version of CloudEvents."),
    header(CONTENT_TYPE, HeaderValue::Always("application/json"), "The form of the body."),
    header(RECORDED_TIME, HeaderValue::Time, "When it was written to the log."),
    header(CORRELATION_ID, HeaderValue::Uuid, "The whole conversation, as the order's id."),
    header(CAUSATION_ID, HeaderValue::Uuid, "The event or command that led to the command."),
    header(COMMAND_ID, HeaderValue::Uuid, "The command that it answers."),
    Header {
        name: ACTOR,
        value: HeaderValue::Text,
        optional: true,
        what: "Who asked; missing where it does not fit on one line.",
    },
    header(CATEGORY, HeaderValue::Text, "The context that the stream belongs to."),
    header(STREAM_VERSION, HeaderValue::Number, "Its place in the stream, from 1 without gaps."),
    header(SLICE, HeaderValue::Number, "A fixed hash of the stream's id, to share work by."),
    header(POSITION, HeaderValue::Number, "Its place in the log, from 1 without gaps."),
    Header {
        name: TRACE_PARENT,
        value: HeaderValue::Text,
        optional: true,
        what: "W3C trace context of the request, where it had one.",
    },
];

const fn header(name: &'static str, value: HeaderValue, what: &'static str) -> Header {
    Header { name, value, optional: false, what }
}

/// The JetStream stream of a log.
pub(crate) fn stream_name(log: &str) -> String {
    format!("WAYBILL_{log}")
}

/// Every subject of a log.
pub(crate) fn subjects(log: &str) -> String {
    format!("evt.{log}.>")
}

/// A row of the log whose payload nobody looked into.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Raw {
    pub(crate) position: Position,
    stream_id: Uuid,
    stream_version: Version,
    slice: i16,
    category: String,
    event_type: String,
    event_id: Uuid,
    command_id: Uuid,
    correlation_id: Uuid,
    causation_id: Uuid,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    traceparent: Option<String>,
    actor: String,
    pub(crate) payload: String,
}

/// At most `limit` rows after `after`, in order.
///
/// Positions have no holes, so the range holds exactly that many. A bare `limit` would leave it to
/// the statistics whether Postgres walks the key or sorts the rest of the log, and those of a log
/// that has just grown are wrong.
pub(crate) async fn read(
    connection: &mut PgConnection,
    after: Position,
    limit: i64,
) -> Result<Vec<Raw>, sqlx::Error> {
    sqlx::query_as(
        "select position, stream_id, stream_version, slice, category, event_type, event_id,
                command_id, correlation_id, causation_id, occurred_at, recorded_at, traceparent, actor,
                payload::text as payload
         from events where position > $1 and position <= $1 + $2 order by position",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await
}

impl Raw {
    /// Where it is published.
    pub(crate) fn subject(&self, log: &str) -> String {
        format!("evt.{log}.{}", self.event_type)
    }

    /// By what JetStream knows it.
    pub(crate) fn message_id(&self, log: &str) -> String {
        format!("{log}:{}", self.position)
    }

    /// The span of its way to JetStream.
    pub(crate) fn span(&self) -> Span {
        let name = || format!("publish {}", self.event_type);
        let mut span = Span::heard(Kind::Producer, name, [self.traceparent.as_deref()]);
        span.set("messaging.system", "nats");
        span.set("waybill.position", self.position);
        span
    }

    /// Everything but the payload. What a header cannot hold is left out: whoever misses it
    /// reads the event from Postgres.
    pub(crate) fn headers(&self, log: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: String| {
            if !value.contains(['\r', '\n']) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        put(MESSAGE_ID, self.message_id(log));
        put(ID, self.event_id.to_string());
        put(SOURCE, format!("/waybill/{log}"));
        put(TYPE, self.event_type.clone());
        put(SUBJECT, self.stream_id.to_string());
        put(TIME, written(self.occurred_at));
        put(SPEC_VERSION, "1.0".to_owned());
        put(CONTENT_TYPE, "application/json".to_owned());
        put(RECORDED_TIME, written(self.recorded_at));
        put(CORRELATION_ID, self.correlation_id.to_string());
        put(CAUSATION_ID, self.causation_id.to_string());
        put(COMMAND_ID, self.command_id.to_string());
        put(ACTOR, self.actor.clone());
        put(CATEGORY, self.category.clone());
        put(STREAM_VERSION, self.stream_version.to_string());
        put(SLICE, self.slice.to_string());
        put(POSITION, self.position.to_string());
        if let Some(traceparent) = &self.traceparent {
            put(TRACE_PARENT, traceparent.clone());
        }
        headers
    }
}

fn written(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A message that is not an event of ours: which header is missing or wrong.
#[derive(Debug, thiserror::Error)]
#[error("the message has no usable `{0}`")]
pub(crate) struct Malformed(&'static str);

/// The position that a message claims.
pub(crate) fn position(headers: &HeaderMap) -> Option<Position> {
    headers.get(POSITION)?.as_str().parse().ok()
}

/// The id of the event that a message claims to be.
pub(crate) fn event_id(headers: &HeaderMap) -> Option<Uuid> {
    headers.get(ID)?.as_str().parse().ok()
}

/// Rebuilds an event from its message.
pub(crate) fn recorded(headers: &HeaderMap, body: &[u8]) -> Result<Recorded, Malformed> {
    let text = |name: &'static str| {
        headers.get(name).map(async_nats::HeaderValue::as_str).ok_or(Malformed(name))
    };
    let uuid = |name| Uuid::try_parse(text(name)?).map_err(|_| Malformed(name));
    let number = |name| text(name)?.parse::<i64>().map_err(|_| Malformed(name));
    let time = |name| {
        let time = DateTime::parse_from_rfc3339(text(name)?).map_err(|_| Malformed(name))?;
        Ok(time.to_utc())
    };
    let category: Category = text(CATEGORY)?.parse().map_err(|_| Malformed(CATEGORY))?;
    let event_type = text(TYPE)?;
    let payload = std::str::from_utf8(body).map_err(|_| Malformed("body"))?;
    Ok(Recorded {
        position: number(POSITION)?,
        stream: StreamId::new(category, uuid(SUBJECT)?),
        version: number(STREAM_VERSION)?,
        event_id: EventId::new(uuid(ID)?),
        command_id: CommandId::new(uuid(COMMAND_ID)?),
        correlation_id: uuid(CORRELATION_ID)?,
        causation_id: uuid(CAUSATION_ID)?,
        occurred_at: time(TIME)?,
        recorded_at: time(RECORDED_TIME)?,
        traceparent: headers.get(TRACE_PARENT).map(|value| value.as_str().to_owned()),
        actor: text(ACTOR)?.to_owned(),
        fact: Fact::decode(category, event_type, payload),
        event_type: event_type.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(actor: &str) -> Raw {
        let time = DateTime::parse_from_rfc3339("2026-01-02T03:04:05.678912Z").unwrap().to_utc();
        Raw {
            position: 7,
            stream_id: Uuid::from_u128(1),
            stream_version: 3,
            slice: 9,
            category: "order".to_owned(),
            event_type: "order.unheard_of.v1".to_owned(),
            event_id: Uuid::from_u128(2),
            command_id: Uuid::from_u128(3),
            correlation_id: Uuid::from_u128(4),
            causation_id: Uuid::from_u128(5),
            occurred_at: time,
            recorded_at: time,
            traceparent: Some("00-1-2-01".to_owned()),
            actor: actor.to_owned(),
            payload: r#"{"a":1}"#.to_owned(),
        }
    }

    #[test]
    fn an_event_comes_back_whole() {
        let raw = raw("customer");
        let event = recorded(&raw.headers("main"), raw.payload.as_bytes()).unwrap();
        assert_eq!(event.position, 7);
        assert_eq!(event.stream, StreamId::new(Category::Order, Uuid::from_u128(1)));
        assert_eq!(event.version, 3);
        assert_eq!(event.event_id.uuid(), Uuid::from_u128(2));
        assert_eq!(event.recorded_at, raw.recorded_at);
        assert_eq!(event.traceparent, raw.traceparent);
        assert!(matches!(event.fact, Fact::Unknown { payload, .. } if payload == raw.payload));
    }

    #[test]
    fn the_headers_that_are_sent_are_those_that_are_described() {
        let mut raw = raw("customer");
        for traced in [true, false] {
            if !traced {
                raw.traceparent = None;
            }
            let sent = raw.headers("main");
            for Header { name, value, optional, .. } in HEADERS {
                let Some(text) = sent.get(name).map(async_nats::HeaderValue::as_str) else {
                    assert!(optional && !traced, "{name} is missing");
                    continue;
                };
                let fits = match value {
                    HeaderValue::Text => !text.is_empty(),
                    HeaderValue::Uuid => Uuid::try_parse(text).is_ok() && text.len() == 36,
                    HeaderValue::Time => DateTime::parse_from_rfc3339(text).is_ok(),
                    HeaderValue::Number => text.bytes().all(|byte| byte.is_ascii_digit()),
                    HeaderValue::Always(always) => text == always,
                };
                assert!(fits, "{name}: {text} is not {value:?}");
            }
            let described = |name: &str| HEADERS.iter().any(|header| header.name == name);
            for (name, _) in sent.iter() {
                assert!(described(name.as_ref()), "{name} is not described");
            }
        }
    }

    #[test]
    fn what_a_header_cannot_hold_is_left_for_postgres() {
        let raw = raw("two\nlines");
        let error = recorded(&raw.headers("main"), b"{}").unwrap_err();
        assert_eq!(error.to_string(), "the message has no usable `ce-actor`");
    }
}
