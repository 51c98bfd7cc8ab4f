//! `GET /v1/orders/{order_id}` and its events.

use std::collections::BTreeSet;

use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use projections::order_detail::{Quantities, Row};
use projections::order_progress::{FulfilmentStatus, PaymentStatus, Status};
use projections::order_timeline::{self, Data};
use schemars::JsonSchema;
use schemas::order::{CancelReason, HoldReason, Line, RejectReason, Shortage};
use schemas::{
    Address, Category, CommandId, CustomerId, EventId, FulfilmentId, Money, OrderId, PaymentId,
    Position, SagaId, Timestamp, Version, actor,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;
use web::{Access, Caller, Operation, Page, PathId, Problem, Query, Routes};

use crate::api::{Api, Wanted, database, missing, versioned};
use crate::examples::{AT, CUSTOMER, LISTED, ORDER, PAYMENT, SAGA, address, euro, event, page};
use crate::listing::Walk;
use crate::order_events::{self, Followed};

const READ: Access = Access::Customers("orders:read");

pub(crate) fn routes() -> Routes<Api> {
    let shown = Operation::get("/v1/orders/{order_id}", "getOrder", READ, "An order")
        .path::<OrderId>("order_id", ORDER)
        .fresh()
        .answers_versioned::<Detail>("The order.", example());
    let path = "/v1/orders/{order_id}/events";
    let mut entry = event();
    entry["subject"] = json!(ORDER);
    entry["data"] = json!({});
    let told = Operation::get(path, "getOrderEvents", READ, "Everything that happened about it")
        .path::<OrderId>("order_id", ORDER)
        .query::<Part>(&json!({ "limit": 50 }))
        .paged()
        .fresh()
        .answers::<Page<Entry>>(200, "The timeline, oldest first.", &LISTED, page(&entry))
        .tells_events("id: 81234\nevent: order.confirmed.v1\ndata: {\"position\":81234}\n\n");
    Routes::new().route(shown, one).route(told, events)
}

fn example() -> Value {
    json!({
        "id": ORDER, "version": 2, "customer": CUSTOMER, "status": "confirmed",
        "payment_status": "authorised", "fulfilment_status": "unfulfilled",
        "lines": [{
            "sku": "mug", "title": "A mug", "quantity": 2, "unit_price": euro(1250),
            "total": euro(2500),
            "quantities": { "ordered": 2, "open": 0, "reserved": 2, "shipped": 0, "delivered": 0,
                            "cancelled": 0 },
        }],
        "shipping_address": address(), "shipping_address_erased": false,
        "payment_method": "pm_card_visa",
        "totals": { "subtotal": euro(2500), "grand": euro(2500), "captured": euro(0),
                    "refunded": euro(0) },
        "reject_reason": null, "holds": [], "short": [], "cancel_reason": null, "tracking_code": null,
        "placed_at": AT, "confirmed_at": AT, "shipped_at": null, "delivered_at": null,
        "closed_at": null, "updated_at": AT,
        "links": {
            "self": format!("/v1/orders/{ORDER}"), "events": format!("/v1/orders/{ORDER}/events"),
            "shipments": format!("/v1/orders/{ORDER}/shipments"),
            "saga": format!("/v1/sagas/{SAGA}"), "payment": format!("/v1/payments/{PAYMENT}"),
        },
    })
}

async fn one(
    State(api): State<Api>,
    caller: Caller,
    PathId(order): PathId<OrderId>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let own = caller.customer::<CustomerId>()?;
    let seen = api.fresh_row("order_detail", order.uuid(), &wanted).await?;
    let row = api.orders.get(order.uuid()).await.map_err(|error| database(&error))?;
    let theirs = |row: &Row| own.is_none_or(|own| own == CustomerId::new(row.customer));
    let Some(row) = row.filter(theirs) else { return Ok(missing(seen, "order")) };
    let address = api.open(&[&row.shipping_address.0]).await?.pop().flatten();
    // Erasing does not change the version, and nobody may go on with what they were told before.
    let wanted = if address.is_none() { wanted.anew() } else { wanted };
    Ok(versioned(seen, &wanted, row.version, Detail::of(row, address)))
}

/// An order on its own page.
#[derive(Debug, Serialize, JsonSchema)]
struct Detail {
    id: OrderId,
    version: Version,
    customer: CustomerId,
    status: Status,
    payment_status: PaymentStatus,
    fulfilment_status: FulfilmentStatus,
    lines: Vec<Priced>,
    /// None: erased.
    shipping_address: Option<Address>,
    shipping_address_erased: bool,
    payment_method: String,
    totals: Totals,
    /// Why it was rejected.
    reject_reason: Option<RejectReason>,
    /// What was short, where that is why.
    short: Vec<Shortage>,
    /// Why somebody wants or wanted it undone.
    cancel_reason: Option<CancelReason>,
    /// Why it waits.
    holds: BTreeSet<HoldReason>,
    tracking_code: Option<String>,
    placed_at: Timestamp,
    confirmed_at: Option<Timestamp>,
    shipped_at: Option<Timestamp>,
    delivered_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
    updated_at: Timestamp,
    links: Links,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Priced {
    #[serde(flatten)]
    line: Line,
    total: Option<Money>,
    quantities: Quantities,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Totals {
    subtotal: Money,
    grand: Money,
    captured: Money,
    refunded: Money,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Links {
    #[serde(rename = "self")]
    order: String,
    events: String,
    shipments: String,
    saga: String,
    payment: String,
}

impl Links {
    fn new(order: OrderId) -> Self {
        Self {
            order: format!("/v1/orders/{order}"),
            events: format!("/v1/orders/{order}/events"),
            shipments: format!("/v1/orders/{order}/shipments"),
            saga: format!("/v1/sagas/{}", order.saga()),
            payment: format!("/v1/payments/{}", order.payment()),
        }
    }
}

impl Detail {
    fn of(row: Row, shipping_address: Option<Address>) -> Self {
        let price = |(index, line): (usize, &Line)| {
            let total = line.unit_price.times(line.quantity.get()).ok();
            let quantities = row.quantities(index, line.quantity);
            Priced { line: line.clone(), total, quantities }
        };
        Self {
            id: row.id(),
            version: row.version,
            customer: CustomerId::new(row.customer),
            status: row.status.0,
            payment_status: row.payment_status.0,
            fulfilment_status: row.fulfilment_status.0,
            totals: Totals {
                subtotal: row.money(row.total),
                grand: row.money(row.total),
                captured: row.money(row.captured),
                refunded: row.money(row.refunded),
            },
            links: Links::new(row.id()),
            lines: row.lines.0.iter().enumerate().map(price).collect(),
            shipping_address_erased: shipping_address.is_none(),
            shipping_address,
            payment_method: row.payment_method,
            reject_reason: row.rejected.map(|reason| reason.0),
            short: row.short.0,
            cancel_reason: row.cancel_reason.map(|reason| reason.0),
            holds: row.holds.0,
            tracking_code: row.tracking_code,
            placed_at: row.placed_at,
            confirmed_at: row.confirmed_at,
            shipped_at: row.shipped_at,
            delivered_at: row.delivered_at,
            closed_at: row.closed_at,
            updated_at: row.updated_at,
        }
    }
}

/// Which part of an order's history is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Part {
    limit: Option<u32>,
    cursor: Option<String>,
}

impl Part {
    /// A stream of events has no pages.
    fn refuse(&self) -> Result<(), Problem> {
        let name = match self {
            Self { limit: Some(_), .. } => "limit",
            Self { cursor: Some(_), .. } => "cursor",
            _ => return Ok(()),
        };
        let detail = "an event stream has no pages: send Last-Event-ID to go on";
        Err(Problem::invalid_parameter(name, "unknown_parameter", detail))
    }
}

/// The timeline: a page of it, or as server-sent events where the caller asks for those.
async fn events(
    State(api): State<Api>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    PathId(order): PathId<OrderId>,
    Query(part): Query<Part>,
    Followed(followed): Followed,
    wanted: Wanted,
) -> Result<Response, Problem> {
    if let Some(following) = followed {
        part.refuse()?;
        return order_events::follow(&api, &caller, order, following, &wanted).await;
    }
    let binding = format!("events {order}");
    let walk = Walk::<Position>::asked(&api, binding, part.limit, part.cursor.as_deref())?;
    let seen = api.fresh("order_timeline", &wanted).await?;
    if !api.owns(&caller, order).await? {
        return Ok(missing(seen, "order"));
    }
    let after = walk.after().copied();
    let rows = order_timeline::list(&api.pool, order, after.unwrap_or_default(), walk.rows()).await;
    let rows = rows.map_err(|error| database(&error))?;
    if rows.is_empty() && after.is_none() {
        return Ok(missing(seen, "order"));
    }
    let customer = caller.is_customer();
    let show = |row| {
        let entry = Entry::of(row);
        if customer { entry.for_customers() } else { entry }
    };
    let page = walk.page(&api, rows, |row| row.position, show)?;
    Ok((seen, page.linked(&uri)).into_response())
}

/// One event about an order.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Entry {
    position: Position,
    id: EventId,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    /// The thing that it happened to, as `pay_…`.
    subject: String,
    version: Version,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    actor: String,
    command_id: CommandId,
    /// The event or command that led to it.
    causation_id: Uuid,
    /// The conversation that it belongs to.
    correlation_id: Option<Uuid>,
    /// W3C trace context of the request that it came from.
    traceparent: Option<String>,
    data: Data,
}

impl Entry {
    pub(crate) fn of(row: order_timeline::Row) -> Self {
        Self {
            position: row.position,
            id: EventId::new(row.event_id),
            subject: subject(row.category.0, row.stream_id, OrderId::new(row.order_id)),
            event_type: row.event_type,
            version: row.stream_version,
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
            actor: row.actor,
            command_id: CommandId::new(row.command_id),
            causation_id: row.causation_id,
            correlation_id: row.correlation_id,
            traceparent: row.traceparent,
            data: row.data,
        }
    }

    /// As a customer sees it: who among the staff did it, where in our processes, and why a saga
    /// waits for whom are not theirs to know.
    pub(crate) fn for_customers(mut self) -> Self {
        if self.actor != actor::CUSTOMER {
            actor::WAYBILL.clone_into(&mut self.actor);
        }
        self.traceparent = None;
        if self.event_type.starts_with("saga.") {
            self.data = Data(RawValue::NULL.to_owned());
        }
        self
    }
}

fn subject(category: Category, id: Uuid, order: OrderId) -> String {
    match category {
        Category::Order => OrderId::new(id).to_string(),
        Category::Payment => PaymentId::new(id).to_string(),
        Category::Inventory => order.reservation().to_string(),
        Category::Shipping => FulfilmentId::new(id).to_string(),
        Category::Saga => SagaId::new(id).to_string(),
        Category::Other(_) => id.to_string(),
    }
}
