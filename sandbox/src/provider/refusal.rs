//! Stripe's error bodies.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::card::Decline;
use super::intent::Intent;
use crate::desk::Effect;

/// Why a call was refused, as the caller reads it.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: Value,
    /// Whether the same idempotency key hears this again.
    keep: bool,
}

impl Refusal {
    /// A field is missing or no good: nothing was begun.
    pub(super) fn parameter(param: &str, code: &str, message: &str) -> Self {
        let error = json!({
            "type": "invalid_request_error", "code": code, "param": param, "message": message,
        });
        Self { status: StatusCode::BAD_REQUEST, error, keep: false }
    }

    /// No such thing.
    pub(super) fn missing(what: &str, param: &str, id: &str) -> Self {
        let error = json!({
            "type": "invalid_request_error", "code": "resource_missing", "param": param,
            "message": format!("No such {what}: '{id}'"),
        });
        Self { status: StatusCode::NOT_FOUND, error, keep: false }
    }

    /// No key, or the wrong one.
    pub(super) fn unauthorised() -> Self {
        let error = json!({
            "type": "invalid_request_error", "message": "Invalid API Key provided.",
        });
        Self { status: StatusCode::UNAUTHORIZED, error, keep: false }
    }

    /// The intent is in a state in which this cannot be done.
    pub(super) fn unexpected_state(intent: &Intent, action: &str) -> Self {
        let status = intent.status.as_str();
        let error = json!({
            "type": "invalid_request_error", "code": "payment_intent_unexpected_state",
            "message": format!(
                "This PaymentIntent could not be {action} because it has a status of {status}."
            ),
            "payment_intent": intent.json(false),
        });
        Self { status: StatusCode::BAD_REQUEST, error, keep: true }
    }

    /// More was asked for than there is.
    pub(super) fn too_much(param: &str, code: &str, message: &str) -> Self {
        let error = json!({
            "type": "invalid_request_error", "code": code, "param": param, "message": message,
        });
        Self { status: StatusCode::BAD_REQUEST, error, keep: true }
    }

    /// The card was declined.
    pub(super) fn declined(decline: Decline, intent: &Intent) -> Self {
        let mut error = decline.json(intent.charge_id());
        error["payment_intent"] = intent.json(false);
        Self { status: StatusCode::PAYMENT_REQUIRED, error, keep: true }
    }

    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The body.
    pub(super) fn body(&self) -> Value {
        json!({ "error": self.error })
    }

    /// What the desk answers.
    pub(super) fn effect<O>(self) -> Effect<O> {
        Effect { keep: self.keep, ..Effect::answer(self.status, self.body()) }
    }
}
