//! Whether a log is what it should be: fed with its rows in order, from Postgres or from a file.
//! Pure.

use std::collections::HashMap;

use schemas::{EventId, Position, Version};
use uuid::Uuid;

use super::chain::Chain;
use super::report::{Kind, Report, Violations};
use super::row::{AnswerRow, EventRow};
use super::seal::Seal;
use crate::slice::slice;

/// What is looked at, and what it is held against.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The first position.
    pub from: Position,
    /// The last one.
    pub to: Position,
    /// Whether that is the end of the log: then the last command is whole.
    pub whole: bool,
    /// The ledger has a row for every event recorded from then on, in microseconds since the
    /// start of 2000; none where there is no ledger.
    pub ledger_from: Option<i64>,
    /// Every seal there is, also beyond the range.
    pub seals: Vec<Seal>,
    /// Seals that were kept elsewhere: number and bytes.
    pub expected: Vec<(i64, [u8; 32])>,
}

/// What has been seen of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) first: Position,
    pub(super) first_version: Version,
    pub(super) last: Position,
    pub(super) version: Version,
    category: u16,
}

/// The events of one command, which stand beside each other.
#[derive(Debug)]
struct Group {
    command: Uuid,
    events: u32,
    last: Position,
    recorded_at: i64,
    /// The version that each of its streams has after it.
    streams: Vec<(Uuid, Version)>,
    answered: bool,
}

/// Walks through a log. Feed it every row of the ledger at or before a position before the event
/// after that position; see [`Audit::answer`].
#[derive(Debug)]
pub struct Audit {
    from: Position,
    to: Position,
    whole: bool,
    ledger_from: Option<i64>,
    next: Position,
    recorded_at: i64,
    group: Option<Group>,
    pub(super) streams: HashMap<Uuid, Seen>,
    /// How many streams there were, once `streams` has been taken.
    pub(super) streams_seen: usize,
    /// Streams whose first event in the range is not their first: stream, version, position.
    pub(super) unfounded: Vec<(Uuid, Version, Position)>,
    categories: Vec<String>,
    chain: Chain,
    events: u64,
    answers: u64,
    pub(super) violations: Violations,
}

