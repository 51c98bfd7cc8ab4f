//! The bytes that are sealed, the same for ever: what Postgres writes for
//! `copy (select …) to stdout (format binary)`, without its header and its trailer.
//!
//! An event is the number of its columns as a 16-bit integer, then for each column its length in
//! bytes as a 32-bit integer (−1 where it is null) and its bytes. Integers have the most
//! significant byte first, an id is its sixteen bytes, a time is a 64-bit integer of microseconds
//! since the start of 2000 in UTC, and a text is its bytes in UTF-8; the payload is the JSON text
//! as it was stored. docs/log.md says the same to strangers.

use schemas::Position;
use sha2::{Digest as _, Sha256};

/// The columns of an event, in the order in which they are sealed.
pub(super) const COLUMNS: &str = "position, stream_id, stream_version, event_id, command_id, \
     correlation_id, causation_id, occurred_at, recorded_at, slice, category, event_type, actor, \
     traceparent, payload";

/// What every sealed text starts with; another form would have another number.
const PREFIX: &[u8] = b"waybill.segment.v1";

/// What a copy starts with: signature, flags, and the length of an extension that is not there.
pub(super) const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What a copy ends with.
pub(super) const COPY_TRAILER: &[u8] = &[0xff, 0xff];

/// The seal before the first.
pub(super) const NO_SEAL: [u8; 32] = [0; 32];

/// The statement that copies events out in canonical form.
pub(crate) fn copy_events(first: Position, last: Position) -> String {
    format!(
        "copy (select {COLUMNS} from events where position between {first} and {last} \
         order by position) to stdout (format binary)"
    )
}

/// A segment that is being hashed.
#[derive(Debug, Clone)]
pub(super) struct Hash(Sha256);

impl Hash {
    /// Starts with everything that is sealed besides the events: which segment of which log this
    /// is, and what came before.
    pub(super) fn new(
        log: &str,
        number: i64,
        previous: &[u8; 32],
        first: Position,
        last: Position,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(PREFIX);
        // A log's name has 32 bytes at most.
        hash.update(u32::try_from(log.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(log.as_bytes());
        hash.update(number.to_be_bytes());
        hash.update(previous);
        hash.update(first.to_be_bytes());
        hash.update(last.to_be_bytes());
        Self(hash)
    }

    /// Adds events in canonical form, any number of whole ones or a part of one.
    pub(super) fn update(&mut self, canonical: &[u8]) {
        self.0.update(canonical);
    }

    /// The seal.
    pub(super) fn seal(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
