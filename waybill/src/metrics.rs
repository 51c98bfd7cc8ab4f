//! The numbers of this process, at `GET /metrics`.
//!
//! A role says what it runs ([`Metrics::of_store`] and so on); whoever asks for the numbers has
//! these looked at first. The recorder behind the `metrics` macros is one per process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use event_store::{FeedHandle, Store, describe_metrics, observe_pool, observe_relay};
use metrics::{Unit, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use projections::{saga_view, stock_level};
use schemas::Position;
use sqlx::PgPool;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::debug;
use web::Gate;

use crate::supervisor::{Stage, Supervisor};
use crate::telemetry;

/// The longest look at everything; then the numbers are told as they are.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// The shortest time between two looks: whoever asks more often is told the same again.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(500);
/// How often samples of histograms are summed up while nobody asks.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

const BUILD_INFO: &str = "waybill_build_info";
const LOG_REACHABLE: &str = "waybill_log_reachable_flag";

/// The shortest time between two looks at all of the stock.
const STOCK_EVERY_MIN: Duration = Duration::from_secs(15);

const STOCK: &str = "inventory_levels";
const SESSIONS: &str = "active_user_sessions";
const SAGAS_PARKED: &str = "waybill_sagas_parked";

/// The reasons that were told of: they go on being told of when nothing is parked any more.
static TOLD: std::sync::Mutex<BTreeSet<String>> = std::sync::Mutex::new(BTreeSet::new());

/// What the `metrics` macros write to; there can be one.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// The numbers of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Sources>);

/// What is looked at when somebody asks.
#[derive(Debug)]
struct Sources {
    recorder: PrometheusHandle,
    store: OnceLock<Store>,
    feed: OnceLock<FeedHandle>,
    relay: OnceLock<watch::Receiver<Option<Position>>>,
    readers: OnceLock<PgPool>,
    gate: OnceLock<Gate>,
    /// When the stock was last looked at.
    counted: Mutex<Option<Instant>>,
    sagas: OnceLock<PgPool>,
    looked: Mutex<Option<Instant>>,
}

impl Metrics {
    /// Starts counting, and the task that keeps the counts small; and spans, where they are wanted.
    pub(crate) fn start(supervisor: &mut Supervisor) -> anyhow::Result<Self> {
        telemetry::trace(supervisor)?;
        let recorder = if let Some(recorder) = RECORDER.get() {
            recorder.clone()
        } else {
            let mut builder = PrometheusBuilder::new();
            for (name, buckets) in [
                (web::REQUEST_SECONDS, web::REQUEST_SECONDS_BUCKETS),
                (adapters::PAYMENT_SECONDS, adapters::PAYMENT_SECONDS_BUCKETS),
                (command_api::ORDER_VALUE, command_api::ORDER_VALUE_BUCKETS),
            ] {
                let named = Matcher::Full(name.to_owned());
                builder = builder.set_buckets_for_metric(named, buckets)?;
            }
            let recorder = builder.install_recorder().context("cannot start counting")?;
            RECORDER.get_or_init(|| recorder).clone()
        };
        describe_metrics();
        web::describe_metrics();
        command_api::describe_metrics();
        adapters::describe_metrics();
        projections::describe_metrics();
        saga::describe_metrics();
        telemetry::describe_metrics();
        describe_gauge!(BUILD_INFO, "Which release this is; always 1");
        describe_gauge!(LOG_REACHABLE, "Whether the log could be read just now: 1 or 0");
        describe_gauge!(STOCK, Unit::Count, "Units of all skus together");
        describe_gauge!(SESSIONS, Unit::Count, "Tokens of customers that are in use");
        describe_gauge!(SAGAS_PARKED, Unit::Count, "Sagas that wait for a person");
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1);
        let upkeep = recorder.clone();
        supervisor.run(Stage::Support, "metrics", |drain| async move {
            let mut tick = interval(UPKEEP_EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while drain.run_until_cancelled(tick.tick()).await.is_some() {
                upkeep.run_upkeep();
            }
            Ok(())
        });
        Ok(Self(Arc::new(Sources {
            recorder,
            store: OnceLock::new(),
            feed: OnceLock::new(),
            relay: OnceLock::new(),
            readers: OnceLock::new(),
            gate: OnceLock::new(),
            counted: Mutex::new(None),
            sagas: OnceLock::new(),
            looked: Mutex::new(None),
        })))
    }

    /// The log that this process works on.
    pub(crate) fn of_store(&self, store: &Store) {
        let _ = self.0.store.set(store.clone());
    }

    /// The feed that this process follows.
    pub(crate) fn of_feed(&self, feed: &FeedHandle) {
        let _ = self.0.feed.set(feed.clone());
    }

    /// How far the relay of this process has come.
    pub(crate) fn of_relay(&self, published: watch::Receiver<Option<Position>>) {
        let _ = self.0.relay.set(published);
    }

    /// The connections of the query API.
    pub(crate) fn of_readers(&self, pool: &PgPool) {
        let _ = self.0.readers.set(pool.clone());
    }

    /// Who passes into the APIs of this process.
    pub(crate) fn of_gate(&self, gate: &Gate) {
        let _ = self.0.gate.set(gate.clone());
    }

    /// Where the sagas of this process can be looked up.
    pub(crate) fn of_sagas(&self, pool: &PgPool) {
        let _ = self.0.sagas.set(pool.clone());
    }

    /// Adds `GET /metrics` to a router.
    pub(crate) fn route(&self, router: Router) -> Router {
        let metrics = self.clone();
        web::with_metrics(router, move || {
            let metrics = metrics.clone();
            async move { metrics.render().await }
        })
    }

    async fn render(&self) -> String {
        if timeout(LOOK_MAX, self.look()).await.is_err() {
            gauge!(LOG_REACHABLE).set(0);
        }
        self.0.recorder.render()
    }

    /// Looks at everything, unless somebody just has.
    async fn look(&self) {
        let sources = &*self.0;
        let mut looked = sources.looked.lock().await;
        if looked.is_some_and(|at| at.elapsed() < LOOK_EVERY_MIN) {
            return;
        }
        if let Some(feed) = sources.feed.get() {
            feed.observe();
        }
        if let Some(pool) = sources.readers.get() {
            observe_pool("query", pool);
            self.count_stock(pool).await;
        }
        if let Some(gate) = sources.gate.get() {
            #[expect(clippy::cast_precision_loss, reason = "some thousands at most")]
            gauge!(SESSIONS).set(gate.sessions() as f64);
        }
        if let Some(store) = sources.store.get() {
            let head = store.observe().await;
            gauge!(LOG_REACHABLE).set(u32::from(head.is_ok()));
            match head {
                Ok(head) => {
                    if let Some(published) = sources.relay.get() {
                        observe_relay(published, head);
                    }
                }
                Err(error) => debug!(%error, "the log cannot be looked at"),
            }
        }
        if let Some(pool) = sources.sagas.get() {
            match saga_view::parked(pool).await {
                Ok(parked) => tell_parked(&parked),
                Err(error) => debug!(%error, "the sagas cannot be looked at"),
            }
        }
        *looked = Some(Instant::now());
    }
}

impl Metrics {
    /// Sums up the stock, unless somebody just has: that reads all of the table.
    async fn count_stock(&self, pool: &PgPool) {
        let mut counted = self.0.counted.lock().await;
        if counted.is_some_and(|at| at.elapsed() < STOCK_EVERY_MIN) {
            return;
        }
        match stock_level::levels(pool).await {
            Ok(levels) => {
                for (level, units) in levels {
                    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 units")]
                    gauge!(STOCK, "level" => level).set(units as f64);
                }
            }
            Err(error) => debug!(%error, "the stock cannot be looked at"),
        }
        *counted = Some(Instant::now());
    }
}

/// Tells of every reason that there is, and of those for which sagas are parked.
fn tell_parked(parked: &[(String, i64)]) {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.extend(saga::park_reasons().into_iter().map(str::to_owned));
    told.extend(parked.iter().map(|(reason, _)| reason.clone()));
    counts.extend(told.iter().map(|reason| (reason.clone(), 0)));
    counts.extend(parked.iter().cloned());
    for (reason, count) in counts {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 sagas are parked")]
        gauge!(SAGAS_PARKED, "reason" => reason).set(count as f64);
    }
}
