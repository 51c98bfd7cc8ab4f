//! A payment provider in the shape of Stripe: payment intents with manual capture, refunds,
//! declines by test payment method, 3-D Secure, and signed webhooks.
//!
//! A card that asks (`pm_card_threeDSecure2Required`) leaves the payment at `requires_action` with
//! a page of this server to send the customer to, where they confirm it or do not; a script posts
//! `result=complete` or `result=fail` there.
//!
//! A customer disputes a payment at `/sandbox/payment_intents/{id}/dispute`, and their bank decides
//! at `/sandbox/disputes/{id}/close`.
//!
//! Known to differ from Stripe: one account, no customers, no payment method objects, the bank's
//! page is a redirect whether or not a `return_url` was given, no minimum amount but 1,
//! authorisations expire on request only.

mod book;
mod card;
mod dispute;
mod intent;
mod list;
mod refusal;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::call::{Call, Form};
use crate::desk::{Desk, steering};
use book::Book;
use refusal::Refusal;

type Shared = State<Arc<Desk<Book>>>;

/// Signs a body as Stripe does: `t=seconds,v1=hex` over `seconds.body`.
pub(crate) fn sign(secret: &str, body: &str, now: DateTime<Utc>) -> (&'static str, String) {
    let seconds = now.timestamp();
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(format!("{seconds}.{body}").as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    ("stripe-signature", format!("t={seconds},v1={signature}"))
}

/// Every route.
pub(crate) fn router(desk: Arc<Desk<Book>>) -> Router {
    let api = Router::new()
        .route("/v1/payment_intents", get(list).post(create))
        .route("/v1/payment_intents/{id}", get(retrieve))
        .route("/v1/payment_intents/{id}/confirm", post(confirm))
        .route("/v1/payment_intents/{id}/capture", post(capture))
        .route("/v1/payment_intents/{id}/cancel", post(cancel))
        .route("/v1/refunds", get(list_refunds).post(refund))
        .route("/v1/refunds/{id}", get(retrieve_refund))
        .route("/v1/disputes", get(list_disputes))
        .route("/v1/disputes/{id}", get(retrieve_dispute))
        .layer(from_fn_with_state(Arc::clone(&desk), authorise));
    api.route("/sandbox/books", get(books))
        .route("/sandbox/payment_intents/{id}/challenge", get(bank).post(challenge))
        .route("/sandbox/payment_intents/{id}/reverse", post(reverse))
        .route("/sandbox/payment_intents/{id}/expire", post(expire))
        .route("/sandbox/payment_intents/{id}/dispute", post(dispute))
        .route("/sandbox/disputes/{id}/close", post(close))
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

async fn create(State(desk): Shared, headers: HeaderMap, uri: Uri, body: Bytes) -> Response {
    let call = Call::new(&headers, &uri, body);
    let form = call.form();
    desk.change(&call, "create", move |book, moment| book.create(&form, moment)).await
}

async fn confirm(
    State(desk): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let call = Call::new(&headers, &uri, body);
    let form = call.form();
    desk.change(&call, "confirm", move |book, moment| book.confirm(&id, &form, moment)).await
}

async fn capture(
    State(desk): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let call = Call::new(&headers, &uri, body);
    let form = call.form();
    desk.change(&call, "capture", move |book, moment| book.capture(&id, &form, moment)).await
}

async fn cancel(
    State(desk): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let call = Call::new(&headers, &uri, body);
    let form = call.form();
    desk.change(&call, "cancel", move |book, moment| book.cancel(&id, &form, moment)).await
}

async fn refund(State(desk): Shared, headers: HeaderMap, uri: Uri, body: Bytes) -> Response {
    let call = Call::new(&headers, &uri, body);
    let form = call.form();
    desk.change(&call, "refund", move |book, moment| book.refund(&form, moment)).await
}

async fn retrieve(
    State(desk): Shared,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Form::read(query.unwrap_or_default().as_bytes());
    let found = desk.book().retrieve(&id, &query);
    answer(&desk, found)
}

async fn retrieve_refund(State(desk): Shared, Path(id): Path<String>) -> Response {
    let found = desk.book().retrieve_refund(&id);
    answer(&desk, found)
}

async fn list(State(desk): Shared, RawQuery(query): RawQuery) -> Response {
    let query = Form::read(query.unwrap_or_default().as_bytes());
    let found = desk.book().list(&query);
    answer(&desk, found)
}

async fn list_refunds(State(desk): Shared, RawQuery(query): RawQuery) -> Response {
    let query = Form::read(query.unwrap_or_default().as_bytes());
    let found = desk.book().list_refunds(&query);
    answer(&desk, found)
}

async fn retrieve_dispute(State(desk): Shared, Path(id): Path<String>) -> Response {
    let found = desk.book().retrieve_dispute(&id);
    answer(&desk, found)
}

async fn list_disputes(State(desk): Shared, RawQuery(query): RawQuery) -> Response {
    let query = Form::read(query.unwrap_or_default().as_bytes());
    let found = desk.book().list_disputes(&query);
    answer(&desk, found)
}

/// The page of the customer's bank.
async fn bank(State(desk): Shared, Path(id): Path<String>) -> Response {
    match desk.book().find(&id, "intent") {
        Ok(intent) => Html(intent.challenge_page()).into_response(),
        Err(refusal) => answer(&desk, Err(refusal)),
    }
}

/// What the customer does there.
async fn challenge(
    State(desk): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let call = Call::new(&headers, &uri, body);
    let form = call.form();
    desk.change(&call, "challenge", move |book, moment| book.challenge(&id, &form, moment)).await
}

/// Money that was taken is gone again.
async fn reverse(State(desk): Shared, Path(id): Path<String>) -> Response {
    desk.carry_out(None, |book, moment| book.reverse(&id, moment))
}

/// The customer asks their bank for the money back.
async fn dispute(State(desk): Shared, Path(id): Path<String>, body: Bytes) -> Response {
    let form = Form::read(&body);
    desk.carry_out(None, |book, moment| book.dispute(&id, &form, moment))
}

/// Their bank decides.
async fn close(State(desk): Shared, Path(id): Path<String>, body: Bytes) -> Response {
    let form = Form::read(&body);
    desk.carry_out(None, |book, moment| book.close(&id, &form, moment))
}

/// Money that was held is let go, since nobody took it in time.
async fn expire(State(desk): Shared, Path(id): Path<String>) -> Response {
    desk.carry_out(None, |book, moment| book.expire(&id, moment))
}

/// The books, for whoever wants to compare: sums by currency, and intents by pages of `limit`
/// (up to 1000) after `starting_after`, of one order where `order_id` is given.
async fn books(State(desk): Shared, RawQuery(query): RawQuery) -> Json<Value> {
    let query = Form::read(query.unwrap_or_default().as_bytes());
    let mut books = desk.book().summary(&query);
    books["webhooks_waiting"] = desk.outbox.len().into();
    Json(books)
}
