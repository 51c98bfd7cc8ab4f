//! The provider's books, and the rules of what may be done with a payment.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::card::{self, Behaviour, Decline};
use super::dispute::Dispute;
use super::intent::{Intent, Refund, Status};
use super::refusal::Refusal;
use crate::call::Form;
use crate::desk::{self, Effect, Moment};

/// How long money is held.
const HELD: TimeDelta = TimeDelta::days(7);
/// Largest amount, in minor units, as at Stripe.
const AMOUNT_MAX: i64 = 99_999_999;
/// Entries of a metadata map.
const METADATA_MAX: usize = 50;

/// What the journal keeps.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Object {
    Intent(Box<Intent>),
    Refund(Box<Refund>),
    Dispute(Box<Dispute>),
}

/// Every payment, refund and dispute. Ids sort by age.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(super) intents: BTreeMap<String, Intent>,
    pub(super) refunds: BTreeMap<String, Refund>,
    pub(super) disputes: BTreeMap<String, Dispute>,
    /// The intents of each `metadata[order_id]`.
    pub(super) by_order: BTreeMap<String, Vec<String>>,
}

impl desk::Book for Book {
    type Object = Object;

    fn restore(&mut self, object: Object) {
        match object {
            Object::Intent(intent) => self.put(*intent),
            Object::Refund(refund) => {
                self.refunds.insert(refund.id.clone(), *refund);
            }
            Object::Dispute(dispute) => {
                self.disputes.insert(dispute.id.clone(), *dispute);
            }
        }
    }
}

type Done = Result<Effect<Object>, Refusal>;

impl Book {
    pub(super) fn put(&mut self, intent: Intent) {
        if let Some(order) = intent.metadata.get("order_id")
            && !self.intents.contains_key(&intent.id)
        {
            self.by_order.entry(order.clone()).or_default().push(intent.id.clone());
        }
        self.intents.insert(intent.id.clone(), intent);
    }

    pub(super) fn find(&self, id: &str, param: &str) -> Result<Intent, Refusal> {
        let found = self.intents.get(id).cloned();
        found.ok_or_else(|| Refusal::missing("payment_intent", param, id))
    }

    /// Keeps `intent`, answers with it, and tells the world `event`.
    fn changed(
        &mut self,
        intent: Intent,
        event: &str,
        form: &Form,
        moment: &Moment<'_>,
    ) -> Effect<Object> {
        let body = intent.json(form.expands("latest_charge"));
        let notices = match event {
            "" => Vec::new(),
            event => vec![notice(event, &intent.json(false), moment)],
        };
        self.put(intent.clone());
        let objects = vec![Object::Intent(Box::new(intent))];
        Effect { objects, notices, ..Effect::answer(StatusCode::OK, body) }
    }

    /// `POST /v1/payment_intents`
    pub(super) fn create(&mut self, form: &Form, moment: &Moment<'_>) -> Effect<Object> {
        self.try_create(form, moment).unwrap_or_else(Refusal::effect)
    }

    fn try_create(&mut self, form: &Form, moment: &Moment<'_>) -> Done {
        let amount = amount(form, "amount")?.ok_or_else(|| {
            Refusal::parameter("amount", "parameter_missing", "Missing required param: amount.")
        })?;
        let currency = currency(form)?;
        let manual = match form.get("capture_method") {
            Some("manual") => true,
            None | Some("automatic" | "automatic_async") => false,
            Some(_) => {
                return Err(Refusal::parameter(
                    "capture_method",
                    "parameter_invalid",
                    "Invalid capture_method.",
                ));
            }
        };
        let metadata = form.map("metadata");
        if metadata.len() > METADATA_MAX {
            return Err(Refusal::parameter(
                "metadata",
                "parameter_invalid",
                "Too many metadata keys.",
            ));
        }
        let method = method(form)?;
        let intent = Intent {
            id: moment.id("pi_"),
            status: match method {
                Some(_) => Status::RequiresConfirmation,
                None => Status::RequiresPaymentMethod,
            },
            amount,
            capturable: 0,
            received: 0,
            refunded: 0,
            currency,
            manual,
            method,
            metadata,
            created: moment.now,
            capture_before: None,
            cancelled: None,
            cancel_reason: None,
            last_error: None,
            charge: None,
            challenge: None,
            return_url: form.get("return_url").map(str::to_owned),
            dispute: None,
            disputed: 0,
        };
        if form.get("confirm") == Some("true") {
            self.charge(intent, form, moment)
        } else {
            Ok(self.changed(intent, "payment_intent.created", form, moment))
        }
    }

