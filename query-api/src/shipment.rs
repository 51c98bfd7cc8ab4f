//! `GET /v1/shipments` and `GET /v1/orders/{order_id}/shipments`: what is sent, and where it is.

use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use projections::shipment_tracking::{self, Label, Row, Sighting, Status};
use schemars::JsonSchema;
use schemas::inventory::Units;
use schemas::{Address, FulfilmentId, OrderId, ShipmentId, Timestamp, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use web::{Access, Caller, Operation, Page, PathId, Problem, Query, Routes};

use crate::api::{Api, Wanted, database, missing};
use crate::examples::{AT, FULFILMENT, LISTED, ORDER, SHIPMENT, address, page};
use crate::listing::{Listing, sorted, words};

pub(crate) fn routes() -> Routes<Api> {
    let staff = Access::Staff("shipments:read");
    let mut row = example();
    row["links"] = json!({ "order": format!("/v1/orders/{ORDER}"),
                           "shipments": format!("/v1/orders/{ORDER}/shipments") });
    let summary = "Fulfilment orders, newest first";
    let listed = Operation::get("/v1/shipments", "listShipments", staff, summary)
        .query::<Asked>(&json!({ "filter[status]": "open,packed", "sort": "-opened_at",
                                 "limit": 50 }))
        .paged()
        .fresh()
        .answers::<Page<Listed>>(200, "A page of fulfilment orders.", &LISTED, page(&row));
    let (path, read) = ("/v1/orders/{order_id}/shipments", Access::Customers("orders:read"));
    let mut row = example();
    for (name, value) in [
        ("units", json!([{ "sku": "mug", "quantity": 2 }])),
        ("address", address()),
        ("address_erased", json!(false)),
        ("carrier_ref", json!("trk_1")),
        ("short", json!([])),
        ("scans", json!([{ "scan": "in_transit", "at": AT }])),
    ] {
        row[name] = value;
    }
    let theirs = Operation::get(path, "getOrderShipments", read, "Where the goods of an order are")
        .path::<OrderId>("order_id", ORDER)
        .fresh()
        .answers::<Page<Shipment>>(200, "Its parcels.", &["Projection-Position"], page(&row))
        .refuses(400, &["invalid_parameter"]);
    Routes::new().route(listed, list).route(theirs, of_order)
}

/// What lists and orders show alike.
fn example() -> Value {
    json!({
        "id": SHIPMENT, "fulfilment_id": FULFILMENT, "order_id": ORDER, "version": 5,
        "status": "in_transit", "released": true, "on_hold": false, "label": "bought", "tracking_code": "T1",
        "opened_at": AT, "packed_at": AT, "handed_over_at": AT, "delivered_at": null,
        "updated_at": AT,
    })
}

/// What may be asked of the list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// One or several, with commas between them.
    #[serde(rename = "filter[status]", default, deserialize_with = "words")]
    #[schemars(with = "Option<String>")]
    statuses: Vec<Status>,
    #[serde(default)]
    sort: Sorted,
    limit: Option<u32>,
    cursor: Option<String>,
}

sorted!("opened_at", "-opened_at");

async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    Query(asked): Query<Asked>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let Asked { statuses, sort, limit, cursor } = asked;
    let binding = format!("shipments {statuses:?}");
    let listing = Listing::asked(&api, &binding, sort, limit, cursor.as_deref())?;
    let seen = api.fresh("shipment_tracking", &wanted).await?;
    let part = listing.part(None, None);
    let rows = shipment_tracking::list(&api.pool, &statuses, &part).await;
    let rows = rows.map_err(|error| database(&error))?;
    // The list is for planning: addresses are opened one order at a time.
    listing.answer(&api, seen, &uri, rows, |row| Listed::of(&row))
}

/// A parcel in a list.
#[derive(Debug, Serialize, JsonSchema)]
struct Listed {
    id: ShipmentId,
    fulfilment_id: FulfilmentId,
    order_id: OrderId,
    version: Version,
    status: Status,
    released: bool,
    on_hold: bool,
    label: Label,
    tracking_code: Option<String>,
    opened_at: Timestamp,
    packed_at: Option<Timestamp>,
    handed_over_at: Option<Timestamp>,
    delivered_at: Option<Timestamp>,
    updated_at: Timestamp,
    links: Links,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Links {
    order: String,
    shipments: String,
}

impl Listed {
    fn of(row: &Row) -> Self {
        let order = row.order();
        Self {
            id: row.shipment(),
            fulfilment_id: row.id(),
            order_id: order,
            version: row.version,
            status: row.status.0,
            released: row.released,
            on_hold: row.on_hold,
            label: row.label.0,
            tracking_code: row.tracking_code.clone(),
            opened_at: row.opened_at,
            packed_at: row.packed_at,
            handed_over_at: row.handed_over_at,
            delivered_at: row.delivered_at,
            updated_at: row.updated_at,
            links: Links {
                order: format!("/v1/orders/{order}"),
                shipments: format!("/v1/orders/{order}/shipments"),
            },
        }
    }
}

/// Nothing may be asked: an order has few parcels, and all are told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn of_order(
    State(api): State<Api>,
    caller: Caller,
    PathId(order): PathId<OrderId>,
    Query(Nothing {}): Query<Nothing>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let seen = api.fresh("shipment_tracking", &wanted).await?;
    if !api.owns(&caller, order).await? {
        return Ok(missing(seen, "order"));
    }
    let rows = shipment_tracking::of_order(&api.pool, order).await;
    let rows = rows.map_err(|error| database(&error))?;
    let sealed: Vec<_> = rows.iter().filter_map(|row| row.address.as_ref()).map(|a| &a.0).collect();
    let mut opened = api.open(&sealed).await?.into_iter();
    let shipments = rows.into_iter().map(|row| {
        let address = row.address.as_ref().and_then(|_| opened.next().flatten());
        Shipment::of(row, address)
    });
    let page = Page::new(shipments.collect(), None, None);
    Ok((seen, page).into_response())
}

/// A parcel, and the fulfilment order that it belongs to.
#[derive(Debug, Serialize, JsonSchema)]
struct Shipment {
    id: ShipmentId,
    fulfilment_id: FulfilmentId,
    order_id: OrderId,
    version: Version,
    status: Status,
    /// Whether it may go: it is paid for.
    released: bool,
    on_hold: bool,
    label: Label,
    units: Vec<Units>,
    /// What was not on the shelf.
    short: Vec<Units>,
    /// None: not known yet, or erased.
    address: Option<Address>,
    address_erased: bool,
    carrier_ref: Option<String>,
    tracking_code: Option<String>,
    scans: Vec<Sighting>,
    packed_at: Option<Timestamp>,
    handed_over_at: Option<Timestamp>,
    delivered_at: Option<Timestamp>,
    updated_at: Timestamp,
}

impl Shipment {
    /// `address` is what could be opened of the row's.
    fn of(row: Row, address: Option<Address>) -> Self {
        Self {
            id: row.shipment(),
            fulfilment_id: row.id(),
            order_id: row.order(),
            version: row.version,
            status: row.status.0,
            released: row.released,
            on_hold: row.on_hold,
            label: row.label.0,
            units: row.units.0,
            short: row.short.0,
            address_erased: row.address.is_some() && address.is_none(),
            address,
            carrier_ref: row.carrier_ref,
            tracking_code: row.tracking_code,
            scans: row.scans.0,
            packed_at: row.packed_at,
            handed_over_at: row.handed_over_at,
            delivered_at: row.delivered_at,
            updated_at: row.updated_at,
        }
    }
}
