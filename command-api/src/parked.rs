//! What operators do about parked streams: `POST /v1/parked/{fingerprint}/retry` and `/drop`.
//!
//! Both may be sent again: what was asked for once is not asked for twice by it.

use std::fmt;

use axum::Router;
use axum::extract::{FromRef, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use event_store::parked::{self, By, Extent, RATE_MAX, Selection};
use event_store::{Error, Store};
use schemas::{Clock, Text};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use web::{Json, Operator, Problem, Trust};

use crate::execute::{NOWHERE, problem};

/// Streams a second that are tried again, unless another rate is asked for.
const RATE_DEFAULT: u16 = 10;

/// The state of these routes: whom they believe differs from the others'.
#[derive(Clone)]
pub(crate) struct Operators {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    trust: Trust,
}

impl Operators {
    pub(crate) fn new(store: Store, clock: Clock, token: Option<&str>) -> Self {
        Self { store, clock, trust: Trust::operators(token) }
    }
}

impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operators").finish_non_exhaustive()
    }
}

impl FromRef<Operators> for Trust {
    fn from_ref(operators: &Operators) -> Self {
        operators.trust.clone()
    }
}

pub(crate) fn routes() -> Router<Operators> {
    Router::new()
        .route("/v1/parked/{fingerprint}/retry", post(retry))
        .route("/v1/parked/{fingerprint}/drop", post(drop))
}

/// The cause in the path: 16 hexadecimal digits.
struct Cause(String);

impl<S: Send + Sync> FromRequestParts<S> for Cause {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        let digits =
            |text: &String| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        path.ok().map(|path| path.0).filter(digits).map(Self).ok_or_else(|| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_id", "the path names no cause")
                .with_parameter("fingerprint", "invalid", "16 hexadecimal digits are expected")
        })
    }
}

/// Which of the cause's streams, who says so, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    actor: Text,
    reason: Text,
    /// Only this consumer's.
    consumer: Option<Text>,
    /// Only this key's.
    key: Option<Uuid>,
    /// Streams a second, for a retry.
    rate: Option<u16>,
    /// Only tell how much it would be about.
    #[serde(default)]
    dry_run: bool,
}

/// How much it is about.
#[derive(Debug, Serialize)]
struct Answer {
    streams: i64,
    events: i64,
    dry_run: bool,
}

async fn retry(
    _: Operator,
    State(operators): State<Operators>,
    Cause(fingerprint): Cause,
    Json(asked): Json<Asked>,
) -> Result<Response, Problem> {
    let rate = asked.rate.unwrap_or(RATE_DEFAULT);
    if !(1..=RATE_MAX).contains(&rate) {
        let detail = format!("from 1 to {RATE_MAX} streams a second");
        return Err(Problem::invalid_field("#/rate", "out_of_range", detail));
    }
    let dry_run = asked.dry_run;
    let (selection, by) = asked.parts(fingerprint);
    let pool = operators.store.pool();
    let extent = if dry_run {
        parked::extent(pool, &selection).await
    } else {
        parked::retry(pool, &selection, rate, &by).await
    };
    answer(extent, dry_run, StatusCode::ACCEPTED)
}

async fn drop(
    _: Operator,
    State(operators): State<Operators>,
    Cause(fingerprint): Cause,
    Json(asked): Json<Asked>,
) -> Result<Response, Problem> {
    if asked.rate.is_some() {
        let detail = "events are dropped at once";
        return Err(Problem::invalid_field("#/rate", "not_allowed", detail));
    }
    let dry_run = asked.dry_run;
    let (selection, by) = asked.parts(fingerprint);
    let pool = operators.store.pool();
    let extent = if dry_run {
        parked::extent(pool, &selection).await
    } else {
        parked::drop(pool, &selection, &by).await
    };
    answer(extent, dry_run, StatusCode::OK)
}

impl Asked {
    fn parts(self, fingerprint: String) -> (Selection, By) {
        let consumer = self.consumer.map(|name| name.as_str().to_owned());
        let by = By { actor: self.actor.as_str().into(), reason: self.reason.as_str().into() };
        (Selection { fingerprint, consumer, key: self.key }, by)
    }
}

fn answer(
    extent: Result<Extent, Error>,
    dry_run: bool,
    status: StatusCode,
) -> Result<Response, Problem> {
    let Extent { streams, events } = extent.map_err(|error| problem(error.into(), NOWHERE))?;
    if streams == 0 {
        return Err(Problem::not_found("nothing is parked for that cause: see GET /v1/parked"));
    }
    let status = if dry_run { StatusCode::OK } else { status };
    Ok((status, Json(Answer { streams, events, dry_run })).into_response())
}
