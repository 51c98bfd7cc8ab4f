//! What a process tells about its log, its queues and its consumers, as numbers.
//!
//! What changes by itself is looked at when somebody asks ([`Store::observe`],
//! [`FeedHandle::observe`], [`observe_relay`]); what is done is counted where it is done. Names are
//! `waybill_<thing>_<unit>`; a queue, a cache or a pool has a second gauge for its bound, with
//! `_max` behind it.
//!
//! To add one more: 1. a constant with its name here and a line in [`describe`]; 2. a line in
//! one of the three, or a macro of `metrics` where it happens; 3. a line in `docs/running.md`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use schemas::Position;
use sqlx::PgPool;
use tokio::sync::watch;

use crate::{Error, FeedHandle, Health, Progress, Store, backlog, parked, positions};

const LOG_HEAD: &str = "waybill_log_head_position";
pub(crate) const LOG_AHEAD: &str = "waybill_log_partitions_ahead";
const CONSUMER_POSITION: &str = "waybill_consumer_position";
const CONSUMER_LAG_EVENTS: &str = "waybill_consumer_lag_events";
const CONSUMER_LAG_SECONDS: &str = "waybill_consumer_lag_seconds";
const CONSUMER_PARKED: &str = "waybill_consumer_parked_streams";
const CONSUMER_WORKERS: &str = "waybill_consumer_workers";
const CONSUMER_STUCK: &str = "waybill_consumer_stuck_workers";
const WORKER_LAG_EVENTS: &str = "waybill_consumer_worker_lag_events";
const WORKER_LAG_SECONDS: &str = "waybill_consumer_worker_lag_seconds";
const RELAY_LEADING: &str = "waybill_relay_leading_flag";
const RELAY_POSITION: &str = "waybill_relay_position";
const RELAY_LAG: &str = "waybill_relay_lag_events";
const FEED_POSITION: &str = "waybill_feed_position";
const FEED_TAILS: &str = "waybill_feed_live_tails";
const FEED_QUEUE: &str = "waybill_feed_queue_batches";
const FEED_QUEUE_MAX: &str = "waybill_feed_queue_batches_max";
const FEED_ARRIVALS: &str = "waybill_feed_arrivals_queue_batches";
const FEED_ARRIVALS_MAX: &str = "waybill_feed_arrivals_queue_batches_max";
const SNAPSHOT_QUEUE: &str = "waybill_snapshot_queue_states";
const SNAPSHOT_QUEUE_MAX: &str = "waybill_snapshot_queue_states_max";
pub(crate) const SNAPSHOTS_WRITTEN: &str = "waybill_snapshots_written_total";
pub(crate) const SNAPSHOTS_DROPPED: &str = "waybill_snapshots_dropped_total";
pub(crate) const SNAPSHOTS_USED: &str = "waybill_snapshots_used_total";
pub(crate) const SNAPSHOTS_UNREADABLE: &str = "waybill_snapshots_unreadable_total";
pub(crate) const REPLAYED: &str = "waybill_commands_replayed_total";
const VAULT_KEPT: &str = "waybill_vault_kept_subjects";
const VAULT_KEPT_MAX: &str = "waybill_vault_kept_subjects_max";
const APPEND_QUEUE: &str = "waybill_append_queue_commands";
const APPEND_QUEUE_MAX: &str = "waybill_append_queue_commands_max";
const APPEND_BYTES: &str = "waybill_append_queue_bytes";
const APPEND_BYTES_MAX: &str = "waybill_append_queue_bytes_max";
const APPEND_BATCH: &str = "waybill_append_batch_commands";
const APPEND_SECONDS: &str = "waybill_append_seconds";
const STATE_CACHE: &str = "waybill_state_cache_entries";
const STATE_CACHE_MAX: &str = "waybill_state_cache_entries_max";
const POOL_USED: &str = "waybill_pool_used_connections";
const POOL_USED_MAX: &str = "waybill_pool_used_connections_max";
const POOL_OPEN: &str = "waybill_pool_open_connections";

