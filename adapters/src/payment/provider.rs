//! The provider's API, as far as we speak it: Stripe's payment intents and refunds.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta};
use schemas::payment::{DisputeStatus, ProviderStatus};
use schemas::{Link, Money, OrderId, PaymentId, RefundId, Text, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::outbound::{Body, Outbound, Question};
use crate::outcome::{Outcome, Rejection};
use crate::{Config, ConfigError};

#[cfg(test)]
mod tests;

/// How long money is held where the provider does not say: its own usual time.
const HELD: TimeDelta = TimeDelta::days(7);
/// Asks for the charge inside the intent, since only that says how long the money is held.
const EXPAND: (&str, &str) = ("expand[]", "latest_charge");

/// The provider's record of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Intent {
    pub(super) id: Text,
    pub(super) status: ProviderStatus,
    /// What is due.
    pub(super) amount: Money,
    /// What is held and can be taken.
    pub(super) capturable: Money,
    /// What was taken.
    pub(super) received: Money,
    pub(super) until: Timestamp,
    /// Where the customer does what is wanted of them.
    pub(super) url: Option<Link>,
    /// The code of the last decline.
    pub(super) declined: Option<String>,
    /// Which of our payments it says it is.
    pub(super) payment_id: Option<String>,
}

#[derive(Deserialize)]
struct WireIntent {
    id: Text,
    status: String,
    amount: i64,
    #[serde(default)]
    amount_capturable: i64,
    #[serde(default)]
    amount_received: i64,
    currency: String,
    created: i64,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    latest_charge: Value,
    #[serde(default)]
    cancellation_reason: Option<String>,
    #[serde(default)]
    next_action: Value,
    #[serde(default)]
    last_payment_error: Value,
}

impl Intent {
    /// Reads the provider's JSON; none where it is not an intent.
    pub(super) fn read(json: &Value) -> Option<Self> {
        let wire = WireIntent::deserialize(json).ok()?;
        let currency = wire.currency.to_ascii_uppercase().parse().ok()?;
        let seconds = wire.latest_charge.pointer("/payment_method_details/card/capture_before");
        let held_until = seconds.and_then(Value::as_i64);
        let until = match held_until {
            Some(seconds) => DateTime::from_timestamp(seconds, 0)?,
            None => DateTime::from_timestamp(wire.created, 0)? + HELD,
        };
        let url = wire.next_action.pointer("/redirect_to_url/url").and_then(Value::as_str);
        let url = url.and_then(|url| url.parse().ok());
        let error = |name: &str| wire.last_payment_error.get(name).and_then(Value::as_str);
        Some(Self {
            id: wire.id,
            status: match wire.status.as_str() {
                "requires_payment_method" => ProviderStatus::RequiresMethod,
                // Without an address there is nowhere to send the customer: it is waited for.
                "requires_action" if url.is_some() => ProviderStatus::RequiresAction,
                "requires_capture" => ProviderStatus::RequiresCapture,
                "succeeded" => ProviderStatus::Succeeded,
                "canceled" if wire.cancellation_reason.as_deref() == Some("automatic") => {
                    ProviderStatus::Expired
                }
                "canceled" => ProviderStatus::Cancelled,
                _ => ProviderStatus::Processing,
            },
            amount: Money::new(wire.amount, currency),
            capturable: Money::new(wire.amount_capturable, currency),
            received: Money::new(wire.amount_received, currency),
            until,
            url,
            declined: error("decline_code").or_else(|| error("code")).map(str::to_owned),
            payment_id: wire.metadata.get("payment_id").cloned(),
        })
    }

    /// The intent that an error is about.
    pub(super) fn of(rejection: &Rejection) -> Option<Self> {
        Self::read(rejection.error.get("payment_intent")?)
    }
}

/// The provider's record of a dispute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dispute {
    pub(super) id: Text,
    /// None while the bank only asks, and has no money.
    pub(super) status: Option<DisputeStatus>,
    pub(super) amount: Money,
    pub(super) reason: Text,
    pub(super) evidence_due: Option<Timestamp>,
    /// The payment that it is about, by the provider's id.
    pub(super) provider_ref: Text,
}

#[derive(Deserialize)]
struct WireDispute {
    id: Text,
    status: String,
    amount: i64,
    currency: String,
    reason: Text,
    payment_intent: Text,
    #[serde(default)]
    evidence_details: Value,
}

impl Dispute {
    /// Reads the provider's JSON; none where it is not a dispute.
    pub(super) fn read(json: &Value) -> Option<Self> {
        let wire = WireDispute::deserialize(json).ok()?;
        let due = wire.evidence_details.get("due_by").and_then(Value::as_i64);
        Some(Self {
            id: wire.id,
            status: match wire.status.as_str() {
                "needs_response" | "under_review" => Some(DisputeStatus::Open),
                "won" => Some(DisputeStatus::Won),
                "lost" => Some(DisputeStatus::Lost),
                _ => None,
            },
            amount: Money::new(wire.amount, wire.currency.to_ascii_uppercase().parse().ok()?),
            reason: wire.reason,
            evidence_due: due.and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
            provider_ref: wire.payment_intent,
        })
    }
}

/// The provider.
#[derive(Debug)]
pub(super) struct Provider {
    outbound: Outbound,
    /// Where it sends customers back to.
    return_url: Option<String>,
}

