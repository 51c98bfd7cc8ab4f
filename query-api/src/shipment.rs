//! `GET /v1/shipments` and `GET /v1/orders/{order_id}/shipments`: what is sent, and where it is.

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use projections::shipment_tracking::{self, Label, Row, Sighting, Status};
use schemas::inventory::Units;
use schemas::{Address, FulfilmentId, OrderId, ShipmentId, Timestamp, Version};
use serde::{Deserialize, Serialize};
use web::{Page, PathId, Problem, Query};

use crate::api::{Api, Wanted, database};
use crate::listing::{Listing, sorted, words};

pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/shipments", get(list))
        .route("/v1/orders/{order_id}/shipments", get(of_order))
}

/// What may be asked of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// One or several, with commas between them.
    #[serde(rename = "filter[status]", default, deserialize_with = "words")]
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
#[derive(Debug, Serialize)]
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

#[derive(Debug, Serialize)]
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
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn of_order(
    State(api): State<Api>,
    PathId(order): PathId<OrderId>,
    Query(Nothing {}): Query<Nothing>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let seen = api.fresh("shipment_tracking", &wanted).await?;
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
#[derive(Debug, Serialize)]
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
