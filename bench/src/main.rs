//! Measures Waybill against the raw limit of Postgres, in one run on one private server.
//!
//! Machines are noisy and differ, so every figure stands beside a reference that was measured
//! in the same minutes, and what counts is the ratio. fsync, synchronous commit and autovacuum
//! are on.

#![expect(clippy::float_arithmetic, reason = "rates and ratios for people, no money")]

mod append;
mod flow;
mod http;
mod pgbench;
mod rebuild;
mod report;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use event_store::{MasterKey, MasterKeys, Options, Store, Vault};
use schemas::{Chance, Clock, Ids};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use waybill::embedded::Servers;

use report::Row;

/// Every row that can be measured, in the order in which it is.
const ROWS: [&str; 9] = [
    "append_1",
    "append_16",
    "append_64",
    "append_1024",
    "post_orders_64",
    "visible_p50",
    "visible_p99",
    "live_projections",
    "rebuild_order_summary",
];

/// What people wait for at most until they see their own write, in milliseconds.
const VISIBLE_MS: f64 = 25.0;
/// Orders placed one after the other to see how soon they are visible.
const VISIBLE_COUNT: usize = 300;

/// Measures Waybill against the raw limit of Postgres.
#[derive(Debug, Parser)]
struct Cli {
    /// The rows to measure, separated by commas; all of them where none are named.
    #[arg(long, env = "ROWS", value_delimiter = ',')]
    rows: Vec<String>,
    /// Seconds for each measurement of a rate.
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Orders of four events each that are fanned out live.
    #[arg(long, default_value_t = 25_000)]
    live_orders: usize,
    /// Orders of four events each that the rebuilt log holds at least.
    #[arg(long, default_value_t = 100_000)]
    rebuild_orders: usize,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench/latest.json")]
    output: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let unknown = cli.rows.iter().find(|row| !row.is_empty() && !ROWS.contains(&row.as_str()));
    if let Some(row) = unknown {
        bail!("there is no row `{row}`; there are {}", ROWS.join(", "));
    }
    let folder = std::env::temp_dir().join(format!("waybill-bench-{}", std::process::id()));
    let servers = Servers::start(&folder).await?;
    let measured = measure(&cli, &servers, &folder).await;
    servers.stop().await;
    std::fs::remove_dir_all(&folder).context("cannot remove the data folder")?;
    let rows = measured?;
    report::write(&rows, &cli.output)?;
    eprintln!("\n{}\nwritten to {}", report::table(&rows), cli.output.display());
    Ok(())
}

async fn measure(cli: &Cli, servers: &Servers, folder: &Path) -> Result<Vec<Row>> {
    let mut bench = Bench::start(cli, servers, folder).await?;
    let mut rows = Vec::new();
    for name in ROWS {
        let wanted =
            cli.rows.iter().all(String::is_empty) || cli.rows.iter().any(|row| row == name);
        if wanted {
            eprint!("{name} … ");
            let row = bench.row(name).await.with_context(|| format!("row {name}"))?;
            eprintln!("{:.1} {} ({:.2}x)", row.value, row.unit, row.ratio);
            rows.push(row);
        }
    }
    bench.stop().await;
    Ok(rows)
}

/// One log in a database of its own.
struct Log {
    url: String,
    owner: PgPool,
    store: Store,
    vault: Vault,
}

impl Log {
    async fn open(
        servers: &Servers,
        name: &str,
        nats: &async_nats::Client,
        tasks: &mut JoinSet<()>,
        drain: &CancellationToken,
    ) -> Result<Self> {
        let url = servers.postgres.database(name).await?;
        Store::migrate(&url).await?;
        projections::migrate(&url).await?;
        let options =
            Options { database_url: url.clone(), log: name.to_owned(), connections_max: 24 };
        let (store, writer) = Store::open(&options, Some(nats.clone())).await?;
        tasks.spawn(writer.run(drain.clone()));
        let owner = PgPool::connect(&url).await?;
        let chance = Chance::system();
        let masters = MasterKeys::new(MasterKey::generate(chance).parse()?, Vec::new());
        let vault = Vault::new(store.pool().clone(), masters, chance);
        vault.introduce().await?;
        Ok(Self { url, owner, store, vault })
    }

    fn command_api(&self) -> command_api::Config {
        command_api::Config {
            store: self.store.clone(),
            vault: self.vault.clone(),
            clock: Clock::system(),
            ids: Ids::system(),
            import_token: None,
            payment_webhook_secret: "unused".to_owned(),
            carrier_webhook_secret: "unused".to_owned(),
            health: web::health::Checks::none(),
        }
    }
}

/// The components, and the references measured so far.
struct Bench<'a> {
    cli: &'a Cli,
    folder: &'a Path,
    nats: async_nats::Client,
    /// Written to as fast as can be; nobody follows it.
    written: Log,
    /// Holds whole orders and nothing else; every projection follows it.
    followed: Log,
    payload: String,
    plain: HashMap<u32, pgbench::Plain>,
    appended: Option<f64>,
    visible: Option<(f64, f64)>,
    drain: CancellationToken,
    tasks: JoinSet<()>,
}