impl Provider {
    /// Sets up the way there.
    ///
    /// # Errors
    /// Where `config` is no good.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let outbound = Outbound::new("payments", config)?;
        Ok(Self { outbound, return_url: config.return_url.clone() })
    }

    async fn intent(&self, question: Question) -> Outcome<Intent> {
        self.outbound.ask(&question).await.and_then(|json| match Intent::read(&json) {
            Some(intent) => Outcome::Ok(intent),
            None => Outcome::Unknown("the answer is not a payment intent".to_owned()),
        })
    }

    /// Holds money.
    pub(super) async fn hold(
        &self,
        payment: PaymentId,
        order: OrderId,
        op: u32,
        amount: Money,
        method: &Text,
    ) -> Outcome<Intent> {
        let mut form = vec![
            ("amount", amount.amount.to_string()),
            ("currency", amount.currency.code().to_ascii_lowercase()),
            ("payment_method", method.to_string()),
            ("capture_method", "manual".to_owned()),
            ("confirm", "true".to_owned()),
            ("metadata[payment_id]", payment.to_string()),
            ("metadata[order_id]", order.to_string()),
            (EXPAND.0, EXPAND.1.to_owned()),
        ];
        form.extend(self.return_url.clone().map(|url| ("return_url", url)));
        let (path, key) = (["v1", "payment_intents"], format!("{payment}:authorise:{op}"));
        self.intent(Question::post("create", &path, key, Body::Form(form))).await
    }

    /// Takes money that is held. Each try has a key of its own: to the provider the same question
    /// has the same answer for ever.
    pub(super) async fn capture(
        &self,
        payment: PaymentId,
        (op, attempt): (u32, u32),
        provider_ref: &Text,
        amount: Money,
    ) -> Outcome<Intent> {
        let path = ["v1", "payment_intents", provider_ref.as_str(), "capture"];
        let form =
            vec![("amount_to_capture", amount.amount.to_string()), (EXPAND.0, EXPAND.1.to_owned())];
        let key = match attempt {
            1 => format!("{payment}:capture:{op}"),
            _ => format!("{payment}:capture:{op}:{attempt}"),
        };
        self.intent(Question::post("capture", &path, key, Body::Form(form))).await
    }

    /// Lets go of what is held. The key names the intent: a payment may have to let go of several.
    pub(super) async fn cancel(&self, payment: PaymentId, provider_ref: &Text) -> Outcome<Intent> {
        let path = ["v1", "payment_intents", provider_ref.as_str(), "cancel"];
        let form = vec![(EXPAND.0, EXPAND.1.to_owned())];
        let key = format!("{payment}:void:{provider_ref}");
        self.intent(Question::post("cancel", &path, key, Body::Form(form))).await
    }

    /// Gives money back, and says how much went.
    pub(super) async fn refund(
        &self,
        payment: PaymentId,
        refund: RefundId,
        provider_ref: &Text,
        amount: Money,
    ) -> Outcome<Money> {
        let form = vec![
            ("payment_intent", provider_ref.to_string()),
            ("amount", amount.amount.to_string()),
            ("metadata[refund_id]", refund.to_string()),
        ];
        let key = format!("{payment}:refund:{refund}");
        let question = Question::post("refund", &["v1", "refunds"], key, Body::Form(form));
        let answer = self.outbound.ask(&question).await;
        let pending = matches!(&answer, Outcome::Ok(json) if json["status"] == "pending");
        // The key would say `pending` for ever; the refund itself says how it went.
        let answer = match &answer {
            Outcome::Ok(json) if pending => {
                let id = json["id"].as_str().unwrap_or_default().to_owned();
                self.outbound.ask(&Question::get("refund", &["v1", "refunds", &id])).await
            }
            _ => answer,
        };
        answer.and_then(|json| refunded(&json, amount))
    }

    /// Reads the provider's record.
    pub(super) async fn retrieve(&self, provider_ref: &Text) -> Outcome<Intent> {
        let path = ["v1", "payment_intents", provider_ref.as_str()];
        let question = Question { query: vec![EXPAND], ..Question::get("retrieve", &path) };
        self.intent(question).await
    }

    /// Reads the provider's record of a dispute.
    pub(super) async fn dispute(&self, dispute: &Text) -> Outcome<Dispute> {
        let path = ["v1", "disputes", dispute.as_str()];
        let answer = self.outbound.ask(&Question::get("dispute", &path)).await;
        answer.and_then(|json| match Dispute::read(&json) {
            Some(dispute) => Outcome::Ok(dispute),
            None => Outcome::Unknown("the answer is not a dispute".to_owned()),
        })
    }
}

fn refunded(json: &Value, asked: Money) -> Outcome<Money> {
    match (json["status"].as_str(), json["amount"].as_i64()) {
        (Some("succeeded"), Some(amount)) => Outcome::Ok(Money { amount, ..asked }),
        (Some("failed" | "canceled"), _) => {
            let code = json["failure_reason"].as_str().unwrap_or("refund_failed");
            let error = serde_json::json!({ "type": "refund", "code": code });
            Outcome::Rejected(Rejection { status: 200, error })
        }
        _ => Outcome::Unknown("the refund is on its way".to_owned()),
    }
}
