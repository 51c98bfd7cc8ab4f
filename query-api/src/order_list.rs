//! `GET /v1/orders` and `GET /v1/customers/{customer_id}/orders`: lists of orders, filtered, sorted
//! and paged.

use axum::extract::{OriginalUri, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use projections::order_progress::{FulfilmentStatus, PaymentStatus, Status};
use projections::order_search::{self, Search};
use projections::order_sku;
use projections::order_summary::{self, Filter, Row};
use schemars::JsonSchema;
use schemas::{CustomerId, Money, OrderId, Sku, Timestamp, Version};
use serde::{Deserialize, Serialize};
use serde_json::json;
use web::{Access, Caller, Operation, Page, PathId, Problem, Query, Routes};

use crate::api::{Api, Wanted, database, oneself};
use crate::examples::{AT, CUSTOMER, LISTED, ORDER, euro, page};
use crate::listing::{Day, Listing, sorted, words};

pub(crate) fn routes() -> Routes<Api> {
    let listed = operation("/v1/orders", "listOrders", "Orders, newest first");
    let path = "/v1/customers/{customer_id}/orders";
    let theirs = operation(path, "listCustomerOrders", "Orders of a customer, newest first")
        .path::<CustomerId>("customer_id", CUSTOMER);
    Routes::new().route(listed, all).route(theirs, of_customer)
}

fn operation(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    let row = json!({
        "id": ORDER, "version": 2, "customer": CUSTOMER, "status": "confirmed",
        "payment_status": "authorised", "fulfilment_status": "unfulfilled", "line_count": 1,
        "totals": { "grand": euro(2500), "captured": euro(0), "refunded": euro(0) },
        "placed_at": AT, "updated_at": AT, "links": { "self": format!("/v1/orders/{ORDER}") },
    });
    Operation::get(path, id, Access::Customers("orders:read"), summary)
        .query::<Asked>(&json!({ "filter[status]": "pending,confirmed", "limit": 50,
                                 "sort": "-placed_at", "filter[day]": "2026-11-23" }))
        .paged()
        .fresh()
        .answers::<Page<Summary>>(200, "A page of orders.", &LISTED, page(&row))
}

/// What may be asked of the list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(rename = "filter[customer]")]
    customer: Option<CustomerId>,
    /// One or several, with commas between them.
    #[serde(rename = "filter[status]", default, deserialize_with = "words")]
    #[schemars(with = "Option<String>")]
    statuses: Vec<Status>,
    #[serde(rename = "filter[sku]")]
    sku: Option<Sku>,
    /// Free text.
    #[serde(rename = "filter[q]")]
    text: Option<String>,
    #[serde(rename = "filter[day]")]
    day: Option<Day>,
    #[serde(rename = "filter[placed_at][gte]")]
    placed_from: Option<Timestamp>,
    #[serde(rename = "filter[placed_at][lt]")]
    placed_before: Option<Timestamp>,
    #[serde(default)]
    sort: Sorted,
    limit: Option<u32>,
    cursor: Option<String>,
}

sorted!("placed_at", "-placed_at");

/// How the orders are found. Each way is an index of its own, so there is one at a time.
#[derive(Debug)]
enum Way {
    Filter(Filter),
    Sku(Sku),
    Search(Search),
}

impl Asked {
    /// What a caller may see of it: customers their own orders, which they cannot search.
    fn by(mut self, caller: &Caller) -> Result<Self, Problem> {
        let Some(own) = caller.customer::<CustomerId>()? else { return Ok(self) };
        if self.sku.is_some() || self.text.is_some() {
            let detail = "customers filter by status and time";
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
        }
        oneself(caller, self.customer.unwrap_or(own))?;
        self.customer = Some(own);
        Ok(self)
    }

    /// The filters that a cursor belongs to, in one spelling.
    fn binding(&self) -> String {
        let Self { customer, statuses, sku, text, day, placed_from, placed_before, .. } = self;
        let mut statuses: Vec<_> = statuses.iter().map(|status| status.as_str()).collect();
        statuses.sort_unstable();
        format!(
            "orders {customer:?} {statuses:?} {sku:?} {text:?} {day:?} \
             {placed_from:?} {placed_before:?}"
        )
    }

    fn from(&self) -> Option<Timestamp> {
        self.placed_from.max(self.day.map(Day::begins))
    }

    fn before(&self) -> Option<Timestamp> {
        let ends = [self.placed_before, self.day.map(Day::ends)];
        ends.into_iter().flatten().min()
    }

