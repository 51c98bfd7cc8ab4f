//! Who may call the APIs: whose tokens are believed, and the token that a platform for trying
//! issues to itself.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use schemas::Clock;
use web::{Access, Fetch, Gate, Grant, Issuer, KeySet, Keys, Now, Tokens};

use crate::embedded::token_key;
use crate::exit::Misconfigured;
use crate::options::{self, TokenNames};

/// Requests a minute that one caller may make, unless told otherwise.
const RATES: &str = "customers=1000,stock=2000,orders=500,payments=200,others=1000";
/// Who brings the token of a platform for trying.
const DEVELOPER: &str = "developer";
/// How long that token is good for.
const DEVELOPER_TOKEN_MAX: TimeDelta = TimeDelta::days(30);
/// How long the identity provider may take to tell its keys.
const FETCH_MAX: Duration = Duration::from_secs(4);
/// The largest key set, in bytes.
const KEYS_BYTES_MAX: usize = 256 * 1024;

/// Every scope there is.
pub(crate) fn scopes() -> BTreeSet<&'static str> {
    let operations = command_api::operations().into_iter().chain(query_api::operations());
    let scopes = operations.filter_map(|operation| operation.access().scope());
    scopes.chain([command_api::IMPORT, command_api::PRICES]).collect()
}

/// The scopes of what customers may do, whatever they are trusted with.
pub(crate) fn customer_scopes() -> BTreeSet<&'static str> {
    let operations = command_api::operations().into_iter().chain(query_api::operations());
    operations
        .filter_map(|operation| match operation.access() {
            Access::Customers(scope) => Some(scope),
            Access::Staff(_) | Access::Signature => None,
        })
        .collect()
}

/// Believes the identity provider that was named.
pub(crate) fn gate(access: &options::Access, clock: Clock) -> anyhow::Result<Gate> {
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
    access: &options::Access,
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
            "{option} is {address}, which others reach, and this platform is for trying: it \
             issues its token to itself. Listen on 127.0.0.1, or name an identity provider with \
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
        let url = key_set_address(jwks)?;
        // Whoever answers from elsewhere is not who was named.
        let redirect = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().timeout(FETCH_MAX).redirect(redirect).build()?;
        Arc::new(move || {
            let (client, url) = (client.clone(), url.clone());
            Box::pin(async move { fetch(&client, url).await })
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

/// Who can change keys on their way can be anybody: they come over TLS, or from this machine.
fn key_set_address(jwks: &str) -> anyhow::Result<reqwest::Url> {
    let url = reqwest::Url::parse(jwks)
        .map_err(|error| Misconfigured::error(format!("WAYBILL_JWKS `{jwks}`: {error}")))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if url.scheme() == "https" || here {
        return Ok(url);
    }
    Err(Misconfigured::error(format!(
        "WAYBILL_JWKS `{jwks}`: keys are fetched over https, or over http from this machine"
    )))
}

async fn fetch(client: &reqwest::Client, url: reqwest::Url) -> Result<String, String> {
    let asked = async {
        let mut answer = client.get(url).send().await?.error_for_status()?;
        let (status, mut text) = (answer.status(), Vec::new());
        while let Some(chunk) = answer.chunk().await?
            && text.len() <= KEYS_BYTES_MAX
        {
            text.extend_from_slice(&chunk);
        }
        Ok::<_, reqwest::Error>((status, text))
    };
    let (status, text) = asked.await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("the answer is {status}"));
    }
    if text.len() > KEYS_BYTES_MAX {
        return Err(format!("it has more than {KEYS_BYTES_MAX} bytes"));
    }
    String::from_utf8(text).map_err(|error| error.to_string())
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
    fn keys_come_over_tls_or_from_this_machine() {
        for (address, good) in [
            ("https://id.example/keys", true),
            ("http://127.0.0.1:8085/keys", true),
            ("http://[::1]/keys", true),
            ("http://localhost:8085/keys", true),
            ("http://id.example/keys", false),
            ("http://10.0.0.7/keys", false),
            ("http://localhost.id.example/keys", false),
        ] {
            assert_eq!(key_set_address(address).is_ok(), good, "{address}");
        }
    }

    /// A server that answers with `head` and then `bytes` bytes.
    async fn answered(head: &'static str, bytes: usize) -> Result<String, String> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await;
            let body = vec![b'x'; bytes];
            let _ = stream
                .write_all(format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").as_bytes())
                .await;
            let _ = stream.write_all(&body).await;
        };
        let Keys::Fetched(fetch) = keys(&url).unwrap() else { panic!("it is an address") };
        let ((), fetched) = tokio::join!(served, fetch());
        fetched
    }

    #[tokio::test]
    async fn keys_are_bounded_and_come_from_where_they_were_asked_for() {
        assert_eq!(answered("200 OK", 7).await.unwrap(), "xxxxxxx");
        assert!(answered("200 OK", KEYS_BYTES_MAX + 1).await.unwrap_err().contains("more than"));
        let elsewhere = "302 Found\r\nlocation: http://127.0.0.1:1/keys";
        assert!(answered(elsewhere, 0).await.unwrap_err().contains("302"));
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
