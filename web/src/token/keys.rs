//! The public keys that tokens are signed with (RFC 7517), each pinned to one algorithm.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

/// Keys of one provider at most.
const KEYS_MAX: usize = 64;

/// The keys of an identity provider.
#[derive(Debug, Clone, Default)]
pub struct KeySet(Vec<(Option<String>, Key)>);

/// Why a key set cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetError(&'static str);

impl fmt::Display for KeySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for KeySetError {}

/// One key, with the only algorithm that it is good for.
#[derive(Debug, Clone)]
pub(super) enum Key {
    /// RS256, of 2048 bits at least.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// ES256: a point of the curve P-256, uncompressed.
    Ec(Vec<u8>),
    /// `EdDSA` over Ed25519.
    Ed(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys that are for something else are left out.
    ///
    /// # Errors
    /// Where it is none, has more keys than anybody needs, or two of one name.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        let set: Set =
            serde_json::from_str(text).map_err(|_| KeySetError("it is not a JSON Web Key Set"))?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeySetError("the JSON Web Key Set has more than 64 keys"));
        }
        let ours = |jwk: Jwk| Some((jwk.kid.clone(), Key::of(&jwk)?));
        let keys: Vec<_> = set.keys.into_iter().filter_map(ours).collect();
        let mut names: Vec<_> = keys.iter().filter_map(|(name, _)| name.as_deref()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(KeySetError("two keys of the JSON Web Key Set have the same kid"));
        }
        Ok(Self(keys))
    }

    /// The key of that name; without a name the only one there is.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match (kid, self.0.as_slice()) {
            (None, [(_, only)]) => Some(only),
            (None, _) => None,
            (Some(kid), keys) => {
                keys.iter().find(|(name, _)| name.as_deref() == Some(kid)).map(|(_, key)| key)
            }
        }
    }
}

impl Key {
    fn of(jwk: &Jwk) -> Option<Self> {
        if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Self::Rsa { n: bytes(&jwk.n)?, e: bytes(&jwk.e)? },
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
                (x.len() == 32 && y.len() == 32).then(|| Self::Ec([&[4], &*x, &*y].concat()))?
            }
            ("OKP", Some("Ed25519")) => Self::Ed(bytes(&jwk.x)?),
            _ => return None,
        };
        jwk.alg.as_deref().is_none_or(|alg| alg == key.algorithm()).then_some(key)
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa { .. } => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    /// Whether this key made `signature` over `signed` with `algorithm`.
    pub(super) fn verifies(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        if algorithm != self.algorithm() {
            return false;
        }
        let verified = match self {
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                signed,
                signature,
            ),
            Self::Ec(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature)
            }
            Self::Ed(point) => UnparsedPublicKey::new(&ED25519, point).verify(signed, signature),
        };
        verified.is_ok()
    }
}
