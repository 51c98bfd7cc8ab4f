//! Orders: place and cancel, and for operators hold and release.

use aggregates::order::Order;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::SubsecRound as _;
use schemars::JsonSchema;
use schemas::order::{CancelReason, Command, HoldReason, Line};
use schemas::{Address, CustomerId, Money, OrderId, Text, Timestamp, Version};
use serde::{Deserialize, Serialize};
use serde_json::json;
use web::{Access, Caller, Json, LargeJson, Operation, OptionalJson, PathId, Problem, Routes};

use crate::answer::{ACCEPTED, Answer, CREATED, DONE};
use crate::examples::{ORDER, PAYMENT, SAGA};
use crate::execute::{Api, NOWHERE, problem};
use crate::post::Post;

/// What callers may be granted who know better when an order was placed.
pub const IMPORT: &str = "orders:import";
/// The scope of customers' tokens that are kept by somebody who looks up what things cost.
pub const PRICES: &str = "prices:write";

const WRITE: Access = Access::Customers("orders:write");

pub(crate) fn routes() -> Routes<Api> {
    let links = json!({
        "self": format!("/v1/orders/{ORDER}"), "events": format!("/v1/orders/{ORDER}/events"),
        "saga": format!("/v1/sagas/{SAGA}"), "payment": format!("/v1/payments/{PAYMENT}"),
    });
    let total = json!({ "amount": 2500, "currency": "EUR" });
    let place_order = Operation::post("/v1/orders", "placeOrder", WRITE, "Place an order")
        .command()
        .body::<Place>(json!({
            "customer": "usr_0197b0c0000070008000000000000001",
            "lines": [{ "sku": "mug", "title": "A mug", "quantity": 2,
                        "unit_price": { "amount": 1250, "currency": "EUR" } }],
            "shipping_address": { "name": "Ada Example", "line1": "Hauptstrasse 1",
                                  "city": "Berlin", "postal_code": "10115", "country": "DE" },
            "payment_method": "pm_card_visa",
        }))
        .answers::<Placed>(
            201,
            "The order is placed; a saga sees it through.",
            &CREATED,
            json!({
                "id": ORDER, "version": 1, "status": "pending", "payment_status": "none",
                "fulfilment_status": "unfulfilled",
                "totals": { "subtotal": total, "grand": total }, "links": links,
            }),
        )
        .refuses(409, &["already_placed"])
        .refuses(
            422,
            &[
                "empty_order",
                "too_many_lines",
                "negative_price",
                "currency_mismatch",
                "money_overflow",
            ],
        );
    let path = "/v1/orders/{order_id}/cancel";
    let cancel_order = Operation::post(path, "cancelOrder", WRITE, "Ask for an order to be undone")
        .path::<OrderId>("order_id", ORDER)
        .command()
        .body::<Cancel>(json!({ "reason": "customer" }))
        .answers::<CancelPending>(
            202,
            "It is being undone; the saga tells what came of it.",
            &ACCEPTED,
            json!({ "id": ORDER, "version": 3, "status": "cancel_pending", "saga_id": SAGA,
                        "links": links }),
        )
        .refuses(409, &["use_return"]);
    Routes::new().route(place_order, place).route(cancel_order, cancel).merge(held_routes())
}

/// What operators may ask for.
fn held_routes() -> Routes<Api> {
    let links = json!({
        "self": format!("/v1/orders/{ORDER}"), "events": format!("/v1/orders/{ORDER}/events"),
        "saga": format!("/v1/sagas/{SAGA}"), "payment": format!("/v1/payments/{PAYMENT}"),
    });
    let changed = json!({ "id": ORDER, "version": 3, "links": links });
    let held = for_operators("hold", "holdOrder", "Have nobody touch an order")
        .body::<Hold>(json!({ "reason": "fraud" }))
        .answers::<Changed>(200, "Nothing of it is packed or handed over.", &DONE, changed.clone());
    let released = for_operators("release", "releaseOrder", "Let a held order go on")
        .optional_body::<Release>(json!({ "reason": "fraud" }))
        .answers::<Changed>(
            200,
            "It goes on, unless it is held for something else.",
            &DONE,
            changed,
        );
    Routes::new().route(held, hold).route(released, release)
}