    /// `POST /v1/payment_intents/{id}/confirm`
    pub(super) fn confirm(&mut self, id: &str, form: &Form, moment: &Moment<'_>) -> Effect<Object> {
        self.try_confirm(id, form, moment).unwrap_or_else(Refusal::effect)
    }

    fn try_confirm(&mut self, id: &str, form: &Form, moment: &Moment<'_>) -> Done {
        let mut intent = self.find(id, "intent")?;
        intent.method = method(form)?.or(intent.method);
        match intent.status {
            Status::RequiresConfirmation | Status::RequiresPaymentMethod => {
                self.charge(intent, form, moment)
            }
            _ => Err(Refusal::unexpected_state(&intent, "confirmed")),
        }
    }

    fn charge(&mut self, mut intent: Intent, form: &Form, moment: &Moment<'_>) -> Done {
        let missing = || {
            let message =
                "You cannot confirm this PaymentIntent because it's missing a payment method.";
            Refusal::parameter("payment_method", "payment_intent_unexpected_state", message)
        };
        let behaviour = intent.method.as_deref().and_then(card::behaviour).ok_or_else(missing)?;
        match behaviour {
            Behaviour::Pays => Ok(self.pay(intent, form, moment)),
            Behaviour::Declines(decline) => Ok(self.decline(intent, decline, form, moment)),
            Behaviour::Asks(_) => {
                intent.status = Status::RequiresAction;
                let path = format!("/sandbox/payment_intents/{}/challenge", intent.id);
                intent.challenge = Some(format!("{}{path}", form.origin()));
                Ok(self.changed(intent, "payment_intent.requires_action", form, moment))
            }
        }
    }

    fn decline(
        &mut self,
        mut intent: Intent,
        decline: Decline,
        form: &Form,
        moment: &Moment<'_>,
    ) -> Effect<Object> {
        intent.charge = Some(moment.id("ch_"));
        intent.last_error = Some(decline.json(intent.charge_id()));
        (intent.status, intent.method) = (Status::RequiresPaymentMethod, None);
        let refusal = Refusal::declined(decline, &intent);
        let changed = self.changed(intent, "payment_intent.payment_failed", form, moment);
        Effect { status: refusal.status(), body: refusal.body(), ..changed }
    }

    fn pay(&mut self, mut intent: Intent, form: &Form, moment: &Moment<'_>) -> Effect<Object> {
        (intent.charge, intent.last_error) = (Some(moment.id("ch_")), None);
        if intent.manual {
            (intent.status, intent.capturable) = (Status::RequiresCapture, intent.amount);
            intent.capture_before = Some(moment.now + HELD);
            self.changed(intent, "payment_intent.amount_capturable_updated", form, moment)
        } else {
            (intent.status, intent.received) = (Status::Succeeded, intent.amount);
            self.changed(intent, "payment_intent.succeeded", form, moment)
        }
    }

    /// `POST /sandbox/payment_intents/{id}/challenge`: the customer confirms the payment with
    /// their bank (`result=complete`), or does not (`result=fail`).
    pub(super) fn challenge(
        &mut self,
        id: &str,
        form: &Form,
        moment: &Moment<'_>,
    ) -> Effect<Object> {
        self.try_challenge(id, form, moment).unwrap_or_else(Refusal::effect)
    }

