//! Reading the provider's books: one thing, a page of them, and sums.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Serialize;
use serde_json::{Value, json};

use super::book::Book;
use super::dispute::Dispute;
use super::intent::{Intent, Refund};
use super::refusal::Refusal;
use crate::call::Form;

/// Page of a list, and the largest one.
const PAGE: usize = 10;
const PAGE_MAX: usize = 100;
/// Largest page of the books.
const BOOKS_PAGE_MAX: usize = 1000;

impl Book {
    /// `GET /v1/payment_intents/{id}`
    pub(super) fn retrieve(&self, id: &str, query: &Form) -> Result<Value, Refusal> {
        let intent = self.find(id, "intent")?;
        Ok(intent.json(query.expands("latest_charge")))
    }

    /// `GET /v1/refunds/{id}`
    pub(super) fn retrieve_refund(&self, id: &str) -> Result<Value, Refusal> {
        let found = self.refunds.get(id).map(Refund::json);
        found.ok_or_else(|| Refusal::missing("refund", "id", id))
    }

    /// `GET /v1/disputes`: newest first.
    pub(super) fn list_disputes(&self, query: &Form) -> Result<Value, Refusal> {
        let page = page(&self.disputes, query, |_| true)?;
        Ok(page.json("/v1/disputes", Dispute::json))
    }

    /// `GET /v1/payment_intents`: newest first.
    pub(super) fn list(&self, query: &Form) -> Result<Value, Refusal> {
        let page = page(&self.intents, query, |_| true)?;
        Ok(page.json("/v1/payment_intents", |intent| intent.json(false)))
    }

    /// `GET /v1/refunds`: newest first, of one intent where that is given.
    pub(super) fn list_refunds(&self, query: &Form) -> Result<Value, Refusal> {
        let of = query.get("payment_intent");
        let page = page(&self.refunds, query, |refund| of.is_none_or(|id| refund.intent == id))?;
        Ok(page.json("/v1/refunds", Refund::json))
    }

    /// `GET /sandbox/books`: oldest first.
    pub(super) fn summary(&self, query: &Form) -> Value {
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE_MAX);
        let limit = limit.clamp(1, BOOKS_PAGE_MAX);
        let after = query.get("starting_after").unwrap_or_default().to_owned();
        let wanted: Vec<&Intent> = match query.get("order_id") {
            Some(order) => {
                let ids = self.by_order.get(order).into_iter().flatten();
                ids.filter_map(|id| self.intents.get(id)).collect()
            }
            None => self.intents.values().collect(),
        };
        let mut sums: BTreeMap<&str, Sums> = BTreeMap::new();
        for intent in &wanted {
            sums.entry(&intent.currency).or_default().add(intent);
        }
        let mut rest = wanted.iter().filter(|intent| intent.id > after);
        let intents: Vec<Value> = rest.by_ref().take(limit).map(|intent| entry(intent)).collect();
        json!({
            "currencies": sums,
            "intents": intents,
            "has_more": rest.next().is_some(),
        })
    }
}

fn entry(intent: &Intent) -> Value {
    json!({
        "id": intent.id,
        "status": intent.status.as_str(),
        "currency": intent.currency,
        "amount": intent.amount,
        "authorised_open": intent.capturable,
        "captured": intent.received,
        "refunded": intent.refunded,
        "disputed": intent.disputed,
        "order_id": intent.metadata.get("order_id"),
        "payment_id": intent.metadata.get("payment_id"),
    })
}

/// Sums over intents, in minor units.
#[derive(Debug, Default, Serialize)]
struct Sums {
    intents: u64,
    authorised_open: i64,
    captured: i64,
    refunded: i64,
    /// What banks have, or gave to customers.
    disputed: i64,
}

impl Sums {
    fn add(&mut self, intent: &Intent) {
        self.intents += 1;
        self.authorised_open += intent.capturable;
        self.captured += intent.received;
        self.refunded += intent.refunded;
        self.disputed += intent.disputed;
    }
}

struct Page<'a, T> {
    items: Vec<&'a T>,
    has_more: bool,
}

impl<T> Page<'_, T> {
    fn json(&self, url: &str, show: impl Fn(&T) -> Value) -> Value {
        let data: Vec<Value> = self.items.iter().map(|item| show(item)).collect();
        json!({ "object": "list", "url": url, "has_more": self.has_more, "data": data })
    }
}

fn page<'a, T>(
    all: &'a BTreeMap<String, T>,
    query: &Form,
    wanted: impl Fn(&T) -> bool,
) -> Result<Page<'a, T>, Refusal> {
    let limit = match query.get("limit").map(str::parse::<usize>) {
        None => PAGE,
        Some(Ok(limit)) if (1..=PAGE_MAX).contains(&limit) => limit,
        Some(_) => {
            let message = "This value must be between 1 and 100.";
            return Err(Refusal::parameter("limit", "parameter_invalid_integer", message));
        }
    };
    let older_than = query.get("starting_after").map_or(Bound::Unbounded, Bound::Excluded);
    let mut found = all
        .range::<str, _>((Bound::Unbounded, older_than))
        .rev()
        .map(|(_, item)| item)
        .filter(|item| wanted(item));
    let items = found.by_ref().take(limit).collect();
    Ok(Page { items, has_more: found.next().is_some() })
}