/// Says what every number of this crate means. Once per process, after its recorder is there.
pub fn describe() {
    describe_gauge!(LOG_HEAD, "Last position in the log");
    describe_gauge!(LOG_AHEAD, Unit::Count, "Partitions that are ready for what will be written");
    describe_gauge!(CONSUMER_POSITION, "Everything up to here is done or parked");
    describe_gauge!(CONSUMER_LAG_EVENTS, Unit::Count, "Events that the consumer has yet to take");
    describe_gauge!(CONSUMER_LAG_SECONDS, Unit::Seconds, "Age of the oldest event yet to take");
    describe_gauge!(CONSUMER_PARKED, Unit::Count, "Streams that wait for a person");
    describe_gauge!(CONSUMER_WORKERS, Unit::Count, "Workers that the consumer is spread over");
    describe_gauge!(
        CONSUMER_STUCK,
        Unit::Count,
        "Workers that have events to take and do not move"
    );
    describe_gauge!(WORKER_LAG_EVENTS, Unit::Count, "Events that one worker has yet to take");
    describe_gauge!(
        WORKER_LAG_SECONDS,
        Unit::Seconds,
        "Age of the oldest event it has yet to take"
    );
    describe_gauge!(RELAY_LEADING, "Whether this process publishes the log: 1 or 0");
    describe_gauge!(RELAY_POSITION, "Last position that was published; while this process leads");
    describe_gauge!(RELAY_LAG, Unit::Count, "Events yet to be published; while this process leads");
    describe_gauge!(FEED_POSITION, "Last position that the feed has handed on");
    describe_gauge!(FEED_TAILS, Unit::Count, "Consumers that keep up with the feed");
    describe_gauge!(FEED_QUEUE, Unit::Count, "Batches that wait for the slowest of these");
    describe_gauge!(FEED_QUEUE_MAX, Unit::Count, "Batches at which it is cut loose");
    describe_gauge!(FEED_ARRIVALS, Unit::Count, "Batches from JetStream yet to be put in sequence");
    describe_gauge!(FEED_ARRIVALS_MAX, Unit::Count, "Batches at which JetStream has to wait");
    describe_gauge!(SNAPSHOT_QUEUE, Unit::Count, "States that wait to be written down");
    describe_gauge!(SNAPSHOT_QUEUE_MAX, Unit::Count, "States at which one more is dropped");
    describe_counter!(SNAPSHOTS_WRITTEN, Unit::Count, "Snapshots that were written");
    describe_counter!(SNAPSHOTS_DROPPED, Unit::Count, "Snapshots that were due and not written");
    describe_counter!(SNAPSHOTS_USED, Unit::Count, "Folds that began at a snapshot");
    describe_counter!(SNAPSHOTS_UNREADABLE, Unit::Count, "Snapshots that could not be read");
    describe_counter!(REPLAYED, Unit::Count, "Commands that the ledger had an answer to");
    for name in
        [SNAPSHOTS_WRITTEN, SNAPSHOTS_DROPPED, SNAPSHOTS_USED, SNAPSHOTS_UNREADABLE, REPLAYED]
    {
        counter!(name).increment(0); // Told from the beginning.
    }
    describe_gauge!(VAULT_KEPT, Unit::Count, "People whose key is kept unwrapped");
    describe_gauge!(VAULT_KEPT_MAX, Unit::Count, "People whose key is kept unwrapped at most");
    describe_gauge!(APPEND_QUEUE, Unit::Count, "Commands that wait to be written");
    describe_gauge!(APPEND_QUEUE_MAX, Unit::Count, "Commands at which one more is refused");
    describe_gauge!(APPEND_BYTES, Unit::Bytes, "Bytes that wait to be written");
    describe_gauge!(APPEND_BYTES_MAX, Unit::Bytes, "Bytes at which one more is refused");
    describe_histogram!(APPEND_BATCH, Unit::Count, "Commands in a batch");
    describe_histogram!(APPEND_SECONDS, Unit::Seconds, "From setting out until all are answered");
    describe_gauge!(STATE_CACHE, Unit::Count, "Streams whose state is remembered");
    describe_gauge!(STATE_CACHE_MAX, Unit::Count, "Streams at which others are forgotten");
    describe_gauge!(POOL_USED, Unit::Count, "Connections to Postgres that are in use");
    describe_gauge!(POOL_USED_MAX, Unit::Count, "Connections to Postgres at most");
    describe_gauge!(POOL_OPEN, Unit::Count, "Connections to Postgres that are open");
}

/// How many keys a vault keeps unwrapped; called by the vault where that changes.
pub(crate) fn vault(kept: (usize, usize)) {
    gauge!(VAULT_KEPT).set(count(kept.0));
    gauge!(VAULT_KEPT_MAX).set(count(kept.1));
}

/// A batch was written, or given up.
pub(crate) fn batch_written(commands: usize, took: Duration) {
    histogram!(APPEND_BATCH).record(count(commands));
    histogram!(APPEND_SECONDS).record(took);
}

