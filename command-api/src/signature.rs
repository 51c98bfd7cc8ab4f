//! Signatures of webhooks: HMAC-SHA256 over the raw body, compared in constant time.

use std::fmt;

use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, KeyInit as _, Mac as _};
use schemas::Timestamp;
use sha2::Sha256;
use web::Problem;

/// How far a signature's time may lie from ours, in seconds, either way.
const TOLERANCE_S: i64 = 5 * 60;

/// Signatures looked at in one header, so that a long one costs little.
const SIGNATURES_MAX: usize = 8;

/// What a sender signs with.
#[derive(Clone)]
pub(crate) struct Secret(Hmac<Sha256>);

impl Secret {
    pub(crate) fn new(secret: &str) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        Self(Hmac::new_from_slice(secret.as_bytes()).expect("a key of any length"))
    }

    /// Whether `signature`, in hexadecimal, is of `parts`, one after the other.
    fn signed(&self, parts: &[&[u8]], signature: &str) -> bool {
        let Ok(signature) = hex::decode(signature) else { return false };
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.verify_slice(&signature).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Checks `Stripe-Signature: t=1732338000,v1=<hex>`; one of several `v1` is enough, so that
/// secrets can be changed.
///
/// # Errors
/// 401 where it is missing, wrong, or too far from `now`.
pub(crate) fn payment(
    headers: &HeaderMap,
    body: &[u8],
    secret: &Secret,
    now: Timestamp,
) -> Result<(), Problem> {
    let header = one(headers, "stripe-signature")?;
    let pairs = || header.split(',').filter_map(|pair| pair.trim().split_once('='));
    let time = pairs().find(|(name, _)| *name == "t").map(|(_, time)| time);
    let time = time.ok_or_else(|| unauthorised("the signature has no time"))?;
    let seconds = time.parse::<i64>().map_err(|_| unauthorised("the signature has no time"))?;
    if now.timestamp().saturating_sub(seconds).saturating_abs() > TOLERANCE_S {
        return Err(unauthorised("the signature is too old, or from the future"));
    }
    let parts = [time.as_bytes(), b".", body];
    let mut signatures = pairs().filter(|(name, _)| *name == "v1").take(SIGNATURES_MAX);
    if signatures.any(|(_, signature)| secret.signed(&parts, signature)) {
        Ok(())
    } else {
        Err(unauthorised("the signature is wrong"))
    }
}

/// Checks `X-Hmac-Signature: hmac-sha256-hex=<hex>`.
///
/// # Errors
/// 401 where it is missing or wrong.
pub(crate) fn carrier(headers: &HeaderMap, body: &[u8], secret: &Secret) -> Result<(), Problem> {
    let header = one(headers, "x-hmac-signature")?;
    let signature = header.strip_prefix("hmac-sha256-hex=");
    match signature.filter(|signature| secret.signed(&[body], signature)) {
        Some(_) => Ok(()),
        None => Err(unauthorised("the signature is wrong")),
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Problem> {
    let header = headers.get(name).and_then(|value| value.to_str().ok());
    header.ok_or_else(|| unauthorised("the signature is missing"))
}

fn unauthorised(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "signature_invalid", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1"}"#;
    const TIME: i64 = 1_732_338_000;

    fn hex_of(secret: &str, message: &[u8]) -> String {
        let mut mac = Secret::new(secret).0;
        mac.update(message);
        hex::encode(mac.finalize().into_bytes())
    }

    fn stripe(secret: &str, time: i64) -> String {
        let message = [time.to_string().as_bytes(), b".", BODY].concat();
        hex_of(secret, &message)
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    fn payment_at(value: &str, now: i64) -> bool {
        let now = Timestamp::from_timestamp(now, 0).unwrap();
        payment(&headers("stripe-signature", value), BODY, &Secret::new("whsec"), now).is_ok()
    }

    #[test]
    fn a_payment_notice_is_signed_with_our_secret() {
        let (good, bad) = (stripe("whsec", TIME), stripe("other", TIME));
        assert!(payment_at(&format!("t={TIME},v1={good}"), TIME));
        assert!(payment_at(&format!("t={TIME}, v1={bad}, v1={good}, v0=1"), TIME));
        for value in [
            format!("t={TIME},v1={bad}"),
            format!("t={},v1={good}", TIME + 1),
            format!("v1={good}"),
            format!("t=x,v1={good}"),
            format!("t={TIME},v0={good}"),
            format!("t={TIME},v1={}", &good[..10]),
            format!("t={TIME},v1=zz"),
            format!("t={TIME}"),
            String::new(),
        ] {
            assert!(!payment_at(&value, TIME), "{value}");
        }
    }

    #[test]
    fn an_old_signature_is_refused() {
        let value = format!("t={TIME},v1={}", stripe("whsec", TIME));
        assert!(payment_at(&value, TIME + TOLERANCE_S));
        assert!(!payment_at(&value, TIME + TOLERANCE_S + 1));
        assert!(!payment_at(&value, TIME - TOLERANCE_S - 1));
        let far = format!("t={},v1={}", i64::MIN, stripe("whsec", i64::MIN));
        assert!(!payment_at(&far, TIME));
    }

    #[test]
    fn a_carrier_notice_is_signed_with_our_secret() {
        let check = |value: &str| {
            carrier(&headers("x-hmac-signature", value), BODY, &Secret::new("whsec")).is_ok()
        };
        assert!(check(&format!("hmac-sha256-hex={}", hex_of("whsec", BODY))));
        assert!(!check(&format!("hmac-sha256-hex={}", hex_of("other", BODY))));
        assert!(!check(&hex_of("whsec", BODY)));
        assert!(!check("hmac-sha256-hex="));
        assert!(carrier(&HeaderMap::new(), BODY, &Secret::new("whsec")).is_err());
    }
}
