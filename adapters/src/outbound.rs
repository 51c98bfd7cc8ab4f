//! Calls out: time-outs, a circuit breaker, and bounded retries, always under the same key.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::Value;
use tokio::time::Instant;
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_resilience_circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer, CircuitState};
use trace::{Kind, Span};

use crate::outcome::{self, Outcome};
use crate::{Config, ConfigError, Limits, metrics};

#[cfg(test)]
mod tests;

/// So many failures in a row open the circuit.
const FAILURES_TO_OPEN: usize = 5;
/// So many calls are let through to try, once it has been open long enough. All of them must
/// succeed to close it; one failure opens it again.
const TRIALS_TO_CLOSE: usize = 3;
/// Connections kept for the next call: as many as the reactor has events in hand.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// How long a connection is kept for the next call: shorter than servers usually keep theirs, so
/// that no call goes out on a connection that is being closed.
const IDLE_FOR: Duration = Duration::from_secs(15);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// What an other side sent back.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    request_id: Option<String>,
    body: Vec<u8>,
}

/// What is sent along.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// Nothing.
    None,
    /// Fields, as Stripe wants them.
    Form(Vec<(&'static str, String)>),
    /// JSON, as everybody else wants it.
    Json(Value),
    /// JSON to the byte, as it was signed.
    Signed(Vec<u8>),
}

/// How an answer is read.
pub(crate) type Read = fn(StatusCode, &[u8]) -> Outcome<Value>;

/// A question to the other side.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// What it is about, for the log.
    pub(crate) operation: &'static str,
    /// The method.
    pub(crate) method: Method,
    /// The path, in segments.
    pub(crate) path: Vec<String>,
    /// Fields of the query.
    pub(crate) query: Vec<(&'static str, &'static str)>,
    /// What is sent along.
    pub(crate) body: Body,
    /// The key under which the same question is the same effect.
    pub(crate) key: Option<String>,
    /// Further headers.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// How the answer is read.
    pub(crate) read: Read,
}

impl Question {
    /// Reads something.
    pub(crate) fn get(operation: &'static str, path: &[&str]) -> Self {
        let path = path.iter().map(|&segment| segment.to_owned()).collect();
        Self {
            operation,
            method: Method::GET,
            path,
            query: Vec::new(),
            body: Body::None,
            key: None,
            headers: Vec::new(),
            read: outcome::read,
        }
    }

    /// Asks for something to be done, once per `key`.
    pub(crate) fn post(operation: &'static str, path: &[&str], key: String, body: Body) -> Self {
        Self { method: Method::POST, key: Some(key), body, ..Self::get(operation, path) }
    }
}

/// Why one attempt brought no answer.
#[derive(Debug)]
enum Failed {
    /// It did not get through.
    Transient(String),
    /// It may have got through.
    Unknown(String),
    /// The circuit is open.
    Open,
}

/// A way to one other side, with its circuit breaker.
#[derive(Debug)]
pub(crate) struct Outbound {
    name: &'static str,
    base: Url,
    client: Client,
    wire: BoxCloneSyncService<reqwest::Request, Reply, CircuitBreakerError<reqwest::Error>>,
    limits: Limits,
}

