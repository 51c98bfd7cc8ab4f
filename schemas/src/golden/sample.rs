//! An event in its third version, to try the golden files on: none of ours has a second yet.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{check, folder, names};
use crate::{Category, Currency, Event, Money, Upcast};

#[derive(Debug, Serialize, Deserialize)]
enum Sample {
    #[serde(rename = "order.invoiced.v3")]
    Invoiced { total: Money, paid: bool },
    #[serde(rename = "order.closed.v1")]
    Closed,
}

impl Event for Sample {
    const CATEGORY: Category = Category::Order;
    const UPCASTS: &'static [Upcast] = &[
        Upcast { from: "order.invoiced.v1", to: "order.invoiced.v2", data: WITH_CURRENCY },
        Upcast { from: "order.invoiced.v2", to: "order.invoiced.v3", data: with_paid },
    ];
}

/// Version 1 was in euro only and stored bare cents.
const WITH_CURRENCY: fn(Value) -> Value =
    |old| json!({ "total": { "amount": old["total_cents"], "currency": Currency::EUR } });

/// Before version 3 nothing was invoiced that had not been paid.
fn with_paid(mut old: Value) -> Value {
    old["paid"] = Value::Bool(true);
    old
}

#[test]
fn golden_files_of_three_versions_are_read_as_the_current_one() {
    let folder = folder().join("sample");
    let mut golden = names(&folder);
    assert_eq!(golden.len(), 4);
    check::<Sample>(&folder, &mut golden);
    assert!(golden.is_empty(), "{golden:?}");
}