fn for_operators(verb: &str, id: &'static str, summary: &'static str) -> Operation {
    let path = format!("/v1/orders/{{order_id}}/{verb}");
    Operation::post(path, id, Access::Staff("ops:write"), summary)
        .path::<OrderId>("order_id", ORDER)
        .command()
}

/// The body of `POST /v1/orders`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Place {
    customer: CustomerId,
    lines: Vec<Line>,
    shipping_address: Address,
    /// The payment provider's token, as `pm_card_visa`.
    payment_method: Text,
    /// For imports: when it was placed. Needs the scope `orders:import`.
    #[serde(skip_serializing_if = "Option::is_none")]
    placed_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Placed {
    id: OrderId,
    version: Version,
    status: &'static str,
    payment_status: &'static str,
    fulfilment_status: &'static str,
    totals: Option<Totals>,
    links: Links,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Totals {
    subtotal: Money,
    grand: Money,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Links {
    #[serde(rename = "self")]
    order: String,
    events: String,
    saga: String,
    payment: String,
}

impl Links {
    fn new(order: OrderId) -> Self {
        Self {
            order: format!("/v1/orders/{order}"),
            events: format!("/v1/orders/{order}/events"),
            saga: format!("/v1/sagas/{}", order.saga()),
            payment: format!("/v1/payments/{}", order.payment()),
        }
    }
}

/// `POST /v1/orders`: places an order. Its id follows from the idempotency key.
async fn place(
    State(api): State<Api>,
    asked: Post,
    LargeJson(body): LargeJson<Place>,
) -> Result<Answer<Placed>, Problem> {
    for_oneself(&asked.caller, body.customer)?;
    priced(&asked.caller)?;
    let placed_at = placed_at(body.placed_at, &asked.caller, api.clock().now())?;
    let order = OrderId::derive(asked.command_id.uuid(), "order");
    let meta = asked.meta(&body, order.uuid(), placed_at)?;
    let totals = total(&body.lines).map(|total| Totals { subtotal: total, grand: total });
    let Place { customer, lines, shipping_address, payment_method, .. } = body;
    let shipping_address = api.seal(customer, &shipping_address).await?;
    let command = Command::Place { customer, lines, shipping_address, payment_method, placed_at };
    let done = api.store().create::<Order>(&[order.stream()], &command, &meta).await;
    let done = done.map_err(|error| problem(error, &|code| pointer(code, &command)))?;
    if let Some(Totals { grand, .. }) = totals.as_ref().filter(|_| !done.replayed) {
        crate::metrics::ordered(*grand);
    }
    let links = Links::new(order);
    let placed = Placed {
        id: order,
        version: done.version,
        status: "pending",
        payment_status: "none",
        fulfilment_status: "unfulfilled",
        totals,
        links,
    };
    Ok(Answer::created(done, placed.links.order.clone(), placed))
}

/// Customers order for themselves.
fn for_oneself(caller: &Caller, customer: CustomerId) -> Result<(), Problem> {
    if caller.customer::<CustomerId>()?.is_none_or(|own| own == customer) {
        return Ok(());
    }
    let detail = "the token is of another customer";
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).with_error(
        "#/customer",
        "forbidden",
        "name the customer of the token",
    ))
}

/// Whoever places an order says what it costs. That is not a customer's to say, unless their token
/// is kept by somebody who is trusted to look prices up.
fn priced(caller: &Caller) -> Result<(), Problem> {
    if !caller.is_customer() || caller.may(PRICES) {
        return Ok(());
    }
    let detail = "customers do not name prices: have the shop place the order, or grant \
                  prices:write to tokens that it keeps for them";
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).with_error(
        "#/lines",
        "forbidden",
        "their prices are for the shop to name",
    ))
}

/// When the order was placed: now, unless a trusted caller knows better.
fn placed_at(
    given: Option<Timestamp>,
    caller: &Caller,
    now: Timestamp,
) -> Result<Timestamp, Problem> {
    match given {
        None => Ok(now),
        Some(_) if caller.is_customer() || !caller.may(IMPORT) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "only who is granted orders:import may say when an order was placed",
        )
        .with_error("#/placed_at", "forbidden", "leave it out")),
        Some(at) if at > now => {
            let detail = "an order cannot be placed in the future";
            Err(Problem::invalid_field("#/placed_at", "out_of_range", detail))
        }
        Some(at) => Ok(at.trunc_subsecs(3)),
    }
}

