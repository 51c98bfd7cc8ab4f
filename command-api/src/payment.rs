//! Payments: another card, and what the provider sends word of.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use aggregates::payment::Payment;
use axum::extract::State;
use axum::http::HeaderMap;
use event_store::Meta;
use schemars::JsonSchema;
use schemas::payment::{Command, ProviderStatus};
use schemas::{CommandId, OrderId, PaymentId, Text, Version, actor};
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

/// A payment intent, a charge, a dispute, or something we know nothing of.
#[derive(Debug, Deserialize, JsonSchema)]
struct Object {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    status: Option<String>,
    /// The intent, where this is a charge or a dispute.
    #[serde(default)]
    payment_intent: Option<String>,
    #[serde(default)]
    captured: bool,
    #[serde(default)]
    metadata: Option<Value>,
}

/// What a notice is about.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// A payment, which it names.
    Payment(PaymentId, Command),
    /// A dispute, which names the payment by the provider's id alone.
    Dispute { provider_ref: Text, command: Command },
}

/// What the notice says about a payment of ours; none where it is about something else.
fn told(notice: &Notice) -> Option<Told> {
    let object = &notice.data.object;
    let notification = notice.id.clone();
    let (provider_ref, status) = match notice.kind.split_once('.')? {
        ("charge", kind) if kind.starts_with("dispute.") => {
            let dispute = object.id.as_deref()?.parse().ok()?;
            let provider_ref: Text = object.payment_intent.as_deref()?.parse().ok()?;
            let of = provider_ref.clone();
            let command = Command::RecordDisputeNotice { notification, dispute, provider_ref: of };
            return Some(Told::Dispute { provider_ref, command });
        }
        ("payment_intent", _) => (object.id.as_deref()?, intent_status(object.status.as_deref()?)?),
        // Money that was given back was taken before; the adapter reads how much of each.
        ("charge", _) if object.captured => {
            (object.payment_intent.as_deref()?, ProviderStatus::Succeeded)
        }
        _ => return None,
    };
    let payment = object.metadata.as_ref()?.get("payment_id")?.as_str()?.parse().ok()?;
    let provider_ref = provider_ref.parse().ok()?;
    Some(Told::Payment(payment, Command::RecordNotification { notification, provider_ref, status }))
}

/// Tells which payment of ours it is that the provider has under an id of its own: by asking the
/// provider, whose record names it.
#[derive(Clone)]
pub struct FindPayment(Arc<dyn Fn(Text) -> Finding + Send + Sync>);

type Finding = Pin<Box<dyn Future<Output = Result<Option<PaymentId>, String>> + Send>>;

impl FindPayment {
    /// By `find`, which says why where nobody can tell for now.
    pub fn new<F>(find: impl Fn(Text) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<PaymentId>, String>> + Send + 'static,
    {
        Self(Arc::new(move |provider_ref| Box::pin(find(provider_ref))))
    }

    /// For where there is no provider.
    #[must_use]
    pub fn nothing() -> Self {
        Self::new(|_| async { Ok(None) })
    }

    /// None where it is none of ours.
    async fn find(&self, provider_ref: Text) -> Result<Option<PaymentId>, Problem> {
        (self.0)(provider_ref).await.map_err(|why| {
            tracing::warn!(why, "a webhook names a payment that cannot be looked up now");
            let detail = "the payment provider cannot be asked whose payment it is; send it again";
            Problem::unavailable("dependency_unavailable", detail)
        })
    }
}

impl fmt::Debug for FindPayment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FindPayment")
    }
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
/// since sending it again would help nobody. Whose payment a dispute is about only the provider
/// knows; where it cannot be asked, it sends its word again.
async fn notice(
    State(api): State<Api>,
    context: RequestContext,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Json<Heard>, Problem> {
    let now = api.clock().now();
    signature::payment(&headers, &body, api.payment_secret(), now)?;
    let notice: Notice = web::json::parse(&body)?;
    let ignored = |why: &str| Ok(webhook::ignored("payments", notice.id.as_str(), why));
    let (payment, command) = match told(&notice) {
        None => return ignored(&notice.kind),
        Some(Told::Payment(payment, command)) => (payment, command),
        Some(Told::Dispute { provider_ref, command }) => {
            match api.find_payment().find(provider_ref).await? {
                Some(payment) => (payment, command),
                None => return ignored("it disputes a payment that is none of ours"),
            }
        }
    };
    let Some(conversation) = api.conversation(payment.stream()).await? else {
        return ignored("nobody knows its payment_id");
    };
    let command_id = CommandId::derive(NOTICES, notice.id.as_str());
    let meta = Meta {
        command_id,
        request_hash: request_hash("payments", &(payment, &command))
            .map_err(|error| Problem::internal(&error))?,
        correlation_id: conversation,
        causation_id: command_id.uuid(),
        occurred_at: now,
        actor: actor::PAYMENT_ADAPTER.to_owned(),
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

    fn read(kind: &str, object: &str) -> Option<Told> {
        let json = format!(
            r#"{{"id":"evt_1","object":"event","created":1,"type":"{kind}","data":{{"object":{object}}}}}"#
        );
        super::told(&serde_json::from_str(&json).unwrap())
    }

    fn told(status: ProviderStatus) -> Told {
        let command = Command::RecordNotification {
            notification: "evt_1".parse().unwrap(),
            provider_ref: "pi_1".parse().unwrap(),
            status,
        };
        Told::Payment(PaymentId::new(Uuid::from_u128(7)), command)
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
    fn a_dispute_names_its_intent_and_not_our_payment() {
        let object = r#"{"id":"dp_1","status":"needs_response","payment_intent":"pi_1"}"#;
        let provider_ref: Text = "pi_1".parse().unwrap();
        let command = Command::RecordDisputeNotice {
            notification: "evt_1".parse().unwrap(),
            dispute: "dp_1".parse().unwrap(),
            provider_ref: provider_ref.clone(),
        };
        let expected = Told::Dispute { provider_ref, command };
        assert_eq!(read("charge.dispute.created", object), Some(expected));
        assert_eq!(read("charge.dispute.created", r#"{"id":"dp_1"}"#), None);
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