    fn way(&self) -> Result<Way, Problem> {
        let filtered = self.customer.is_some() || !self.statuses.is_empty();
        let alone = |name: &'static str, others: bool| {
            let detail = "this filter goes with filter[day] and filter[placed_at] only";
            let problem = || Problem::invalid_parameter(name, "not_combinable", detail);
            if others { Err(problem()) } else { Ok(()) }
        };
        match (&self.sku, &self.text) {
            (None, None) => {
                let Self { customer, statuses, .. } = self;
                Ok(Way::Filter(Filter { customer: *customer, statuses: statuses.clone() }))
            }
            (Some(sku), text) => {
                alone("filter[sku]", filtered || text.is_some())?;
                Ok(Way::Sku(sku.clone()))
            }
            (None, Some(text)) => {
                alone("filter[q]", filtered)?;
                let search = text.parse().map_err(|error: order_search::SearchError| {
                    Problem::invalid_parameter("filter[q]", "invalid", error.to_string())
                })?;
                Ok(Way::Search(search))
            }
        }
    }
}

async fn all(
    State(api): State<Api>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    Query(asked): Query<Asked>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    list(&api, &uri, asked.by(&caller)?, &wanted).await
}

async fn of_customer(
    State(api): State<Api>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    PathId(customer): PathId<CustomerId>,
    Query(asked): Query<Asked>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    if asked.customer.is_some() {
        let detail = "the path names the customer already";
        return Err(Problem::invalid_parameter("filter[customer]", "not_combinable", detail));
    }
    let asked = Asked { customer: Some(customer), ..asked };
    list(&api, &uri, asked.by(&caller)?, &wanted).await
}

async fn list(api: &Api, uri: &Uri, asked: Asked, wanted: &Wanted) -> Result<Response, Problem> {
    let way = asked.way()?;
    let cursor = asked.cursor.as_deref();
    let listing = Listing::asked(api, &asked.binding(), asked.sort, asked.limit, cursor)?;
    let part = listing.part(asked.from(), asked.before());
    let mut seen = api.fresh("order_summary", wanted).await?;
    // What another read model finds is shown as the summary has it: the older one counts.
    let rows = match way {
        Way::Filter(filter) => order_summary::list(&api.pool, &filter, &part).await,
        Way::Sku(sku) => {
            seen = seen.min(api.fresh("order_sku", wanted).await?);
            order_sku::list(&api.pool, &sku, &part).await
        }
        Way::Search(search) => {
            seen = seen.min(api.fresh("order_search", wanted).await?);
            order_search::list(&api.pool, &search, &part).await
        }
    };
    let rows = rows.map_err(|error| database(&error))?;
    listing.answer(api, seen, uri, rows, |row| Summary::of(&row))
}

/// An order in a list.
#[derive(Debug, Serialize, JsonSchema)]
struct Summary {
    id: OrderId,
    version: Version,
    customer: CustomerId,
    status: Status,
    payment_status: PaymentStatus,
    fulfilment_status: FulfilmentStatus,
    line_count: i32,
    totals: Totals,
    placed_at: Timestamp,
    updated_at: Timestamp,
    links: Links,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Totals {
    grand: Money,
    captured: Money,
    refunded: Money,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Links {
    #[serde(rename = "self")]
    order: String,
}

impl Summary {
    fn of(row: &Row) -> Self {
        Self {
            id: row.id(),
            version: row.version,
            customer: CustomerId::new(row.customer),
            status: row.status.0,
            payment_status: row.payment_status.0,
            fulfilment_status: row.fulfilment_status.0,
            line_count: row.line_count,
            totals: Totals {
                grand: row.money(row.total),
                captured: row.money(row.captured),
                refunded: row.money(row.refunded),
            },
            placed_at: row.placed_at,
            updated_at: row.updated_at,
            links: Links { order: format!("/v1/orders/{}", row.id()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_bound_to_the_filter_and_not_to_the_limit() {
        let asked = |limit, statuses: &[Status]| {
            let statuses = statuses.to_vec();
            Asked { statuses, limit, ..Asked::default() }.binding()
        };
        let both = [Status::Pending, Status::Rejected];
        let turned = [Status::Rejected, Status::Pending];
        let first = asked(Some(2), &both);
        assert_eq!(first, asked(None, &turned));
        assert_ne!(first, asked(Some(2), &both[..1]));
        let sku = Asked { sku: Some("mug".parse().unwrap()), ..Asked::default() }.binding();
        let text = Asked { text: Some("mug".to_owned()), ..Asked::default() }.binding();
        assert!(first != sku && sku != text);
    }

    #[test]
    fn a_day_and_a_range_are_both_kept_to() {
        let day = |text: &str| serde_json::from_value::<Day>(text.into()).unwrap();
        let noon = |text: &str| Some(format!("{text}T12:00:00Z").parse().unwrap());
        let asked = Asked {
            day: Some(day("2026-11-23")),
            placed_from: noon("2026-11-22"),
            placed_before: noon("2026-11-23"),
            ..Asked::default()
        };
        assert_eq!(asked.from(), Some(day("2026-11-23").begins()));
        assert_eq!(asked.before(), noon("2026-11-23"));
        let asked = Asked { placed_before: None, placed_from: noon("2026-11-23"), ..asked };
        assert_eq!(
            (asked.from(), asked.before()),
            (noon("2026-11-23"), Some(day("2026-11-24").begins()))
        );
        assert_eq!((Asked::default().from(), Asked::default().before()), (None, None));
    }
}