impl Outbound {
    /// Sets up the way to `config`, under a name for the log.
    ///
    /// # Errors
    /// Where the configuration is no good.
    pub(crate) fn new(name: &'static str, config: &Config) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::BaseUrl(config.base_url.clone());
        let base = Url::parse(&config.base_url).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(wrong());
        }
        let client = client(&base, config)?;
        let breaker = CircuitBreakerLayer::builder()
            .name(name)
            .consecutive_failures(FAILURES_TO_OPEN)
            .wait_duration_in_open(config.limits.open_for)
            .permitted_calls_in_half_open(TRIALS_TO_CLOSE)
            .failure_classifier(is_failure)
            .on_state_transition(move |from, to| {
                tracing::warn!(adapter = name, ?from, ?to, "the circuit breaker turned");
                metrics::breaker(name, matches!(to, CircuitState::Open));
            })
            .build()
            .map_err(|error| ConfigError::Breaker(error.to_string()))?;
        metrics::breaker(name, false);
        let sender = client.clone();
        let wire = service_fn(move |request| exchange(sender.clone(), request));
        let wire = BoxCloneSyncService::new(breaker.layer(wire));
        Ok(Self { name, base, client, wire, limits: config.limits })
    }

    /// Puts a question until there is an answer, a bounded number of times, under the same key.
    ///
    /// Unknown is the outcome where no attempt brought an answer and one of them may have got
    /// through; where the circuit is open, it is not the question's time yet: transient.
    pub(crate) async fn ask(&self, question: &Question) -> Outcome<Value> {
        let backoff = ExponentialBuilder::new()
            .with_min_delay(self.limits.retry_delay_min)
            .with_max_delay(self.limits.retry_delay_max)
            .with_max_times(self.limits.attempts_max.saturating_sub(1))
            .with_jitter();
        let maybe_done = AtomicBool::new(false);
        let attempt = || async {
            let outcome = self.attempt(question).await;
            if matches!(outcome, Err(Failed::Unknown(_))) {
                maybe_done.store(true, Ordering::Relaxed);
            }
            outcome
        };
        let asked = attempt.retry(backoff).when(|failed| !matches!(failed, Failed::Open)).await;
        match asked {
            Ok(outcome) => outcome,
            Err(Failed::Open) => Outcome::Transient("the circuit breaker is open".to_owned()),
            Err(Failed::Transient(why)) if maybe_done.into_inner() => Outcome::Unknown(why),
            Err(Failed::Transient(why)) => Outcome::Transient(why),
            Err(Failed::Unknown(why)) => Outcome::Unknown(why),
        }
    }

    async fn attempt(&self, question: &Question) -> Result<Outcome<Value>, Failed> {
        let name = || format!("{} {}", question.method, question.operation);
        let mut span = Span::child(Kind::Client, name, None);
        span.set("http.request.method", question.method.to_string());
        span.set("peer.service", self.name);
        let outcome = self.attempt_within(question, &mut span).await;
        if let Err(Failed::Transient(why) | Failed::Unknown(why)) = &outcome {
            span.failed(|| why.clone());
        }
        outcome
    }

    async fn attempt_within(
        &self,
        question: &Question,
        span: &mut Span,
    ) -> Result<Outcome<Value>, Failed> {
        let request = self.request(question, span.traceparent())?;
        let started = Instant::now();
        let sent = self.wire.clone().oneshot(request).await;
        let (operation, key) = (question.operation, question.key.as_deref());
        let latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let reply = match sent {
            Ok(reply) => reply,
            Err(CircuitBreakerError::OpenCircuit) => return Err(Failed::Open),
            Err(CircuitBreakerError::Inner(error)) => {
                let why = chain(&error);
                tracing::debug!(
                    operation,
                    key,
                    latency_ms,
                    error = why,
                    "a call brought no answer"
                );
                // Before there is a connection, nothing was sent.
                let unsent = error.is_connect() || error.is_builder();
                return Err(if unsent { Failed::Transient(why) } else { Failed::Unknown(why) });
            }
        };
        let (status, request_id) = (reply.status.as_u16(), reply.request_id.as_deref());
        tracing::debug!(operation, key, request_id, latency_ms, status, "a call was answered");
        span.set("http.response.status_code", i64::from(status));
        match (question.read)(reply.status, &reply.body) {
            Outcome::Transient(why) => Err(Failed::Transient(why)),
            Outcome::Unknown(why) => Err(Failed::Unknown(why)),
            answer => Ok(answer),
        }
    }

    fn request(
        &self,
        question: &Question,
        traceparent: Option<String>,
    ) -> Result<reqwest::Request, Failed> {
        let mut url = self.base.clone();
        if !question.path.is_empty()
            && let Ok(mut segments) = url.path_segments_mut()
        {
            segments.pop_if_empty().extend(&question.path);
        }
        let mut request = self.client.request(question.method.clone(), url);
        if !question.query.is_empty() {
            request = request.query(&question.query);
        }
        if let Some(key) = &question.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        for (name, value) in &question.headers {
            request = request.header(*name, value);
        }
        let request = match &question.body {
            Body::None => request,
            Body::Form(fields) => request.form(fields),
            Body::Json(json) => request.json(json),
            Body::Signed(bytes) => {
                request.header(CONTENT_TYPE, "application/json").body(bytes.clone())
            }
        };
        request.build().map_err(|error| Failed::Transient(chain(&error)))
    }
}

fn client(base: &Url, config: &Config) -> Result<Client, ConfigError> {
    // Somebody may have chosen a provider before: that is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut headers = HeaderMap::new();
    // Who is told something signed knows us by the signature.
    if !config.secret_key.is_empty() {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", config.secret_key))
            .map_err(|_| ConfigError::SecretKey)?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    let mut builder = Client::builder()
        .default_headers(headers)
        .connect_timeout(config.limits.connect_timeout)
        .timeout(config.limits.call_timeout)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .pool_idle_timeout(IDLE_FOR)
        .redirect(reqwest::redirect::Policy::none());
    // What runs on this machine is never behind a proxy.
    if matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(ConfigError::Client)
}

/// Sends and reads all of the answer, so that one that breaks off counts as a failure.
async fn exchange(client: Client, request: reqwest::Request) -> Result<Reply, reqwest::Error> {
    let mut answer = client.execute(request).await?;
    let id = answer.headers().get("request-id").or_else(|| answer.headers().get("x-request-id"));
    let request_id = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
    let status = answer.status();
    let mut body = Vec::new();
    // An answer that is too long is cut off, and then is no JSON: nobody knows what it said.
    while let Some(chunk) = answer.chunk().await?
        && body.len() < ANSWER_BYTES_MAX
    {
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status, request_id, body })
}

/// What speaks against the other side's health. A no is an answer like any other, and so is
/// being told that the same question is being worked on.
fn is_failure(exchanged: &Result<Reply, reqwest::Error>) -> bool {
    match exchanged {
        Ok(reply) => reply.status.is_server_error() || reply.status == 429 || reply.status == 408,
        Err(_) => true,
    }
}

/// An error and its causes in one line, without the address, which may hold personal data.
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "timed out".to_owned()
    } else if error.is_connect() {
        "no connection".to_owned()
    } else {
        "broke off".to_owned()
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
