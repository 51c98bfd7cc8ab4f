//! A payment intent and its one charge, and refunds, as they are kept and as they are shown.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How an intent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    RequiresCapture,
    Succeeded,
    Canceled,
}

impl Status {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::RequiresConfirmation => "requires_confirmation",
            Self::RequiresAction => "requires_action",
            Self::RequiresCapture => "requires_capture",
            Self::Succeeded => "succeeded",
            Self::Canceled => "canceled",
        }
    }
}

/// A payment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(super) id: String,
    pub(super) status: Status,
    /// What is due, in minor units.
    pub(super) amount: i64,
    /// What is held and can be taken.
    pub(super) capturable: i64,
    /// What was taken.
    pub(super) received: i64,
    /// What was given back of it.
    pub(super) refunded: i64,
    /// Three letters, lower case.
    pub(super) currency: String,
    /// Whether taking the money is a step of its own.
    pub(super) manual: bool,
    pub(super) method: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) created: DateTime<Utc>,
    /// Until when the money is held.
    pub(super) capture_before: Option<DateTime<Utc>>,
    pub(super) cancelled: Option<DateTime<Utc>>,
    pub(super) cancel_reason: Option<String>,
    /// The last decline.
    pub(super) last_error: Option<Value>,
    /// The latest attempt to charge the card.
    pub(super) charge: Option<String>,
    /// Where the customer confirms it, while that is wanted.
    #[serde(default)]
    pub(super) challenge: Option<String>,
    /// Where they are sent afterwards.
    #[serde(default)]
    pub(super) return_url: Option<String>,
    /// The dispute about it.
    #[serde(default)]
    pub(super) dispute: Option<String>,
    /// How much of it the customer's bank has, or gave to the customer.
    #[serde(default)]
    pub(super) disputed: i64,
}

impl Intent {
    /// The latest charge.
    pub(super) fn charge_id(&self) -> Option<&str> {
        self.charge.as_deref()
    }

    /// The intent as Stripe shows it, the charge inside where `expanded`.
    pub(super) fn json(&self, expanded: bool) -> Value {
        let charge = match &self.charge {
            Some(_) if expanded => self.charge_json(),
            Some(id) => json!(id),
            None => Value::Null,
        };
        json!({
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": self.capturable,
            "amount_received": self.received,
            "canceled_at": self.cancelled.map(|at| at.timestamp()),
            "cancellation_reason": self.cancel_reason,
            "capture_method": if self.manual { "manual" } else { "automatic" },
            "client_secret": format!("{}_secret", self.id),
            "confirmation_method": "automatic",
            "created": self.created.timestamp(),
            "currency": self.currency,
            "last_payment_error": self.last_error,
            "latest_charge": charge,
            "livemode": false,
            "metadata": self.metadata,
            "next_action": self.next_action(),
            "payment_method": self.method,
            "payment_method_types": ["card"],
            "status": self.status.as_str(),
        })
    }

    /// The page on which the customer confirms the payment with their bank.
    pub(super) fn challenge_page(&self) -> String {
        let Self { amount, currency, .. } = self;
        let button = |result: &str, label: &str| {
            format!(r#"<button name="result" value="{result}">{label}</button>"#)
        };
        format!(
            "<!doctype html><title>Your bank</title><h1>Your bank</h1>\
             <p>A shop wants {amount} of your smallest {currency} coins.</p>\
             <form method=\"post\">{} {}</form>",
            button("complete", "That is me"),
            button("fail", "That is not me"),
        )
    }

    fn next_action(&self) -> Value {
        match &self.challenge {
            Some(url) if self.status == Status::RequiresAction => json!({
                "type": "redirect_to_url",
                "redirect_to_url": { "url": url, "return_url": self.return_url },
            }),
            _ => Value::Null,
        }
    }

    /// The charge as Stripe shows it.
    pub(super) fn charge_json(&self) -> Value {
        let declined = self.last_error.is_some();
        let captured = self.status == Status::Succeeded;
        json!({
            "id": self.charge,
            "object": "charge",
            "amount": self.amount,
            "amount_captured": self.received,
            "amount_refunded": self.refunded,
            "captured": captured,
            "created": self.created.timestamp(),
            "currency": self.currency,
            "disputed": self.dispute.is_some(),
            "livemode": false,
            "metadata": self.metadata,
            "paid": !declined,
            "payment_intent": self.id,
            "payment_method": self.method,
            "payment_method_details": {
                "type": "card",
                "card": { "capture_before": self.capture_before.map(|at| at.timestamp()) },
            },
            "refunded": captured && self.refunded == self.received,
            "status": if declined { "failed" } else { "succeeded" },
        })
    }
}

/// Money given back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refund {
    pub(super) id: String,
    pub(super) intent: String,
    pub(super) charge: Option<String>,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) reason: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) created: DateTime<Utc>,
}

impl Refund {
    /// The refund as Stripe shows it.
    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id,
            "object": "refund",
            "amount": self.amount,
            "charge": self.charge,
            "created": self.created.timestamp(),
            "currency": self.currency,
            "metadata": self.metadata,
            "payment_intent": self.intent,
            "reason": self.reason,
            "status": "succeeded",
        })
    }
}
