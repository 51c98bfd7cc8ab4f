//! Orders: place and cancel, and for operators hold and release.

use aggregates::order::Order;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use chrono::SubsecRound as _;
use schemas::order::{CancelReason, Command, HoldReason, Line};
use schemas::{Address, CustomerId, Money, OrderId, Text, Timestamp, Version};
use serde::{Deserialize, Serialize};
use web::{Caller, Json, LargeJson, Operator, OptionalJson, PathId, Problem};

use crate::answer::Answer;
use crate::execute::{Api, NOWHERE, problem};
use crate::parked::Operators;
use crate::post::Post;

pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/orders", post(place))
        .route("/v1/orders/{order_id}/cancel", post(cancel))
}

/// What operators may ask for.
pub(crate) fn operator_routes() -> Router<Operators> {
    Router::new()
        .route("/v1/orders/{order_id}/hold", post(hold))
        .route("/v1/orders/{order_id}/release", post(release))
}

/// The body of `POST /v1/orders`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    customer: CustomerId,
    lines: Vec<Line>,
    shipping_address: Address,
    /// The payment provider's token, as `pm_card_visa`.
    payment_method: Text,
    /// For imports: when it was placed. Only trusted callers may say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    placed_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct Placed {
    id: OrderId,
    version: Version,
    status: &'static str,
    payment_status: &'static str,
    fulfilment_status: &'static str,
    totals: Option<Totals>,
    links: Links,
}

#[derive(Debug, Serialize)]
struct Totals {
    subtotal: Money,
    grand: Money,
}

#[derive(Debug, Serialize)]
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
    let placed_at = placed_at(body.placed_at, &asked.caller, api.clock().now())?;
    let order = OrderId::derive(asked.command_id.uuid(), "order");
    let meta = asked.meta(&body, order.uuid(), placed_at)?;
    let totals = total(&body.lines).map(|total| Totals { subtotal: total, grand: total });
    let Place { customer, lines, shipping_address, payment_method, .. } = body;
    let shipping_address = api.seal(customer, &shipping_address).await?;
    let command = Command::Place { customer, lines, shipping_address, payment_method, placed_at };
    let done = api.store().create::<Order>(&[order.stream()], &command, &meta).await;
    let done = done.map_err(|error| problem(error, &|code| pointer(code, &command)))?;
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

/// When the order was placed: now, unless a trusted caller knows better.
fn placed_at(
    given: Option<Timestamp>,
    caller: &Caller,
    now: Timestamp,
) -> Result<Timestamp, Problem> {
    match given {
        None => Ok(now),
        Some(_) if !caller.trusted => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "only trusted callers may say when an order was placed",
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
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    reason: CancelReason,
}

#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    reason: HoldReason,
}

/// The body of `POST /v1/orders/{order_id}/release`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    /// For this reason only.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<HoldReason>,
}

#[derive(Debug, Serialize)]
struct Changed {
    id: OrderId,
    version: Version,
    links: Links,
}

/// `POST /v1/orders/{order_id}/hold`: nobody touches it until it is released.
async fn hold(
    _: Operator,
    State(operators): State<Operators>,
    asked: Post,
    PathId(order): PathId<OrderId>,
    Json(body): Json<Hold>,
) -> Result<Answer<Changed>, Problem> {
    change(&operators, &asked, order, &body, &Command::Hold { reason: body.reason }).await
}

/// `POST /v1/orders/{order_id}/release`: it goes on.
async fn release(
    _: Operator,
    State(operators): State<Operators>,
    asked: Post,
    PathId(order): PathId<OrderId>,
    OptionalJson(body): OptionalJson<Release>,
) -> Result<Answer<Changed>, Problem> {
    change(&operators, &asked, order, &body, &Command::Release { reason: body.reason }).await
}

async fn change(
    operators: &Operators,
    asked: &Post,
    order: OrderId,
    body: &impl Serialize,
    command: &Command,
) -> Result<Answer<Changed>, Problem> {
    let meta = asked.meta(body, order.uuid(), operators.clock.now())?;
    let done = operators.store.execute::<Order>(&[order.stream()], command, &meta).await;
    let done = done.map_err(|error| problem(error, NOWHERE))?;
    let changed = Changed { id: order, version: done.version, links: Links::new(order) };
    Ok(Answer::done(done, changed))
}

#[cfg(test)]
mod tests;
