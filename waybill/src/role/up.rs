//! `waybill up`: every role in one process.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use event_store::Vault;
use schemas::{Clock, Ids};
use tokio::net::TcpListener;
use tracing::{info, warn};
use web::Gate;

use super::sandbox::Sandbox;
use super::{adapters, command_api, projections, query_api, relay, sagas};
use crate::access;
use crate::embedded::{Servers, fallback, master_key};
use crate::endpoints::{DATA_DIR_DEFAULT, Endpoints};
use crate::exit::Ending;
use crate::health::bind;
use crate::operator::migrate::migrate;
use crate::options::{self, Hidden, Outside, Provider, WebhookSecrets};
use crate::output::{Output, Style};
use crate::platform::Platform;
use crate::supervisor::{Signals, Supervisor};

/// The database of the embedded Postgres.
const DATABASE: &str = "waybill";

/// Where the four servers listen where nothing else is asked for and the port is free.
const PORTS: Ports<u16> = Ports { command: 8080, query: 8081, payment: 8082, carrier: 8083 };

/// Run everything in one process: all roles, the sandbox payment provider and carrier, and,
/// unless told otherwise, a private Postgres and a private NATS.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the private servers and the sandbox keep what they keep.
    #[arg(long, env = "WAYBILL_DATA_DIR", value_name = "FOLDER",
          default_value = DATA_DIR_DEFAULT)]
    data_dir: PathBuf,
    /// Remove the data folder after an orderly stop.
    #[arg(long, hide = true)]
    temporary: bool,
    /// Postgres, as `postgres://user:password@host:5432/waybill`, instead of a private one.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// The same for the owner of the database, who brings it up to date. [default: the user of
    /// --database-url, who then serves as well, with a warning]
    #[arg(
        long,
        env = "WAYBILL_OWNER_URL",
        value_name = "URL",
        hide_env_values = true,
        requires = "database_url"
    )]
    owner_url: Option<String>,
    /// NATS, as `nats://user:password@host:4222`, instead of a private one.
    #[arg(long, env = "NATS_URL", value_name = "URL", hide_env_values = true)]
    nats_url: Option<String>,
    #[command(flatten)]
    tuning: options::Tuning,
    /// Where the command API listens. [default: 127.0.0.1:8080, or a free port]
    #[arg(long, env = "WAYBILL_COMMAND_ADDR", value_name = "ADDR:PORT")]
    command_addr: Option<SocketAddr>,
    /// Where the query API listens. [default: 127.0.0.1:8081, or a free port]
    #[arg(long, env = "WAYBILL_QUERY_ADDR", value_name = "ADDR:PORT")]
    query_addr: Option<SocketAddr>,
    /// Where the sandbox payment provider listens. [default: 127.0.0.1:8082, or a free port]
    #[arg(long, env = "WAYBILL_SANDBOX_PAYMENT_ADDR", value_name = "ADDR:PORT")]
    payment_addr: Option<SocketAddr>,
    /// Where the sandbox carrier listens. [default: 127.0.0.1:8083, or a free port]
    #[arg(long, env = "WAYBILL_SANDBOX_CARRIER_ADDR", value_name = "ADDR:PORT")]
    carrier_addr: Option<SocketAddr>,
    #[command(flatten)]
    master: options::Master,
    #[command(flatten)]
    access: options::Access,
    #[command(flatten)]
    webhook: options::OperatorWebhook,
    #[command(flatten)]
    streams: options::EventStreams,
    #[command(flatten)]
    drift: options::Drift,
}

/// Something for each of the four HTTP servers.
#[derive(Debug)]
struct Ports<T> {
    command: T,
    query: T,
    payment: T,
    carrier: T,
}

/// Runs the role.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let mut signals = Signals::listen()?;
    if options.access.jwks().is_none() {
        access::on_loopback(options.command_addr, "--command-addr")?;
        access::on_loopback(options.query_addr, "--query-addr")?;
        access::on_loopback(options.payment_addr, "--payment-addr")?;
        access::on_loopback(options.carrier_addr, "--carrier-addr")?;
    }
    let data_dir = choose(&options.data_dir)?;
    let servers = tokio::select! {
        () = signals.next() => return Ok(Ending::Orderly),
        servers = start_servers(&options, &data_dir) => servers?,
    };
    let ending = run_on(&options, &data_dir, &servers, &mut signals).await;
    if let Some(embedded) = servers.embedded {
        embedded.stop().await;
    }
    Endpoints::remove(&data_dir);
    if options.temporary {
        fs::remove_dir_all(&data_dir)
            .with_context(|| format!("cannot remove {}", data_dir.display()))?;
    }
    ending
}

