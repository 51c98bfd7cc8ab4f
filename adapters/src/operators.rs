//! Operators: an HTTP POST for every saga that is parked, and for every one that alerts, signed as
//! Standard Webhooks 1.0.0 says.
//!
//! It is sent until somebody takes it, and may come twice: `webhook-id` is that of the event, and
//! the body is the same to the byte. A saga that was taken up again meanwhile is told of no more.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event_store::{Fault, Reactor, Store};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::StatusCode;
use schemas::saga::Event;
use schemas::{Clock, Fact, OrderId, Recorded, SagaId, Timestamp};
use serde::Serialize;
use serde_json::Value;
use sha2::Sha256;
use uuid::Uuid;

use crate::outbound::{Body, Outbound, Question};
use crate::outcome::{Outcome, Rejection};
use crate::record::poison;
use crate::{Config, ConfigError, Limits};

#[cfg(test)]
mod tests;

/// The shortest secret, in bytes; by the specification, as the longest.
pub(crate) const SECRET_BYTES_MIN: usize = 24;
/// The longest secret, in bytes.
pub(crate) const SECRET_BYTES_MAX: usize = 64;
/// How long a call may take in all, by the specification.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How many events after the parking are looked through for its end.
const EVENTS_MAX: i64 = 1000;

/// The adapter to whoever operators have told.
#[derive(Debug)]
pub struct Operators {
    store: Store,
    clock: Clock,
    outbound: Outbound,
    secret: Secret,
}

impl Operators {
    /// Sets the adapter up: `url` is told, and `secret` is what it checks the signature with, as
    /// `whsec_` and base64.
    ///
    /// # Errors
    /// Where one of them is no good.
    pub fn new(store: Store, clock: Clock, url: &str, secret: &str) -> Result<Self, ConfigError> {
        let limits = Limits { call_timeout: CALL_TIMEOUT, ..Limits::default() };
        Self::with_limits(store, clock, url, secret, limits)
    }

    fn with_limits(
        store: Store,
        clock: Clock,
        url: &str,
        secret: &str,
        limits: Limits,
    ) -> Result<Self, ConfigError> {
        let config = Config { limits, ..Config::new(url, "") };
        let outbound = Outbound::new("operators", &config)?;
        Ok(Self { store, clock, outbound, secret: Secret::read(secret)? })
    }

    /// Whether somebody has taken it up since.
    async fn is_over(&self, event: &Recorded) -> Result<bool, Fault> {
        let later = self.store.read_stream(event.stream, event.version, EVENTS_MAX).await;
        let later = later.map_err(|error| Fault::System(error.to_string()))?;
        Ok(later.iter().any(|event| {
            matches!(event.fact, Fact::Saga(Event::Resumed { .. } | Event::OperatorActed { .. }))
        }))
    }
}

/// What is signed with. Never shown.
struct Secret(Vec<u8>);

impl Secret {
    fn read(text: &str) -> Result<Self, ConfigError> {
        let bytes = text.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
        let fits = |bytes: &Vec<u8>| (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len());
        bytes.filter(fits).map(Self).ok_or(ConfigError::WebhookSecret)
    }

    /// The signature of `id.seconds.body`.
    fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length");
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What is told.
#[derive(Debug, Serialize)]
struct Told<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    saga_id: SagaId,
    /// What it is about.
    business_key: OrderId,
    reason: &'a str,
    /// The state it is in, or goes on from.
    state: &'a str,
    since: Timestamp,
    version: i64,
}

/// The body for an event that people are told of; none for another.
fn body(event: &Recorded) -> Option<Result<Vec<u8>, serde_json::Error>> {
    let (kind, reason, state) = match &event.fact {
        Fact::Saga(Event::Parked { reason, resume }) => ("saga.parked", reason, resume),
        Fact::Saga(Event::Alerted { reason, state }) => ("saga.alerted", reason, state),
        _ => return None,
    };
    let data = Data {
        saga_id: SagaId::new(event.stream.id),
        business_key: OrderId::new(event.correlation_id),
        reason,
        state,
        since: event.recorded_at,
        version: event.version,
    };
    let told = Told { kind, timestamp: event.recorded_at, data };
    Some(serde_json::to_vec(&told))
}

/// The request for `body` as it is sent now.
fn question(id: &str, now: Timestamp, body: Vec<u8>, secret: &Secret) -> Question {
    let seconds = now.timestamp();
    let signature = secret.sign(id, seconds, &body);
    Question {
        method: reqwest::Method::POST,
        body: Body::Signed(body),
        headers: vec![
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", signature),
        ],
        read,
        ..Question::get("tell operators", &[])
    }
}

/// Only success is taken for one; who is gone wants to hear no more.
fn read(status: StatusCode, _body: &[u8]) -> Outcome<Value> {
    match status.as_u16() {
        200..=299 => Outcome::Ok(Value::Null),
        410 => Outcome::Rejected(Rejection { status: 410, error: Value::Null }),
        _ => Outcome::Transient(format!("the webhook answers {status}")),
    }
}

impl Reactor for Operators {
    fn name(&self) -> &'static str {
        "adapter/operators"
    }

    fn key(&self, event: &Recorded) -> Option<Uuid> {
        let is_told =
            matches!(event.fact, Fact::Saga(Event::Parked { .. } | Event::Alerted { .. }));
        is_told.then_some(event.stream.id)
    }

    async fn react(&self, event: &Recorded) -> Result<(), Fault> {
        let Some(body) = body(event) else { return Ok(()) };
        let body = body.map_err(|error| poison(event, error.to_string()))?;
        if self.is_over(event).await? {
            return Ok(());
        }
        let id = event.event_id.uuid().to_string();
        let question = question(&id, self.clock.now(), body, &self.secret);
        match self.outbound.ask(&question).await {
            Outcome::Ok(_) => Ok(()),
            Outcome::Rejected(_) => {
                tracing::warn!(
                    saga.id = %SagaId::new(event.stream.id),
                    "the operators' webhook is gone (410): nobody there was told of a saga"
                );
                Ok(())
            }
            Outcome::Transient(why) | Outcome::Unknown(why) => Err(Fault::System(why)),
        }
    }
}
