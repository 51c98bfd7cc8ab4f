//! `/metrics`: the numbers of a process, as Prometheus reads them.

use std::future::Future;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;

use crate::Problem;

/// The text form that Prometheus reads.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

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
