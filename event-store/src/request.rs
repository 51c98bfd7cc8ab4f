//! A command on its way to the log, and what can never be stored.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use chrono::Datelike as _;
use schemas::{Encoded, StreamId, Version};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::ticket::Ticket;
use crate::{Append, AppendError, Done};

/// The most streams that one command touches: a reservation of every line of an order, twice over.
pub(crate) const STREAMS_MAX: usize = 512;
/// The most events of one command.
pub(crate) const EVENTS_MAX: usize = 1000;
/// The largest payload of one command, its events together, in bytes.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// The longest name of an event type, an actor or a refusal, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 200;
/// The longest detail of a refusal and the longest trace context, in bytes.
pub(crate) const DETAIL_BYTES_MAX: usize = 4096;
/// The highest version that a stream is expected at. None gets there, and counting on from it does
/// not overflow.
pub(crate) const VERSION_MAX: Version = 1 << 48;
/// How deep arrays and objects nest in an event. `serde_json` reads 127 levels back, and a reader may
/// wrap what it reads; Postgres would run out of stack some thousands below.
pub(crate) const DEPTH_MAX: usize = 100;
/// The years that RFC 3339 can write.
pub(crate) const YEARS: RangeInclusive<i32> = 1..=9999;

/// A command on its way to the log.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) append: Append,
    /// Streams that it was decided on and does not write: they must not have moved either.
    pub(crate) reads: Vec<(StreamId, Version)>,
    /// The commands, not yet written when this was decided, whose events it builds on.
    pub(crate) after: Vec<Ticket>,
    pub(crate) ticket: Ticket,
    pub(crate) reply: oneshot::Sender<Result<Done, AppendError>>,
}

impl Request {
    /// Every stream it builds on, with the version that it must have.
    pub(crate) fn bases(&self) -> impl Iterator<Item = (StreamId, Version)> {
        let writes = self.append.writes.iter().map(|write| (write.stream, write.expected));
        writes.chain(self.reads.iter().copied())
    }

    /// Every stream it writes, with the version that it leaves.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (StreamId, Version)> {
        self.append.writes.iter().map(|write| (write.stream, write.end()))
    }

    /// The version that answers the command.
    pub(crate) fn answer(&self) -> Version {
        let (stream, version) = self.append.answers;
        self.ends().find(|(written, _)| *written == stream).map_or(version, |(_, end)| end)
    }

    /// About how much of the batch it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let events = self.append.writes.iter().flat_map(|write| &write.events);
        events.map(|event| event.payload.len() + 64).sum::<usize>() + 64
    }
}

impl crate::Write {
    /// The version that the stream has afterwards.
    pub(crate) fn end(&self) -> Version {
        self.expected + Version::try_from(self.events.len()).unwrap_or(Version::MAX)
    }
}

/// Finds what Postgres would refuse, before it fails a whole batch.
pub(crate) fn check(append: &Append, reads: &[(StreamId, Version)]) -> Result<(), AppendError> {
    let mut named = HashSet::new();
    let streams = append.writes.iter().map(|write| (write.stream, write.expected));
    for (stream, expected) in streams.chain(reads.iter().copied()) {
        require((0..=VERSION_MAX).contains(&expected), || {
            format!("{stream} is expected at version {expected}, which no stream has")
        })?;
        require(named.insert(stream.id), || format!("{stream} is named twice"))?;
    }
    require(named.len() <= STREAMS_MAX, || format!("more than {STREAMS_MAX} streams"))?;
    require(append.writes.iter().all(|write| !write.events.is_empty()), || {
        "a write without events".to_owned()
    })?;
    let events = || append.writes.iter().flat_map(|write| &write.events);
    require(events().count() <= EVENTS_MAX, || format!("more than {EVENTS_MAX} events"))?;
    let bytes = events().map(|event| event.payload.len()).sum::<usize>();
    require(bytes <= PAYLOAD_BYTES_MAX, || {
        format!("{bytes} bytes of events, {PAYLOAD_BYTES_MAX} are the most")
    })?;
    require(append.refused.is_none() || append.writes.is_empty(), || {
        "a refusal that writes events".to_owned()
    })?;

    let at = append.meta.occurred_at;
    require(YEARS.contains(&at.year()), || {
        format!("something that happened in the year {}, which no clock shows", at.year())
    })?;
    word("an actor", &append.meta.actor, NAME_BYTES_MAX)?;
    word("a trace context", append.meta.traceparent.as_deref().unwrap_or(""), DETAIL_BYTES_MAX)?;
    if let Some(refused) = &append.refused {
        word("a refusal's code", &refused.code, NAME_BYTES_MAX)?;
        text("a refusal's detail", &refused.detail, DETAIL_BYTES_MAX)?;
    }
    for write in &append.writes {
        for (event, number) in write.events.iter().zip(1..) {
            check_event(event).map_err(|why| {
                AppendError::Invalid(format!("event {number} for {}: {why}", write.stream))
            })?;
        }
    }
    Ok(())
}