/// The sum of the lines; none where they cannot be summed, which the order refuses.
fn total(lines: &[Line]) -> Option<Money> {
    let mut amounts = lines.iter().map(|line| line.unit_price.times(line.quantity.get()).ok());
    let first = amounts.next()??;
    amounts.try_fold(first, |sum, amount| sum.plus(amount?).ok())
}

/// Which part of the body a refusal is about.
fn pointer(code: &str, command: &Command) -> Option<String> {
    let Command::Place { lines, .. } = command else { return None };
    let first = |wrong: &dyn Fn(&Line) -> bool, part: &str| {
        let index = lines.iter().position(wrong)?;
        Some(format!("#/lines/{index}/unit_price/{part}"))
    };
    let all = || Some("#/lines".to_owned());
    match code {
        "empty_order" | "too_many_lines" | "money_overflow" => all(),
        "negative_price" => first(&|line| line.unit_price.amount < 0, "amount").or_else(all),
        "currency_mismatch" => {
            let currency = lines.first()?.unit_price.currency;
            first(&|line| line.unit_price.currency != currency, "currency").or_else(all)
        }
        _ => None,
    }
}

/// The body of `POST /v1/orders/{order_id}/cancel`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Cancel {
    reason: CancelReason,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CancelPending {
    id: OrderId,
    version: Version,
    status: &'static str,
    saga_id: schemas::SagaId,
    links: Links,
}

/// `POST /v1/orders/{order_id}/cancel`: asks for everything to be undone. The saga named in the
/// answer tells what came of it.
async fn cancel(
    State(api): State<Api>,
    asked: Post,
    PathId(order): PathId<OrderId>,
    Json(body): Json<Cancel>,
) -> Result<Answer<CancelPending>, Problem> {
    api.owned(&asked.caller, order).await?;
    let meta = asked.meta(&body, order.uuid(), api.clock().now())?;
    let command = Command::RequestCancellation { reason: body.reason };
    let done = api.store().execute::<Order>(&[order.stream()], &command, &meta).await;
    let done = done.map_err(|error| problem(error, NOWHERE))?;
    let links = Links::new(order);
    let pending = CancelPending {
        id: order,
        version: done.version,
        status: "cancel_pending",
        saga_id: order.saga(),
        links,
    };
    Ok(Answer::accepted(done, pending.links.saga.clone(), pending))
}

/// The body of `POST /v1/orders/{order_id}/hold`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Hold {
    reason: HoldReason,
}

/// The body of `POST /v1/orders/{order_id}/release`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Release {
    /// For this reason only.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<HoldReason>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Changed {
    id: OrderId,
    version: Version,
    links: Links,
}

/// `POST /v1/orders/{order_id}/hold`: nobody touches it until it is released.
async fn hold(
    State(api): State<Api>,
    asked: Post,
    PathId(order): PathId<OrderId>,
    Json(body): Json<Hold>,
) -> Result<Answer<Changed>, Problem> {
    change(&api, &asked, order, &body, &Command::Hold { reason: body.reason }).await
}

/// `POST /v1/orders/{order_id}/release`: it goes on.
async fn release(
    State(api): State<Api>,
    asked: Post,
    PathId(order): PathId<OrderId>,
    OptionalJson(body): OptionalJson<Release>,
) -> Result<Answer<Changed>, Problem> {
    change(&api, &asked, order, &body, &Command::Release { reason: body.reason }).await
}

async fn change(
    api: &Api,
    asked: &Post,
    order: OrderId,
    body: &impl Serialize,
    command: &Command,
) -> Result<Answer<Changed>, Problem> {
    let meta = asked.meta(body, order.uuid(), api.clock().now())?;
    let done = api.store().execute::<Order>(&[order.stream()], command, &meta).await;
    let done = done.map_err(|error| problem(error, NOWHERE))?;
    let changed = Changed { id: order, version: done.version, links: Links::new(order) };
    Ok(Answer::done(done, changed))
}

#[cfg(test)]
mod tests;
