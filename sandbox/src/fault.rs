//! Faults on request: what a test orders here happens to the next calls or webhooks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

/// How long a hanging call hangs, where no time is given.
const HANG: Duration = Duration::from_hours(1);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Waits `ms`, then does it and answers.
    Delay,
    /// Does it, then says nothing for `ms` (an hour without it).
    Hang,
    /// Does nothing and answers 503.
    ErrorBeforeEffect,
    /// Does it and answers 500.
    ErrorAfterEffect,
    /// Does nothing and answers 402: no, for good.
    Refuse,
    /// Never sends a webhook.
    DropWebhooks,
    /// Sends a webhook twice.
    DuplicateWebhooks,
    /// Holds a webhook back for `ms`, so that later ones overtake it.
    DelayWebhooks,
}

impl Kind {
    const fn is_about_webhooks(self) -> bool {
        matches!(self, Self::DropWebhooks | Self::DuplicateWebhooks | Self::DelayWebhooks)
    }
}

/// An order for faults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    kind: Kind,
    /// How many calls or webhooks it befalls.
    #[serde(default = "once")]
    times: u32,
    /// For how many milliseconds, where that matters.
    #[serde(default)]
    ms: u64,
    /// Which operation it befalls; any, where none is named.
    #[serde(default)]
    operation: Option<String>,
}

const fn once() -> u32 {
    1
}

/// The faults that were ordered and did not happen yet.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders one more.
    pub(crate) fn add(&self, fault: Fault) {
        self.lock().push(fault);
    }

    /// Takes every order back.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// What is still to come.
    pub(crate) fn list(&self) -> Vec<Fault> {
        self.lock().clone()
    }

    fn take(&self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut faults = self.lock();
        let index = faults.iter().position(|fault| fault.times > 0 && wanted(fault))?;
        let fault = faults[index].clone();
        faults[index].times -= 1;
        faults.retain(|fault| fault.times > 0);
        Some(fault)
    }

    /// How often a webhook that is now due to be queued will be sent, and after how many
    /// milliseconds.
    pub(crate) fn webhook(&self) -> (u8, u64) {
        match self.take(|fault| fault.kind.is_about_webhooks()) {
            Some(Fault { kind: Kind::DropWebhooks, .. }) => (0, 0),
            Some(Fault { kind: Kind::DuplicateWebhooks, .. }) => (2, 0),
            Some(Fault { kind: Kind::DelayWebhooks, ms, .. }) => (1, ms),
            _ => (1, 0),
        }
    }

    /// Lets `call` happen, or whatever was ordered instead.
    pub(crate) async fn around(
        &self,
        operation: &str,
        call: impl Future<Output = Response> + Send,
    ) -> Response {
        let fault = self.take(|fault| {
            !fault.kind.is_about_webhooks()
                && fault.operation.as_deref().is_none_or(|name| name == operation)
        });
        let Some(Fault { kind, ms, .. }) = fault else { return call.await };
        tracing::debug!(operation, ?kind, ms, "a fault was ordered for this call");
        let pause = Duration::from_millis(ms);
        match kind {
            Kind::Delay => {
                tokio::time::sleep(pause).await;
                call.await
            }
            Kind::Hang => {
                let answer = call.await;
                tokio::time::sleep(if pause.is_zero() { HANG } else { pause }).await;
                answer
            }
            Kind::ErrorBeforeEffect => broken(StatusCode::SERVICE_UNAVAILABLE),
            Kind::ErrorAfterEffect => {
                call.await;
                broken(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Kind::Refuse => no(),
            Kind::DropWebhooks | Kind::DuplicateWebhooks | Kind::DelayWebhooks => call.await,
        }
    }
}

fn no() -> Response {
    let body = r#"{"error":{"type":"card_error","code":"expired_or_canceled_card","message":"The sandbox was asked to refuse."}}"#;
    (StatusCode::PAYMENT_REQUIRED, [("content-type", "application/json")], body).into_response()
}

fn broken(status: StatusCode) -> Response {
    let body = r#"{"error":{"type":"api_error","message":"The sandbox was asked to fail."}}"#;
    (status, [("content-type", "application/json")], body).into_response()
}
