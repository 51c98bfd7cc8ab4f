//! `GET /v1/customers/{customer_id}`: how often a customer ordered.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use projections::customer_summary::{self, Row};
use schemars::JsonSchema;
use schemas::{CustomerId, Timestamp};
use serde::Serialize;
use serde_json::json;
use web::{Access, Caller, Json, Operation, PathId, Problem, Routes};

use crate::api::{Api, Wanted, database, missing, oneself};
use crate::examples::{AT, CUSTOMER};

pub(crate) fn routes() -> Routes<Api> {
    let (path, read) = ("/v1/customers/{customer_id}", Access::Customers("orders:read"));
    let links = json!({ "orders": format!("/v1/customers/{CUSTOMER}/orders") });
    let shown = Operation::get(path, "getCustomer", read, "How often a customer ordered")
        .path::<CustomerId>("customer_id", CUSTOMER)
        .fresh()
        .answers::<Customer>(
            200,
            "The customer.",
            &["Projection-Position"],
            json!({ "id": CUSTOMER, "orders": 3, "last_placed_at": AT, "links": links }),
        );
    Routes::new().route(shown, one)
}

async fn one(
    State(api): State<Api>,
    caller: Caller,
    PathId(id): PathId<CustomerId>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    oneself(&caller, id)?;
    let seen = api.fresh("customer_summary", &wanted).await?;
    let row = customer_summary::get(&api.pool, id).await.map_err(|error| database(&error))?;
    let Some(Row { orders, last_placed_at, .. }) = row else {
        return Ok(missing(seen, "customer"));
    };
    let links = Links { orders: format!("/v1/customers/{id}/orders") };
    let body = Customer { id, orders, last_placed_at, links };
    Ok((seen, Json(body)).into_response())
}

/// A customer, as far as orders tell of them.
#[derive(Debug, Serialize, JsonSchema)]
struct Customer {
    id: CustomerId,
    orders: i64,
    last_placed_at: Timestamp,
    links: Links,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Links {
    orders: String,
}
