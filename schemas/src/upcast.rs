//! How an event of an old version is read: step by step, from each version to the next.

use serde_json::Value;

/// The most steps from the oldest version of a type to the one that is written today.
pub const UPCASTS_MAX: usize = 64;

/// One step up: what stands under a type that is no longer written, as its successor.
///
/// Steps chain. To add a version is to add a variant, and one step from the version before:
/// what was written ten versions ago takes ten small steps, none of which anybody edits again.
///
/// ```
/// use schemas::{Category, Event, Upcast};
/// use serde::{Deserialize, Serialize};
/// use serde_json::{Value, json};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum Invoice {
///     // Version 3 is the only one that is written. 1 and 2 were variants in their day.
///     #[serde(rename = "order.invoiced.v3")]
///     Invoiced { amount: i64, currency: String },
/// }
///
/// impl Event for Invoice {
///     const CATEGORY: Category = Category::Order;
///     const UPCASTS: &'static [Upcast] = &[
///         Upcast { from: "order.invoiced.v1", to: "order.invoiced.v2", data: in_euro },
///         Upcast { from: "order.invoiced.v2", to: "order.invoiced.v3", data: in_minor_units },
///     ];
/// }
///
/// // Release 1 knew one currency, and did not name it.
/// fn in_euro(mut old: Value) -> Value {
///     old["currency"] = "EUR".into();
///     old
/// }
///
/// // Release 2 counted whole units.
/// fn in_minor_units(mut old: Value) -> Value {
///     old["amount"] = old["amount"].as_i64().map_or(Value::Null, |units| json!(units * 100));
///     old
/// }
///
/// let read = Invoice::decode("order.invoiced.v1", r#"{"amount":7}"#).unwrap();
/// assert_eq!(read, Invoice::Invoiced { amount: 700, currency: "EUR".to_owned() });
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Upcast {
    /// The type that is no longer written, as `order.placed.v1`.
    pub from: &'static str,
    /// Its successor, as `order.placed.v2`; perhaps an old one itself.
    pub to: &'static str,
    /// The data of `to` that says the same. Pure. What it cannot make sense of it leaves as it
    /// is, or `null`: then the data does not fit `to`, and the event is kept as unreadable.
    pub data: fn(Value) -> Value,
}

/// The step that leads on from `event_type`, where it is an old one.
pub(crate) fn from(steps: &[Upcast], event_type: &str) -> Option<Upcast> {
    steps.iter().find(|step| step.from == event_type).copied()
}

/// Takes `step` and all that follow, and names the type at the end; none where there is no end.
pub(crate) fn climb(
    steps: &[Upcast],
    mut step: Upcast,
    mut data: Value,
) -> Option<(&'static str, Value)> {
    for _ in 0..UPCASTS_MAX {
        data = (step.data)(data);
        match from(steps, step.to) {
            Some(next) => step = next,
            None => return Some((step.to, data)),
        }
    }
    None
}
