//! Disputes: a customer asks their bank for the money back, and the bank has it until it decides.

use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::book::{Book, Object, notice};
use super::intent::Status;
use super::refusal::Refusal;
use crate::call::Form;
use crate::desk::{Effect, Moment};

/// How long the bank takes evidence.
const EVIDENCE: TimeDelta = TimeDelta::days(7);

/// How a dispute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Judgement {
    NeedsResponse,
    Won,
    Lost,
}

impl Judgement {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NeedsResponse => "needs_response",
            Self::Won => "won",
            Self::Lost => "lost",
        }
    }
}

/// A dispute.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Dispute {
    pub(super) id: String,
    intent: String,
    charge: Option<String>,
    amount: i64,
    currency: String,
    reason: String,
    status: Judgement,
    created: DateTime<Utc>,
}

impl Dispute {
    /// The dispute as Stripe shows it: it names the payment by the provider's id alone.
    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id,
            "object": "dispute",
            "amount": self.amount,
            "charge": self.charge,
            "created": self.created.timestamp(),
            "currency": self.currency,
            "evidence_details": { "due_by": (self.created + EVIDENCE).timestamp() },
            "is_charge_refundable": false,
            "livemode": false,
            "metadata": {},
            "payment_intent": self.intent,
            "reason": self.reason,
            "status": self.status.as_str(),
        })
    }
}

impl Book {
    /// `GET /v1/disputes/{id}`
    pub(super) fn retrieve_dispute(&self, id: &str) -> Result<Value, Refusal> {
        let found = self.disputes.get(id).map(Dispute::json);
        found.ok_or_else(|| Refusal::missing("dispute", "id", id))
    }

    /// `POST /sandbox/payment_intents/{id}/dispute`: the customer asks their bank for what was
    /// taken and not given back, or for `amount` of it, for a `reason`.
    pub(super) fn dispute(&mut self, id: &str, form: &Form, moment: &Moment<'_>) -> Effect<Object> {
        self.try_dispute(id, form, moment).unwrap_or_else(Refusal::effect)
    }

    fn try_dispute(
        &mut self,
        id: &str,
        form: &Form,
        moment: &Moment<'_>,
    ) -> Result<Effect<Object>, Refusal> {
        let mut intent = self.find(id, "intent")?;
        let left = intent.received - intent.refunded;
        let amount = form.get("amount").map_or(Ok(left), str::parse);
        let amount = amount.ok().filter(|amount| (1..=left).contains(amount));
        let Some(amount) = amount else {
            let message = "There is not so much that could be disputed.";
            return Err(Refusal::parameter("amount", "parameter_invalid_integer", message));
        };
        if intent.status != Status::Succeeded || intent.dispute.is_some() {
            return Err(Refusal::unexpected_state(&intent, "disputed"));
        }
        let dispute = Dispute {
            id: moment.id("dp_"),
            intent: intent.id.clone(),
            charge: intent.charge.clone(),
            amount,
            currency: intent.currency.clone(),
            reason: form.get("reason").unwrap_or("fraudulent").to_owned(),
            status: Judgement::NeedsResponse,
            created: moment.now,
        };
        (intent.dispute, intent.disputed) = (Some(dispute.id.clone()), amount);
        let kinds = ["charge.dispute.created", "charge.dispute.funds_withdrawn"];
        self.put(intent.clone());
        Ok(self.judged(intent.into(), dispute, &kinds, moment))
    }

    /// `POST /sandbox/disputes/{id}/close`: the bank decides, `status=won` or `status=lost`.
    pub(super) fn close(&mut self, id: &str, form: &Form, moment: &Moment<'_>) -> Effect<Object> {
        self.try_close(id, form, moment).unwrap_or_else(Refusal::effect)
    }

    fn try_close(
        &mut self,
        id: &str,
        form: &Form,
        moment: &Moment<'_>,
    ) -> Result<Effect<Object>, Refusal> {
        let dispute = self.disputes.get(id).cloned();
        let mut dispute = dispute.ok_or_else(|| Refusal::missing("dispute", "id", id))?;
        let mut intent = self.find(&dispute.intent, "payment_intent")?;
        dispute.status = match (form.get("status"), dispute.status) {
            (Some("won"), Judgement::NeedsResponse) => Judgement::Won,
            (Some("lost"), Judgement::NeedsResponse) => Judgement::Lost,
            _ => {
                let message = "An open dispute is either won or lost.";
                return Err(Refusal::parameter("status", "parameter_invalid", message));
            }
        };
        let kinds: &[&str] = match dispute.status {
            Judgement::Won => {
                intent.disputed = 0;
                &["charge.dispute.funds_reinstated", "charge.dispute.closed"]
            }
            _ => &["charge.dispute.closed"],
        };
        self.put(intent.clone());
        Ok(self.judged(intent.into(), dispute, kinds, moment))
    }

    /// Keeps the dispute, answers with it, and tells the world.
    fn judged(
        &mut self,
        intent: Box<super::intent::Intent>,
        dispute: Dispute,
        kinds: &[&str],
        moment: &Moment<'_>,
    ) -> Effect<Object> {
        let body = dispute.json();
        let notices = kinds.iter().map(|kind| notice(kind, &body, moment)).collect();
        self.disputes.insert(dispute.id.clone(), dispute.clone());
        let objects = vec![Object::Intent(intent), Object::Dispute(Box::new(dispute))];
        Effect { objects, notices, ..Effect::answer(StatusCode::OK, body) }
    }
}
