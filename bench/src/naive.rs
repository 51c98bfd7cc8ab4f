//! What a service without an event store does with an order: one plain insert.

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use schemas::{Clock, Ids};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

/// Connections in its pool.
const CONNECTIONS: u32 = 32;

/// `POST /v1/orders`: one row of what was sent, with new ids. Nothing is looked at: no idempotency
/// key, no rule, no order among the rows.
///
/// # Errors
/// Where the database is away.
pub(crate) async fn router(database_url: &str) -> Result<Router> {
    let pool = PgPoolOptions::new()
        .min_connections(CONNECTIONS)
        .max_connections(CONNECTIONS)
        .connect(database_url)
        .await?;
    Ok(Router::new().route("/v1/orders", post(place)).with_state(pool))
}

async fn place(State(pool): State<PgPool>, body: String) -> Result<StatusCode, StatusCode> {
    let ids = Ids::system();
    let inserted = sqlx::query(
        "insert into plain_events (stream_id, stream_version, slice, category, event_type, \
         event_id, command_id, correlation_id, causation_id, occurred_at, actor, payload) \
         values ($1, 1, 7, 'order', 'order.placed.v1', $2, $3, $1, $3, $4, 'bench', $5::text::json)",
    )
    .bind(ids.next())
    .bind(ids.next())
    .bind(ids.next())
    .bind(Clock::system().now())
    .bind(body)
    .execute(&pool)
    .await;
    inserted.map(|_| StatusCode::CREATED).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
