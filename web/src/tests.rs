//! The edge and the extractors together, as a client sees them.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::Value;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::{
    Access, Edge, Json, Operation, OptionalJson, PathId, Problem, Query, RawBody, RequestContext,
    Routes, edge, health, limits,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counted {
    count: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    limit: Option<u32>,
    #[serde(rename = "filter[status]")]
    status: Option<String>,
}

fn edge_for_tests() -> Edge {
    Edge::new(health::Checks::none(), || Uuid::from_u128(7))
}

/// Routes that need no token: what is around them is looked at here.
fn open(path: &'static str) -> Operation {
    Operation::get(path, path, Access::Signature, "For the tests")
}

fn open_post(path: &'static str) -> Operation {
    Operation::post(path, path, Access::Signature, "For the tests")
}

fn routes() -> Routes {
    Routes::new()
        .route(
            open_post("/count"),
            |Json(body): Json<Counted>| async move { body.count.to_string() },
        )
        .route(open_post("/empty"), |OptionalJson(NoFields {}): OptionalJson<NoFields>| async {
            "ok"
        })
        .route(open_post("/raw"), |RawBody(body): RawBody| async move { body.len().to_string() })
        .route(open("/things/{id}"), |PathId(id): PathId<u8>| async move { id.to_string() })
        .route(open("/list"), |Query(filter): Query<Filter>| async move {
            format!("{:?} {:?}", filter.limit, filter.status)
        })
        .route(open("/panic"), || async { panic!("as a test asks") as &'static str })
        .route(open("/slow"), std::future::pending::<&'static str>)
        .route(open_post("/slow"), std::future::pending::<&'static str>)
        .route(open("/context"), |context: RequestContext| async move {
            format!("{:?}", context.traceparent)
        })
}

async fn ask(router: Router, request: Request<Body>) -> (StatusCode, Response<()>, String) {
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
}

fn request(method: &str, path: &str, body: &str) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path);
    let builder = builder.header(header::CONTENT_TYPE, "application/json");
    builder.body(Body::from(body.to_owned())).unwrap()
}

/// Asks, and expects a problem.
#[track_caller]
fn problem(body: &str) -> Value {
    let problem: Value = serde_json::from_str(body).unwrap();
    for member in ["type", "title", "status", "code", "detail", "instance", "request_id"] {
        assert!(problem.get(member).is_some(), "{member} is missing: {body}");
    }
    problem
}

async fn check(request: Request<Body>, status: u16, code: &str) -> Value {
    let (found, response, body) = ask(edge(routes(), edge_for_tests()), request).await;
    assert_eq!(found.as_u16(), status, "{body}");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let problem = problem(&body);
    assert_eq!(problem["code"], code, "{body}");
    assert_eq!(problem["status"], status, "{body}");
    problem
}

#[tokio::test]
async fn every_error_is_a_problem() {
    check(request("GET", "/nothing", ""), 404, "not_found").await;
    check(request("PUT", "/count", "{}"), 405, "method_not_allowed").await;
    check(request("POST", "/count", "{"), 400, "malformed_json").await;
    check(request("POST", "/count", "[1]"), 422, "validation_failed").await;
    check(request("POST", "/empty", "[]"), 422, "validation_failed").await;
    check(request("POST", "/empty", "{\"x\":1}"), 422, "validation_failed").await;
    check(request("GET", "/things/300", ""), 400, "invalid_id").await;
    check(request("GET", "/things/%FF", ""), 400, "invalid_id").await;
    check(request("GET", "/panic", ""), 500, "internal").await;
    let huge = "x".repeat(limits::BODY_BYTES_MAX + 1);
    check(request("POST", "/count", &huge), 413, "body_too_large").await;
    check(request("POST", "/raw", &huge), 413, "body_too_large").await;
    let problem =
        check(request("POST", "/count", "{\"count\":481.0}"), 422, "validation_failed").await;
    assert_eq!(problem["errors"][0]["pointer"], "#/count");
    assert_eq!(problem["instance"], "/count");
    assert_eq!(problem["request_id"], "req_00000000000000000000000000000007");
}

#[tokio::test]
async fn a_body_that_arrives_in_pieces_is_limited_too() {
    let piece = vec![b' '; limits::BODY_BYTES_MAX / 2];
    let pieces = futures_util::stream::iter(
        std::iter::repeat_n(piece, 3).map(Ok::<_, std::convert::Infallible>),
    );
    let mut endless = request("POST", "/count", "");
    *endless.body_mut() = Body::from_stream(pieces);
    check(endless, 413, "body_too_large").await;
}

#[tokio::test]
async fn a_body_must_say_that_it_is_json() {
    for kind in [None, Some("text/plain"), Some("application/jsonp"), Some("")] {
        let mut untyped = request("POST", "/count", "{\"count\":1}");
        untyped.headers_mut().remove(header::CONTENT_TYPE);
        if let Some(kind) = kind {
            untyped.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        }
        check(untyped, 415, "unsupported_media_type").await;
    }
    let mut untyped = request("POST", "/empty", "{}");
    untyped.headers_mut().remove(header::CONTENT_TYPE);
    check(untyped, 415, "unsupported_media_type").await;
    for kind in ["application/json; charset=utf-8", "Application/JSON", "application/x+json"] {
        let mut typed = request("POST", "/count", "{\"count\":1}");
        typed.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        let (status, _, body) = ask(edge(routes(), edge_for_tests()), typed).await;
        assert_eq!((status.as_u16(), body.as_str()), (200, "1"), "{kind}");
    }
}

#[tokio::test]
async fn an_empty_body_is_taken_where_nothing_need_be_said() {
    let mut empty = request("POST", "/empty", "");
    empty.headers_mut().remove(header::CONTENT_TYPE);
    for request in [empty, request("POST", "/empty", "{}"), request("POST", "/empty", "")] {
        let (status, _, body) = ask(edge(routes(), edge_for_tests()), request).await;
        assert_eq!(status, 200, "{body}");
    }
}

#[tokio::test]
async fn unknown_and_wrong_parameters_are_refused() {
    for (query, name) in [
        ("?limits=3", "limits"),
        ("?limit=many", "limit"),
        ("?limit=1&limit=2", "limit"),
        ("?filter%5Bstatus%5D=a%00b", "*"),
    ] {
        let problem =
            check(request("GET", &format!("/list{query}"), ""), 400, "invalid_parameter").await;
        assert_eq!(problem["errors"][0]["parameter"], name, "{problem}");
    }
    let good = request("GET", "/list?filter%5Bstatus%5D=a&limit=3", "");
    let (_, _, body) = ask(edge(routes(), edge_for_tests()), good).await;
    assert_eq!(body, "Some(3) Some(\"a\")");
}

#[tokio::test]
async fn a_request_keeps_its_id_and_its_trace() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut traced = request("GET", "/context", "");
    traced.headers_mut().insert("x-request-id", "mine-1".parse().unwrap());
    traced.headers_mut().insert("traceparent", trace.parse().unwrap());
    let (_, response, body) = ask(edge(routes(), edge_for_tests()), traced).await;
    assert_eq!(response.headers()["x-request-id"], "mine-1");
    assert_eq!(body, format!("Some(\"{trace}\")"));
}

#[tokio::test(start_paused = true)]
async fn what_takes_too_long_is_given_up() {
    check(request("GET", "/slow", ""), 503, "timed_out").await;
    check(request("POST", "/slow", ""), 504, "outcome_unknown").await;
}

#[tokio::test(start_paused = true)]
async fn one_request_too_many_is_turned_away_at_once() {
    let router = edge(routes(), Edge { in_flight_max: 1, ..edge_for_tests() });
    let first = ask(router.clone(), request("GET", "/slow", ""));
    let others = async {
        let (status, response, body) = ask(router.clone(), request("GET", "/things/1", "")).await;
        assert_eq!(status, 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(problem(&body)["code"], "overloaded");
        let (status, ..) = ask(router.clone(), request("GET", "/livez", "")).await;
        assert_eq!(status, 200);
    };
    let ((slow, ..), ()) = tokio::join!(first, others);
    assert_eq!(slow, 503);
    let (status, ..) = ask(router, request("GET", "/things/1", "")).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn health_says_what_it_found() {
    let ill = health::Checks::new(|| async {
        health::Report::from([
            ("database", health::Check::new(health::Status::Unhealthy)),
            ("nats", health::Check::new(health::Status::Healthy).after(Duration::from_millis(7))),
        ])
    });
    let router = edge(routes(), Edge { health: ill, ..edge_for_tests() });
    let (status, _, body) = ask(router.clone(), request("GET", "/healthz", "")).await;
    assert_eq!(status, 503);
    let told = concat!(
        r#"{"status":"unhealthy","checks":{"database":{"status":"unhealthy"},"#,
        r#""nats":{"status":"healthy","response_ms":7}}}"#
    );
    assert_eq!(body, told);
    let (status, _, body) = ask(router.clone(), request("GET", "/readyz", "")).await;
    assert_eq!((status.as_u16(), problem(&body)["code"].as_str()), (503, Some("not_ready")));
    let (status, ..) = ask(router, request("GET", "/livez", "")).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_server_ends_what_it_began() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let (start, mut started) = tokio::sync::mpsc::channel::<()>(1);
    let (finish, finished) = tokio::sync::watch::channel(false);
    let handler = move || async move {
        start.send(()).await.unwrap();
        finished.clone().wait_for(|done| *done).await.unwrap();
        Ok::<_, Problem>("done")
    };
    let router = edge(Routes::new().route(open("/work"), handler), edge_for_tests());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let drain = tokio_util::sync::CancellationToken::new();
    let client = async {
        let mut idle = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /work HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        started.recv().await.unwrap();
        drain.cancel();
        let mut answer = String::new();
        idle.read_to_string(&mut answer).await.unwrap();
        finish.send(true).unwrap();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let serve = crate::serve(listener, router, drain.clone());
    let limit = Duration::from_secs(5);
    let (served, answer) =
        tokio::time::timeout(limit, async { tokio::join!(serve, client) }).await.unwrap();
    served.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("done"), "{answer}");
}
