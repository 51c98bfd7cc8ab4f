//! How a process tells how well it is.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::connection::State;
use async_nats::jetstream;
use axum::Router;
use event_store::Store;
use schemas::Ids;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use web::Routes;
use web::health::{Check, Checks, Report, Status};

use crate::exit::Misconfigured;
use crate::metrics::Metrics;
use crate::platform::Platform;
use crate::supervisor::{Stage, Supervisor};

/// How long JetStream may take to answer before delivery counts as degraded.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Without the log nothing works; without NATS everything does, later.
pub(crate) fn checks(platform: &Platform) -> Checks {
    let (store, nats) = (platform.store.clone(), platform.nats.clone());
    Checks::new(move || look(store.clone(), nats.clone()))
}

async fn look(store: Store, nats: async_nats::Client) -> Report {
    let database = async {
        let asked = Instant::now();
        let check = match store.head().await {
            Ok(head) => Check::new(Status::Healthy).observed(json!({ "head_position": head })),
            Err(_) => Check::new(Status::Unhealthy),
        };
        check.after(asked.elapsed())
    };
    let delivery = async {
        let asked = Instant::now();
        let jetstream = jetstream::new(nats.clone());
        let answers = match nats.connection_state() {
            State::Connected => timeout(ANSWER_MAX, jetstream.query_account()).await,
            State::Pending | State::Disconnected => return Check::new(Status::Degraded),
        };
        let status = if let Ok(Ok(_)) = answers { Status::Healthy } else { Status::Degraded };
        Check::new(status).after(asked.elapsed())
    };
    let (database, delivery) = tokio::join!(database, delivery);
    Report::from([("database", database), ("nats", delivery)])
}

/// Serves the health routes and the metrics of a role that has no API.
pub(crate) async fn serve(
    supervisor: &mut Supervisor,
    address: Option<SocketAddr>,
    checks: Checks,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    let Some(address) = address else { return Ok(()) };
    let listener = bind(address, "--health-addr (WAYBILL_HEALTH_ADDR)").await?;
    let edge = web::Edge::new(checks, || Ids::system().next());
    let router = metrics.route(web::edge(Routes::new(), edge));
    supervisor.run(Stage::Support, "health", |drain| async move {
        web::serve(listener, router, drain).await.context("health")
    });
    Ok(())
}

/// Listens, or says what to change.
pub(crate) async fn bind(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Misconfigured::error(format!(
            "cannot listen on {address}: {error}; choose another with {option}, or port 0 for \
             any that is free"
        ))
    })
}

/// Serves a router and the metrics as part of this process, under `name`.
pub(crate) fn serve_router(
    supervisor: &mut Supervisor,
    name: &'static str,
    listener: TcpListener,
    router: Router,
    metrics: &Metrics,
) {
    let router = metrics.route(router);
    supervisor.run(Stage::Http, name, |drain| async move {
        web::serve(listener, router, drain).await.context(name)
    });
}
