//! `/metrics`: the numbers of a process, as Prometheus reads them, and those of its requests.

use std::future::Future;
use std::time::Duration;

use ::metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use axum::Router;
use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;

use crate::Problem;

/// The text form that Prometheus reads.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

const REQUESTS: &str = "http_requests_total";
/// The histogram of how long requests take.
pub const REQUEST_SECONDS: &str = "http_request_duration_seconds";
const ERRORS: &str = "errors_total";
const CONNECTIONS: &str = "active_connections";

/// What [`REQUEST_SECONDS`] are counted in: from what memory answers to the longest a request may
/// take.
pub const REQUEST_SECONDS_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Says what the numbers of requests are.
pub fn describe_metrics() {
    describe_counter!(REQUESTS, Unit::Count, "Requests that were answered");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "From a request's head to its answer's");
    describe_counter!(ERRORS, Unit::Count, "Answers that were problems");
    describe_gauge!(CONNECTIONS, Unit::Count, "Connections that clients hold open");
}

/// Counts an answer. Routes are patterns and codes a closed set, so the labels are few.
pub(crate) fn answered(method: &Method, route: &str, status: StatusCode, took: Duration) {
    let method = match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    };
    let (route, status) = (route.to_owned(), status.as_str().to_owned());
    counter!(REQUESTS, "method" => method, "route" => route.clone(), "status" => status)
        .increment(1);
    histogram!(REQUEST_SECONDS, "method" => method, "route" => route).record(took);
}

/// Counts a problem.
pub(crate) fn refused(code: &str) {
    counter!(ERRORS, "code" => code.to_owned()).increment(1);
}

/// Counts a connection until it is dropped.
pub(crate) struct Connected(());

impl Connected {
    pub(crate) fn new() -> Self {
        gauge!(CONNECTIONS).increment(1);
        Self(())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        gauge!(CONNECTIONS).decrement(1);
    }
}

/// Adds `GET /metrics`, which answers with what `render` makes, to a router that has its edge.
/// Like health it is asked of a service that is overloaded, so it is not limited itself.
pub fn with_metrics<F, Fut>(router: Router, render: F) -> Router
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = String> + Send + 'static,
{
    let answer = move || async move { ([(header::CONTENT_TYPE, TEXT)], render().await) };
    let refuse = || async {
        let detail = "this path takes GET only";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail).into_response()
    };
    router.route("/metrics", get(answer).fallback(refuse))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::{Method, Request};
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(method: Method) -> (u16, String, String) {
        let router = with_metrics(Router::new(), || async { "waybill_mugs 3\n".to_owned() });
        let request = Request::builder().method(method).uri("/metrics").body(Body::empty());
        let answer = router.oneshot(request.unwrap()).await.unwrap();
        let kind = answer.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1024).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_was_rendered_is_answered_as_text() {
        let (status, kind, body) = ask(Method::GET).await;
        assert_eq!((status, kind.as_str(), body.as_str()), (200, TEXT, "waybill_mugs 3\n"));
        let (status, kind, _) = ask(Method::POST).await;
        assert_eq!((status, kind.as_str()), (405, "application/problem+json"));
    }
}
