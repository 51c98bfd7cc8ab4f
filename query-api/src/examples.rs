//! What stands in examples.

use serde_json::{Value, json};

pub(crate) const ORDER: &str = "ord_0197b0c0000070008000000000000002";
pub(crate) const PAYMENT: &str = "pay_0197b0c0000070008000000000000003";
pub(crate) const SAGA: &str = "sag_0197b0c0000070008000000000000004";
pub(crate) const FULFILMENT: &str = "ful_0197b0c0000070008000000000000005";
pub(crate) const SHIPMENT: &str = "shp_0197b0c0000070008000000000000006";
pub(crate) const CUSTOMER: &str = "usr_0197b0c0000070008000000000000001";
pub(crate) const COMMAND: &str = "cmd_0197b0c0000070008000000000000007";
pub(crate) const EVENT: &str = "evt_0197b0c0000070008000000000000008";
pub(crate) const BARE: &str = "0197b0c0-0000-7000-8000-000000000007";
pub(crate) const AT: &str = "2026-11-23T08:00:00Z";

/// The headers of a list.
pub(crate) const LISTED: [&str; 2] = ["Projection-Position", "Link"];

/// A list of one.
pub(crate) fn page(row: &Value) -> Value {
    json!({ "data": [row],
            "page": { "next_cursor": null, "prev_cursor": null, "has_more": false } })
}

/// An amount in euro.
pub(crate) fn euro(cents: i64) -> Value {
    json!({ "amount": cents, "currency": "EUR" })
}

/// An address.
pub(crate) fn address() -> Value {
    json!({ "name": "Ada Example", "line1": "Hauptstrasse 1", "city": "Berlin",
            "postal_code": "10115", "country": "DE" })
}

/// An event as timelines and streams show it, but for its data.
pub(crate) fn event() -> Value {
    json!({
        "version": 2, "position": 81234, "id": EVENT, "type": "order.confirmed.v1",
        "occurred_at": AT, "recorded_at": AT, "actor": "saga/fulfilment", "command_id": COMMAND,
        "causation_id": BARE, "correlation_id": BARE, "traceparent": null,
    })
}
