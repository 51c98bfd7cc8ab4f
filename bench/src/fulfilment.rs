//! Whole fulfilments: from the order to its end, through every role, the sandbox provider and
//! carrier, and a warehouse that packs and hands over at once.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use schemas::{FulfilmentId, Ids, OrderId, Position};
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;
use waybill::embedded::Servers;

use crate::http::{self, Connection};

/// Orders that are on their way at the same time.
const IN_FLIGHT: usize = 64;
/// Skus that they are spread over.
const SKUS: usize = 200;
/// People in the warehouse.
const PACKERS: usize = 16;
/// How often they look what there is to do.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long the platform runs before its rate is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// `waybill up` in a process of its own, on the servers of the benchmark.
pub(crate) struct Platform {
    process: Child,
    desk: Desk,
    database: PgPool,
    folder: PathBuf,
}

/// Where commands are taken, and who brings them.
#[derive(Debug, Clone)]
struct Desk {
    address: SocketAddr,
    authorization: String,
}

impl Desk {
    fn post(&self, path: &str, body: &str) -> Vec<u8> {
        let key = Ids::system().next().to_string();
        http::post_as(&self.authorization, path, &key, body)
    }
}

/// What came of a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// Orders that came to an end, a second.
    pub(crate) rate: f64,
    /// Events in the log for each of them.
    pub(crate) events_each: f64,
}