    fn try_challenge(&mut self, id: &str, form: &Form, moment: &Moment<'_>) -> Done {
        let mut intent = self.find(id, "intent")?;
        if intent.status != Status::RequiresAction {
            return Err(Refusal::unexpected_state(&intent, "authenticated"));
        }
        let behaviour = intent.method.as_deref().and_then(card::behaviour);
        let done = match (form.get("result"), behaviour) {
            (Some("complete"), Some(Behaviour::Asks(Some(decline)))) => {
                self.decline(intent, decline, form, moment)
            }
            (Some("complete"), _) => self.pay(intent, form, moment),
            (Some("fail"), _) => {
                intent.last_error = Some(card::unconfirmed());
                (intent.status, intent.method) = (Status::RequiresPaymentMethod, None);
                self.changed(intent, "payment_intent.payment_failed", form, moment)
            }
            _ => {
                let message = "The result is either complete or fail.";
                return Err(Refusal::parameter("result", "parameter_invalid", message));
            }
        };
        // The customer's browser is told how it stands, whatever came of it.
        let now = self.find(id, "intent")?;
        Ok(Effect { status: StatusCode::OK, body: now.json(false), ..done })
    }

    /// `POST /sandbox/payment_intents/{id}/reverse`: the money that was taken is gone again, as
    /// where a bank finds out late that there was none.
    pub(super) fn reverse(&mut self, id: &str, moment: &Moment<'_>) -> Effect<Object> {
        self.try_reverse(id, moment).unwrap_or_else(Refusal::effect)
    }

    fn try_reverse(&mut self, id: &str, moment: &Moment<'_>) -> Done {
        let mut intent = self.find(id, "intent")?;
        if intent.status != Status::Succeeded {
            return Err(Refusal::unexpected_state(&intent, "reversed"));
        }
        (intent.status, intent.method) = (Status::RequiresPaymentMethod, None);
        intent.received = intent.refunded;
        intent.last_error = Some(card::reversed(intent.charge_id()));
        Ok(self.changed(intent, "payment_intent.payment_failed", &Form::default(), moment))
    }

    /// `POST /sandbox/payment_intents/{id}/expire`: nobody took in time what is held, so it is let
    /// go.
    pub(super) fn expire(&mut self, id: &str, moment: &Moment<'_>) -> Effect<Object> {
        self.try_expire(id, moment).unwrap_or_else(Refusal::effect)
    }

    fn try_expire(&mut self, id: &str, moment: &Moment<'_>) -> Done {
        let mut intent = self.find(id, "intent")?;
        if intent.status != Status::RequiresCapture {
            return Err(Refusal::unexpected_state(&intent, "expired"));
        }
        (intent.status, intent.capturable) = (Status::Canceled, 0);
        intent.cancelled = Some(moment.now);
        intent.cancel_reason = Some("automatic".to_owned());
        Ok(self.changed(intent, "payment_intent.canceled", &Form::default(), moment))
    }

    /// `POST /v1/payment_intents/{id}/capture`: once, and what is not taken is let go.
    pub(super) fn capture(&mut self, id: &str, form: &Form, moment: &Moment<'_>) -> Effect<Object> {
        self.try_capture(id, form, moment).unwrap_or_else(Refusal::effect)
    }

    fn try_capture(&mut self, id: &str, form: &Form, moment: &Moment<'_>) -> Done {
        let mut intent = self.find(id, "intent")?;
        let amount = amount(form, "amount_to_capture")?;
        if intent.status != Status::RequiresCapture {
            return Err(Refusal::unexpected_state(&intent, "captured"));
        }
        let amount = amount.unwrap_or(intent.capturable);
        if amount > intent.capturable {
            let message = format!(
                "The amount to capture ({amount}) is greater than the capturable amount ({}).",
                intent.capturable
            );
            return Err(Refusal::too_much("amount_to_capture", "amount_too_large", &message));
        }
        (intent.status, intent.capturable, intent.received) = (Status::Succeeded, 0, amount);
        Ok(self.changed(intent, "payment_intent.succeeded", form, moment))
    }

    /// `POST /v1/payment_intents/{id}/cancel`: lets go of what is held.
    pub(super) fn cancel(&mut self, id: &str, form: &Form, moment: &Moment<'_>) -> Effect<Object> {
        self.try_cancel(id, form, moment).unwrap_or_else(Refusal::effect)
    }

