//! `GET /v1/sales`: what was sold, by day, sku and currency.

use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use projections::sales::{self, Filter, Place, Sold};
use schemars::JsonSchema;
use schemas::{Currency, Money, Sku};
use serde::{Deserialize, Serialize};
use serde_json::json;
use web::{Access, Operation, Page, Problem, Query, Routes};

use crate::api::{Api, Wanted, database};
use crate::examples::{LISTED, euro, page};
use crate::listing::{Day, Walk};

pub(crate) fn routes() -> Routes<Api> {
    let row = json!({ "day": "2026-11-23", "sku": "mug", "orders": 3, "units": 5,
                      "captured": euro(6250), "refunded": euro(1250), "net": euro(5000) });
    let (read, summary) = (Access::Staff("sales:read"), "What was sold, latest day first");
    let listed = Operation::get("/v1/sales", "listSales", read, summary)
        .query::<Asked>(&json!({ "filter[day][gte]": "2026-11-01", "filter[sku]": "mug",
                                 "filter[currency]": "EUR", "limit": 50 }))
        .paged()
        .fresh()
        .answers::<Page<Entry>>(200, "A page of sales.", &LISTED, page(&row));
    Routes::new().route(listed, list)
}

/// What may be asked of the list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(rename = "filter[day][gte]")]
    from: Option<Day>,
    #[serde(rename = "filter[day][lt]")]
    before: Option<Day>,
    #[serde(rename = "filter[sku]")]
    sku: Option<Sku>,
    #[serde(rename = "filter[currency]")]
    currency: Option<Currency>,
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    Query(asked): Query<Asked>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let Asked { from, before, sku, currency, limit, cursor } = asked;
    let filter =
        Filter { from: from.map(|day| day.0), before: before.map(|day| day.0), sku, currency };
    let binding = format!("sales {filter:?}");
    let walk = Walk::<Place>::asked(&api, binding, limit, cursor.as_deref())?;
    let seen = api.fresh("sales", &wanted).await?;
    let rows = sales::list(&api.pool, &filter, walk.after(), walk.rows()).await;
    let rows = rows.map_err(|error| database(&error))?;
    let page = walk.page(&api, rows, Sold::place, Entry::of)?;
    Ok((seen, page.linked(&uri)).into_response())
}

/// What was sold of a sku on a day in a currency.
#[derive(Debug, Serialize, JsonSchema)]
struct Entry {
    day: Day,
    sku: Sku,
    /// How many orders.
    orders: i64,
    units: i64,
    captured: Money,
    refunded: Money,
    /// What was taken and not given back.
    net: Money,
}

impl Entry {
    fn of(sold: Sold) -> Self {
        let money = |amount| Money::new(amount, sold.currency);
        Self {
            day: Day(sold.day),
            orders: sold.orders,
            units: sold.units,
            captured: money(sold.captured),
            refunded: money(sold.refunded),
            net: money(sold.captured - sold.refunded),
            sku: sold.sku,
        }
    }
}
