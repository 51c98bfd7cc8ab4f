//! `/livez`, `/readyz`, `/healthz`.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Serialize;
use serde_json::Value;

use crate::{Json, Problem, limits};

/// How well something is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Healthy,
    /// It works, not as it should.
    Degraded,
    /// It does not work.
    Unhealthy,
}

/// What was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// How well it is.
    pub status: Status,
    /// How long it took to answer, in milliseconds, where it was asked something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_ms: Option<u64>,
    /// Measured values with their units, as `lag_ms`; or null.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub observed: Value,
}

impl Check {
    /// A check with nothing measured.
    #[must_use]
    pub fn new(status: Status) -> Self {
        Self { status, response_ms: None, observed: Value::Null }
    }

    /// Adds how long the answer took.
    #[must_use]
    pub fn after(mut self, took: Duration) -> Self {
        self.response_ms = Some(took.as_millis().try_into().unwrap_or(u64::MAX));
        self
    }

    /// Adds what was measured.
    #[must_use]
    pub fn observed(mut self, observed: Value) -> Self {
        self.observed = observed;
        self
    }
}

/// Everything that was looked at, by name.
pub type Report = BTreeMap<&'static str, Check>;

/// How to look. Cheap to clone.
#[derive(Clone)]
pub struct Checks(Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Report> + Send>> + Send + Sync>);

impl Checks {
    /// Looks by calling `look`.
    #[must_use]
    pub fn new<F, Fut>(look: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Report> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(look())))
    }

    /// Looks at nothing: always healthy.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|| async { Report::new() })
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checks(..)")
    }
}

/// The three routes: `/livez` says that the process answers, `/readyz` that it can work (503
/// where anything is unhealthy), `/healthz` what it found.
pub fn routes(checks: Checks) -> Router {
    Router::new()
        .route("/livez", get(|| async { Json(Body { status: Status::Healthy, checks: None }) }))
        .route("/readyz", get(readyz))
        .route("/healthz", get(healthz))
        .with_state(checks)
}

#[derive(Serialize)]
struct Body {
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Report>,
}

/// What is found within [`limits::POSITION_WAIT_MAX`]; none where that takes too long.
async fn look(checks: &Checks) -> Option<(Status, Report)> {
    let report = tokio::time::timeout(limits::POSITION_WAIT_MAX, (checks.0)()).await.ok()?;
    let worst = report.values().map(|check| check.status).max().unwrap_or(Status::Healthy);
    Some((worst, report))
}

async fn readyz(State(checks): State<Checks>) -> Response {
    match look(&checks).await {
        Some((status, _)) if status != Status::Unhealthy => {
            Json(Body { status, checks: None }).into_response()
        }
        _ => Problem::unavailable("not_ready", "something this service needs is away")
            .into_response(),
    }
}

async fn healthz(State(checks): State<Checks>) -> Response {
    let (status, report) = look(&checks).await.unwrap_or((Status::Unhealthy, Report::new()));
    let code = match status {
        Status::Healthy | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(Body { status, checks: Some(report) })).into_response()
}
