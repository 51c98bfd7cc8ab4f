//! The read side's door: HTTP over the read models, and for operators over the log itself. It can
//! append nothing.
//!
//! Every answer names the position of the log that it has seen (`Projection-Position`), and may
//! be asked to have seen at least one (`Min-Position`). A resource that folds one stream has that
//! stream's version as its `ETag`.
//!
//! To add one more resource: 1. a read model in `projections`; 2. a file here with its `routes()`
//! and the shape of its answer; 3. a line in [`router`].

mod api;
mod customer;
mod examples;
mod follow;
mod health;
mod listing;
mod log_events;
mod order;
mod order_events;
mod order_list;
mod parked;
mod payment;
mod pool;
mod projection;
mod saga;
mod sales;
mod shipment;
mod sse;
mod stock;
mod stream;

use std::fmt;

use axum::Router;
use event_store::{Moves, Vault};
use schemas::Ids;
use serde_json::Value;
use sqlx::PgPool;
use web::{Edge, Gate, Operation, Routes};

use api::Api;
pub use pool::pool;
pub use sse::{Follower, StreamLimits, Streams};
pub use stream::state;

/// What the query API needs.
#[derive(Clone)]
pub struct Config {
    /// Connections of a role that may only read.
    pub pool: PgPool,
    /// How far the read models have come that this process keeps; [`Moves::new`] where it keeps none.
    pub moves: Moves,
    /// What opens personal data. It seals nothing here: the role may not make keys.
    pub vault: Vault,
    /// Where request ids come from.
    pub ids: Ids,
    /// What cursors are sealed with. All processes that answer the same clients share it.
    pub cursor_secret: String,
    /// Who may call, and how often.
    pub gate: Gate,
    /// What is told as it happens; its [`Follower`] runs beside the router.
    pub streams: Streams,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("pool", &self.pool).finish_non_exhaustive()
    }
}

/// The query API, ready to be served.
pub fn router(config: Config) -> Router {
    let Config { pool, moves, vault, ids, cursor_secret, gate, streams } = config;
    let edge = Edge::new(health::checks(pool.clone()), move || ids.next());
    let routes = routes().with_state(&Api::new(pool, moves, vault, &cursor_secret, streams));
    web::edge(routes, Edge { gate, document: Some(document()), ..edge })
}

/// What is to be known of every route.
#[must_use]
pub fn operations() -> Vec<Operation> {
    routes().operations().cloned().collect()
}

/// The `OpenAPI` document.
#[must_use]
pub fn document() -> Value {
    let description = "Everything that reads. Answers tell how much of the log they have seen, \
                       and may be asked to have seen a position: the one that a command was \
                       answered with.";
    web::openapi::document("Waybill: queries", description, routes().operations())
}