fn check_event(Encoded { event_type, payload }: &Encoded) -> Result<(), String> {
    // It becomes a subject of NATS, where spaces, wildcards and empty parts mean something.
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    if event_type.len() > NAME_BYTES_MAX {
        return Err(format!("a type of more than {NAME_BYTES_MAX} bytes"));
    }
    if !event_type.split('.').all(plain) {
        return Err(format!("the type {event_type:?} is not made of letters, digits, _ - and ."));
    }
    if has_nul(payload) {
        return Err("its text contains NUL".to_owned());
    }
    if payload.bytes().filter(|b| matches!(b, b'[' | b'{')).count() > DEPTH_MAX
        && depth(payload) > DEPTH_MAX
    {
        return Err(format!("its JSON nests more than {DEPTH_MAX} levels deep"));
    }
    // Postgres keeps half a surrogate pair, which nobody can read back.
    if payload.contains("\\u")
        && let Err(error) = serde_json::from_str::<Value>(payload)
    {
        return Err(format!("its JSON could not be read back: {error}"));
    }
    Ok(())
}

fn text(what: &str, text: &str, bytes_max: usize) -> Result<(), AppendError> {
    require(text.len() <= bytes_max, || format!("{what} of more than {bytes_max} bytes"))?;
    require(!text.contains('\0'), || format!("{what} that contains NUL"))
}

/// Text that travels as the value of a header.
fn word(what: &str, word: &str, bytes_max: usize) -> Result<(), AppendError> {
    text(what, word, bytes_max)?;
    require(!word.contains(char::is_control), || format!("{what} with a control character"))
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), AppendError> {
    if holds { Ok(()) } else { Err(AppendError::Invalid(otherwise())) }
}

/// Whether a JSON text contains NUL, bare or escaped. (`\\u0000` is a backslash and five letters.)
fn has_nul(json: &str) -> bool {
    json.contains('\0')
        || json.match_indices("\\u0000").any(|(at, _)| {
            json.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0
        })
}

/// How deep the arrays and objects of a JSON text nest.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_found_however_it_is_written() {
        for json in ["\"a\0\"", r#""\u0000""#, r#""\\\u0000""#, r#"{"a":"b\u0000c"}"#] {
            assert!(has_nul(json), "{json}");
        }
        for json in [r#""\\u0000""#, r#""u0000""#, r#""\u0021""#] {
            assert!(!has_nul(json), "{json}");
        }
    }

    #[test]
    fn depth_is_that_of_brackets_outside_of_text() {
        for (json, expected) in
            [("7", 0), ("{}", 1), (r#"[{"a":[]},[1]]"#, 3), (r#"["[[\"[[",{}]"#, 2)]
        {
            assert_eq!(depth(json), expected, "{json}");
        }
        let wide = format!("[{}1]", "[],".repeat(1000));
        let event = |payload| Encoded { event_type: "order.counted.v1".to_owned(), payload };
        assert_eq!(check_event(&event(wide)), Ok(()));
        let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(check_event(&event(deep(DEPTH_MAX))), Ok(()));
        assert!(check_event(&event(deep(DEPTH_MAX + 1))).unwrap_err().contains("100 levels"));
    }
}