impl Store {
    /// Looks at the log, its consumers, and what this process holds, and tells the head.
    ///
    /// # Errors
    /// [`Error::Database`]; what this process holds is told all the same.
    pub async fn observe(&self) -> Result<Position, Error> {
        observe_pool("log", self.pool());
        let (waiting, max) = self.snapshots().queue();
        gauge!(SNAPSHOT_QUEUE).set(count(waiting));
        gauge!(SNAPSHOT_QUEUE_MAX).set(count(max));
        let (waiting, waiting_max) = self.queue();
        gauge!(APPEND_QUEUE).set(count(waiting));
        gauge!(APPEND_QUEUE_MAX).set(count(waiting_max));
        gauge!(APPEND_BYTES).set(count(self.backlog().bytes()));
        gauge!(APPEND_BYTES_MAX).set(count(backlog::BYTES_MAX));
        let (remembered, remembered_max) = self.cache().entries();
        gauge!(STATE_CACHE).set(count(remembered));
        gauge!(STATE_CACHE_MAX).set(count(remembered_max));
        let head = self.head().await?;
        gauge!(LOG_HEAD).set(number(head));
        observe_consumers(self.pool()).await?;
        Ok(head)
    }
}

/// Looks at the consumers, by the log and not by their own word.
async fn observe_consumers(pool: &PgPool) -> Result<(), Error> {
    let parked: HashMap<String, i64> = parked::counts(pool).await?.into_iter().collect();
    let parts = positions(pool).await?;
    for workers in parts.chunk_by(|one, other| one.consumer == other.consumer) {
        let consumer = &workers[0].consumer;
        let set = |name: &'static str, value: Option<i64>| {
            gauge!(name, "consumer" => consumer.clone()).set(number(value.unwrap_or(0)));
        };
        set(CONSUMER_POSITION, workers.iter().map(|part| part.position).min());
        set(CONSUMER_LAG_EVENTS, workers.iter().map(Progress::lag_events).max());
        set(CONSUMER_LAG_SECONDS, workers.iter().map(|part| part.lag_seconds).max());
        set(CONSUMER_PARKED, parked.get(consumer).copied());
        let stuck = workers.iter().filter(|part| part.health() == Health::Stuck);
        set(CONSUMER_STUCK, i64::try_from(stuck.count()).ok());
        set(CONSUMER_WORKERS, i64::try_from(workers.len()).ok());
        observe_workers(consumer, workers);
    }
    Ok(())
}

/// Looks at the workers of one consumer. A worker that is no more lags behind nothing.
fn observe_workers(consumer: &str, workers: &[Progress]) {
    static SEEN: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let most = seen.entry(consumer.to_owned()).or_default();
    *most = workers.len().max(*most);
    for index in 0..*most {
        let labels = [("consumer", consumer.to_owned()), ("worker", index.to_string())];
        let (events, seconds) =
            workers.get(index).map_or((0, 0), |part| (part.lag_events(), part.lag_seconds));
        gauge!(WORKER_LAG_EVENTS, &labels).set(number(events));
        gauge!(WORKER_LAG_SECONDS, &labels).set(number(seconds));
    }
}

/// Looks at a pool of connections, named as people tell it from others.
pub fn observe_pool(name: &'static str, pool: &PgPool) {
    let open = usize::try_from(pool.size()).unwrap_or(usize::MAX);
    let used = open.saturating_sub(pool.num_idle());
    gauge!(POOL_USED, "pool" => name).set(count(used));
    gauge!(POOL_USED_MAX, "pool" => name).set(pool.options().get_max_connections());
    gauge!(POOL_OPEN, "pool" => name).set(count(open));
}

/// Looks at a relay of this process, which has published up to there; nothing while it does not
/// lead.
pub fn observe_relay(published: &watch::Receiver<Option<Position>>, head: Position) {
    let published = *published.borrow();
    gauge!(RELAY_LEADING).set(u32::from(published.is_some()));
    if let Some(position) = published {
        gauge!(RELAY_POSITION).set(number(position));
        gauge!(RELAY_LAG).set(number((head - position).max(0)));
    } else {
        gauge!(RELAY_LAG).set(0);
    }
}

impl FeedHandle {
    /// Looks at the feed and at those who follow it.
    pub fn observe(&self) {
        let seen = self.look();
        if let Some(position) = seen.position {
            gauge!(FEED_POSITION).set(number(position));
        }
        gauge!(FEED_TAILS).set(count(seen.tails));
        gauge!(FEED_QUEUE).set(count(seen.fullest));
        gauge!(FEED_QUEUE_MAX).set(count(seen.batches_max));
        gauge!(FEED_ARRIVALS).set(count(seen.arrivals));
        gauge!(FEED_ARRIVALS_MAX).set(count(seen.batches_max));
    }
}

/// A number as a gauge takes it.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53; beyond it nobody counts")]
pub(crate) fn number(value: i64) -> f64 {
    value as f64
}

/// How many, as a gauge takes it.
pub(crate) fn count(value: usize) -> f64 {
    number(i64::try_from(value).unwrap_or(i64::MAX))
}
