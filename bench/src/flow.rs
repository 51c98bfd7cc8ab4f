//! From the append to the read model: relay, JetStream, feed, and every projection.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use event_store::{Append, Feed, Meta, Relay, Store, Write};
use schemas::{
    Category, Chance, Clock, CommandId, Encoded, Event as _, Ids, Money, Personal, StreamId,
};
use schemas::{CustomerId, order};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::http::{self, Connection};

/// Orders appended at once while the live rate is measured.
const LIVE_CALLERS: usize = 256;
/// How long the address of [`http::ORDER`] is when it is sealed, in bytes.
const SEALED_BYTES: usize = 145;
/// How long a measurement waits for the read models.
const PATIENCE: Duration = Duration::from_mins(2);

/// Relay, feed and every projection, until dropped.
pub(crate) struct Pipeline {
    drain: CancellationToken,
    tasks: JoinSet<()>,
}

impl Pipeline {
    pub(crate) fn start(store: &Store, nats: &async_nats::Client) -> Self {
        let drain = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let relay = Relay::new(store.clone(), nats.clone()).run(drain.clone());
        tasks.spawn(async move {
            if let Err(error) = relay.await {
                tracing::error!("the relay stopped: {error}");
            }
        });
        let (feed, handle) = Feed::new(store.clone(), nats.clone());
        tasks.spawn(feed.run(drain.clone()));
        let (clock, chance) = (Clock::system(), Chance::system());
        let running = projections::run_all(store.clone(), handle, clock, chance, drain.clone());
        tasks.spawn(running);
        Self { drain, tasks }
    }

    pub(crate) async fn stop(mut self) {
        self.drain.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The life of one order that is paid for and sent, as its stream has it.
fn life(customer: CustomerId) -> Result<Vec<Encoded>> {
    let body: serde_json::Value = serde_json::from_str(http::ORDER)?;
    let lines: Vec<order::Line> = serde_json::from_value(body["lines"].clone())?;
    let total = Money::new(3390, schemas::Currency::EUR);
    let now = Clock::system().now();
    let events = [
        order::Event::Placed {
            customer,
            lines,
            total,
            // Nobody opens it here: as many bytes as a vault would make of it.
            shipping_address: Personal::sealed(customer, &[7; SEALED_BYTES]),
            payment_method: "pm_card_visa".parse()?,
            placed_at: now,
        },
        order::Event::Confirmed,
        order::Event::PaymentRecorded { captured: total },
        order::Event::Completed,
    ];
    Ok(events.iter().map(order::Event::encode).collect::<Result<_, _>>()?)
}

/// Appends `orders` orders of four events each, `LIVE_CALLERS` at a time.
///
/// # Errors
/// The first append that fails.
pub(crate) async fn append_orders(store: &Store, orders: usize) -> Result<usize> {
    let mut tasks = JoinSet::new();
    let events = life(CustomerId::new(Ids::system().next()))?;
    for caller in 0..LIVE_CALLERS {
        let (store, events) = (store.clone(), events.clone());
        let share = orders / LIVE_CALLERS + usize::from(caller < orders % LIVE_CALLERS);
        tasks.spawn(async move {
            for _ in 0..share {
                let stream = StreamId::new(Category::Order, Ids::system().next());
                for (expected, event) in (0..).zip(&events) {
                    let command = Ids::system().next();
                    let meta = Meta {
                        command_id: CommandId::new(command),
                        request_hash: [7; 32],
                        correlation_id: stream.id,
                        causation_id: command,
                        occurred_at: Clock::system().now(),
                        actor: "bench".to_owned(),
                        traceparent: None,
                        expected: None,
                        keep_refusal: false,
                    };
                    let writes = vec![Write { stream, expected, events: vec![event.clone()] }];
                    let answers = (stream, expected + 1);
                    store.append(Append { meta, writes, answers, refused: None }).await?;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(orders * events.len())
}

/// Waits until every projection has passed `position`.
///
/// # Errors
/// Where they do not within [`PATIENCE`].
pub(crate) async fn settled(pool: &PgPool, position: i64) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut look = interval(Duration::from_millis(20));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < end {
        look.tick().await;
        let all = projections::list(pool).await?;
        if all.iter().all(|one| one.position >= position) {
            return Ok(());
        }
    }
    anyhow::bail!("the projections did not reach {position} within {} s", PATIENCE.as_secs())
}

/// Events a second from the first append until every projection has the last one.
///
/// # Errors
/// Where an append fails or a projection does not get there.
pub(crate) async fn live_rate(store: &Store, orders: usize) -> Result<f64> {
    let started = Instant::now();
    let events = append_orders(store, orders).await?;
    settled(store.pool(), store.head().await?).await?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    Ok(events as f64 / started.elapsed().as_secs_f64())
}

/// Milliseconds from the 201 of an order until the query API shows it, on an idle system, for each
/// of `count` orders.
///
/// # Errors
/// The first answer that is not as it should be.
pub(crate) async fn visible(
    command: SocketAddr,
    query: SocketAddr,
    count: usize,
) -> Result<Vec<f64>> {
    let (mut writes, mut reads) =
        (Connection::open(command).await?, Connection::open(query).await?);
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let key = Ids::system().next().to_string();
        let placed = writes.ask(&http::post("/v1/orders", &key, http::ORDER)).await?;
        ensure!(placed.status == 201, "{}", String::from_utf8_lossy(&placed.body));
        let started = Instant::now();
        let location = placed.header("location").context("no Location")?;
        let position = placed.header("commit-position").context("no Commit-Position")?;
        let seen = reads.ask(&http::get_after(location, position)).await?;
        ensure!(seen.status == 200, "{}", String::from_utf8_lossy(&seen.body));
        took.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(took)
}
