//! Whose tokens the tests' platforms believe, and tokens of all sorts.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::Ed25519KeyPair;
use schemas::Clock;
use web::{Gate, Grant, Issuer, KeySet, Keys, Rates, Tokens};

/// What platforms call themselves in tokens unless told otherwise.
const NAME: &str = "waybill";

/// An issuer whose key is made of one byte.
pub(crate) fn issuer(seed: u8) -> Issuer {
    Issuer::new(&[seed; 32], NAME, NAME).unwrap()
}

/// The issuer of a platform with this data folder.
pub(crate) fn issuer_of(folder: &Path) -> Issuer {
    let key = std::fs::read_to_string(folder.join("token.key")).unwrap();
    Issuer::new(&STANDARD.decode(key).unwrap(), NAME, NAME).unwrap()
}

/// Lets through whose token `issuer` signed.
pub(crate) fn gate(issuer: &Issuer) -> Gate {
    let keys = Keys::Fixed(KeySet::parse(&issuer.key_set()).unwrap());
    let now = Arc::new(|| Clock::system().now().timestamp());
    Gate::new(Tokens::new(NAME, NAME, keys, now), Rates::default())
}

/// Seconds since 1970, so many hours from now.
pub(crate) fn in_hours(hours: i64) -> i64 {
    Clock::system().now().timestamp() + hours * 60 * 60
}

/// Every scope there is.
pub(crate) fn scopes() -> Vec<&'static str> {
    let operations = command_api::operations().into_iter().chain(query_api::operations());
    let scopes = operations.filter_map(|operation| operation.access().scope());
    scopes.chain([command_api::IMPORT, command_api::PRICES]).collect()
}

/// A token for `subject`, of `customer` if there is one, which grants `scopes` for an hour.
pub(crate) fn token(issuer: &Issuer, customer: Option<&str>, scopes: &[&str]) -> String {
    issuer.issue(&Grant { subject: "tester", customer, scopes, expires_at: in_hours(1) })
}

/// A token of a platform's own key that names neither a customer nor staff.
pub(crate) fn of_nobody(folder: &Path, scope: &str) -> String {
    let key = std::fs::read_to_string(folder.join("token.key")).unwrap();
    let pair = Ed25519KeyPair::from_seed_unchecked(&STANDARD.decode(key).unwrap()).unwrap();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(serde_json::json!({ "alg": "EdDSA" }));
    let claims = part(serde_json::json!({
        "iss": NAME, "aud": NAME, "sub": "tester", "exp": in_hours(1), "scope": scope,
    }));
    let signed = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}
