//! `EasyPost`'s error bodies.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::desk::Effect;

/// Why a call was refused, as the caller reads it.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Whether the same idempotency key hears this again.
    keep: bool,
}

impl Refusal {
    /// No key, or the wrong one.
    pub(super) fn unauthorised() -> Self {
        let message = "An API key is required.".to_owned();
        Self { status: StatusCode::UNAUTHORIZED, code: "APIKEY.REQUIRED", message, keep: false }
    }

    /// Not JSON.
    pub(super) fn malformed() -> Self {
        let message = "The request could not be understood.".to_owned();
        Self { status: StatusCode::BAD_REQUEST, code: "MALFORMED_REQUEST", message, keep: false }
    }

    /// A field is missing or no good: nothing was begun.
    pub(super) fn parameter(what: &str) -> Self {
        let message = format!("Missing or wrong: {what}.");
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self { status, code: "PARAMETER.REQUIRED", message, keep: false }
    }

    /// No such thing.
    pub(super) fn missing() -> Self {
        let message = "The requested resource could not be found.".to_owned();
        Self { status: StatusCode::NOT_FOUND, code: "NOT_FOUND", message, keep: false }
    }

    /// It cannot be done to this shipment.
    pub(super) fn impossible(code: &'static str, message: &str) -> Self {
        let (status, message) = (StatusCode::UNPROCESSABLE_ENTITY, message.to_owned());
        Self { status, code, message, keep: true }
    }

    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The body.
    pub(super) fn body(&self) -> Value {
        json!({ "error": { "code": self.code, "message": self.message, "errors": [] } })
    }

    /// What the desk answers.
    pub(super) fn effect<O>(self) -> Effect<O> {
        Effect { keep: self.keep, ..Effect::answer(self.status, self.body()) }
    }
}