impl Platform {
    /// # Errors
    /// Where it does not start.
    pub(crate) async fn start(servers: &Servers, folder: &Path) -> Result<Self> {
        let folder = folder.join("fulfilled");
        std::fs::create_dir_all(&folder)?;
        let owner_url = servers.postgres.database("fulfilled").await?;
        let any = "127.0.0.1:0";
        let process = Command::new(std::env::current_exe()?)
            .args(["up", "--log-name", "fulfilled", "--data-dir"])
            .arg(&folder)
            .args(["--owner-url", &owner_url])
            .args(["--database-url", &servers.postgres.serving_url("fulfilled")])
            .args(["--nats-url", &servers.nats.url()])
            .args(["--command-addr", any, "--query-addr", any])
            .args(["--payment-addr", any, "--carrier-addr", any])
            .args(["--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let desk = timeout(PATIENCE, listening(&folder)).await.context("it does not start")??;
        // By index, whatever the statistics of tables say that are as young.
        let options = owner_url.parse::<PgConnectOptions>()?.options([("enable_seqscan", "off")]);
        let database = PgPool::connect_with(options).await?;
        let platform = Self { process, desk, database, folder };
        platform.stock().await?;
        Ok(platform)
    }

    /// Fills the warehouse.
    async fn stock(&self) -> Result<()> {
        let mut connection = Connection::open(self.desk.address).await?;
        for sku in 0..SKUS {
            for kind in ["mug", "tea"] {
                let path = format!("/v1/stock/{kind}-{sku}/receive");
                let request = self.desk.post(&path, r#"{"quantity":999999}"#);
                let answer = connection.ask(&request).await?;
                ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
            }
        }
        Ok(())
    }

    /// How many orders come to an end while [`IN_FLIGHT`] of them are on their way, for so many
    /// seconds; one in `failing_every` is declined and gives everything back, if that is not 0.
    ///
    /// # Errors
    /// The first answer that is not as it should be.
    pub(crate) async fn rate(&self, seconds: u64, failing_every: usize) -> Result<Ended> {
        let ends = Arc::new(Ends::default());
        let mut tasks = JoinSet::new();
        let (database, seen) = (self.database.clone(), Arc::clone(&ends));
        let desk = self.desk.clone();
        let from = head(&database).await?;
        tasks.spawn(async move { follow(&database, desk, from, &seen).await });
        for number in 0..IN_FLIGHT {
            let (ends, desk) = (Arc::clone(&ends), self.desk.clone());
            tasks.spawn(async move { place(&desk, number, failing_every, &ends).await });
        }
        let measured = async {
            sleep(WARM_UP).await;
            let (started, events, ended) =
                (Instant::now(), head(&self.database).await?, ends.count.load(Ordering::Relaxed));
            sleep(Duration::from_secs(seconds)).await;
            let took = started.elapsed().as_secs_f64();
            let ended = ends.count.load(Ordering::Relaxed) - ended;
            let events = head(&self.database).await? - events;
            ensure!(ended > 0, "no order came to an end: see {}", self.folder.display());
            #[expect(clippy::cast_precision_loss, reason = "rates for people")]
            let (ended, events) = (ended as f64, events as f64);
            Ok(Ended { rate: ended / took, events_each: events / ended })
        };
        tokio::select! {
            measured = measured => measured,
            Some(failed) = tasks.join_next() => Err(failed?.err().context("it stopped by itself")?),
        }
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        self.database.close().await;
        self.process.kill().await?;
        Ok(())
    }
}

/// Where the command API listens, as soon as it does, and whom it believes.
async fn listening(folder: &Path) -> Result<Desk> {
    loop {
        if let Ok(text) = std::fs::read_to_string(folder.join("endpoints.json")) {
            let endpoints: Value = serde_json::from_str(&text)?;
            let url = endpoints["command_url"].as_str().context("no command_url")?;
            let token = endpoints["token"].as_str().context("no token")?;
            let address = url.trim_start_matches("http://").parse()?;
            return Ok(Desk { address, authorization: http::bearer(token) });
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn head(database: &PgPool) -> Result<Position> {
    let head = sqlx::query_scalar("select coalesce(max(position), 0) from events");
    Ok(head.fetch_one(database).await?)
}

/// Orders that have come to an end, and who waits for that.
#[derive(Debug, Default)]
struct Ends {
    count: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Ended before anybody asked.
    early: HashSet<Uuid>,
    waiting: HashMap<Uuid, oneshot::Sender<()>>,
}

impl Ends {
    fn ended(&self, order: Uuid) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.waiting.remove(&order) {
            Some(waiting) => drop(waiting.send(())),
            None => drop(known.early.insert(order)),
        }
    }

    async fn wait_for(&self, order: Uuid) -> Result<()> {
        let ended = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.early.remove(&order) {
                return Ok(());
            }
            let (tell, ended) = oneshot::channel();
            known.waiting.insert(order, tell);
            ended
        };
        timeout(PATIENCE, ended).await.with_context(|| format!("{order} does not end"))??;
        Ok(())
    }
}

/// Places an order whenever the one before has ended.
async fn place(desk: &Desk, number: usize, failing_every: usize, ends: &Ends) -> Result<()> {
    let mut connection = Connection::open(desk.address).await?;
    for count in 0.. {
        let turn = number + count * IN_FLIGHT;
        let sku = turn % SKUS;
        let order = http::ORDER
            .replace("mug-blue", &format!("mug-{sku}"))
            .replace("tea-green", &format!("tea-{sku}"));
        let fails = failing_every > 0 && turn.is_multiple_of(failing_every);
        let card = if fails { "pm_card_chargeDeclinedLostCard" } else { "pm_card_visa" };
        let order = order.replace("pm_card_visa", card);
        let answer = connection.ask(&desk.post("/v1/orders", &order)).await?;
        ensure!(answer.status == 201, "{}", String::from_utf8_lossy(&answer.body));
        let placed: Value = serde_json::from_slice(&answer.body)?;
        let id: OrderId = placed["id"].as_str().context("no id")?.parse()?;
        ends.wait_for(id.uuid()).await?;
    }
    Ok(())
}

/// Reads the log as a warehouse would: has packed what is to be packed, has handed over what may
/// go, and notes which orders have ended.
async fn follow(
    database: &PgPool,
    warehouse: Desk,
    mut after: Position,
    ends: &Ends,
) -> Result<()> {
    let mut packers = JoinSet::new();
    let mut desks = Vec::new();
    for _ in 0..PACKERS {
        let (desk, mut work) = mpsc::unbounded_channel::<String>();
        desks.push(desk);
        let warehouse = warehouse.clone();
        packers.spawn(async move {
            let mut connection = Connection::open(warehouse.address).await?;
            while let Some(path) = work.recv().await {
                let answer = connection.ask(&warehouse.post(&path, "{}")).await?;
                ensure!(answer.status == 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
            }
            Ok(())
        });
    }
    for desk in (0..PACKERS).cycle() {
        // Both ends are named, so that no more is read than is new.
        let until = head(database).await?;
        let found: Vec<(String, Uuid)> = sqlx::query_as(
            "select event_type, stream_id from events
             where position > $1 and position <= $2 and event_type = any('{
                 shipping.created.v1, shipping.released.v1,
                 order.completed.v1, order.rejected.v1, order.cancelled.v1}')
             order by position",
        )
        .bind(after)
        .bind(until)
        .fetch_all(database)
        .await?;
        after = until;
        for (number, (event_type, stream)) in found.into_iter().enumerate() {
            let act = match event_type.as_str() {
                "shipping.created.v1" => "pack",
                "shipping.released.v1" => "hand-over",
                _ => {
                    ends.ended(stream);
                    continue;
                }
            };
            let path = format!("/v1/fulfilment-orders/{}/{act}", FulfilmentId::new(stream));
            desks[(desk + number) % PACKERS].send(path)?;
        }
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            Some(ended) = packers.join_next() => return ended?,
        }
    }
    Ok(())
}
