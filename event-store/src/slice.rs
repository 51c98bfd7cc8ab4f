//! Into which slice a stream falls, so that one consumer can be spread over several workers.

use uuid::Uuid;

/// How many slices there are. Fixed for ever: it is stored with every event.
pub const SLICES: u64 = 1024;

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
