//! What operators do about parked streams: `POST /v1/parked/{fingerprint}/retry` and `/drop`.
//!
//! Both may be sent again: what was asked for once is not asked for twice by it.

use std::fmt;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use event_store::Store;
use event_store::parked::{self, Action, By, Extent, Fingerprint, RATE_MAX, Selection};
use schemas::{Clock, Text};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use web::{Json, Operator, PathId, Problem, Trust};

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
    PathId(fingerprint): PathId<Fingerprint>,
    Json(asked): Json<Asked>,
) -> Result<Response, Problem> {
    let rate = asked.rate.unwrap_or(RATE_DEFAULT);
    if !(1..=RATE_MAX).contains(&rate) {
        let detail = format!("from 1 to {RATE_MAX} streams a second");
        return Err(Problem::invalid_field("#/rate", "out_of_range", detail));
    }
    act(&operators, fingerprint, asked, Action::Retry { rate }).await
}

async fn drop(
    _: Operator,
    State(operators): State<Operators>,
    PathId(fingerprint): PathId<Fingerprint>,
    Json(asked): Json<Asked>,
) -> Result<Response, Problem> {
    if asked.rate.is_some() {
        let detail = "events are dropped at once";
        return Err(Problem::invalid_field("#/rate", "not_allowed", detail));
    }
    act(&operators, fingerprint, asked, Action::Drop).await
}

async fn act(
    operators: &Operators,
    fingerprint: Fingerprint,
    Asked { actor, reason, consumer, key, dry_run, .. }: Asked,
    action: Action,
) -> Result<Response, Problem> {
    let consumer = consumer.map(|name| name.as_str().to_owned());
    let selection = Selection { fingerprint, consumer, key };
    let by = By { actor: actor.as_str().into(), reason: reason.as_str().into() };
    let extent = parked::act(operators.store.pool(), &selection, action, &by, dry_run).await;
    let Extent { streams, events } = extent.map_err(|error| problem(error.into(), NOWHERE))?;
    if streams == 0 {
        return Err(Problem::not_found("nothing is parked for that cause: see GET /v1/parked"));
    }
    // A retry is done by the workers, in their own time.
    let later = !dry_run && matches!(action, Action::Retry { .. });
    let status = if later { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(Answer { streams, events, dry_run })).into_response())
}
