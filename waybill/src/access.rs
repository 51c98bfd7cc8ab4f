//! Who may call the APIs: whose tokens are believed, and the token that a platform for trying
//! issues to itself.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use schemas::Clock;
use web::{Fetch, Gate, Grant, Issuer, KeySet, Keys, Now, Tokens};

use crate::embedded::token_key;
use crate::exit::Misconfigured;
use crate::options::{Access, TokenNames};

/// Requests a minute that one caller may make, unless told otherwise.
const RATES: &str = "customers=1000,stock=2000,orders=500,payments=200,others=1000";
/// Who brings the token of a platform for trying.
const DEVELOPER: &str = "developer";
/// How long that token is good for.
const DEVELOPER_TOKEN_MAX: TimeDelta = TimeDelta::days(30);
/// How long the identity provider may take to tell its keys.
const FETCH_MAX: Duration = Duration::from_secs(4);
/// The largest key set, in bytes.
const KEYS_BYTES_MAX: u64 = 256 * 1024;

/// Every scope there is.
pub(crate) fn scopes() -> BTreeSet<&'static str> {
    let operations = command_api::operations().into_iter().chain(query_api::operations());
    let scopes = operations.filter_map(|operation| operation.access().scope());
    scopes.chain([command_api::IMPORT]).collect()
}

/// Believes the identity provider that was named.
pub(crate) fn gate(access: &Access, clock: Clock) -> anyhow::Result<Gate> {
    let Some(jwks) = access.jwks() else {
        return Err(Misconfigured::error(
            "nobody could call this API: WAYBILL_JWKS (--jwks) names the identity provider's key \
             set, as https://id.example/.well-known/jwks.json, a file, or the set itself; \
             `waybill tokens` makes keys, sets and tokens where there is no provider",
        ));
    };
    let rates = access.rate_limits.clone().map_or_else(|| RATES.parse(), Ok)?;
    Ok(Gate::new(tokens(&access.names, keys(jwks)?, clock), rates))
}

/// Believes the platform's own key, which is kept in its data folder, and issues a token that may
/// do everything.
pub(crate) fn development(
    access: &Access,
    data_dir: &Path,
    clock: Clock,
) -> anyhow::Result<(Gate, String)> {
    let issuer = issuer(&token_key(data_dir)?, &access.names)?;
    let keys = KeySet::parse(&issuer.key_set()).context("our own key set")?;
    let scopes: Vec<_> = scopes().into_iter().collect();
    let expires_at = (clock.now() + DEVELOPER_TOKEN_MAX).timestamp();
    let grant = Grant { subject: DEVELOPER, customer: None, scopes: &scopes, expires_at };
    let rates = access.rate_limits.clone().unwrap_or_default();
    let gate = Gate::new(tokens(&access.names, Keys::Fixed(keys), clock), rates);
    Ok((gate, issuer.issue(&grant)))
}

/// Whoever issues tokens to itself is reached from the same machine only.
pub(crate) fn on_loopback(address: Option<SocketAddr>, option: &str) -> anyhow::Result<()> {
    match address {
        Some(address) if !address.ip().is_loopback() => Err(Misconfigured::error(format!(
            "{option} is {address}, which others reach, and the token of this platform is one \
             that it issues to itself: listen on 127.0.0.1, or name an identity provider with \
             --jwks (WAYBILL_JWKS)"
        ))),
        _ => Ok(()),
    }
}

/// Signs with `key`, 32 bytes as base64.
pub(crate) fn issuer(key: &str, names: &TokenNames) -> anyhow::Result<Issuer> {
    let seed = STANDARD.decode(key.trim()).ok();
    let issuer =
        seed.and_then(|seed| Issuer::new(&seed, &names.token_issuer, &names.token_audience));
    issuer.ok_or_else(|| {
        Misconfigured::error(
            "the key that tokens are signed with is not 32 bytes as base64, as \
             `openssl rand -base64 32` makes them",
        )
    })
}

fn tokens(names: &TokenNames, keys: Keys, clock: Clock) -> Tokens {
    let now: Now = Arc::new(move || clock.now().timestamp());
    Tokens::new(&names.token_issuer, &names.token_audience, keys, now)
}

/// A key set as it was named: by an address, as a file, or in full.
fn keys(jwks: &str) -> anyhow::Result<Keys> {
    if jwks.starts_with('{') {
        let keys = KeySet::parse(jwks);
        let keys = keys.map_err(|error| Misconfigured::error(format!("WAYBILL_JWKS: {error}")))?;
        return Ok(Keys::Fixed(keys));
    }
    let fetch: Fetch = if jwks.starts_with("https://") || jwks.starts_with("http://") {
        let client = reqwest::Client::builder().timeout(FETCH_MAX).build()?;
        let url: Arc<str> = jwks.into();
        Arc::new(move || {
            let (client, url) = (client.clone(), url.clone());
            Box::pin(async move { fetch(&client, &url).await.map_err(|error| error.to_string()) })
        })
    } else {
        let path: Arc<Path> = Path::new(jwks).into();
        Arc::new(move || {
            let path = path.clone();
            Box::pin(async move {
                let read = tokio::fs::read_to_string(&path).await;
                read.map_err(|error| format!("{}: {error}", path.display()))
            })
        })
    };
    Ok(Keys::Fetched(fetch))
}

async fn fetch(client: &reqwest::Client, url: &str) -> reqwest::Result<String> {
    let answer = client.get(url).send().await?.error_for_status()?;
    // What announces more is taken for nothing at all.
    if answer.content_length().is_some_and(|bytes| bytes > KEYS_BYTES_MAX) {
        return Ok(String::new());
    }
    answer.text().await
}

#[cfg(test)]
mod tests {
    use web::Rates;

    use super::*;

    #[test]
    fn the_token_of_a_platform_for_trying_stays_on_its_machine() {
        for (address, stays) in
            [("127.0.0.1:8080", true), ("[::1]:8080", true), ("0.0.0.0:8080", false)]
        {
            let address = Some(address.parse().unwrap());
            assert_eq!(on_loopback(address, "--command-addr").is_ok(), stays, "{address:?}");
        }
        assert!(on_loopback(None, "--command-addr").is_ok());
    }

    #[test]
    fn every_scope_is_of_a_known_kind_and_the_rates_can_be_read() {
        for scope in scopes() {
            let (kind, verb) = scope.split_once(':').unwrap();
            assert!(!kind.is_empty() && ["read", "write", "import"].contains(&verb), "{scope}");
        }
        assert!(RATES.parse::<Rates>().is_ok());
    }
}
