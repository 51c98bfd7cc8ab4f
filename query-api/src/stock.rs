//! `GET /v1/stock` and `GET /v1/stock/{sku}`.

use std::collections::BTreeMap;

use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use projections::stock_level::{self, Row};
use schemars::JsonSchema;
use schemas::{Sku, Text, Timestamp, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use web::{Access, Operation, Page, PathId, Problem, Query, Routes};

use crate::api::{Api, Wanted, Yes, database, missing, versioned};
use crate::examples::{AT, LISTED, page};
use crate::listing::Walk;

const READ: Access = Access::Staff("stock:read");

pub(crate) fn routes() -> Routes<Api> {
    let listed = Operation::get("/v1/stock", "listStock", READ, "The stock of every sku")
        .query::<Part>(&json!({ "limit": 50 }))
        .paged()
        .fresh()
        .answers::<Page<Level>>(200, "A page of skus.", &LISTED, page(&example()));
    let shown = Operation::get("/v1/stock/{sku}", "getStock", READ, "The stock of a sku")
        .path::<Sku>("sku", "mug")
        .fresh()
        .answers_versioned::<Level>("The stock.", example());
    Routes::new().route(listed, list).route(shown, one)
}

fn example() -> Value {
    json!({ "sku": "mug", "version": 4, "on_hand": 10, "reserved": 2, "available": 8,
            "incoming": 100, "expected": { "PO-1007": 100 }, "updated_at": AT })
}

async fn one(
    State(api): State<Api>,
    PathId(sku): PathId<Sku>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let stream = schemas::inventory::stock_stream(&sku).id;
    let seen = api.fresh_row("stock_level", stream, &wanted).await?;
    let row = stock_level::get(&api.pool, &sku).await.map_err(|error| database(&error))?;
    let Some(row) = row else { return Ok(missing(seen, "sku")) };
    Ok(versioned(seen, &wanted, row.version, Level::of(row)))
}

/// Which part of the list is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Part {
    #[serde(rename = "filter[out]")]
    out: Option<Yes>,
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    Query(part): Query<Part>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let out = part.out.is_some();
    let binding = format!("stock {out}");
    let walk = Walk::<Sku>::asked(&api, binding, part.limit, part.cursor.as_deref())?;
    let seen = api.fresh("stock_level", &wanted).await?;
    let after = walk.after().map(Sku::as_str);
    let rows = stock_level::list(&api.pool, out, after, walk.rows()).await;
    let rows = rows.map_err(|error| database(&error))?;
    let page = walk.page(&api, rows, |row| row.sku.0.clone(), Level::of)?;
    Ok((seen, page.linked(&uri)).into_response())
}

/// The stock of one sku.
#[derive(Debug, Serialize, JsonSchema)]
struct Level {
    sku: Sku,
    version: Version,
    on_hand: i64,
    reserved: i64,
    available: i64,
    /// How many are announced and have not come yet.
    incoming: i64,
    /// The same, by reference.
    expected: BTreeMap<Text, u32>,
    updated_at: Timestamp,
}

impl Level {
    fn of(row: Row) -> Self {
        Self {
            sku: row.sku.0,
            version: row.version,
            on_hand: row.on_hand,
            reserved: row.reserved,
            available: row.available,
            incoming: row.incoming,
            expected: row.expected.0,
            updated_at: row.updated_at,
        }
    }
}