impl Audit {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        let mut violations = Violations::default();
        let chain = Chain::new(scope.from, scope.to, scope.seals, &scope.expected, &mut violations);
        Self {
            from: scope.from,
            to: scope.to,
            whole: scope.whole,
            ledger_from: scope.ledger_from,
            next: scope.from,
            recorded_at: i64::MIN,
            group: None,
            streams: HashMap::new(),
            streams_seen: 0,
            unfounded: Vec::new(),
            categories: Vec::new(),
            chain,
            events: 0,
            answers: 0,
            violations,
        }
    }

    /// The next event; `bytes` is its canonical form.
    pub fn event(&mut self, event: &EventRow<'_>, bytes: &[u8]) {
        self.events += 1;
        let (at, stream) = (Some(event.position), Some(event.stream_id));
        let torn = event.position != self.next;
        if torn {
            let next = self.next;
            self.violations.add(Kind::Gap, at, None, || {
                if event.position > next {
                    format!("positions {next} to {} are missing", event.position - 1)
                } else {
                    format!("position {} comes after position {}", event.position, next - 1)
                }
            });
        }
        self.next = event.position + 1;
        self.chain.event(event.position, bytes, &mut self.violations);
        if event.recorded_at < self.recorded_at {
            let earlier = self.recorded_at - event.recorded_at;
            self.violations.add(Kind::Time, at, stream, || {
                format!("it was recorded {earlier} µs before the event before it")
            });
        }
        self.recorded_at = event.recorded_at;
        let expected = slice(event.stream_id);
        if event.slice != expected {
            self.violations.add(Kind::Slice, at, stream, || {
                format!("its slice is {}, and that of its stream is {expected}", event.slice)
            });
        }
        self.version(event);
        self.command(event, torn || event.position == self.from && self.from > 1);
    }

    fn version(&mut self, event: &EventRow<'_>) {
        let (at, stream) = (Some(event.position), Some(event.stream_id));
        let known = self.categories.iter().position(|category| category == event.category);
        let index = known.unwrap_or_else(|| {
            self.categories.push(event.category.to_owned());
            self.categories.len() - 1
        });
        let category = u16::try_from(index).unwrap_or(u16::MAX);
        let violations = &mut self.violations;
        let version = event.stream_version;
        if let Some(seen) = self.streams.get_mut(&event.stream_id) {
            if version != seen.version + 1 {
                violations.add(Kind::Version, at, stream, || {
                    format!("version {version} comes after version {}", seen.version)
                });
            }
            if category != seen.category {
                violations.add(Kind::Stream, at, stream, || {
                    format!("its category is {}, and was another before", event.category)
                });
            }
            (seen.version, seen.last) = (version, event.position);
            return;
        }
        if version < 1 || (version > 1 && self.from <= 1) {
            violations.add(Kind::Version, at, stream, || {
                format!("the stream's first event has version {version}, not 1")
            });
        }
        if version > 1 && self.from > 1 {
            self.unfounded.push((event.stream_id, version, event.position));
        }
        let (first, last) = (event.position, event.position);
        let seen = Seen { first, first_version: version, last, version, category };
        self.streams.insert(event.stream_id, seen);
    }

    /// `torn`: what stands before the event is not known.
    fn command(&mut self, event: &EventRow<'_>, torn: bool) {
        if self.group.as_ref().is_none_or(|group| group.command != event.command_id) {
            self.close();
            self.group = Some(Group {
                command: event.command_id,
                events: 0,
                last: event.position,
                recorded_at: event.recorded_at,
                streams: Vec::new(),
                answered: false,
            });
        }
        let Some(group) = &mut self.group else { return };
        if torn {
            group.events = begun(event);
        }
        let (at, stream) = (Some(event.position), Some(event.stream_id));
        if event.event_id != EventId::derive(event.command_id, &group.events.to_string()).uuid() {
            let (index, command) = (group.events, event.command_id);
            self.violations.add(Kind::EventId, at, stream, || {
                format!("its id is not that of event {index} of command {command}")
            });
        }
        if group.answered {
            let (last, command) = (group.last, group.command);
            self.violations.add(Kind::Ledger, at, stream, || {
                format!("the ledger says that command {command} ended at position {last}")
            });
        }
        group.events += 1;
        (group.last, group.recorded_at) = (event.position, event.recorded_at);
        match group.streams.iter_mut().find(|(id, _)| *id == event.stream_id) {
            Some((_, version)) => *version = event.stream_version,
            None => group.streams.push((event.stream_id, event.stream_version)),
        }
    }

    /// The command that ended with the event before has its answer in the ledger, or should.
    fn close(&mut self) {
        let Some(group) = self.group.take() else { return };
        let kept = self.ledger_from.is_some_and(|from| group.recorded_at >= from);
        // A range may end in the middle of a command.
        if kept && !group.answered && (self.whole || group.last < self.to) {
            self.missing(&group);
        }
    }

    fn missing(&mut self, group: &Group) {
        let (command, last) = (group.command, group.last);
        let stream = group.streams.first().map(|(id, _)| *id);
        self.violations.add(Kind::Ledger, Some(last), stream, || {
            format!("the ledger has no row for command {command}, whose last event is here")
        });
    }

    /// A row of the ledger, after the event at its position and before the one after that.
    pub fn answer(&mut self, row: &AnswerRow<'_>) {
        self.answers += 1;
        let (at, stream) = (Some(row.position), Some(row.stream_id));
        let command = row.command_id;
        let group = self.group.as_mut().filter(|group| group.command == command);
        let Some(group) = group else {
            // It changed nothing, so its stream is one that was there. Where the range begins
            // later than the log, a stream may not have been seen yet.
            let seen = self.streams.get(&row.stream_id).map(|seen| seen.version);
            let found = seen.or_else(|| (self.from <= 1).then_some(0));
            if let Some(found) = found.filter(|found| *found < row.version) {
                self.violations.add(Kind::Ledger, at, stream, || {
                    format!(
                        "the ledger says that command {command} left the stream at version {}, \
                         and at this position it is at {found}",
                        row.version
                    )
                });
            }
            return;
        };
        let twice = std::mem::replace(&mut group.answered, true);
        let wrong = if twice {
            Some("the ledger has more than one row for it".to_owned())
        } else if row.position != group.last {
            Some(format!("its last event is at position {}", group.last))
        } else if row.recorded_at != group.recorded_at {
            Some("its events were recorded at another time".to_owned())
        } else if row.refusal_code.is_some() {
            Some("the ledger says that it was refused, and it has events".to_owned())
        } else {
            let left = group.streams.iter().find(|(id, _)| *id == row.stream_id);
            left.filter(|(_, version)| *version != row.version).map(|(_, version)| {
                format!("it left the stream at version {version}, not {}", row.version)
            })
        };
        if let Some(wrong) = wrong {
            self.violations.add(Kind::Ledger, at, stream, || format!("command {command}: {wrong}"));
        }
    }

    /// The log ends at `head`; seals that go beyond it say that it was longer.
    pub(super) fn sealed_beyond(&mut self, head: Position) {
        let sealed_to = self.chain.sealed_to();
        if sealed_to > head {
            self.violations.add(Kind::Gap, Some(head + 1), None, || {
                format!("the log ends at position {head}, and is sealed to {sealed_to}")
            });
        }
    }

    /// Bytes that are no row.
    pub fn malformed(&mut self, what: &str) {
        let position = self.next;
        self.violations.add(Kind::Form, Some(position), None, || {
            format!("{what} after position {} cannot be read", position - 1)
        });
    }

    /// The category that the events of a stream have.
    pub(super) fn category(&self, seen: &Seen) -> &str {
        self.categories.get(usize::from(seen.category)).map_or("", String::as_str)
    }

    /// The last position that was seen.
    #[must_use]
    pub fn position(&self) -> Position {
        self.next - 1
    }

    /// Everything has been fed.
    pub(super) fn end(&mut self) {
        if self.next <= self.to {
            let (next, to) = (self.next, self.to);
            self.violations.add(Kind::Gap, Some(next), None, || {
                format!("positions {next} to {to} are missing")
            });
        }
        self.close();
        self.chain.end(&mut self.violations);
    }

    /// What it came to.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.end();
        self.report()
    }

    pub(super) fn report(self) -> Report {
        Report {
            from: self.from,
            to: self.to,
            events: self.events,
            answers: self.answers,
            streams: self.streams.len().max(self.streams_seen) as u64,
            segments: self.chain.checked,
            last_seal: self.chain.last_seal(),
            sealed_to: self.chain.sealed_to(),
            violations: self.violations,
        }
    }
}

/// How many events of its command stand before this one, found by its id.
fn begun(event: &EventRow<'_>) -> u32 {
    let most = u32::try_from(crate::request::EVENTS_MAX).unwrap_or(u32::MAX);
    let of = |index: &u32| EventId::derive(event.command_id, &index.to_string()).uuid();
    (0..most).find(|index| of(index) == event.event_id).unwrap_or(0)
}
