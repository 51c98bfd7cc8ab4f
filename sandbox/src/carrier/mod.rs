//! A carrier in the shape of `EasyPost`: shipments, labels, refunds of labels, pickups, trackers,
//! and signed webhooks for every scan.
//!
//! Known to differ from `EasyPost`: it honours `Idempotency-Key`, a pickup needs no separate
//! purchase, label refunds succeed at once, trackers carry the shipment's `reference`, and parcels
//! travel in milliseconds. It serves every country but Antarctica (`AQ`), which is how a test
//! gets a label rejected.

mod book;
mod refusal;
mod scan;
mod shipment;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::call::{Call, Form};
use crate::desk::{Desk, Effect, Moment, steering};
use book::Book;
use refusal::Refusal;
pub(crate) use scan::scan_all;
use shipment::Shipment;

type Shared = State<Arc<Desk<Book>>>;

/// Signs a body as `EasyPost` does: `hmac-sha256-hex=hex` over the body.
pub(crate) fn sign(secret: &str, body: &str, _: DateTime<Utc>) -> (&'static str, String) {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(body.as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    ("x-hmac-signature", format!("hmac-sha256-hex={signature}"))
}

/// Every route.
pub(crate) fn router(desk: Arc<Desk<Book>>) -> Router {
    let api = Router::new()
        .route("/v2/shipments", post(create))
        .route("/v2/shipments/{id}", get(retrieve))
        .route("/v2/shipments/{id}/buy", post(buy))
        .route("/v2/shipments/{id}/refund", post(refund))
        .route("/v2/pickups", post(pickup))
        .route("/v2/trackers/{code}", get(tracker))
        .layer(from_fn_with_state(Arc::clone(&desk), authorise));
    api.route("/sandbox/books", get(books))
        .route("/sandbox/shipments/{id}/scan", post(scan))
        .merge(steering())
        .with_state(desk)
}

async fn authorise(State(desk): Shared, request: Request, next: Next) -> Response {
    if desk.admits(request.headers()) {
        return next.run(request).await;
    }
    answer(&desk, Err(Refusal::unauthorised()))
}

fn answer(desk: &Desk<Book>, found: Result<Value, Refusal>) -> Response {
    match found {
        Ok(body) => desk.respond(StatusCode::OK, body.to_string()),
        Err(refusal) => desk.respond(refusal.status(), refusal.body().to_string()),
    }
}

/// Reads the body as JSON and lets `act` change the books.
async fn change(
    desk: &Desk<Book>,
    operation: &str,
    (headers, uri, body): (HeaderMap, Uri, Bytes),
    act: impl FnOnce(&mut Book, Value, &Moment<'_>) -> Result<Effect<Shipment>, Refusal> + Send,
) -> Response {
    let call = Call::new(&headers, &uri, body);
    let sent: &[u8] = if call.body.is_empty() { b"{}" } else { &call.body };
    let Ok(json) = serde_json::from_slice(sent) else {
        return answer(desk, Err(Refusal::malformed()));
    };
    let done = desk.change(&call, operation, |book, moment| {
        act(book, json, moment).unwrap_or_else(Refusal::effect)
    });
    done.await
}

async fn create(State(desk): Shared, headers: HeaderMap, uri: Uri, body: Bytes) -> Response {
    change(&desk, "create", (headers, uri, body), |book, json, moment| book.create(&json, moment))
        .await
}

async fn buy(
    State(desk): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let act = |book: &mut Book, json: Value, moment: &Moment<'_>| book.buy(&id, &json, moment);
    change(&desk, "buy", (headers, uri, body), act).await
}

async fn refund(
    State(desk): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let act = |book: &mut Book, _: Value, moment: &Moment<'_>| book.refund(&id, moment);
    change(&desk, "refund", (headers, uri, body), act).await
}

async fn pickup(State(desk): Shared, headers: HeaderMap, uri: Uri, body: Bytes) -> Response {
    change(&desk, "pickup", (headers, uri, body), |book, json, moment| book.pickup(&json, moment))
        .await
}

async fn retrieve(State(desk): Shared, Path(id): Path<String>) -> Response {
    let found = desk.book().retrieve(&id);
    answer(&desk, found)
}

async fn tracker(State(desk): Shared, Path(code): Path<String>) -> Response {
    let found = desk.book().tracker(&code);
    answer(&desk, found)
}

/// The books: counts, and shipments by pages of `limit` (up to 1000) after `starting_after`.
async fn books(State(desk): Shared, RawQuery(query): RawQuery) -> Json<Value> {
    let query = Form::read(query.unwrap_or_default().as_bytes());
    let mut books = desk.book().summary(&query);
    books["webhooks_waiting"] = desk.outbox.len().into();
    Json(books)
}

/// `POST /sandbox/shipments/{id}/scan {"status": "delivered"}`: a scan by hand, in any order; what
/// goes wrong is `failure` with a `status_detail` as `lost`, or `return_to_sender`.
async fn scan(State(desk): Shared, Path(id): Path<String>, Json(json): Json<Value>) -> Response {
    desk.carry_out(None, |book, moment| {
        book.scan_by_hand(&id, &json, moment).unwrap_or_else(Refusal::effect)
    })
}
