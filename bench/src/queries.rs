//! What is read over HTTP: single orders, and lists of very many.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use schemas::{CustomerId, Ids, OrderId};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use sqlx::types::Json as Stored;
use tokio::time::Instant;
use uuid::Uuid;

use crate::http::{self, Connection};

/// Orders that are read one by one.
const ORDERS: usize = 500;
/// Orders that each customer of a long list has.
const ORDERS_PER_CUSTOMER: i64 = 20;
/// Lists asked for in a turn.
const LISTS: usize = 500;

/// What the plain handler answers.
#[derive(Serialize, sqlx::FromRow)]
struct Order {
    id: Uuid,
    customer: Uuid,
    status: String,
    payment_status: String,
    fulfilment_status: String,
    lines: Stored<Box<RawValue>>,
    currency: String,
    total: i64,
    placed_at: schemas::Timestamp,
    updated_at: schemas::Timestamp,
    version: i64,
}

/// `GET /v1/orders/{id}` as anybody writes it: one select by the primary key through a pool.
///
/// # Errors
/// Where the database is away.
pub(crate) async fn plain(database_url: &str, connections: u32) -> Result<Router> {
    let pool = PgPoolOptions::new().max_connections(connections).connect(database_url).await?;
    Ok(Router::new().route("/v1/orders/{id}", get(one)).with_state(pool))
}

async fn one(
    State(pool): State<PgPool>,
    Path(id): Path<String>,
) -> Result<Json<Order>, StatusCode> {
    let id: OrderId = id.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    let order = sqlx::query_as(
        "select order_id as id, customer, status, payment_status, fulfilment_status, lines, currency, \
         total, placed_at, updated_at, version from read_models.order_detail where order_id = $1",
    );
    let order = order.bind(id.uuid()).fetch_optional(&pool).await;
    let order = order.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    order.map(Json).ok_or(StatusCode::NOT_FOUND)
}

/// Places orders over HTTP and gives their paths.
///
/// # Errors
/// The first answer that is not 201.
pub(crate) async fn place(command: SocketAddr) -> Result<Vec<String>> {
    let mut connection = Connection::open(command).await?;
    let mut paths = Vec::with_capacity(ORDERS);
    for _ in 0..ORDERS {
        let key = Ids::system().next().to_string();
        let placed = connection.ask(&http::post("/v1/orders", &key, http::ORDER)).await?;
        ensure!(placed.status == 201, "{}", String::from_utf8_lossy(&placed.body));
        paths.push(placed.header("location").context("no Location")?.to_owned());
    }
    Ok(paths)
}

/// Orders read a second over 64 connections.
///
/// # Errors
/// The first answer that is not 200.
pub(crate) async fn rate(address: SocketAddr, paths: &[String], seconds: u64) -> Result<f64> {
    let paths = paths.to_vec();
    let request =
        move |number: usize, count: usize| http::get(&paths[(number * 31 + count) % paths.len()]);
    http::rate(address, 64, seconds, 200, request).await
}

/// Fills `order_summary` with so many orders, of so many customers that each has
/// [`ORDERS_PER_CUSTOMER`], spread over the whole time.
///
/// # Errors
/// Where the database is away.
pub(crate) async fn fill(owner: &PgPool, orders: i64) -> Result<()> {
    // Written without their indexes, which are made afterwards as they were.
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "select indexname::text, indexdef from pg_indexes \
         where schemaname = 'read_models' and tablename = 'order_summary' \
         and indexname <> 'order_summary_pkey'",
    )
    .fetch_all(owner)
    .await?;
    for (name, _) in &indexes {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop index read_models.{name}")))
            .execute(owner)
            .await?;
    }
    sqlx::query(
        "insert into read_models.order_summary (order_id, customer, status, payment_status, \
         fulfilment_status, line_count, currency, total, captured, refunded, confirmed, placed_at, \
         updated_at, version) \
         select lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(n % $2), 32, '0')::uuid, \
         (array['pending', 'confirmed', 'completed', 'cancelled'])[1 + n % 4], 'paid', 'delivered', \
         2, 'EUR', 3390, 3390, 0, true, timestamptz '2026-01-01' + n * interval '1 second', \
         timestamptz '2026-01-01' + n * interval '1 second', 4 from generate_series(1, $1) as n",
    )
    .bind(orders)
    .bind(orders / ORDERS_PER_CUSTOMER)
    .execute(owner)
    .await?;
    for (_, definition) in indexes {
        sqlx::raw_sql(sqlx::AssertSqlSafe(definition)).execute(owner).await?;
    }
    sqlx::raw_sql("vacuum analyze read_models.order_summary").execute(owner).await?;
    Ok(())
}

/// Microseconds of a list of a customer's orders, among so many orders.
///
/// # Errors
/// The first answer that is not 200.
pub(crate) async fn list_time(address: SocketAddr, orders: i64, turn: u32) -> Result<f64> {
    let mut connection = Connection::open(address).await?;
    let customers = u128::try_from(orders / ORDERS_PER_CUSTOMER)?;
    let mut took = 0.0;
    for count in 0..LISTS {
        // Spread over all customers, and others in every turn.
        let number = (u128::try_from(count)? * 7_919 + u128::from(turn) * 104_729) % customers;
        let customer = CustomerId::new(Uuid::from_u128(number));
        let path = format!("/v1/orders?filter[customer]={customer}");
        let started = Instant::now();
        let answer = connection.ask(&http::get(&path)).await?;
        took += started.elapsed().as_secs_f64() * 1e6;
        ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
        let body: serde_json::Value = serde_json::from_slice(&answer.body)?;
        let listed = body["data"].as_array().map_or(0, Vec::len);
        ensure!(i64::try_from(listed)? == ORDERS_PER_CUSTOMER, "{listed} orders of {customer}");
    }
    #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
    let lists = LISTS as f64;
    Ok(took / lists)
}
