//! Consumers that write down what they were given, and fail when told to.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use event_store::{Batch, Fault, Moved, Projector, Reactor};
use schemas::{Position, Recorded};
use sqlx::PgPool;
use tokio::task::yield_now;
use uuid::Uuid;

/// What goes wrong, for a consumer or for a reactor.
#[derive(Default, Clone)]
pub(crate) struct Faults {
    /// Streams whose second event is poison, and the consumer says so.
    pub(crate) poison: Arc<Mutex<HashSet<Uuid>>>,
    /// Streams whose second event the database refuses.
    pub(crate) refused: Arc<Mutex<HashSet<Uuid>>>,
    /// The system is down.
    pub(crate) down: Arc<AtomicBool>,
    /// How often that was met.
    pub(crate) met_down: Arc<AtomicUsize>,
}

impl Faults {
    fn check(&self, event: &Recorded) -> Result<(), Fault> {
        if self.down.load(Ordering::SeqCst) {
            self.met_down.fetch_add(1, Ordering::SeqCst);
            return Err(Fault::System("down for the test".to_owned()));
        }
        if event.version == 2 && self.poison.lock().unwrap().contains(&event.stream.id) {
            let why = "poison for the test".to_owned();
            return Err(Fault::Poison { position: event.position, why });
        }
        Ok(())
    }

    /// A version that the table refuses, where that is wanted.
    fn version(&self, event: &Recorded) -> i64 {
        let refused = event.version == 2 && self.refused.lock().unwrap().contains(&event.stream.id);
        if refused { 1_000 } else { event.version }
    }
}

/// Writes every event into `seen`, whose key refuses repetitions.
pub(crate) struct Scribe {
    pub(crate) name: &'static str,
    pub(crate) faults: Faults,
}

impl Scribe {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, faults: Faults::default() }
    }
}

impl Projector for Scribe {
    type Held = ();

    fn name(&self) -> &str {
        self.name
    }

    async fn begin(&self, _: &PgPool) -> Result<(), Fault> {
        Ok(())
    }

    async fn apply(
        &self,
        (): &mut (),
        mut batch: Batch<'_>,
        events: &[Arc<Recorded>],
    ) -> Result<Moved, Fault> {
        let mut rows: (Vec<Position>, Vec<Uuid>, Vec<i64>) = Default::default();
        for event in events {
            self.faults.check(event)?;
            rows.0.push(event.position);
            rows.1.push(event.stream.id);
            rows.2.push(self.faults.version(event));
        }
        sqlx::query(
            "insert into seen (consumer, position, stream_id, version)
             select $1, * from unnest($2::bigint[], $3::uuid[], $4::bigint[])",
        )
        .bind(self.name)
        .bind(rows.0)
        .bind(rows.1)
        .bind(rows.2)
        .execute(batch.transaction().await?)
        .await?;
        batch.commit().await
    }
}

/// Counts all events in the one row of `tally`, and remembers the count for as long as it holds its
/// lease, as read models remember rows.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) faults: Faults,
}

impl Projector for Tally {
    type Held = Option<i64>;

    fn name(&self) -> &'static str {
        "tally"
    }

    fn spreads(&self) -> bool {
        false
    }

    async fn begin(&self, _: &PgPool) -> Result<Option<i64>, Fault> {
        Ok(None)
    }

    async fn apply(
        &self,
        held: &mut Option<i64>,
        mut batch: Batch<'_>,
        events: &[Arc<Recorded>],
    ) -> Result<Moved, Fault> {
        events.iter().try_for_each(|event| self.faults.check(event))?;
        let tx = batch.transaction().await?;
        let before = match held.take() {
            Some(count) => count,
            None => sqlx::query_scalar("select count from tally").fetch_one(&mut *tx).await?,
        };
        let count = before + i64::try_from(events.len()).unwrap();
        sqlx::query("update tally set count = $1").bind(count).execute(tx).await?;
        let moved = batch.commit().await?;
        *held = Some(count);
        Ok(moved)
    }
}

/// What a [`Witness`] has seen, in order.
pub(crate) type Testimony = Arc<Mutex<Vec<(Uuid, i64)>>>;

/// Remembers the stream and version of every event, acting on each for a little while.
#[derive(Clone, Default)]
pub(crate) struct Witness {
    pub(crate) faults: Faults,
    pub(crate) testimony: Testimony,
    /// How many events are being acted on, and the most that ever were.
    pub(crate) active: Arc<(AtomicUsize, AtomicUsize)>,
}

impl Reactor for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }

    fn key(&self, event: &Recorded) -> Option<Uuid> {
        Some(event.stream.id)
    }

    async fn react(&self, event: &Recorded) -> Result<(), Fault> {
        let now = self.active.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.active.1.fetch_max(now, Ordering::SeqCst);
        for _ in 0..event.position % 7 {
            yield_now().await;
        }
        self.active.0.fetch_sub(1, Ordering::SeqCst);
        self.faults.check(event)?;
        self.testimony.lock().unwrap().push((event.stream.id, event.version));
        Ok(())
    }
}
