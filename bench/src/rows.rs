//! What each row measures, and against what.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use query_api::StreamLimits;
use schemas::Ids;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use waybill::embedded::Servers;

use crate::log::Log;
use crate::report::{Row, Turns};
use crate::{
    Cli, access, append, contention, flow, fulfilment, http, large, memory, naive, pgbench,
    queries, reading, rebuild, relaying,
};

/// Orders placed one after the other in a turn to see how soon they are visible.
const VISIBLE_COUNT: usize = 100;
/// Connections of the query API to Postgres, and of what it is measured against.
const QUERY_CONNECTIONS: u32 = 24;
/// Orders in the short list that a long one is measured against.
const LIST_SHORT: i64 = 10_000;

/// One order in so many is declined where some are to fail.
const FAILING_EVERY: usize = 10;

/// How often a row and its reference are measured in turn.
const TURNS: u32 = 4;

/// The components, and the references measured so far.
pub(crate) struct Bench<'a> {
    cli: &'a Cli,
    servers: &'a Servers,
    folder: &'a Path,
    nats: async_nats::Client,
    /// Written to as fast as can be; nobody follows it.
    written: Log,
    /// Holds whole orders and nothing else; every projection follows it.
    followed: Log,
    payload: String,
    appended: Option<f64>,
    visible: Option<(f64, f64, f64)>,
    fulfilled: Option<(Row, Row)>,
    drain: CancellationToken,
    tasks: JoinSet<()>,
}

