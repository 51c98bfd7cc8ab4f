//! Keyset cursors: where a page ended, sealed together with the query it belongs to.

use std::fmt;

use axum::http::StatusCode;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;

use crate::{Problem, limits};

/// Bytes of the seal.
const SEAL_BYTES: usize = 16;

/// Seals and opens cursors. All processes that answer the same queries share the secret.
#[derive(Clone)]
pub struct Cursors(Hmac<Sha256>);

impl Cursors {
    /// Cursors under `secret`, of any length.
    ///
    /// # Panics
    /// Never: HMAC takes keys of every length.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        Self(Hmac::new_from_slice(secret).expect("a key of any length"))
    }

    /// A cursor that goes on after `key`, for the query that `binding` describes: its filters
    /// and its order, in one spelling.
    ///
    /// # Errors
    /// Where `key` cannot be written as JSON.
    pub fn seal<K: Serialize>(&self, binding: &str, key: &K) -> Result<String, serde_json::Error> {
        let key = serde_json::to_vec(key)?;
        Ok(format!("{}{}", hex::encode(self.sign(binding, &key)), hex::encode(&key)))
    }

    /// What was sealed.
    ///
    /// # Errors
    /// 400 `cursor_mismatch` where it is not one of ours or belongs to another query.
    pub fn open<K: DeserializeOwned>(&self, binding: &str, cursor: &str) -> Result<K, Problem> {
        let opened = || {
            if cursor.len() > limits::CURSOR_LENGTH_MAX {
                return None;
            }
            let bytes = hex::decode(cursor).ok()?;
            let (seal, key) = bytes.split_at_checked(SEAL_BYTES)?;
            (self.sign(binding, key) == seal).then(|| serde_json::from_slice(key).ok())?
        };
        opened().ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "cursor_mismatch",
                "the cursor belongs to another query; start again without it",
            )
            .with_parameter("cursor", "invalid", "not a cursor of this query")
        })
    }

    fn sign(&self, binding: &str, key: &[u8]) -> [u8; SEAL_BYTES] {
        let mut mac = self.0.clone();
        mac.update(&(binding.len() as u64).to_be_bytes());
        mac.update(binding.as_bytes());
        mac.update(key);
        let full = mac.finalize().into_bytes();
        std::array::from_fn(|index| full[index])
    }
}

impl fmt::Debug for Cursors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursors(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_only_the_query_it_was_made_for() {
        let cursors = Cursors::new(b"secret");
        let key = ("2026-11-23T00:00:00Z".to_owned(), 7_i64);
        let cursor = cursors.seal("status=confirmed&sort=-placed_at", &key).unwrap();
        let open = |cursors: &Cursors, binding: &str, cursor: &str| {
            cursors.open::<(String, i64)>(binding, cursor).ok()
        };
        assert_eq!(open(&cursors, "status=confirmed&sort=-placed_at", &cursor), Some(key));
        assert_eq!(open(&cursors, "status=cancelled&sort=-placed_at", &cursor), None);
        assert_eq!(
            open(&Cursors::new(b"other"), "status=confirmed&sort=-placed_at", &cursor),
            None
        );
        for bad in ["", "zz", "00", &cursor[..cursor.len() - 2], &"0".repeat(5000)] {
            assert_eq!(open(&cursors, "status=confirmed&sort=-placed_at", bad), None);
        }
    }
}
