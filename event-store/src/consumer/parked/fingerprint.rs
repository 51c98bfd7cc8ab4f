//! What tells one cause of parking from another.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The same for what is probably parked for one cause: a hash (FNV-1a, 64 bits) of the event's type
/// and of the reason without the numbers in it, as 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::Type, schemars::JsonSchema)]
#[schemars(extend("pattern" = "^[0-9a-f]{16}$"))]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Fingerprint(String);

/// The text is not the fingerprint of any cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("16 hexadecimal digits are expected")]
pub struct NoFingerprint;

impl Fingerprint {
    pub(super) fn of(event_type: &str, reason: &str) -> Self {
        let words = event_type.bytes().chain([b'|']);
        let words = words.chain(reason.bytes().filter(|byte| !byte.is_ascii_digit()));
        let hash = words.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(format!("{hash:016x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits { Ok(Self(text.to_ascii_lowercase())) } else { Err(NoFingerprint) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_make_another_cause() {
        let one = Fingerprint::of("order.placed.v1", "event 17: no row 3");
        assert_eq!(one, Fingerprint::of("order.placed.v1", "event 9: no row 41"));
        assert_ne!(one, Fingerprint::of("order.placed.v1", "event 9: no column 41"));
        assert_ne!(one, Fingerprint::of("order.placed", "event 9: no row 41"));
    }

    #[test]
    fn what_is_no_fingerprint_is_not_taken_for_one() {
        let one = Fingerprint::of("order.placed.v1", "no row");
        assert_eq!(one.to_string().parse(), Ok(one.clone()));
        assert_eq!(one.to_string().to_uppercase().parse(), Ok(one));
        for bad in ["", "0", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg", "\0"] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(NoFingerprint), "{bad:?}");
        }
    }
}
