//! Where the other side is, and how patient we are with it.

use std::fmt;
use std::time::Duration;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a call may take in all.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often one question is put before it is given up for now.
const ATTEMPTS_MAX: usize = 4;
/// The wait before the second attempt; it doubles from there, with jitter.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);
/// How long an open circuit stays open.
const OPEN_FOR: Duration = Duration::from_mins(1);

/// How to reach the other side.
#[derive(Clone)]
pub struct Config {
    /// Where its API starts, as `https://api.stripe.com`.
    pub base_url: String,
    /// Our key to it. Never logged.
    pub secret_key: String,
    /// Where a payment provider sends customers back to after they have done what it wanted of
    /// them; it is not told where none is given.
    pub return_url: Option<String>,
    /// How patient to be.
    pub limits: Limits,
}

impl Config {
    /// With the usual patience.
    #[must_use]
    pub fn new(base_url: impl Into<String>, secret_key: impl Into<String>) -> Self {
        let (base_url, secret_key) = (base_url.into(), secret_key.into());
        Self { base_url, secret_key, return_url: None, limits: Limits::default() }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base_url, limits, .. } = self;
        f.debug_struct("Config").field("base_url", base_url).field("limits", limits).finish()
    }
}

/// How patient to be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a connection may take to come about: 2 s.
    pub connect_timeout: Duration,
    /// How long a call may take in all: 10 s.
    pub call_timeout: Duration,
    /// How often one question is put before it is given up for now: 4 times.
    pub attempts_max: usize,
    /// The wait before the second attempt, which doubles from there: 100 ms.
    pub retry_delay_min: Duration,
    /// The longest wait between two attempts: 2 s.
    pub retry_delay_max: Duration,
    /// How long the circuit breaker stays open: 60 s.
    pub open_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: CONNECT_TIMEOUT,
            call_timeout: CALL_TIMEOUT,
            attempts_max: ATTEMPTS_MAX,
            retry_delay_min: RETRY_DELAY_MIN,
            retry_delay_max: RETRY_DELAY_MAX,
            open_for: OPEN_FOR,
        }
    }
}

/// The set-up is no good: fix it and start again.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a base address.
    #[error("`{0}` is not an address that starts with http:// or https://")]
    BaseUrl(String),
    /// The key cannot be sent.
    #[error("the secret key holds characters that a header cannot")]
    SecretKey,
    /// Not what webhooks are signed with.
    #[error(
        "the webhook secret is not `whsec_` and base64 of {} to {} bytes",
        crate::operators::SECRET_BYTES_MIN,
        crate::operators::SECRET_BYTES_MAX
    )]
    WebhookSecret,
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
    /// The circuit breaker cannot be built.
    #[error("the circuit breaker cannot be built: {0}")]
    Breaker(String),
}