impl<'a> Bench<'a> {
    pub(crate) async fn start(
        cli: &'a Cli,
        servers: &'a Servers,
        folder: &'a Path,
    ) -> Result<Self> {
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
            servers,
            folder,
            nats,
            written,
            followed,
            payload: http::ORDER.to_owned(),
            appended: None,
            visible: None,
            fulfilled: None,
            drain,
            tasks,
        })
    }

    pub(crate) async fn stop(mut self) {
        self.drain.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    pub(crate) async fn row(&mut self, name: &'static str) -> Result<Row> {
        match name {
            "append_1_latency" => self.latency(name).await,
            "append_16" => self.append(name, 16, 16).await,
            "append_64" => self.append(name, 64, 64).await,
            "append_1024" => self.append(name, 1024, 64).await,
            "append_batch_100" => self.batches(name).await,
            "post_orders_64_naive" => self.post_orders(name).await,
            "post_orders_secured" => self.post_orders_secured(name).await,
            "hot_sku" => self.hot_sku(name).await,
            "visible_p50" => Ok(self.visibility(name).await?.0),
            "visible_p99" => Ok(self.visibility(name).await?.1),
            "live_projections" => self.live(name).await,
            "rebuild_order_summary" => self.rebuild(name).await,
            "scan" => self.scan(name).await,
            "load_long_stream" => self.load_long_stream(name).await,
            "append_at_10m" => self.large(name).await,
            "relay_publish" => self.relay(name).await,
            "get_order_64" => self.get_order(name).await,
            "list_at_10m" => self.list(name).await,
            "fulfilments" | "fulfilments_failing" => {
                let (all_well, some_fail) = self.fulfilments().await?;
                Ok(if name == "fulfilments" { all_well } else { some_fail })
            }
            _ => self.memory(name).await,
        }
    }

    /// How long one of [`TURNS`] takes.
    fn turn_s(&self) -> u32 {
        (self.cli.seconds / TURNS).max(1)
    }

    /// The raw limit at so many clients.
    async fn plain(&self, clients: u32) -> Result<pgbench::Plain> {
        let (Log { owner, url, .. }, seconds) = (&self.written, self.turn_s());
        pgbench::plain_inserts(owner, url, self.folder, &self.payload, clients, seconds).await
    }

    async fn append(&mut self, name: &'static str, callers: usize, clients: u32) -> Result<Row> {
        let mut turns = Turns::default();
        for _ in 0..TURNS {
            let plain = self.plain(clients).await?;
            let (store, seconds) = (&self.written.store, self.turn_s().into());
            turns.add(append::rate(store, callers, seconds, &self.payload).await?, plain.rate);
        }
        let against = format!("pgbench, plain inserts, {clients} clients");
        let row = turns.row(name, "events/s", &against);
        if callers == 64 {
            self.appended = Some(row.value);
        }
        Ok(row)
    }

    async fn latency(&self, name: &'static str) -> Result<Row> {
        let mut turns = Turns::default();
        for _ in 0..TURNS {
            let plain = self.plain(1).await?;
            let (store, seconds) = (&self.written.store, self.turn_s().into());
            let rate = append::rate(store, 1, seconds, &self.payload).await?;
            turns.add(1000.0 / rate, plain.latency_ms);
        }
        Ok(turns.row(name, "ms", "pgbench, plain inserts, 1 client (smaller is better)"))
    }

    async fn batches(&self, name: &'static str) -> Result<Row> {
        self.plain(1).await?; // Makes the table.
        let (Log { owner, store, .. }, seconds) = (&self.written, self.turn_s().into());
        let mut turns = Turns::default();
        for _ in 0..TURNS {
            let plain = append::unnest_rate(owner, seconds, &self.payload).await?;
            turns.add(append::batch_rate(store, seconds, &self.payload).await?, plain);
        }
        Ok(turns.row(name, "events/s", "insert … select unnest of 100 rows, 1 connection"))
    }

    async fn post_orders(&mut self, name: &'static str) -> Result<Row> {
        self.plain(1).await?; // Makes the table.
        let naive = self.serve(naive::router(&self.written.url).await?).await?;
        let address = self.serve(command_api::router(self.written.command_api())).await?;
        let seconds = self.turn_s().into();
        let mut turns = Turns::default();
        for _ in 0..TURNS {
            let plain = http::order_rate(naive, 64, seconds, None).await?;
            turns.add(http::order_rate(address, 64, seconds, None).await?, plain);
        }
        Ok(turns.row(name, "orders/s", "an axum handler that does one plain insert, pool of 32"))
    }

    /// The same route behind its gate: a token with a signature, a scope, and a rate.
    async fn post_orders_secured(&mut self, name: &'static str) -> Result<Row> {
        let open = self.serve(command_api::router(self.written.command_api())).await?;
        let (gate, token) = access::gate()?;
        let secured = command_api::Config { gate, ..self.written.command_api() };
        let secured = self.serve(command_api::router(secured)).await?;
        let seconds = self.turn_s().into();
        let mut turns = Turns::default();
        for _ in 0..TURNS {
            let plain = http::order_rate(open, 64, seconds, None).await?;
            turns.add(http::order_rate(secured, 64, seconds, Some(&token)).await?, plain);
        }
        Ok(turns.row(name, "orders/s", "the same route with the gate off"))
    }

    async fn hot_sku(&self, name: &'static str) -> Result<Row> {
        let (store, seconds) = (&self.written.store, self.turn_s().into());
        let mut turns = Turns::default();
        for _ in 0..TURNS {
            let spread = contention::rate(store, contention::SKUS, seconds).await?;
            turns.add(contention::rate(store, 1, seconds).await?, spread);
        }
        Ok(turns.row(name, "reservations/s", "the same spread over 10,000 skus"))
    }

    /// Sees to it that the followed log holds at least as many orders as the rebuild is for.
    async fn fill_followed(&self) -> Result<()> {
        let events = i64::try_from(self.cli.rebuild_orders * 4)?;
        if self.followed.store.head().await? < events {
            flow::append_orders(&self.followed.store, self.cli.rebuild_orders).await?;
        }
        Ok(())
    }

    async fn scan(&self, name: &'static str) -> Result<Row> {
        self.fill_followed().await?;
        let mut turns = Turns::default();
        for _ in 0..TURNS {
            let plain = reading::copy_rate(&self.followed.owner).await?;
            turns.add(reading::scan_rate(&self.followed.store).await?, plain);
        }
        Ok(turns.row(name, "events/s", "COPY … TO STDOUT of the same rows, as text"))
    }

    async fn load_long_stream(&self, name: &'static str) -> Result<Row> {
        let turns = reading::load_times(&self.written).await?;
        Ok(turns.row(name, "us", "a stream of 10 events (smaller is better)"))
    }

    async fn large(&mut self, name: &'static str) -> Result<Row> {
        let seconds = self.turn_s().into();
        let mut logs = Vec::new();
        for (log, events) in [("small", large::SMALL), ("large", self.cli.large_events)] {
            let (tasks, drain) = (&mut self.tasks, &self.drain);
            let log = Log::open(self.servers, log, &self.nats, tasks, drain).await?;
            large::fill(&log.owner, events).await?;
            logs.push(log.store);
        }
        let mut turns = Turns::default();
        for _ in 0..TURNS {
            let small = append::rate(&logs[0], 64, seconds, large::PAYLOAD).await?;
            let large = append::rate(&logs[1], 64, seconds, large::PAYLOAD).await?;
            turns.add(1e6 / large, 1e6 / small);
        }
        Ok(turns.row(name, "us/event", "the same at 100 thousand (smaller is better)"))
    }

    async fn memory(&mut self, name: &'static str) -> Result<Row> {
        let peak_mb = memory::peak_mb(&self.written.store, self.cli.memory_streams).await?;
        let against = "the limit of 200 MB (smaller is better)";
        Ok(Row::new(name, "MB", peak_mb, against, memory::LIMIT_MB))
    }

    /// How soon orders are visible, each beside the time of one durable append.
    async fn visibility(&mut self, name: &'static str) -> Result<(Row, Row)> {
        let (median, tail, append) = match self.visible {
            Some(known) => known,
            None => self.measure_visibility().await?,
        };
        self.visible = Some((median, tail, append));
        let against = "one append, one caller (smaller is better)";
        let row = |value| Row::new(name, "ms", value, against, append);
        Ok((row(median), row(tail)))
    }

    async fn measure_visibility(&mut self) -> Result<(f64, f64, f64)> {
        let command = self.serve(command_api::router(self.followed.command_api())).await?;
        let query = self.serve(query_api::router(query_api(&self.followed)?)).await?;
        let (mut took, mut turns) = (Vec::new(), Turns::default());
        for _ in 0..TURNS {
            let (store, seconds) = (&self.written.store, self.turn_s().into());
            let append_ms = 1000.0 / append::rate(store, 1, seconds, &self.payload).await?;
            let pipeline = flow::Pipeline::start(&self.followed.store, &self.nats);
            flow::settled(&self.followed.owner, self.followed.store.head().await?).await?;
            took.extend(flow::visible(command, query, VISIBLE_COUNT).await?);
            pipeline.stop().await;
            turns.add(0.0, append_ms);
        }
        took.sort_by(f64::total_cmp);
        let append_ms = turns.row("append", "ms", "").reference;
        Ok((took[took.len() / 2], took[took.len() * 99 / 100], append_ms))
    }

    async fn relay(&mut self, name: &'static str) -> Result<Row> {
        let (tasks, drain) = (&mut self.tasks, &self.drain);
        let log = Log::open(self.servers, "relayed", &self.nats, tasks, drain).await?;
        let turns = relaying::rates(&log, &self.nats, TURNS).await?;
        Ok(turns.row(name, "events/s", "async-nats, the same messages, as many waiting"))
    }

    async fn get_order(&mut self, name: &'static str) -> Result<Row> {
        let command = self.serve(command_api::router(self.followed.command_api())).await?;
        let pipeline = flow::Pipeline::start(&self.followed.store, &self.nats);
        let paths = queries::place(command).await?;
        flow::settled(&self.followed.owner, self.followed.store.head().await?).await?;
        pipeline.stop().await;
        let plain = queries::plain(&self.followed.url, QUERY_CONNECTIONS).await?;
        let plain = self.serve(plain).await?;
        let query = self.serve(query_api::router(query_api(&self.followed)?)).await?;
        let seconds = self.turn_s().into();
        let mut turns = Turns::default();
        for _ in 0..TURNS {
            let reference = queries::rate(plain, &paths, seconds).await?;
            turns.add(queries::rate(query, &paths, seconds).await?, reference);
        }
        Ok(turns.row(name, "orders/s", "an axum handler that does one select by primary key"))
    }

    async fn list(&mut self, name: &'static str) -> Result<Row> {
        let mut lists = Vec::new();
        for (log, orders) in [("list_short", LIST_SHORT), ("list_long", self.cli.list_orders)] {
            let (tasks, drain) = (&mut self.tasks, &self.drain);
            let log = Log::open(self.servers, log, &self.nats, tasks, drain).await?;
            queries::fill(&log.owner, orders).await?;
            let address = self.serve(query_api::router(query_api(&log)?)).await?;
            lists.push((address, orders));
        }
        let mut turns = Turns::default();
        for turn in 0..TURNS {
            let short = queries::list_time(lists[0].0, lists[0].1, turn).await?;
            turns.add(queries::list_time(lists[1].0, lists[1].1, turn).await?, short);
        }
        Ok(turns.row(name, "us", "the same at 10 thousand orders (smaller is better)"))
    }

    /// Whole fulfilments, beside the rate at which their events could be appended; and the same with
    /// one order in ten declined, beside those.
    async fn fulfilments(&mut self) -> Result<(Row, Row)> {
        if let Some(known) = &self.fulfilled {
            return Ok(known.clone());
        }
        let appended = self.append_rate().await?;
        let platform = fulfilment::Platform::start(self.servers, self.folder).await?;
        let seconds = u64::from(self.turn_s()) * 2;
        let (mut well, mut failing) = (Turns::default(), Turns::default());
        for _ in 0..TURNS {
            let all_well = platform.rate(seconds, 0).await?;
            well.add(all_well.rate, appended / all_well.events_each);
            failing.add(platform.rate(seconds, FAILING_EVERY).await?.rate, all_well.rate);
        }
        platform.stop().await?;
        let against = "append_64 of this run, divided by the events of a fulfilment";
        let rows = (
            well.row("fulfilments", "orders/s", against),
            failing.row("fulfilments_failing", "orders/s", "fulfilments"),
        );
        Ok(self.fulfilled.insert(rows).clone())
    }

    /// The rate of `append_64` in this run.
    async fn append_rate(&mut self) -> Result<f64> {
        match self.appended {
            Some(known) => Ok(known),
            None => Ok(self.append("append_64", 64, 64).await?.value),
        }
    }

    async fn live(&mut self, name: &'static str) -> Result<Row> {
        let reference = self.append_rate().await?;
        let pipeline = flow::Pipeline::start(&self.followed.store, &self.nats);
        flow::settled(&self.followed.owner, self.followed.store.head().await?).await?;
        let rate = flow::live_rate(&self.followed.store, self.cli.live_orders).await?;
        pipeline.stop().await;
        Ok(Row::new(name, "events/s", rate, "append_64 of this run", reference))
    }

    async fn rebuild(&mut self, name: &'static str) -> Result<Row> {
        self.fill_followed().await?;
        let pipeline = flow::Pipeline::start(&self.followed.store, &self.nats);
        let head = self.followed.store.head().await?;
        flow::settled(&self.followed.owner, head).await?;
        pipeline.stop().await;
        let rate = rebuild::rate(&self.followed.store).await?;
        let (how, reference) = rebuild::sql_rate(&self.followed.owner, head).await?;
        Ok(Row::new(name, "events/s", rate, format!("one SQL {how}, with its key"), reference))
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

/// The query API over a log.
fn query_api(log: &Log) -> Result<query_api::Config> {
    let pool = query_api::pool(&log.url, QUERY_CONNECTIONS)?;
    // Nobody follows: what feeds event streams is not run.
    let (streams, _) = query_api::Streams::new(pool.clone(), StreamLimits::default());
    Ok(query_api::Config {
        pool,
        moves: log.store.moves().clone(),
        vault: log.vault.clone(),
        ids: Ids::system(),
        cursor_secret: "bench".to_owned(),
        gate: web::Gate::off(web::Caller::new("bench", None, &[])),
        streams,
    })
}
