//! An identity provider of our own, for trying things and for who has no other: it signs tokens
//! with a key of Ed25519.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::caller::STAFF;

/// Signs tokens.
pub struct Issuer {
    pair: Ed25519KeyPair,
    kid: String,
    name: String,
    audience: String,
}

/// What a token is to say.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// Who brings it.
    pub subject: &'a str,
    /// The customer that they are; none: staff, or a service, which the token then says.
    pub customer: Option<&'a str>,
    /// What they may do.
    pub scopes: &'a [&'a str],
    /// When it ends, in seconds since 1970.
    pub expires_at: i64,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Issuer {
    /// An issuer whose key is made of `seed`; none where that is not 32 bytes.
    #[must_use]
    pub fn new(seed: &[u8], issuer: &str, audience: &str) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let kid = hex::encode(&Sha256::digest(pair.public_key().as_ref())[..8]);
        Some(Self { pair, kid, name: issuer.to_owned(), audience: audience.to_owned() })
    }

    /// The JSON Web Key Set that its tokens are verified with.
    #[must_use]
    pub fn key_set(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
                          "kid": self.kid, "x": x });
        json!({ "keys": [key] }).to_string()
    }

    /// A token.
    #[must_use]
    pub fn issue(&self, grant: &Grant<'_>) -> String {
        let staff = grant.customer.is_none().then_some(STAFF);
        let scopes: Vec<_> = grant.scopes.iter().copied().chain(staff).collect();
        let mut claims = json!({
            "iss": self.name, "aud": self.audience, "sub": grant.subject,
            "exp": grant.expires_at, "scope": scopes.join(" "),
        });
        if let Some(customer) = grant.customer {
            claims["customer"] = customer.into();
        }
        let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": self.kid });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}
