//! An order's events for a person to read: when, who, what.

use schemas::{Currency, Money, Timestamp};
use serde_json::Value;

use crate::output::{Output, Style};

/// One line about an order: who, how much, how it stands.
pub(crate) fn summary(output: Output, order: &Value) {
    let word = |name: &str| order[name].as_str().unwrap_or("-").to_owned();
    let total = money(&order["totals"]["grand"]).unwrap_or_default();
    output.line(format!(
        "{}  {}  payment {}  fulfilment {}  {total}",
        output.paint(Style::Key, word("id")),
        output.paint(style_of(&word("status")), word("status")),
        word("payment_status"),
        word("fulfilment_status"),
    ));
}

/// How a status of an order looks.
pub(crate) fn style_of(status: &str) -> Style {
    match status {
        "completed" | "confirmed" => Style::Good,
        "rejected" | "cancelled" => Style::Notice,
        _ => Style::Bold,
    }
}

/// Prints the events, each with the time since the first.
pub(crate) fn print(output: Output, events: &[Value]) {
    let at = |event: &Value| event["recorded_at"].as_str()?.parse::<Timestamp>().ok();
    let start = events.first().and_then(at);
    for event in events {
        let since = at(event).zip(start).map(|(at, start)| (at - start).num_milliseconds());
        let since = since.map_or_else(String::new, |ms| format!("+{ms} ms"));
        let entry = Entry::read(event);
        let text = match entry.detail {
            detail if detail.is_empty() => entry.what,
            detail => format!("{:<24} {detail}", entry.what),
        };
        output.line(format!(
            "  {} {} {}",
            output.paint(Style::Dim, format_args!("{since:>9}")),
            output.paint(Style::Key, format_args!("{:<9}", entry.who)),
            entry.style.map_or_else(|| text.clone(), |style| output.paint(style, &text)),
        ));
    }
}

/// What is shown of an event.
#[derive(Debug, PartialEq)]
struct Entry {
    who: String,
    what: String,
    detail: String,
    style: Option<Style>,
}

impl Entry {
    fn read(event: &Value) -> Self {
        let event_type = event["type"].as_str().unwrap_or_default();
        let mut parts = event_type.split('.');
        let (who, what) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let data = &event["data"];
        if what == "command_issued" {
            return Self::issued(data);
        }
        Self {
            who: who.to_owned(),
            what: what.replace('_', " "),
            detail: detail(event_type, data),
            style: style(event_type),
        }
    }

    /// A step of the saga: what it asks of whom, or gives back.
    fn issued(data: &Value) -> Self {
        let step = data["step"].as_str().unwrap_or_default().replace('_', " ");
        let whom = data["command"]["context"].as_str().unwrap_or_default();
        let compensation = data["compensation"].as_bool().unwrap_or_default();
        Self {
            who: "saga".to_owned(),
            what: format!("{} {step}", if compensation { "↩" } else { "→" }),
            detail: format!("asks {whom}{}", if compensation { ", to give back" } else { "" }),
            style: Some(if compensation { Style::Notice } else { Style::Dim }),
        }
    }
}

fn style(event_type: &str) -> Option<Style> {
    let name = event_type.rsplit_once(".v").map_or(event_type, |(name, _)| name);
    match name {
        "order.placed" | "saga.started" => Some(Style::Bold),
        "order.completed" | "order.confirmed" | "payment.captured" | "shipping.delivered" => {
            Some(Style::Good)
        }
        "order.rejected"
        | "order.cancelled"
        | "payment.declined"
        | "payment.voided"
        | "payment.refunded"
        | "inventory.reservation_rejected"
        | "inventory.reservation_released"
        | "shipping.cancelled"
        | "shipping.short_picked"
        | "order.held"
        | "order.lines_cancelled"
        | "payment.authorisation_expired"
        | "saga.compensation_started" => Some(Style::Notice),
        "shipping.trouble_reported"
        | "saga.alerted"
        | "saga.parked"
        | "payment.late_money_detected"
        | "payment.refund_failed" => Some(Style::Bad),
        _ => None,
    }
}

