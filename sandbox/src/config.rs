//! What a sandbox server is told when it starts.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

/// How long the carrier waits between two scans of a parcel, unless told otherwise.
const SCAN_INTERVAL: Duration = Duration::from_millis(50);

/// How a sandbox server is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The key that callers must send as `Authorization: Bearer …`.
    pub secret_key: String,
    /// Where webhooks go; none are sent without it.
    pub webhook_url: Option<String>,
    /// What webhooks are signed with.
    pub webhook_secret: String,
    /// The file that the books are kept in; without it they die with the process.
    pub journal: Option<PathBuf>,
    /// How long the carrier waits between two scans of a parcel that it picked up; `None`
    /// leaves scanning to `POST /sandbox/shipments/{id}/scan`. The provider does not use it.
    pub scan_interval: Option<Duration>,
    /// Where the server reads the time.
    pub clock: fn() -> DateTime<Utc>,
}

impl Config {
    /// The usual set-up: no journal, no webhooks, the machine's clock.
    #[must_use]
    pub fn new(secret_key: impl Into<String>, webhook_secret: impl Into<String>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the sandbox stands outside the platform")]
        let clock = || Utc::now();
        Self {
            secret_key: secret_key.into(),
            webhook_url: None,
            webhook_secret: webhook_secret.into(),
            journal: None,
            scan_interval: Some(SCAN_INTERVAL),
            clock,
        }
    }
}
