//! Whether the seals are those of their segments.

use schemas::Position;

use super::canon::{Hash, NO_SEAL};
use super::report::{Kind, Violations};
use super::seal::{SEGMENT_POSITIONS, Seal};

/// The seals of a log, held against its events as they come.
#[derive(Debug)]
pub(super) struct Chain {
    seals: Vec<Seal>,
    to: Position,
    /// The seal whose segment comes next or is being hashed.
    at: usize,
    hash: Option<Hash>,
    pub(super) checked: u64,
}

impl Chain {
    /// Looks at the seals themselves, and starts with the first segment that lies whole in the
    /// range.
    pub(super) fn new(
        from: Position,
        to: Position,
        seals: Vec<Seal>,
        expected: &[(i64, [u8; 32])],
        violations: &mut Violations,
    ) -> Self {
        for (seal, number) in seals.iter().zip(1..) {
            let (first, last) = ((number - 1) * SEGMENT_POSITIONS + 1, number * SEGMENT_POSITIONS);
            let at = Some(seal.first);
            if seal.number != number {
                violations.add(Kind::Seal, at, None, || {
                    format!("segment {} comes where segment {number} should", seal.number)
                });
                break; // All the others would be counted wrong.
            }
            if (seal.first, seal.last) != (first, last) {
                violations.add(Kind::Seal, at, None, || {
                    format!("segment {number} is from position {} to {}", seal.first, seal.last)
                });
            }
            if seal.seal.len() != 32 {
                violations.add(Kind::Seal, at, None, || {
                    format!("the seal of segment {number} has {} bytes, not 32", seal.seal.len())
                });
            }
            if seal.log != seals[0].log {
                violations.add(Kind::Seal, at, None, || {
                    format!("segment {number} is of the log `{}`, not `{}`", seal.log, seals[0].log)
                });
            }
        }
        for (number, bytes) in expected {
            let last = number.saturating_mul(SEGMENT_POSITIONS);
            let found = seals.iter().find(|seal| seal.number == *number);
            let what = match found {
                None => "is not sealed: the log or its seals were cut short".to_owned(),
                Some(seal) if seal.seal == bytes => continue,
                Some(seal) => format!("has the seal {}", hex::encode(&seal.seal)),
            };
            violations.add(Kind::Seal, Some(last - SEGMENT_POSITIONS + 1), None, || {
                format!(
                    "segment {number} {what}, and {} was expected: positions 1 to {last} are not \
                     what they were when that seal was made",
                    hex::encode(bytes)
                )
            });
        }
        let at = seals.iter().position(|seal| seal.first >= from).unwrap_or(seals.len());
        Self { seals, to, at, hash: None, checked: 0 }
    }

    /// The event at `position` has these canonical bytes.
    pub(super) fn event(&mut self, position: Position, bytes: &[u8], violations: &mut Violations) {
        // A segment that is cut by a gap has ended as well.
        while self.seals.get(self.at).is_some_and(|seal| seal.last < position) {
            self.close(violations);
        }
        let Some(seal) = self.seals.get(self.at) else { return };
        if position < seal.first || seal.last > self.to {
            return;
        }
        let before = self.at.checked_sub(1).and_then(|before| self.seals.get(before));
        let previous = before.map_or(Ok(NO_SEAL), |before| before.seal.as_slice().try_into());
        let hash = self.hash.get_or_insert_with(|| {
            let previous = previous.unwrap_or(NO_SEAL); // Told already.
            Hash::new(&seal.log, seal.number, &previous, seal.first, seal.last)
        });
        hash.update(bytes);
        if position == seal.last {
            self.close(violations);
        }
    }

    /// The segment has ended. The next one is held against the seal that is stored, so that one
    /// fault is told once.
    fn close(&mut self, violations: &mut Violations) {
        let Some(seal) = self.seals.get(self.at) else { return };
        self.at += 1;
        if seal.last > self.to {
            return;
        }
        self.checked += 1;
        let found = self.hash.take().map(Hash::seal);
        if found.is_none_or(|found| found != seal.seal.as_slice()) {
            let computed = found.map_or_else(|| "nothing".to_owned(), hex::encode);
            violations.add(Kind::Seal, Some(seal.first), None, || {
                format!(
                    "segment {}, positions {} to {}, has the seal {} and now comes to {computed}: \
                     one of these events, or a seal, was changed",
                    seal.number,
                    seal.first,
                    seal.last,
                    hex::encode(&seal.seal)
                )
            });
        }
    }

    /// Segments that should have come have no events.
    pub(super) fn end(&mut self, violations: &mut Violations) {
        while self.seals.get(self.at).is_some_and(|seal| seal.last <= self.to) {
            self.close(violations);
        }
    }

    /// The last segment that was held against its seal.
    pub(super) fn last_seal(&self) -> Option<String> {
        let last = self.at.checked_sub(1).filter(|_| self.checked > 0)?;
        self.seals.get(last).map(Seal::expectation)
    }

    /// The last position that is in a sealed segment.
    pub(super) fn sealed_to(&self) -> Position {
        self.seals.last().map_or(0, |seal| seal.last)
    }
}