/// The part of the data that tells the story.
fn detail(event_type: &str, data: &Value) -> String {
    let text = |name: &str| data[name].as_str().unwrap_or_default().replace('_', " ");
    let amount = |name: &str| money(&data[name]).unwrap_or_default();
    match event_type.rsplit_once(".v").map_or(event_type, |(name, _)| name) {
        "order.placed" => format!("{} = {}", units(&data["lines"]), amount("total")),
        "order.rejected" => join([text("reason"), shortages(&data["short"])]),
        "order.cancelled" => join([
            text("reason"),
            money(&data["refunded"]).map_or_else(String::new, |back| format!("{back} given back")),
        ]),
        "order.lines_cancelled" => format!("{} left = {}", units(&data["left"]), amount("total")),
        "shipping.short_picked" => units(&data["short"]),
        "order.payment_recorded" => amount("captured"),
        "order.refund_recorded" => amount("refunded"),
        "order.shipment_recorded" | "shipping.label_bought" | "shipping.handed_over" => {
            data["tracking_code"].as_str().unwrap_or_default().to_owned()
        }
        "payment.authorisation_requested" => {
            format!("{} by {}", amount("amount"), data["method"].as_str().unwrap_or_default())
        }
        "payment.declined" | "payment.capture_failed" => text("code"),
        "payment.action_required" => data["url"].as_str().unwrap_or_default().to_owned(),
        "payment.method_replaced" => data["method"].as_str().unwrap_or_default().to_owned(),
        "payment.created"
        | "payment.authorised"
        | "payment.capture_requested"
        | "payment.captured"
        | "payment.refund_requested"
        | "payment.refunded"
        | "payment.late_money_detected" => amount("amount"),
        "payment.voided" if data["never_authorised"] == true => "nothing was ever held".to_owned(),
        "inventory.reserved"
        | "inventory.reservation_released"
        | "inventory.reservation_reduced"
        | "inventory.reservation_committed"
        | "inventory.reservation_expired"
        | "shipping.created" => units(&data["units"]),
        "inventory.reservation_rejected" | "inventory.partially_reserved" => {
            shortages(&data["short"])
        }
        "shipping.scanned" => text("scan"),
        "shipping.trouble_reported" => text("trouble"),
        "saga.started" => data["definition"].as_str().unwrap_or_default().to_owned(),
        "order.cancellation_requested"
        | "order.cancellation_rejected"
        | "order.held"
        | "order.released"
        | "saga.alerted"
        | "saga.compensation_started"
        | "saga.parked" => text("reason"),
        "saga.finished" => text("outcome"),
        _ => String::new(),
    }
}

/// The parts that say something.
fn join(parts: [String; 2]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

/// `2 × mug, 1 × tee`.
fn units(lines: &Value) -> String {
    list(lines, |line| format!("{} × {}", line["quantity"], line["sku"].as_str().unwrap_or("?")))
}

/// `tee: 5 wanted, 1 there`.
fn shortages(short: &Value) -> String {
    list(short, |one| {
        let sku = one["sku"].as_str().unwrap_or("?");
        format!("{sku}: {} wanted, {} there", one["wanted"], one["available"])
    })
}

/// At most three of a list, and how many more there are.
fn list(values: &Value, show: impl Fn(&Value) -> String) -> String {
    const SHOWN_MAX: usize = 3;
    let Some(values) = values.as_array() else { return String::new() };
    let mut shown: Vec<_> = values.iter().take(SHOWN_MAX).map(show).collect();
    if values.len() > SHOWN_MAX {
        shown.push(format!("{} more", values.len() - SHOWN_MAX));
    }
    shown.join(", ")
}

/// `{"amount": 1999, "currency": "EUR"}` as `19.99 EUR`.
pub(crate) fn money(value: &Value) -> Option<String> {
    let currency: Currency = value["currency"].as_str()?.parse().ok()?;
    Some(Money::new(value["amount"].as_i64()?, currency).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_told_in_words() {
        let event = json!({ "type": "order.rejected.v1", "data": { "reason": "out_of_stock",
            "short": [{ "sku": "tee", "wanted": 5, "available": 1 }] } });
        assert_eq!(
            Entry::read(&event),
            Entry {
                who: "order".into(),
                what: "rejected".into(),
                detail: "out of stock: tee: 5 wanted, 1 there".into(),
                style: Some(Style::Notice),
            }
        );
    }

    #[test]
    fn what_a_saga_gives_back_stands_out() {
        let event = json!({ "type": "saga.command_issued.v1", "data": { "step": "release_stock",
            "compensation": true, "command": { "context": "inventory" } } });
        let entry = Entry::read(&event);
        assert_eq!(entry.what, "↩ release stock");
        assert_eq!(entry.style, Some(Style::Notice));
    }
}
