//! `waybill query-api`: the read side's door.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use event_store::{Moves, Vault};
use query_api::{StreamLimits, Streams};
use schemas::{Chance, Clock, Ids};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tracing::warn;
use web::Gate;

use crate::exit::{Ending, Misconfigured};
use crate::metrics::Metrics;
use crate::platform::{check_login, forget_erased};
use crate::supervisor::{Signals, Stage, Supervisor};
use crate::{access, health, options};

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
    master: options::Master,
    #[command(flatten)]
    queries: options::Queries,
    #[command(flatten)]
    access: options::Access,
}

/// Runs the role.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let Options { query_addr, log, master, queries, access } = options;
    let gate = access::gate(&access, Clock::system())?;
    let masters = master.keys(None)?;
    let mut signals = Signals::listen()?;
    let mut supervisor = Supervisor::default();
    let listener = health::bind(query_addr, "--query-addr (WAYBILL_QUERY_ADDR)").await?;
    let metrics = Metrics::start(&mut supervisor)?;
    // A database that is away is waited for by those who ask; what can be checked now is.
    let pool = pool(&log.database_url, log.tuning.database_connections)?;
    let vault = Vault::new(pool.clone(), masters, Chance::system());
    if let Ok(Ok(_)) = timeout(LOGIN_CHECK_MAX, pool.acquire()).await {
        check_login(&pool, log.tuning.allow_owner).await?;
        check(&vault).await?;
    }
    forget_erased(&mut supervisor, &vault);
    // Others keep the read models.
    let source = Source { pool, moves: Moves::new(), vault };
    start(&mut supervisor, &metrics, source, listener, queries, gate);
    Ok(supervisor.supervise(&mut signals, log.tuning.drain.max()).await)
}

/// What the API answers from.
pub(super) struct Source {
    pub pool: PgPool,
    /// How far the read models have come that this process keeps.
    pub moves: Moves,
    pub vault: Vault,
}

/// Starts the API.
pub(super) fn start(
    supervisor: &mut Supervisor,
    metrics: &Metrics,
    source: Source,
    listener: TcpListener,
    queries: options::Queries,
    gate: Gate,
) {
    let Source { pool, moves, vault } = source;
    let options::Queries { cursors, streams } = queries;
    let ids = Ids::system();
    let cursor_secret = cursors.cursor_secret.filter(|secret| !secret.is_empty());
    metrics.of_readers(&pool);
    metrics.of_gate(&gate);
    let limits = StreamLimits {
        open_max: streams.event_streams.into(),
        per_caller_max: streams.event_streams_per_caller.into(),
        ..StreamLimits::default()
    };
    let (streams, follower) = Streams::new(pool.clone(), limits);
    supervisor.run(Stage::Http, "event-streams", |drain| async move {
        follower.run(drain).await;
        Ok(())
    });
    let router = query_api::router(query_api::Config {
        pool,
        moves,
        vault,
        ids,
        cursor_secret: cursor_secret.unwrap_or_else(|| ids.next().to_string()),
        gate,
        streams,
    });
    health::serve_router(supervisor, "query-api", listener, router, metrics);
}

/// Tells a wrong master key at once, unless the database is away: then this role starts all the
/// same, as it serves nothing that is kept elsewhere.
async fn check(vault: &Vault) -> anyhow::Result<()> {
    match vault.check().await {
        Ok(()) => Ok(()),
        Err(event_store::Error::Config(why)) => Err(Misconfigured::error(why)),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            warn!(%error, cause, "whether the master key is right is not known yet");
            Ok(())
        }
    }
}

/// Connections that can only read; made when they are needed.
pub(crate) fn pool(database_url: &str, connections_max: u32) -> anyhow::Result<PgPool> {
    query_api::pool(database_url, connections_max)
        .map_err(|error| Misconfigured::error(format!("DATABASE_URL cannot be read: {error}")))
}
