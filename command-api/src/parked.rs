//! What operators do about parked streams: `POST /v1/parked/{fingerprint}/retry` and `/drop`.
//!
//! Both may be sent again: what was asked for once is not asked for twice by it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use event_store::parked::{self, Action, By, Extent, Fingerprint, RATE_MAX, Selection};
use schemars::JsonSchema;
use schemas::Text;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use web::{Access, Caller, Json, Operation, PathId, Problem, Routes};

use crate::execute::{Api, NOWHERE, problem};
use crate::post::actor;

/// Streams a second that are tried again, unless another rate is asked for.
const RATE_DEFAULT: u16 = 10;

/// The fingerprint of a cause in examples.
const CAUSE: &str = "00c0ffee00c0ffee";

pub(crate) fn routes() -> Routes<Api> {
    let about = |dry_run| json!({ "streams": 3, "events": 7, "dry_run": dry_run });
    let retried = operation("retry", "retryParked", "Try parked streams again")
        .body::<Asked>(json!({ "reason": "deployed 1.2", "rate": 10 }))
        .answers::<Answer>(200, "So much it would be about.", &[], about(true))
        .answers::<Answer>(202, "The workers take them up again.", &[], about(false));
    let dropped = operation("drop", "dropParked", "Leave the events of parked streams out")
        .body::<Asked>(json!({ "reason": "nobody needs them" }))
        .answers::<Answer>(200, "They are left out, or would be.", &[], about(false));
    Routes::new().route(retried, retry).route(dropped, drop)
}

fn operation(verb: &str, id: &'static str, summary: &'static str) -> Operation {
    let path = format!("/v1/parked/{{fingerprint}}/{verb}");
    Operation::post(path, id, Access::Staff("ops:write"), summary)
        .path::<Fingerprint>("fingerprint", CAUSE)
}

/// Which of the cause's streams, and why. Who says so is whose token it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
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
#[derive(Debug, Serialize, JsonSchema)]
struct Answer {
    streams: i64,
    events: i64,
    dry_run: bool,
}

async fn retry(
    State(api): State<Api>,
    caller: Caller,
    PathId(fingerprint): PathId<Fingerprint>,
    Json(asked): Json<Asked>,
) -> Result<Response, Problem> {
    let rate = asked.rate.unwrap_or(RATE_DEFAULT);
    if !(1..=RATE_MAX).contains(&rate) {
        let detail = format!("from 1 to {RATE_MAX} streams a second");
        return Err(Problem::invalid_field("#/rate", "out_of_range", detail));
    }
    act(&api, &caller, fingerprint, asked, Action::Retry { rate }).await
}

async fn drop(
    State(api): State<Api>,
    caller: Caller,
    PathId(fingerprint): PathId<Fingerprint>,
    Json(asked): Json<Asked>,
) -> Result<Response, Problem> {
    if asked.rate.is_some() {
        let detail = "events are dropped at once";
        return Err(Problem::invalid_field("#/rate", "not_allowed", detail));
    }
    act(&api, &caller, fingerprint, asked, Action::Drop).await
}

async fn act(
    api: &Api,
    caller: &Caller,
    fingerprint: Fingerprint,
    Asked { reason, consumer, key, dry_run, .. }: Asked,
    action: Action,
) -> Result<Response, Problem> {
    let consumer = consumer.map(|name| name.as_str().to_owned());
    let selection = Selection { fingerprint, consumer, key };
    let by = By { actor: actor(caller)?.to_owned(), reason: reason.as_str().to_owned() };
    let extent = parked::act(api.store().pool(), &selection, action, &by, dry_run).await;
    let Extent { streams, events } = extent.map_err(|error| problem(error.into(), NOWHERE))?;
    if streams == 0 {
        return Err(Problem::not_found("nothing is parked for that cause: see GET /v1/parked"));
    }
    // A retry is done by the workers, in their own time.
    let later = !dry_run && matches!(action, Action::Retry { .. });
    let status = if later { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(Answer { streams, events, dry_run })).into_response())
}
