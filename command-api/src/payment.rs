//! Payments: another card, and what the provider sends word of.

use aggregates::payment::Payment;
use axum::extract::State;
use axum::http::HeaderMap;
use event_store::Meta;
use schemars::JsonSchema;
use schemas::payment::{Command, ProviderStatus};
use schemas::{CommandId, OrderId, PaymentId, Text, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::{Uuid, uuid};
use web::{
    Access, Json, Operation, OptionalJson, PathId, Problem, RawBody, RequestContext, Routes,
};

use crate::answer::{ACCEPTED, Answer};
use crate::examples::{ORDER, PAYMENT};
use crate::execute::{Api, NOWHERE, problem};
use crate::post::{Post, request_hash};
use crate::signature;
use crate::webhook::{self, Heard};

/// What the ids of the provider's notices are derived from.
const NOTICES: Uuid = uuid!("b7f3a6de-2d0b-4b57-8a0e-0c9f5d4c1e03");

pub(crate) fn routes() -> Routes<Api> {
    let path = "/v1/orders/{order_id}/payment-method";
    let write = Access::Customers("orders:write");
    let replaced = Operation::post(path, "replacePaymentMethod", write, "Pay with another card")
        .path::<OrderId>("order_id", ORDER)
        .command()
        .body::<ReplaceMethod>(json!({ "payment_method": "pm_card_mastercard" }))
        .answers::<Replaced>(
            202,
            "It is tried; the payment tells what came of it.",
            &ACCEPTED,
            json!({ "order_id": ORDER, "payment_id": PAYMENT, "version": 4 }),
        )
        .refuses(409, &["method_not_wanted"]);
    let summary = "Word from the payment provider, signed with Stripe-Signature";
    let heard = webhook::operation("/v1/webhooks/payments", "hearPaymentProvider", summary)
        .body::<Notice>(json!({
            "id": "evt_1", "type": "payment_intent.succeeded",
            "data": { "object": { "id": "pi_1", "status": "succeeded",
                                  "metadata": { "payment_id": PAYMENT } } },
        }));
    let path = "/v1/payments/{payment_id}/retry";
    let operators = Access::Staff("ops:write");
    let retried = Operation::post(path, "retryPayment", operators, "Try the same card once more")
        .path::<PaymentId>("payment_id", PAYMENT)
        .command()
        .optional_body::<Nothing>(json!({}))
        .answers::<Changed>(
            202,
            "It is tried; the payment tells what came of it.",
            &ACCEPTED,
            json!({ "id": PAYMENT, "version": 5 }),
        )
        .refuses(409, &["retry_not_wanted"]);
    let routes = Routes::new().route(replaced, replace_method).route(retried, retry);
    routes.route(heard, notice)
}

/// The body of `POST /v1/orders/{order_id}/payment-method`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReplaceMethod {
    /// The payment provider's token, as `pm_card_visa`.
    payment_method: Text,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Replaced {
    order_id: OrderId,
    payment_id: PaymentId,
    version: Version,
}

/// `POST /v1/orders/{order_id}/payment-method`: the customer pays with another card, where the
/// first one was declined or its bank asks for something that they cannot do. What came of it is
/// told by the payment.
async fn replace_method(
    State(api): State<Api>,
    asked: Post,
    PathId(order): PathId<OrderId>,
    Json(body): Json<ReplaceMethod>,
) -> Result<Answer<Replaced>, Problem> {
    api.owned(&asked.caller, order).await?;
    let meta = asked.meta(&body, order.uuid(), api.clock().now())?;
    let (payment, method) = (order.payment(), body.payment_method);
    let command = Command::ReplaceMethod { method };
    let done = api.store().execute::<Payment>(&[payment.stream()], &command, &meta).await;
    let done = done.map_err(|error| problem(error, NOWHERE))?;
    let replaced = Replaced { order_id: order, payment_id: payment, version: done.version };
    Ok(Answer::accepted(done, format!("/v1/payments/{payment}"), replaced))
}

/// A body with nothing in it.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, Serialize, JsonSchema)]
struct Changed {
    id: PaymentId,
    version: Version,
}

/// `POST /v1/payments/{payment_id}/retry`: what could not be held, or not be taken, is tried once
/// more with the same card.
async fn retry(
    State(api): State<Api>,
    asked: Post,
    PathId(payment): PathId<PaymentId>,
    OptionalJson(body): OptionalJson<Nothing>,
) -> Result<Answer<Changed>, Problem> {
    let stream = payment.stream();
    let conversation = api.conversation(stream).await?;
    let conversation = conversation.unwrap_or_else(|| payment.uuid());
    let meta = asked.meta(&body, conversation, api.clock().now())?;
    let done = api.store().execute::<Payment>(&[stream], &Command::Retry, &meta).await;
    let done = done.map_err(|error| problem(error, NOWHERE))?;
    let links = format!("/v1/payments/{payment}");
    Ok(Answer::accepted(done, links, Changed { id: payment, version: done.version }))
}

/// A notice in the provider's own words; what we do not use is left out.
#[derive(Debug, Deserialize, JsonSchema)]
struct Notice {
    id: Text,
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Data {
    object: Object,
}

/// A payment intent, a charge, or something we know nothing of.
#[derive(Debug, Deserialize, JsonSchema)]
struct Object {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    status: Option<String>,
    /// The intent, where this is a charge.
    #[serde(default)]
    payment_intent: Option<String>,
    #[serde(default)]
    captured: bool,
    #[serde(default)]
    metadata: Option<Value>,
}

/// What the notice says about a payment of ours; none where it is about something else.
fn notification(notice: &Notice) -> Option<(PaymentId, Command)> {
    let object = &notice.data.object;
    let (provider_ref, status) = match notice.kind.split('.').next()? {
        "payment_intent" => (object.id.as_deref()?, intent_status(object.status.as_deref()?)?),
        // Money that was given back was taken before; the adapter reads how much of each.
        "charge" if object.captured => {
            (object.payment_intent.as_deref()?, ProviderStatus::Succeeded)
        }
        _ => return None,
    };
    let payment = object.metadata.as_ref()?.get("payment_id")?.as_str()?.parse().ok()?;
    let command = Command::RecordNotification {
        notification: notice.id.clone(),
        provider_ref: provider_ref.parse().ok()?,
        status,
    };
    Some((payment, command))
}

fn intent_status(status: &str) -> Option<ProviderStatus> {
    Some(match status {
        "requires_payment_method" => ProviderStatus::RequiresMethod,
        "requires_action" => ProviderStatus::RequiresAction,
        "requires_capture" => ProviderStatus::RequiresCapture,
        "succeeded" => ProviderStatus::Succeeded,
        "canceled" => ProviderStatus::Cancelled,
        "processing" | "requires_confirmation" => ProviderStatus::Processing,
        _ => return None,
    })
}

/// `POST /v1/webhooks/payments`: the provider sends word. What it says is not believed: it only
/// makes the adapter look, where it is news. What is not about ours is taken and forgotten,
/// since sending it again would help nobody.
async fn notice(
    State(api): State<Api>,
    context: RequestContext,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Json<Heard>, Problem> {
    let now = api.clock().now();
    signature::payment(&headers, &body, api.payment_secret(), now)?;
    let notice: Notice = web::json::parse(&body)?;
    let Some((payment, command)) = notification(&notice) else {
        return Ok(webhook::ignored("payments", notice.id.as_str(), &notice.kind));
    };
    let Some(conversation) = api.conversation(payment.stream()).await? else {
        return Ok(webhook::ignored("payments", notice.id.as_str(), "nobody knows its payment_id"));
    };
    let command_id = CommandId::derive(NOTICES, notice.id.as_str());
    let meta = Meta {
        command_id,
        request_hash: request_hash("payments", &(payment, &command))
            .map_err(|error| Problem::internal(&error))?,
        correlation_id: conversation,
        causation_id: command_id.uuid(),
        occurred_at: now,
        actor: "payment-adapter".to_owned(),
        traceparent: context.traceparent.as_deref().map(str::to_owned),
        expected: None,
        keep_refusal: false,
    };
    let done = api.store().execute::<Payment>(&[payment.stream()], &command, &meta).await;
    webhook::heard("payments", notice.id.as_str(), done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, object: &str) -> Option<(PaymentId, Command)> {
        let json = format!(
            r#"{{"id":"evt_1","object":"event","created":1,"type":"{kind}","data":{{"object":{object}}}}}"#
        );
        notification(&serde_json::from_str(&json).unwrap())
    }

    fn told(status: ProviderStatus) -> (PaymentId, Command) {
        let command = Command::RecordNotification {
            notification: "evt_1".parse().unwrap(),
            provider_ref: "pi_1".parse().unwrap(),
            status,
        };
        (PaymentId::new(Uuid::from_u128(7)), command)
    }

    const METADATA: &str = r#""metadata":{"payment_id":"pay_00000000000000000000000000000007"}"#;

    #[test]
    fn an_intent_says_how_it_stands() {
        for (status, meant) in [
            ("requires_payment_method", ProviderStatus::RequiresMethod),
            ("requires_action", ProviderStatus::RequiresAction),
            ("requires_capture", ProviderStatus::RequiresCapture),
            ("succeeded", ProviderStatus::Succeeded),
            ("canceled", ProviderStatus::Cancelled),
            ("processing", ProviderStatus::Processing),
        ] {
            let object = format!(r#"{{"id":"pi_1","status":"{status}",{METADATA}}}"#);
            assert_eq!(read("payment_intent.updated", &object), Some(told(meant)), "{status}");
        }
    }

    #[test]
    fn a_charge_names_its_intent() {
        let charge = |captured| {
            let object = format!(
                r#"{{"id":"ch_1","status":"succeeded","captured":{captured},"payment_intent":"pi_1",{METADATA}}}"#
            );
            read("charge.refunded", &object)
        };
        assert_eq!(charge(true), Some(told(ProviderStatus::Succeeded)));
        assert_eq!(charge(false), None);
    }

    #[test]
    fn what_is_not_ours_says_nothing() {
        for (kind, object) in [
            ("customer.created", r#"{"id":"cus_1"}"#.to_owned()),
            ("payment_intent.succeeded", r#"{"id":"pi_1","status":"succeeded"}"#.to_owned()),
            (
                "payment_intent.succeeded",
                r#"{"id":"pi_1","status":"succeeded","metadata":{}}"#.to_owned(),
            ),
            (
                "payment_intent.succeeded",
                r#"{"id":"pi_1","status":"succeeded","metadata":{"payment_id":"ord_1"}}"#
                    .to_owned(),
            ),
            ("payment_intent.odd", format!(r#"{{"id":"pi_1","status":"odd",{METADATA}}}"#)),
            ("payment_intent.odd", format!(r#"{{"id":"","status":"succeeded",{METADATA}}}"#)),
        ] {
            assert_eq!(read(kind, &object), None, "{kind} {object}");
        }
    }
}