/// The folder that was asked for, or another where the servers could not get there.
fn choose(wanted: &Path) -> anyhow::Result<PathBuf> {
    let folder = match fallback(wanted)? {
        Some(folder) if wanted == Path::new(DATA_DIR_DEFAULT) => {
            warn!(
                "Postgres does not run as root, and no other user may pass the working folder: \
                 the data is kept in {} instead",
                folder.display()
            );
            folder
        }
        _ => wanted.to_owned(),
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// What the roles run on: given servers, or our own.
#[derive(Debug)]
struct On {
    owner_url: String,
    database_url: String,
    /// For the query API.
    reading_url: String,
    nats_url: String,
    embedded: Option<Servers>,
}

async fn start_servers(options: &Options, data_dir: &Path) -> anyhow::Result<On> {
    let given_database = options.database_url.clone().map(|database_url| On {
        owner_url: options.owner_url.clone().unwrap_or_else(|| database_url.clone()),
        reading_url: database_url.clone(),
        database_url,
        nats_url: String::new(),
        embedded: None,
    });
    let on = match (given_database, options.nats_url.clone()) {
        (Some(database), Some(nats_url)) => On { nats_url, ..database },
        (given_database, given_nats) => {
            let servers = Servers::start(data_dir).await?;
            let nats_url = given_nats.unwrap_or_else(|| servers.nats.url());
            match given_database {
                Some(database) => On { nats_url, embedded: Some(servers), ..database },
                None => On {
                    owner_url: servers.postgres.database(DATABASE).await?,
                    database_url: servers.postgres.serving_url(DATABASE),
                    reading_url: servers.postgres.reading_url(DATABASE),
                    nats_url,
                    embedded: Some(servers),
                },
            }
        }
    };
    migrate(&on.owner_url).await?;
    Ok(on)
}

async fn run_on(
    options: &Options,
    data_dir: &Path,
    on: &On,
    signals: &mut Signals,
) -> anyhow::Result<Ending> {
    let listeners = listen(options).await?;
    let at = |listener: &TcpListener| -> anyhow::Result<String> {
        Ok(format!("http://{}", listener.local_addr().context("no local address")?))
    };
    let (access, clock) = (&options.access, Clock::system());
    let (gate, token) = if access.jwks().is_some() {
        (access::gate(access, clock)?, None)
    } else {
        let (gate, token) = access::development(access, data_dir, clock)?;
        (gate, Some(token))
    };
    let endpoints = Endpoints {
        command_url: at(&listeners.command)?,
        query_url: at(&listeners.query)?,
        payment_url: at(&listeners.payment)?,
        carrier_url: at(&listeners.carrier)?,
        database_url: on.database_url.clone(),
        reading_url: on.reading_url.clone(),
        owner_url: on.owner_url.clone(),
        nats_url: on.nats_url.clone(),
        token,
        pid: std::process::id(),
    };
    let mut supervisor = Supervisor::default();
    let mut tuning = options.tuning.clone();
    // Whoever gives one user for everything tries things.
    tuning.allow_owner |= on.owner_url == on.database_url;
    let platform = Platform::open(&mut supervisor, &on.database_url, &on.nats_url, &tuning).await?;
    let own = options.master.master_key.is_none().then(|| master_key(data_dir)).transpose()?;
    let masters = options.master.keys(own.as_ref().map(|key| key.as_str()))?;
    let vault = platform.vault(&mut supervisor, masters).await?;
    let all = Start { options, data_dir, listeners, endpoints: &endpoints, gate };
    start_roles(&mut supervisor, &platform, vault, all)?;
    endpoints.write(data_dir)?;
    welcome(Output::standard(), data_dir, &endpoints);
    Ok(supervisor.supervise(signals, options.tuning.drain.max()).await)
}

/// What the roles are started with.
struct Start<'a> {
    options: &'a Options,
    data_dir: &'a Path,
    listeners: Ports<TcpListener>,
    endpoints: &'a Endpoints,
    gate: Gate,
}

fn start_roles(
    supervisor: &mut Supervisor,
    platform: &Platform,
    vault: Vault,
    Start { options, data_dir, listeners, endpoints, gate }: Start<'_>,
) -> anyhow::Result<()> {
    let secret = |prefix: &str| format!("{prefix}_{}", Ids::system().next().simple());
    let secrets = WebhookSecrets {
        payment_webhook_secret: Hidden::new(secret("whsec")),
        carrier_webhook_secret: Hidden::new(secret("whsec")),
    };
    let outside = Outside {
        provider: Provider {
            payment_url: endpoints.payment_url.clone(),
            payment_secret_key: secret("sk_test"),
        },
        payment_return_url: None,
        carrier_url: endpoints.carrier_url.clone(),
        carrier_secret_key: secret("ez_test"),
    };
    let mut sandbox =
        Sandbox::new((&outside.provider.payment_secret_key, &outside.carrier_secret_key), &secrets);
    sandbox.tell(&endpoints.command_url);
    sandbox.keep(&data_dir.join("sandbox"))?;
    sandbox.start(supervisor, listeners.payment, listeners.carrier);

    let feed = platform.follow(supervisor);
    relay::start(supervisor, platform);
    projections::start(supervisor, platform, feed.clone(), options.drift);
    sagas::start(supervisor, platform, feed.clone());
    adapters::start(supervisor, platform, &vault, &feed, &outside, &options.webhook)?;
    let (commands, sealing) = (listeners.command, vault.clone());
    let find_payment = command_api::finder(&outside.provider)?;
    let outside = command_api::Outside { secrets, find_payment };
    command_api::start(supervisor, platform, sealing, &feed, commands, outside, gate.clone());
    let queries = options::Queries {
        cursors: options::Cursors { cursor_secret: None },
        streams: options.streams.clone(),
    };
    let (url, tuning) = (&endpoints.reading_url, &options.tuning);
    let pool = query_api::pool(url, tuning.database_connections)?;
    let source = query_api::Source { pool, moves: platform.store.moves().clone(), vault };
    query_api::start(supervisor, &platform.metrics, source, listeners.query, queries, gate);
    info!("every role runs");
    Ok(())
}

async fn listen(options: &Options) -> anyhow::Result<Ports<TcpListener>> {
    Ok(Ports {
        command: listen_at(options.command_addr, PORTS.command, "--command-addr").await?,
        query: listen_at(options.query_addr, PORTS.query, "--query-addr").await?,
        payment: listen_at(options.payment_addr, PORTS.payment, "--payment-addr").await?,
        carrier: listen_at(options.carrier_addr, PORTS.carrier, "--carrier-addr").await?,
    })
}

/// Listens where it was asked to; else at the usual port, or at any that is free.
async fn listen_at(
    wanted: Option<SocketAddr>,
    usual: u16,
    option: &str,
) -> anyhow::Result<TcpListener> {
    if let Some(address) = wanted {
        return bind(address, option).await;
    }
    match TcpListener::bind((Ipv4Addr::LOCALHOST, usual)).await {
        Ok(listener) => Ok(listener),
        Err(_) => bind((Ipv4Addr::LOCALHOST, 0).into(), option).await,
    }
}

/// Says where everything is, and three things to try.
fn welcome(output: Output, data_dir: &Path, endpoints: &Endpoints) {
    let Endpoints { command_url, query_url, payment_url, carrier_url, .. } = endpoints;
    let key = |text: &str| output.paint(Style::Key, text);
    output.line(output.paint(Style::Bold, "Waybill is up."));
    output.line(format!("  commands   {}", key(command_url)));
    output.line(format!("  queries    {}", key(query_url)));
    output.line(format!("  provider   {}  (sandbox: no money moves)", key(payment_url)));
    output.line(format!("  carrier    {}  (sandbox)", key(carrier_url)));
    output.line(format!("  data       {}", key(&data_dir.display().to_string())));
    output.gap();
    if let Some(token) = &endpoints.token {
        output.line("This platform is for trying: it issues a token to itself that may do");
        output.line("everything, and listens on this machine only. To paste first:");
        output.gap();
        output.line(format!("export WAYBILL_TOKEN={token}"));
        output.gap();
    }
    let bearer = r#"-H "Authorization: Bearer $WAYBILL_TOKEN""#;
    output.line("Three lines to paste into another terminal: stock, an order, its timeline.");
    output.gap();
    let order = concat!(
        r#"{"customer":"usr_00000000000000000000000000000001","#,
        r#""lines":[{"sku":"mug","title":"A mug","quantity":2,"#,
        r#""unit_price":{"amount":1250,"currency":"EUR"}}],"#,
        r#""payment_method":"pm_card_visa","shipping_address":{"name":"Ada Lovelace","#,
        r#""line1":"Weg 1","city":"Berlin","region":"DE-BE","postal_code":"10115","#,
        r#""country":"DE"}}"#
    );
    let post = format!(
        "curl -s -X POST {bearer} -H 'Content-Type: application/json' \
         -H \"Idempotency-Key: $(date +%s%N)\""
    );
    output.line(format!("{post} {command_url}/v1/stock/mug/receive -d '{{\"quantity\":10}}'"));
    output.gap();
    output.line(format!("{post} {command_url}/v1/orders -d '{order}'"));
    output.gap();
    output.line(format!("curl -s {bearer} '{query_url}/v1/orders?sort=-placed_at'"));
    output.gap();
    output.line(format!(
        "Every operation, to read and to try: {}",
        key(&format!("{command_url}/docs"))
    ));
    output.line(format!("and {}", key(&format!("{query_url}/docs"))));
    output.gap();
    output.line(output.paint(Style::Dim, "Ctrl-C stops it in order; the data stays."));
}
