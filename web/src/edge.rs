//! What surrounds every route: request ids, limits, time-outs, panics, fallbacks, the log line.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use trace::{Kind, Span};
use uuid::Uuid;

use crate::gate::{Gate, Guards};
use crate::request::{
    RequestContext, TRACERESPONSE, X_REQUEST_ID, given_request_id, given_traceparent,
};
use crate::{Problem, Routes, health, limits, metrics, openapi};

/// Where new ids come from.
pub type NewId = Arc<dyn Fn() -> Uuid + Send + Sync>;

/// How an API behaves at its edge.
#[derive(Clone)]
pub struct Edge {
    /// How it tells how well it is.
    pub health: health::Checks,
    /// Who may pass.
    pub gate: Gate,
    /// What tells strangers how to use it: `/openapi.json`.
    pub document: Option<serde_json::Value>,
    /// Where new request ids come from.
    pub new_id: NewId,
    /// Requests worked on at once.
    pub in_flight_max: usize,
    /// How long a request may take.
    pub request_wait_max: Duration,
}

impl Edge {
    /// The usual limits, and a gate that is shut.
    #[must_use]
    pub fn new(health: health::Checks, new_id: impl Fn() -> Uuid + Send + Sync + 'static) -> Self {
        Self {
            health,
            gate: Gate::shut(),
            document: None,
            new_id: Arc::new(new_id),
            in_flight_max: limits::IN_FLIGHT_MAX,
            request_wait_max: limits::REQUEST_WAIT_MAX,
        }
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge")
            .field("in_flight_max", &self.in_flight_max)
            .field("request_wait_max", &self.request_wait_max)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Limit {
    in_flight: Semaphore,
    request_wait_max: Duration,
}

/// Puts the edge around `routes`: a guard in front of each, health routes, 404 and 405 as problems, at most
/// `in_flight_max` requests at once (one more is 503 at once), a time-out, panics as 500,
/// request ids, and one log line for each request.
pub fn edge(routes: Routes, edge: Edge) -> Router {
    let Edge { health, gate, document, new_id, in_flight_max, request_wait_max } = edge;
    let limit = Arc::new(Limit { in_flight: Semaphore::new(in_flight_max), request_wait_max });
    let described = document.as_ref().map(openapi::routes);
    routes
        .into_router(&Guards::new(gate))
        .layer(from_fn_with_state(limit, limited))
        .merge(described.unwrap_or_default())
        // Whether the service is overloaded is asked of these: they are not limited themselves.
        .merge(health::routes(health))
        .fallback(|| async { Problem::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path does not take this method; see Allow",
            )
        })
        .layer(from_fn_with_state(new_id, observed))
}

/// Turns requests away that are too many, and gives up on those that take too long.
async fn limited(State(limit): State<Arc<Limit>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = limit.in_flight.try_acquire() else {
        return Problem::unavailable("overloaded", "too many requests at once").into_response();
    };
    let safe = request.method().is_safe();
    match tokio::time::timeout(limit.request_wait_max, next.run(request)).await {
        Ok(response) => response,
        Err(_) if safe => Problem::unavailable("timed_out", "it took too long").into_response(),
        Err(_) => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "outcome_unknown",
            "it took too long; send it again under the same Idempotency-Key to learn the outcome",
        )
        .retry_after(limits::RETRY_AFTER_S)
        .into_response(),
    }
}

/// Gives the request its id, survives its panic, completes its problem, counts and logs it.
async fn observed(State(new_id): State<NewId>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let uri = request.uri().clone();
    let headers = request.headers();
    let request_id =
        given_request_id(headers).unwrap_or_else(|| format!("req_{}", new_id().as_simple()).into());
    let given = given_traceparent(headers);
    let route = path.as_ref().map_or("(none)", MatchedPath::as_str);
    let mut span = begin(&method, route, given.as_deref(), &request_id);
    let here = span.traceparent();
    let traceparent = here.as_deref().map(Into::into).or(given);
    let context = RequestContext { request_id: request_id.clone(), traceparent };
    request.extensions_mut().insert(context);

    let work = span.around(next.run(request));
    let mut response = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(
        // The panic hook has written what and where.
        |_| {
            let detail = "the fault is ours; it is logged";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
        },
    );
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        metrics::refused(problem.code());
        let body = problem.body(Some(uri.path()), Some(&request_id));
        *response.body_mut() = Body::from(body);
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    if let Some(Ok(value)) = here.map(HeaderValue::try_from) {
        response.headers_mut().insert(TRACERESPONSE, value);
    }
    let (status, took) = (response.status(), started.elapsed());
    span.set("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.failed(|| status.to_string());
    }
    metrics::answered(&method, route, status, took);
    log(&method, route, status, took, &request_id, span.trace_id().as_deref());
    response
}

/// The span of a request. Whoever only asks how the service is leaves none.
fn begin(method: &Method, route: &str, given: Option<&str>, request_id: &str) -> Span {
    if !route.starts_with("/v1/") {
        return Span::none();
    }
    let mut span = Span::child(Kind::Server, || format!("{method} {route}"), given);
    if span.is_on() {
        span.set("http.request.method", method.to_string());
        span.set("http.route", route.to_owned());
        span.set("waybill.request_id", request_id.to_owned());
    }
    span
}

/// One line for each request: our faults as warnings, refusals as information, the rest for
/// whoever looks closely.
fn log(
    method: &Method,
    path: &str,
    status: StatusCode,
    took: Duration,
    request_id: &str,
    trace_id: Option<&str>,
) {
    let latency_ms = || u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "web::request",
                %method, path, status = status.as_u16(), latency_ms = latency_ms(), request_id, trace_id,
                "answered {method} {path} with {}", status.as_u16()
            )
        };
    }
    match status.as_u16() {
        500.. => line!(warn),
        400.. => line!(info),
        _ => line!(debug),
    }
}
