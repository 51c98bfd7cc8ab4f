//! The read side's door: HTTP over the read models. It can append nothing.
//!
//! Every answer names the position of the log that it has seen (`Projection-Position`), and may
//! be asked to have seen at least one (`Min-Position`). A resource that folds one stream has that
//! stream's version as its `ETag`.
//!
//! To add one more resource: 1. a read model in `projections`; 2. a file here with its `routes()`
//! and the shape of its answer; 3. a line in [`router`].

mod api;
mod health;
mod order;
mod order_list;
mod payment;
mod projection;
mod saga;
mod shipment;
mod stock;

use std::fmt;

use axum::Router;
use schemas::Ids;
use sqlx::PgPool;
use web::Edge;

use api::Api;

/// What the query API needs.
#[derive(Clone)]
pub struct Config {
    /// Connections of a role that may only read.
    pub pool: PgPool,
    /// Where request ids come from.
    pub ids: Ids,
    /// What cursors are sealed with. All processes that answer the same clients share it.
    pub cursor_secret: String,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// The query API, ready to be served.
pub fn router(config: Config) -> Router {
    let Config { pool, ids, cursor_secret } = config;
    let checks = health::checks(pool.clone());
    let routes = Router::new()
        .merge(order_list::routes())
        .merge(order::routes())
        .merge(shipment::routes())
        .merge(stock::routes())
        .merge(payment::routes())
        .merge(saga::routes())
        .merge(projection::routes())
        .with_state(Api::new(pool, &cursor_secret));
    web::edge(routes, Edge::new(checks, move || ids.next()))
}
