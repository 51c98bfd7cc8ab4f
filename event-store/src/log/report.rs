//! What was found wrong with a log.

use std::collections::BTreeMap;
use std::fmt;

use schemas::Position;
use uuid::Uuid;

/// How many violations are named; all of them are counted.
pub const VIOLATIONS_MAX: usize = 100;

/// What a violation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A position is missing, or there twice.
    Gap,
    /// A stream's versions are not 1, 2, 3, ….
    Version,
    /// The `streams` table says something else than the events.
    Stream,
    /// The ledger says something else than the events.
    Ledger,
    /// An event's id does not follow from its command's.
    EventId,
    /// An event is in another slice than its stream.
    Slice,
    /// An event was recorded before the one before it.
    Time,
    /// A seal is not that of its segment.
    Seal,
    /// A row is not what the log stores.
    Form,
}

impl Kind {
    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Version => "version",
            Self::Stream => "stream",
            Self::Ledger => "ledger",
            Self::EventId => "event_id",
            Self::Slice => "slice",
            Self::Time => "time",
            Self::Seal => "seal",
            Self::Form => "form",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Gap => {
                "events were removed or added behind the log's back: stop writing, and compare \
                 with a backup or an export"
            }
            Self::Version => {
                "stop whoever writes to the stream, and compare it with a backup or an export: \
                 it cannot be folded as it is"
            }
            Self::Stream => {
                "the events are the truth: while nobody writes, set the stream's row to what they \
                 say, as the owner"
            }
            Self::Ledger => {
                "the events are the truth; until the ledger is mended, do not send the command \
                 again: it could be carried out twice"
            }
            Self::EventId | Self::Slice | Self::Time | Self::Form => {
                "the event was changed or not written by this program: compare it with a backup \
                 or an export"
            }
            Self::Seal => {
                "compare every event of the segment with a backup, an export, or the messages \
                 in JetStream, and the seal with one that was kept elsewhere"
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What it is about.
    pub kind: Kind,
    /// Where in the log.
    pub position: Option<Position>,
    /// In which stream.
    pub stream: Option<Uuid>,
    /// What was found, and what was expected.
    pub what: String,
}

/// Violations: the first ones by name, all of them by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations {
    /// At most [`VIOLATIONS_MAX`], in the order in which they were found.
    pub named: Vec<Violation>,
    /// How many there are of each kind.
    pub counts: BTreeMap<Kind, u64>,
}

impl Violations {
    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn add(
        &mut self,
        kind: Kind,
        position: Option<Position>,
        stream: Option<Uuid>,
        what: impl FnOnce() -> String,
    ) {
        *self.counts.entry(kind).or_default() += 1;
        if self.named.len() < VIOLATIONS_MAX {
            self.named.push(Violation { kind, position, stream, what: what() });
        }
    }
}

/// What a walk through a log came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The first position that was looked at.
    pub from: Position,
    /// The last one.
    pub to: Position,
    /// Events seen.
    pub events: u64,
    /// Rows of the ledger seen.
    pub answers: u64,
    /// Streams seen.
    pub streams: u64,
    /// Segments whose seal was computed again.
    pub segments: u64,
    /// The last of them as `NUMBER:HEX`, to be kept elsewhere.
    pub last_seal: Option<String>,
    /// The last position that is in a sealed segment: what comes after it is only checked.
    pub sealed_to: Position,
    /// What does not hold.
    pub violations: Violations,
}

impl Report {
    /// Whether everything holds.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.total() == 0
    }
}