    fn try_cancel(&mut self, id: &str, form: &Form, moment: &Moment<'_>) -> Done {
        let mut intent = self.find(id, "intent")?;
        if matches!(intent.status, Status::Succeeded | Status::Canceled) {
            return Err(Refusal::unexpected_state(&intent, "canceled"));
        }
        (intent.status, intent.capturable) = (Status::Canceled, 0);
        intent.cancelled = Some(moment.now);
        intent.cancel_reason = form.get("cancellation_reason").map(str::to_owned);
        Ok(self.changed(intent, "payment_intent.canceled", form, moment))
    }

    /// `POST /v1/refunds`: at most what was taken and not yet given back.
    pub(super) fn refund(&mut self, form: &Form, moment: &Moment<'_>) -> Effect<Object> {
        self.try_refund(form, moment).unwrap_or_else(Refusal::effect)
    }

    fn try_refund(&mut self, form: &Form, moment: &Moment<'_>) -> Done {
        let message = "One of the following params should be provided: payment_intent or charge.";
        let id = form
            .get("payment_intent")
            .ok_or_else(|| Refusal::parameter("payment_intent", "parameter_missing", message))?;
        let mut intent = self.find(id, "payment_intent")?;
        let (amount, left) = (amount(form, "amount")?, intent.received - intent.refunded);
        if intent.status != Status::Succeeded {
            return Err(Refusal::unexpected_state(&intent, "refunded"));
        }
        if left == 0 {
            let message = "Charge has already been refunded.";
            return Err(Refusal::too_much("charge", "charge_already_refunded", message));
        }
        if intent.disputed > 0 {
            let message = "This charge has been charged back.";
            return Err(Refusal::too_much("charge", "charge_disputed", message));
        }
        let amount = amount.unwrap_or(left);
        if amount > left {
            let message = format!(
                "Refund amount ({amount}) is greater than unrefunded amount on charge ({left})."
            );
            return Err(Refusal::too_much("amount", "amount_too_large", &message));
        }
        intent.refunded += amount;
        let refund = Refund {
            id: moment.id("re_"),
            intent: intent.id.clone(),
            charge: intent.charge.clone(),
            amount,
            currency: intent.currency.clone(),
            reason: form.get("reason").map(str::to_owned),
            metadata: form.map("metadata"),
            created: moment.now,
        };
        let (body, notices) =
            (refund.json(), vec![notice("charge.refunded", &intent.charge_json(), moment)]);
        self.put(intent.clone());
        self.refunds.insert(refund.id.clone(), refund.clone());
        let objects = vec![Object::Intent(Box::new(intent)), Object::Refund(Box::new(refund))];
        Ok(Effect { objects, notices, ..Effect::answer(StatusCode::OK, body) })
    }
}

pub(super) fn notice(kind: &str, object: &Value, moment: &Moment<'_>) -> (String, Value) {
    let id = moment.id("evt_");
    let event = json!({
        "id": id,
        "object": "event",
        "api_version": "2025-03-31.basil",
        "created": moment.now.timestamp(),
        "data": { "object": object },
        "livemode": false,
        "pending_webhooks": 1,
        "type": kind,
    });
    (id, event)
}

fn amount(form: &Form, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(text) = form.get(name) else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(amount) if amount > AMOUNT_MAX => {
            Err(Refusal::parameter(name, "amount_too_large", "Amount must be at most 99999999."))
        }
        Ok(amount) if amount > 0 => Ok(Some(amount)),
        _ => Err(Refusal::parameter(name, "parameter_invalid_integer", "Invalid positive integer")),
    }
}

fn currency(form: &Form) -> Result<String, Refusal> {
    match form.get("currency") {
        Some(text) if text.len() == 3 && text.bytes().all(|b| b.is_ascii_alphabetic()) => {
            Ok(text.to_ascii_lowercase())
        }
        Some(_) => Err(Refusal::parameter("currency", "parameter_invalid", "Invalid currency.")),
        None => {
            let message = "Missing required param: currency.";
            Err(Refusal::parameter("currency", "parameter_missing", message))
        }
    }
}

fn method(form: &Form) -> Result<Option<String>, Refusal> {
    let Some(method) = form.get("payment_method") else { return Ok(None) };
    if card::behaviour(method).is_none() {
        let message = format!("No such PaymentMethod: '{method}'");
        return Err(Refusal::parameter("payment_method", "resource_missing", &message));
    }
    Ok(Some(method.to_owned()))
}
