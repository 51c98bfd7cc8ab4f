//! AES-256-GCM, and the form of what is sealed with it. Pure.
//!
//! ```text
//! sealed := version (1 byte, 1)  generation (4 bytes, big endian)  nonce (12)  text  tag (16)
//! ```
//!
//! What is authenticated besides: version and generation, the subject's id, the label of the kind
//! of data. So nothing opens as somebody else's, as another kind, or under another version. A new
//! algorithm is a new version; whoever opens tells them apart by the first byte.

use std::fmt;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use schemas::CustomerId;
use zeroize::Zeroizing;

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes of a number used once. Each is chance, all of it: by NIST SP 800-38D (8.3) one key may
/// then seal 2^32 times, after which two nonces are the same with a probability of 2^-32. One
/// person's key is used a few times an order.
pub(super) const NONCE_BYTES: usize = 12;
/// AES-256-GCM with a random nonce of 96 bits.
const VERSION: u8 = 1;
/// Version and generation.
const HEADER_BYTES: usize = 5;

/// One key. Wiped from memory when it is dropped; never shown.
#[derive(Clone)]
pub(super) struct Cipher(Aes256Gcm);

impl Cipher {
    pub(super) fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// Nonce, text and tag.
    pub(super) fn encrypt(&self, nonce: [u8; NONCE_BYTES], text: &[u8], aad: &[u8]) -> Vec<u8> {
        let sealed = self.0.encrypt(&nonce.into(), Payload { msg: text, aad });
        #[expect(clippy::expect_used, reason = "nothing that is kept is that long")]
        let sealed = sealed.expect("texts of less than 64 GiB can be encrypted");
        [nonce.as_slice(), &sealed].concat()
    }

    /// The text; none where nonce, text, tag and `aad` do not belong together.
    pub(super) fn decrypt(&self, all: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, text) = all.split_first_chunk::<NONCE_BYTES>()?;
        self.0.decrypt(nonce.into(), Payload { msg: text, aad }).ok().map(Zeroizing::new)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher").finish_non_exhaustive()
    }
}

/// What is sealed, and what it is sealed to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding {
    pub(super) subject: CustomerId,
    pub(super) generation: i32,
    pub(super) label: &'static str,
}

impl Binding {
    fn header(self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.generation.to_be_bytes();
        [VERSION, a, b, c, d]
    }

    fn aad(self) -> Vec<u8> {
        let header = self.header();
        [header.as_slice(), self.subject.uuid().as_bytes(), self.label.as_bytes()].concat()
    }

    /// Seals `text`.
    pub(super) fn seal(self, cipher: &Cipher, nonce: [u8; NONCE_BYTES], text: &[u8]) -> Vec<u8> {
        let mut sealed = self.header().to_vec();
        sealed.extend(cipher.encrypt(nonce, text, &self.aad()));
        sealed
    }

    /// Opens what [`Binding::seal`] made; none where it was not made so.
    pub(super) fn open(self, cipher: &Cipher, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (header, rest) = sealed.split_first_chunk::<HEADER_BYTES>()?;
        (*header == self.header()).then(|| cipher.decrypt(rest, &self.aad()))?
    }
}

/// The generation of the key that `sealed` was sealed with; none where it is of a form that this
/// release does not know.
pub(super) fn generation(sealed: &[u8]) -> Option<i32> {
    let (header, rest) = sealed.split_first_chunk::<HEADER_BYTES>()?;
    let [VERSION, a, b, c, d] = *header else { return None };
    (rest.len() > NONCE_BYTES).then_some(i32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use schemas::{Address, Event as _, Personal, PersonalData as _, order};
    use uuid::Uuid;

    use super::*;

    const BINDING: Binding =
        Binding { subject: CustomerId::new(Uuid::from_u128(1)), generation: 3, label: "address" };

    fn cipher() -> Cipher {
        Cipher::new(&[7; KEY_BYTES])
    }

    #[test]
    fn what_is_sealed_opens_only_where_it_belongs() {
        let sealed = BINDING.seal(&cipher(), [1; NONCE_BYTES], b"Ada");
        let text = |binding: Binding, sealed: &[u8]| {
            binding.open(&cipher(), sealed).map(|text| text.to_vec())
        };
        assert_eq!(text(BINDING, &sealed), Some(b"Ada".to_vec()));
        assert_eq!(generation(&sealed), Some(3));
        let subject = CustomerId::new(Uuid::from_u128(2));
        assert_eq!(text(Binding { subject, ..BINDING }, &sealed), None);
        assert_eq!(text(Binding { label: "name", ..BINDING }, &sealed), None);
        assert_eq!(text(Binding { generation: 4, ..BINDING }, &sealed), None);
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(text(BINDING, &changed), None, "byte {index}");
            assert_eq!(text(BINDING, &sealed[..index]), None, "cut at {index}");
        }
        assert_eq!(BINDING.open(&Cipher::new(&[8; KEY_BYTES]), &sealed).map(|_| ()), None);
    }

    /// The golden event was sealed by another implementation (Python's `cryptography`) under a key
    /// of 32 times `0x2a`: every release opens it.
    #[test]
    fn what_was_sealed_by_an_earlier_release_still_opens() {
        let stored = include_str!("../../../schemas/golden/order.placed.v1.json");
        let event = order::Event::decode("order.placed.v1", stored).unwrap();
        let order::Event::Placed { shipping_address, .. } = event else { panic!("{event:?}") };
        let shipping_address: Personal<Address> = shipping_address;
        let subject = shipping_address.subject();
        let binding = Binding { subject, generation: 1, label: Address::LABEL };
        let cipher = Cipher::new(&[0x2a; KEY_BYTES]);
        let text = binding.open(&cipher, &shipping_address.bytes().unwrap()).unwrap();
        let address: Address = serde_json::from_slice(&text).unwrap();
        assert_eq!(address.city.as_str(), "Berlin");
    }
}
