//! A gate as it stands in production, and a token that passes it.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use schemas::Clock;
use web::{Gate, Grant, Issuer, KeySet, Keys, Tokens};

const ISSUER: &str = "bench";

/// A gate that counts requests by group, with rates that nobody reaches.
///
/// # Errors
/// Never, with a seed of 32 bytes.
pub(crate) fn gate() -> Result<(Gate, String)> {
    let issuer = Issuer::new(&[7; 32], ISSUER, ISSUER).context("a seed of 32 bytes")?;
    let keys = Keys::Fixed(KeySet::parse(&issuer.key_set())?);
    let now = Arc::new(|| Clock::system().now().timestamp());
    let gate = Gate::new(Tokens::new(ISSUER, ISSUER, keys, now), "others=10000000".parse()?);
    let expires_at = Clock::system().now().timestamp() + 24 * 60 * 60;
    let scopes = &["orders:write"];
    let grant = Grant { subject: "bench", customer: None, scopes, expires_at };
    Ok((gate, issuer.issue(&grant)))
}
