//! `waybill query-api`: the read side's door.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use schemas::Ids;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::exit::{Ending, Misconfigured};
use crate::metrics::Metrics;
use crate::platform::check_login;
use crate::supervisor::{Signals, Supervisor};
use crate::{health, options};

/// The database role of the read side: it may select and nothing else.
const READER: &str = "waybill_read";

/// How long the database may take to answer at the start before it counts as away.
const LOGIN_CHECK_MAX: Duration = Duration::from_secs(5);

/// Answer queries, from read models only. Needs no NATS.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the query API listens.
    #[arg(
        long,
        env = "WAYBILL_QUERY_ADDR",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8081"
    )]
    query_addr: SocketAddr,
    #[command(flatten)]
    log: options::Log,
    #[command(flatten)]
    cursors: options::Cursors,
    #[command(flatten)]
    operators: options::Operators,
}

/// Runs the role.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let Options { query_addr, log, cursors, operators } = options;
    let mut signals = Signals::listen()?;
    let mut supervisor = Supervisor::default();
    let listener = health::bind(query_addr, "--query-addr (WAYBILL_QUERY_ADDR)").await?;
    let metrics = Metrics::start(&mut supervisor)?;
    // A database that is away is waited for by those who ask; what can be checked now is.
    let pool = pool(&log.database_url, log.tuning.database_connections)?;
    if let Ok(Ok(_)) = timeout(LOGIN_CHECK_MAX, pool.acquire()).await {
        check_login(&pool, log.tuning.allow_owner).await?;
    }
    let (url, tuning) = (&log.database_url, &log.tuning);
    start(&mut supervisor, &metrics, url, tuning, listener, &cursors, operators)?;
    Ok(supervisor.supervise(&mut signals, log.tuning.drain.max()).await)
}

/// Starts the API.
pub(super) fn start(
    supervisor: &mut Supervisor,
    metrics: &Metrics,
    database_url: &str,
    tuning: &options::Tuning,
    listener: TcpListener,
    cursors: &options::Cursors,
    operators: options::Operators,
) -> anyhow::Result<()> {
    let ids = Ids::system();
    let cursor_secret = cursors.cursor_secret.clone().filter(|secret| !secret.is_empty());
    let pool = pool(database_url, tuning.database_connections)?;
    metrics.of_readers(&pool);
    let router = query_api::router(query_api::Config {
        pool,
        ids,
        cursor_secret: cursor_secret.unwrap_or_else(|| ids.next().to_string()),
        // A variable that is set to nothing is not a token that everybody knows.
        operator_token: operators.operator_token.filter(|token| !token.is_empty()),
    });
    health::serve_router(supervisor, "query-api", listener, router, metrics);
    Ok(())
}

/// Connections that can only read; made when they are needed.
pub(crate) fn pool(database_url: &str, connections_max: u32) -> anyhow::Result<PgPool> {
    let options: PgConnectOptions = database_url
        .parse()
        .map_err(|error| Misconfigured::error(format!("DATABASE_URL cannot be read: {error}")))?;
    let options = options.options([
        ("role", READER),
        ("default_transaction_read_only", "on"),
        ("jit", "off"),
    ]);
    Ok(PgPoolOptions::new().max_connections(connections_max).connect_lazy_with(options))
}
