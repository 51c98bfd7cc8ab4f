//! Master keys: what the keys of subjects are wrapped with. They come from configuration and are
//! kept nowhere else.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemas::{Chance, CustomerId};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::cipher::{Cipher, KEY_BYTES};

/// Bytes of a master key's name.
const ID_BYTES: usize = 8;

/// What tells one master key from another, and tells nothing about it.
pub(super) type MasterId = [u8; ID_BYTES];

/// Why a text is not a master key. The text is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a master key is 32 bytes as base64, as `openssl rand -base64 32` makes them")]
pub struct MasterKeyError;

/// What wraps the keys of subjects. Wiped from memory when it is dropped; never shown.
pub struct MasterKey {
    id: MasterId,
    cipher: Cipher,
}

impl MasterKey {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let mut id = MasterId::default();
        let digest = Sha256::new().chain_update("waybill master key\0").chain_update(bytes);
        id.copy_from_slice(&digest.finalize()[..ID_BYTES]);
        Self { id, cipher: Cipher::new(bytes) }
    }

    /// A new one, as text.
    #[must_use]
    pub fn generate(chance: Chance) -> Zeroizing<String> {
        let bytes = Zeroizing::new(chance.bytes::<KEY_BYTES>());
        Zeroizing::new(STANDARD.encode(*bytes))
    }

    pub(super) const fn id(&self) -> MasterId {
        self.id
    }

    /// The key of a subject, as it is stored.
    pub(super) fn wrap(
        &self,
        subject: CustomerId,
        generation: i32,
        key: &[u8; KEY_BYTES],
        chance: Chance,
    ) -> Vec<u8> {
        self.cipher.encrypt(chance.bytes(), key, &wrapping(subject, generation))
    }

    /// The key of a subject; none where it was not wrapped by this master key, for this subject
    /// and generation.
    pub(super) fn unwrap(
        &self,
        subject: CustomerId,
        generation: i32,
        wrapped: &[u8],
    ) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
        let key = self.cipher.decrypt(wrapped, &wrapping(subject, generation))?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        (key.len() == KEY_BYTES).then(|| bytes.copy_from_slice(&key))?;
        Some(bytes)
    }
}

/// What a wrapped key is bound to, so that it cannot be put into another's row.
fn wrapping(subject: CustomerId, generation: i32) -> Vec<u8> {
    let generation = generation.to_be_bytes();
    [b"subject key\0".as_slice(), subject.uuid().as_bytes(), &generation].concat()
}

impl FromStr for MasterKey {
    type Err = MasterKeyError;

    fn from_str(text: &str) -> Result<Self, MasterKeyError> {
        let decoded = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| MasterKeyError)?);
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        (decoded.len() == KEY_BYTES)
            .then(|| bytes.copy_from_slice(&decoded))
            .ok_or(MasterKeyError)?;
        Ok(Self::new(&bytes))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("id", &hex::encode(self.id)).finish_non_exhaustive()
    }
}

/// The master keys that a process was given.
#[derive(Debug)]
pub struct MasterKeys {
    current: MasterKey,
    others: Vec<MasterKey>,
}

impl MasterKeys {
    /// `current` wraps; `others` also unwrap, as while one key is replaced by another.
    #[must_use]
    pub fn new(current: MasterKey, others: Vec<MasterKey>) -> Self {
        Self { current, others }
    }

    /// What wraps.
    pub(super) const fn current(&self) -> &MasterKey {
        &self.current
    }

    /// The one that is named so.
    pub(super) fn get(&self, id: &[u8]) -> Option<&MasterKey> {
        std::iter::once(&self.current).chain(&self.others).find(|key| key.id == id)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const TEXT: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn subject(number: u128) -> CustomerId {
        CustomerId::new(Uuid::from_u128(number))
    }

    #[test]
    fn a_wrapped_key_is_bound_to_its_row_and_its_master() {
        let master: MasterKey = TEXT.parse().unwrap();
        let other: MasterKey = MasterKey::generate(Chance::system()).parse().unwrap();
        let key = [9; KEY_BYTES];
        let wrapped = master.wrap(subject(1), 1, &key, Chance::system());
        assert_eq!(wrapped.len(), 60);
        assert_eq!(master.unwrap(subject(1), 1, &wrapped).as_deref(), Some(&key));
        assert_eq!(master.unwrap(subject(2), 1, &wrapped), None);
        assert_eq!(master.unwrap(subject(1), 2, &wrapped), None);
        assert_eq!(other.unwrap(subject(1), 1, &wrapped), None);
    }

    #[test]
    fn a_master_key_is_never_shown_and_a_wrong_one_not_repeated() {
        let master: MasterKey = TEXT.parse().unwrap();
        let shown = format!("{master:?} {:?}", MasterKeys::new(TEXT.parse().unwrap(), vec![]));
        assert!(!shown.contains("AAEC") && !shown.contains("0001020304"), "{shown}");
        for wrong in ["", "c2hvcnQ=", "not base64 at all", &TEXT[1..]] {
            let error = wrong.parse::<MasterKey>().unwrap_err().to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }
}