impl<'a> Bench<'a> {
    async fn start(cli: &'a Cli, servers: &Servers, folder: &'a Path) -> Result<Self> {
        let address: async_nats::ServerAddr = servers.nats.url().parse()?;
        let login = address.username().zip(address.password());
        let (user, password) = login.context("the server has no password")?;
        let options = async_nats::ConnectOptions::new()
            .user_and_password(user.to_owned(), password.to_owned());
        let nats = options.connect(address).await?;
        let drain = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let written = Log::open(servers, "written", &nats, &mut tasks, &drain).await?;
        let followed = Log::open(servers, "followed", &nats, &mut tasks, &drain).await?;
        Ok(Self {
            cli,
            folder,
            nats,
            written,
            followed,
            payload: http::ORDER.to_owned(),
            plain: HashMap::new(),
            appended: None,
            visible: None,
            drain,
            tasks,
        })
    }

    async fn stop(mut self) {
        self.drain.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    async fn row(&mut self, name: &'static str) -> Result<Row> {
        match name {
            "append_1" => self.append(name, 1, 1).await,
            "append_16" => self.append(name, 16, 16).await,
            "append_64" => self.append(name, 64, 64).await,
            "append_1024" => self.append(name, 1024, 64).await,
            "post_orders_64" => self.post_orders(name).await,
            "visible_p50" => Ok(self.visibility(name).await?.0),
            "visible_p99" => Ok(self.visibility(name).await?.1),
            "live_projections" => self.live(name).await,
            _ => self.rebuild(name).await,
        }
    }

    /// The raw limit at so many clients, measured once.
    async fn plain(&mut self, clients: u32) -> Result<pgbench::Plain> {
        if let Some(known) = self.plain.get(&clients) {
            return Ok(*known);
        }
        let measured = pgbench::plain_inserts(
            &self.written.owner,
            &self.written.url,
            self.folder,
            &self.payload,
            clients,
            self.cli.seconds,
        )
        .await?;
        self.plain.insert(clients, measured);
        Ok(measured)
    }

    async fn append(&mut self, name: &'static str, callers: usize, clients: u32) -> Result<Row> {
        let plain = self.plain(clients).await?;
        let rate =
            append::rate(&self.written.store, callers, self.cli.seconds.into(), &self.payload)
                .await?;
        if callers == 64 {
            self.appended = Some(rate);
        }
        let against = format!(
            "pgbench, plain inserts, {clients} clients (latency {:.2} ms)",
            plain.latency_ms
        );
        Ok(Row::new(name, "events/s", rate, against, plain.rate))
    }

    async fn post_orders(&mut self, name: &'static str) -> Result<Row> {
        let plain = self.plain(64).await?;
        let address = self.serve(command_api::router(self.written.command_api())).await?;
        let rate = http::order_rate(address, 64, self.cli.seconds.into()).await?;
        Ok(Row::new(name, "orders/s", rate, "pgbench, plain inserts, 64 clients", plain.rate))
    }

    async fn visibility(&mut self, name: &'static str) -> Result<(Row, Row)> {
        let (median, tail) = if let Some(known) = self.visible {
            known
        } else {
            let pipeline = flow::Pipeline::start(&self.followed.store, &self.nats);
            flow::settled(&self.followed.owner, self.followed.store.head().await?).await?;
            let router = command_api::router(self.followed.command_api());
            let command = self.serve(router).await?;
            let query = self.serve(query_api::router(self.query_api().await?)).await?;
            let measured = flow::visible(command, query, VISIBLE_COUNT).await?;
            pipeline.stop().await;
            measured
        };
        self.visible = Some((median, tail));
        let against = "the limit of 25 ms (smaller is better)";
        let row = |value| Row::new(name, "ms", value, against, VISIBLE_MS);
        Ok((row(median), row(tail)))
    }

    async fn live(&mut self, name: &'static str) -> Result<Row> {
        let reference = match self.appended {
            Some(known) => known,
            None => self.append("append_64", 64, 64).await?.value,
        };
        let pipeline = flow::Pipeline::start(&self.followed.store, &self.nats);
        flow::settled(&self.followed.owner, self.followed.store.head().await?).await?;
        let rate = flow::live_rate(&self.followed.store, self.cli.live_orders).await?;
        pipeline.stop().await;
        Ok(Row::new(name, "events/s", rate, "append_64 of this run", reference))
    }

    async fn rebuild(&mut self, name: &'static str) -> Result<Row> {
        flow::append_orders(&self.followed.store, self.cli.rebuild_orders).await?;
        let pipeline = flow::Pipeline::start(&self.followed.store, &self.nats);
        let head = self.followed.store.head().await?;
        flow::settled(&self.followed.owner, head).await?;
        pipeline.stop().await;
        let rate = rebuild::rate(&self.followed.store).await?;
        let (how, reference) = rebuild::sql_rate(&self.followed.owner, head).await?;
        Ok(Row::new(name, "events/s", rate, format!("one SQL {how}, with its key"), reference))
    }

    async fn query_api(&self) -> Result<query_api::Config> {
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::query("set role waybill_read").execute(connection).await?;
                    Ok(())
                })
            })
            .connect(&self.followed.url)
            .await?;
        let cursor_secret = "bench".to_owned();
        let vault = self.followed.vault.clone();
        let (ids, operator_token) = (Ids::system(), None);
        Ok(query_api::Config { pool, vault, ids, cursor_secret, operator_token })
    }

    /// Serves a router for as long as the benchmark runs.
    async fn serve(&mut self, router: axum::Router) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let drain = self.drain.clone();
        self.tasks.spawn(async move {
            if let Err(error) = web::serve(listener, router, drain).await {
                tracing::error!("the API stopped: {error}");
            }
        });
        Ok(address)
    }
}