fn routes() -> Routes<Api> {
    Routes::new()
        .merge(order_list::routes())
        .merge(customer::routes())
        .merge(order::routes())
        .merge(shipment::routes())
        .merge(stock::routes())
        .merge(payment::routes())
        .merge(saga::routes())
        .merge(sales::routes())
        .merge(projection::routes())
        .merge(parked::routes())
        .merge(stream::routes())
        .merge(log_events::routes())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use event_store::{MasterKey, MasterKeys};
    use schemas::Chance;
    use sqlx::postgres::PgPoolOptions;
    use tower::ServiceExt as _;

    use super::*;

    fn issuer() -> web::Issuer {
        web::Issuer::new(&[7; 32], "https://id.example", "waybill").unwrap()
    }

    /// A token with every scope, of staff or of a customer.
    fn token(customer: Option<&str>) -> String {
        let operations = operations();
        let scopes: Vec<_> =
            operations.iter().filter_map(|operation| operation.access().scope()).collect();
        let expires_at = i64::MAX / 2;
        issuer().issue(&web::Grant { subject: "ada", customer, scopes: &scopes, expires_at })
    }

    /// Asks a query API whose database is nowhere.
    async fn ask(path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let (status, problem) = problem(path, headers).await;
        (status, problem["code"].as_str().unwrap_or_default().to_owned())
    }

    async fn problem(path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let pool = PgPoolOptions::new()
            .acquire_timeout(std::time::Duration::from_millis(100))
            .connect_lazy("postgres://nobody@127.0.0.1:1/nowhere")
            .unwrap();
        let chance = Chance::system();
        let master = MasterKey::generate(chance).parse().unwrap();
        let vault = Vault::new(pool.clone(), MasterKeys::new(master, Vec::new()), chance);
        let (streams, _) = Streams::new(pool.clone(), StreamLimits::default());
        let keys = web::Keys::Fixed(web::KeySet::parse(&issuer().key_set()).unwrap());
        let now = std::sync::Arc::new(|| 0);
        let tokens = web::Tokens::new("https://id.example", "waybill", keys, now);
        let config = Config {
            streams,
            pool,
            moves: Moves::new(),
            vault,
            ids: Ids::system(),
            cursor_secret: "secret".to_owned(),
            gate: Gate::new(tokens, web::Rates::default()),
        };
        let mut request = Request::get(path);
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {}", token(None)));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = router(config).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 64 * 1024).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_refused_before_anything_is_read() {
        let digits = "0".repeat(32);
        for (path, status, code) in [
            ("/v1/orders?filter[colour]=red", 400, "invalid_parameter"),
            ("/v1/orders?filter[status]=astray", 400, "invalid_parameter"),
            ("/v1/orders?filter[status]=", 400, "invalid_parameter"),
            ("/v1/orders?filter[customer]=ord_1", 400, "invalid_parameter"),
            ("/v1/orders?filter[placed_at][gte]=yesterday", 400, "invalid_parameter"),
            ("/v1/orders?filter[day]=2026-11-31", 400, "invalid_parameter"),
            ("/v1/orders?filter[sku]=a%20b", 400, "invalid_parameter"),
            ("/v1/orders?filter[sku]=mug&filter[status]=pending", 400, "invalid_parameter"),
            ("/v1/orders?filter[sku]=mug&filter[q]=mug", 400, "invalid_parameter"),
            ("/v1/orders?filter[q]=mug&filter[status]=pending", 400, "invalid_parameter"),
            ("/v1/orders?filter[q]=", 400, "invalid_parameter"),
            ("/v1/orders?filter[q]=ab", 400, "invalid_parameter"),
            ("/v1/orders?sort=total", 400, "invalid_parameter"),
            ("/v1/orders?limit=0", 400, "invalid_parameter"),
            ("/v1/orders?limit=201", 400, "invalid_parameter"),
            ("/v1/orders?limit=2&limit=3", 400, "invalid_parameter"),
            ("/v1/orders?cursor=00", 400, "cursor_mismatch"),
            ("/v1/orders/ord_7", 400, "invalid_id"),
            (&format!("/v1/orders/pay_{digits}"), 400, "invalid_id"),
            (&format!("/v1/orders/ord_{digits}/events?page=2"), 400, "invalid_parameter"),
            (&format!("/v1/orders/ord_{digits}/events?cursor=zz"), 400, "cursor_mismatch"),
            (&format!("/v1/orders/ord_{digits}/shipments?limit=2"), 400, "invalid_parameter"),
            ("/v1/customers/ord_1", 400, "invalid_id"),
            ("/v1/customers/ord_1/orders", 400, "invalid_id"),
            (
                &format!("/v1/customers/usr_{digits}/orders?filter[colour]=red"),
                400,
                "invalid_parameter",
            ),
            (
                &format!("/v1/customers/usr_{digits}/orders?filter[customer]=usr_{digits}"),
                400,
                "invalid_parameter",
            ),
            ("/v1/stock?filter[out]=false", 400, "invalid_parameter"),
            ("/v1/stock/a%20b", 400, "invalid_id"),
            ("/v1/stock?cursor=zz", 400, "cursor_mismatch"),
            ("/v1/payments?filter[state]=lost", 400, "invalid_parameter"),
            ("/v1/payments?filter[order]=pay_1", 400, "invalid_parameter"),
            ("/v1/payments?sort=amount", 400, "invalid_parameter"),
            ("/v1/shipments?filter[status]=astray", 400, "invalid_parameter"),
            ("/v1/shipments?cursor=zz", 400, "cursor_mismatch"),
            ("/v1/sagas?filter[older_than]=3600", 400, "invalid_parameter"),
            ("/v1/sagas?filter[parked]=maybe", 400, "invalid_parameter"),
            ("/v1/sagas?filter[parked]=true&filter[state]=paying", 400, "invalid_parameter"),
            ("/v1/sagas?filter[state]=", 400, "invalid_parameter"),
            ("/v1/sales?filter[day][gte]=monday", 400, "invalid_parameter"),
            ("/v1/sales?filter[currency]=XXX", 400, "invalid_parameter"),
            ("/v1/sales?filter[sku]=", 400, "invalid_parameter"),
            ("/v1/sales?cursor=zz", 400, "cursor_mismatch"),
            ("/v1/payments/x", 400, "invalid_id"),
            ("/v1/sagas/x", 400, "invalid_id"),
            ("/v1/nothing", 404, "not_found"),
        ] {
            assert_eq!(ask(path, &[]).await, (status, code.to_owned()), "{path}");
        }
        for position in ["-1", "x", "1.0"] {
            let (status, code) = ask("/v1/orders", &[("min-position", position)]).await;
            assert_eq!((status, code.as_str()), (400, "invalid_header"), "{position}");
        }
    }

    #[tokio::test]
    async fn a_filter_that_is_refused_is_named() {
        for (path, parameter) in [
            ("/v1/orders?filter[status]=pending,lost", "filter[status]"),
            ("/v1/orders?filter[day]=2026-11-31", "filter[day]"),
            ("/v1/orders?filter[sku]=a%20b", "filter[sku]"),
            ("/v1/orders?filter[q]=ab", "filter[q]"),
            ("/v1/orders?filter[q]=mug&filter[status]=pending", "filter[q]"),
            ("/v1/orders?filter[sku]=mug&filter[q]=mug", "filter[sku]"),
            ("/v1/stock?filter[out]=false", "filter[out]"),
            ("/v1/payments?filter[state]=lost", "filter[state]"),
            ("/v1/payments?filter[order]=pay_1", "filter[order]"),
            ("/v1/shipments?filter[status]=astray", "filter[status]"),
            ("/v1/sagas?filter[older_than]=3600", "filter[older_than]"),
            ("/v1/sagas?filter[parked]=true&filter[state]=paying", "filter[parked]"),
            ("/v1/sales?filter[day][gte]=monday", "filter[day][gte]"),
            ("/v1/sales?filter[currency]=XXX", "filter[currency]"),
        ] {
            let (status, problem) = problem(path, &[]).await;
            assert_eq!(status, 400, "{path}: {problem}");
            assert_eq!(problem["errors"][0]["parameter"], parameter, "{path}: {problem}");
        }
        let (_, problem) = problem("/v1/orders?filter[status]=astray", &[]).await;
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("pending, confirmed"), "{detail}");
    }

    #[tokio::test]
    async fn a_moment_that_cannot_be_is_refused_before_anything_is_read() {
        let order = format!("/v1/streams/order/{}", "0".repeat(32));
        for (path, code) in [
            ("/v1/streams/order/7".to_owned(), "invalid_id"),
            ("/v1/streams/orders/00000000000000000000000000000000".to_owned(), "invalid_id"),
            (format!("{order}?at=3"), "invalid_parameter"),
            (format!("{order}?at_version=x"), "invalid_parameter"),
            (format!("{order}?at_time=yesterday"), "invalid_parameter"),
            (format!("{order}?at_version=1&at_time=2026-11-23T08:00:00Z"), "invalid_parameter"),
            (format!("{order}?after=-1"), "invalid_parameter"),
            (format!("{order}?limit=0"), "invalid_parameter"),
            (format!("{order}?limit=201"), "invalid_parameter"),
        ] {
            let answer = ask(&path, &[]).await;
            assert_eq!(answer, (400, code.to_owned()), "{path}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_followed_is_refused_before_anything_is_read() {
        let events = format!("/v1/orders/ord_{}/events", "0".repeat(32));
        for (path, last, code) in [
            (events.clone(), "-1", "invalid_header"),
            (events.clone(), "x", "invalid_header"),
            (format!("{events}?limit=2"), "1", "invalid_parameter"),
            (format!("{events}?cursor=ab"), "1", "invalid_parameter"),
            ("/v1/events/stream".to_owned(), "", "invalid_header"),
            ("/v1/events/stream?filter[context]=weather".to_owned(), "1", "invalid_parameter"),
            ("/v1/events/stream?filter[colour]=red".to_owned(), "1", "invalid_parameter"),
        ] {
            let headers = [("accept", "text/event-stream"), ("last-event-id", last)];
            assert_eq!(ask(&path, &headers).await, (400, code.to_owned()), "{path} {last}");
        }
        let headers = [("accept", "text/event-stream")];
        for path in [&events, "/v1/events/stream"] {
            assert_eq!(ask(path, &headers).await.0, 503, "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_not_for_customers_is_refused_before_anything_is_read() {
        let (own, other) = (format!("usr_{}", "0".repeat(32)), format!("usr_{}", "1".repeat(32)));
        let bearer = format!("Bearer {}", token(Some(&own)));
        for (path, status) in [
            ("/v1/orders".to_owned(), 503),
            (format!("/v1/orders?filter[customer]={own}"), 503),
            (format!("/v1/orders?filter[customer]={other}"), 404),
            ("/v1/orders?filter[sku]=mug".to_owned(), 403),
            ("/v1/orders?filter[q]=mug".to_owned(), 403),
            (format!("/v1/customers/{own}"), 503),
            (format!("/v1/customers/{other}"), 404),
            (format!("/v1/customers/{other}/orders"), 404),
            ("/v1/payments".to_owned(), 403),
            ("/v1/sagas".to_owned(), 403),
            ("/v1/shipments".to_owned(), 403),
        ] {
            let answer = ask(&path, &[("authorization", &bearer)]).await;
            assert_eq!(answer.0, status, "{path}: {answer:?}");
        }
        let nobody = format!("Bearer {}", token(Some("ada")));
        assert_eq!(ask("/v1/orders", &[("authorization", &nobody)]).await.0, 401);
    }

    #[tokio::test]
    async fn a_database_that_is_away_is_worth_another_try() {
        for path in ["/v1/orders", "/v1/stock/mug", "/v1/projections"] {
            let (status, code) = ask(path, &[]).await;
            assert_eq!((status, code.as_str()), (503, "dependency_unavailable"), "{path}");
        }
        assert_eq!(ask("/readyz", &[]).await, (503, "not_ready".to_owned()));
        assert_eq!(ask("/livez", &[]).await.0, 200);
    }
}
