//! Into which slice a stream falls, so that one consumer can be spread over several workers.

use std::fmt;

use uuid::Uuid;

/// How many slices there are. Fixed for ever: it is stored with every event.
pub const SLICES: u64 = 1024;

/// Slices side by side, of which one worker takes care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slices {
    from: i16,
    before: i16,
}

impl Slices {
    /// Every slice there is.
    pub const ALL: Self = Self { from: 0, before: 1024 };

    /// The slices from `from` on that lie before `before`.
    #[must_use]
    pub const fn new(from: i16, before: i16) -> Self {
        Self { from, before }
    }

    /// Cuts all slices into so many ranges, as even as can be, in order.
    pub(crate) fn cut(ranges: i16) -> Vec<Self> {
        let all = i32::from(Self::ALL.before);
        let edge = |n: i16| i16::try_from(all * i32::from(n) / i32::from(ranges));
        let edges: Vec<i16> = (0..=ranges).map_while(|n| edge(n).ok()).collect();
        edges.windows(2).map(|pair| Self::new(pair[0], pair[1])).collect()
    }

    /// The first slice.
    #[must_use]
    pub const fn from(self) -> i16 {
        self.from
    }

    /// The first slice that is beyond.
    #[must_use]
    pub const fn before(self) -> i16 {
        self.before
    }

    /// Whether the slice of this stream (or key) is among them.
    #[must_use]
    pub fn holds(self, stream: Uuid) -> bool {
        self == Self::ALL || (self.from..self.before).contains(&slice(stream))
    }

    /// Whether all of `other` is among them.
    pub(crate) const fn covers(self, other: Self) -> bool {
        self.from <= other.from && other.before <= self.before
    }

    /// Whether any is in both.
    pub(crate) const fn meets(self, other: Self) -> bool {
        self.from < other.before && other.from < self.before
    }
}

/// The first and the last, as `0-511`.
impl fmt::Display for Slices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.before - 1)
    }
}

/// The slice of a stream, from 0 to [`SLICES`] − 1.
///
/// FNV-1a over the sixteen bytes of the stream's id (64 bits: offset basis
/// `cbf29ce484222325`, prime `100000001b3`), its halves folded together by exclusive or, modulo
/// [`SLICES`]. Fixed for ever, and ours, so that no release of a database or library changes it.
///
/// Source: Fowler, Noll, Vo, "The FNV Non-Cryptographic Hash Algorithm", RFC 9923.
#[must_use]
pub fn slice(stream: Uuid) -> i16 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let hash = stream
        .as_bytes()
        .iter()
        .fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    i16::try_from((hash ^ (hash >> 32)) % SLICES).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_stays_in_its_slice_for_ever() {
        let golden =
            [(0, 988), (1, 11), (0x0197_5b0c_7f00_7000_8000_0000_0000_0001, 33), (u128::MAX, 349)];
        let found = golden.map(|(id, _)| (id, slice(Uuid::from_u128(id))));
        assert_eq!(found, golden);
    }

    #[test]
    fn ranges_lie_side_by_side_and_cover_everything() {
        for count in 1..=64 {
            let ranges = Slices::cut(count);
            assert_eq!(ranges.len(), usize::try_from(count).unwrap());
            assert_eq!((ranges[0].from(), ranges[ranges.len() - 1].before()), (0, 1024));
            assert!(ranges.windows(2).all(|pair| pair[0].before() == pair[1].from()));
            assert!(ranges.iter().all(|range| range.before() - range.from() >= 16));
            let id = Uuid::from_u128(0x0197_5b0c_7f00_7000_8000_0000_0000_0001);
            assert_eq!(ranges.iter().filter(|range| range.holds(id)).count(), 1);
        }
        assert_eq!(Slices::cut(2)[1].to_string(), "512-1023");
    }

    #[test]
    fn slices_fill_evenly() {
        let mut counts = vec![0_u32; 1024];
        for id in 0..102_400_u128 {
            // The shape of version 7 ids: a clock above, chance below.
            let chance = id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 66;
            let at = usize::try_from(slice(Uuid::from_u128(id << 80 | chance))).unwrap();
            counts[at] += 1;
        }
        assert!(counts.iter().all(|count| (50..=160).contains(count)), "{counts:?}");
    }
}
