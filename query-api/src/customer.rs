//! `GET /v1/customers/{customer_id}`: how often a customer ordered.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use projections::customer_summary::{self, Row};
use schemas::{CustomerId, Timestamp};
use serde::Serialize;
use web::{Json, PathId, Problem};

use crate::api::{Api, Wanted, database, missing};

pub(crate) fn routes() -> Router<Api> {
    Router::new().route("/v1/customers/{customer_id}", get(one))
}

async fn one(
    State(api): State<Api>,
    PathId(id): PathId<CustomerId>,
    wanted: Wanted,
) -> Result<Response, Problem> {
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
#[derive(Debug, Serialize)]
struct Customer {
    id: CustomerId,
    orders: i64,
    last_placed_at: Timestamp,
    links: Links,
}

#[derive(Debug, Serialize)]
struct Links {
    orders: String,
}
