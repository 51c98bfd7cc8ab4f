//! Builds the table beside the live one, step by step.

use std::sync::atomic::Ordering;
use std::time::Duration;

use event_store::Slices;
use schemas::Position;
use sqlx::{PgConnection, PgPool};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::group::{self, Passed};
use super::plan;
use super::record::Record;
use super::scan::Scan;
use super::switch::Switched;
use super::{PARALLEL_MAX, Progress, Rebuild, RebuildError, Report, Stage, check, shadow};
use crate::checkpoint;
use crate::fold::Fold;
use crate::projection::Projection;
use crate::row::{Row as _, Table};

/// How far behind the checkpoints the shadow may be when the locks are taken, in events.
const GAP_EVENTS_MAX: i64 = 500;

/// How often it is told how far a rebuild is, at least.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Builds the shadow of one read model.
pub(super) struct Builder<'r, P: Projection> {
    pub(super) pool: PgPool,
    how: Rebuild,
    pub(super) record: Record,
    pub(super) shadow: Table<P::Row>,
    report: Report<'r>,
    pub(super) started: Instant,
    /// Positions that were folded before this start.
    before: Option<Position>,
    /// Events of the groups, and those of this start while catching up.
    pub(super) events: i64,
}

impl<'r, P: Projection> Builder<'r, P> {
    pub(super) async fn open(
        pool: &PgPool,
        how: Rebuild,
        report: Report<'r>,
    ) -> Result<Self, RebuildError> {
        let parallel = how.parallel.clamp(1, PARALLEL_MAX);
        let how = Rebuild { parallel, rows_max: how.rows_max.max(1), ..how };
        let live = live::<P>(pool).await?;
        Ok(Self {
            pool: pool.clone(),
            how,
            record: Record::open::<P>(pool, live, how).await?,
            shadow: Table::new(&shadow::name(P::NAME)),
            report,
            started: Instant::now(),
            before: None,
            events: 0,
        })
    }

    /// Makes the new table, and switches to it.
    pub(super) async fn build(
        &mut self,
        guard: &mut PgConnection,
    ) -> Result<Switched, RebuildError> {
        self.fold_groups().await?;
        self.events = self.record.folded(guard).await?.events;
        self.index().await?;
        self.catch_up().await?;
        self.check().await?;
        self.catch_up().await?;
        self.switch(guard).await
    }

    /// Folds the groups that no earlier start has folded, some at a time.
    async fn fold_groups(&mut self) -> Result<(), RebuildError> {
        let groups = self.record.to_do(&self.pool).await?;
        let through = self.record.through;
        let open: i64 = groups.iter().map(|group| plan::count(*group)).sum();
        let passed = Passed::new(((plan::count(Slices::ALL) - open) * through).into());
        let folded = || passed.load(Ordering::Relaxed) / plan::count(Slices::ALL);
        let mut groups = groups.into_iter();
        let mut running = JoinSet::new();
        let mut tick = interval(TELL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let free = usize::from(self.how.parallel) - running.len();
            for group in groups.by_ref().take(free) {
                let (pool, record) = (self.pool.clone(), self.record.clone());
                let (rows_max, passed) = (self.how.rows_max, passed.clone());
                running.spawn(group::fold::<P>(pool, record, group, rows_max, passed));
            }
            tokio::select! {
                ended = running.join_next() => match ended {
                    None => return Ok(()),
                    Some(Ok(folded)) => folded?,
                    Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                },
                _ = tick.tick() => self.tell_of(Stage::Folding, folded(), through),
            }
        }
    }

    /// Builds the indexes, once.
    async fn index(&mut self) -> Result<(), RebuildError> {
        if self.record.indexed {
            return Ok(());
        }
        self.tell(Stage::Indexing, self.record.through);
        let mut tx = event_store::begin(&self.pool).await?;
        check::count::<P>(&mut tx, &self.record).await?;
        shadow::add_key(&mut tx, self.shadow.name(), P::Row::COLUMNS[0]).await?;
        shadow::add_indexes(&mut tx, P::NAME, self.shadow.name()).await?;
        self.record.indexed(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn check(&mut self) -> Result<(), RebuildError> {
        self.tell(Stage::Checking, self.record.position);
        let mut connection = self.pool.acquire().await?;
        check::samples::<P>(&mut connection, &self.record, self.how.chance).await
    }

    /// Follows the live table until the rest is small.
    pub(super) async fn catch_up(&mut self) -> Result<(), RebuildError> {
        loop {
            let live = live::<P>(&self.pool).await?;
            if live - self.record.position <= GAP_EVENTS_MAX {
                return Ok(());
            }
            self.catch_up_to(live).await?;
        }
    }

    /// Folds what was written up to `live` into the shadow.
    pub(super) async fn catch_up_to(&mut self, live: Position) -> Result<(), RebuildError> {
        let range = (self.record.position, live);
        let consumer = checkpoint(P::NAME);
        let mut scan =
            Scan::start(&self.pool, &consumer, P::CATEGORIES, Slices::ALL, range).await?;
        let mut fold = Fold::<P>::new();
        while let Some(page) = scan.next().await? {
            let mut tx = event_store::begin(&self.pool).await?;
            fold.fetch(&self.shadow, &mut tx, page.events.iter()).await?;
            for event in &page.events {
                fold.apply(event);
            }
            fold.write(&self.shadow, &mut tx).await?;
            self.record.moved(&mut tx, page.through, &scan.left_out()).await?;
            tx.commit().await?;
            self.events += i64::try_from(page.events.len()).unwrap_or(i64::MAX);
            self.tell(Stage::CatchingUp, live);
        }
        Ok(())
    }

    /// Tells that everything up to the record's position is done.
    pub(super) fn tell(&mut self, stage: Stage, total: Position) {
        self.tell_of(stage, self.record.position, total);
    }

    fn tell_of(&mut self, stage: Stage, done: Position, total: Position) {
        let before = *self.before.get_or_insert(done);
        let elapsed_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let per_second = (done - before).saturating_mul(1_000) / elapsed_ms.max(1);
        let left = u64::try_from((total - done).max(0)).unwrap_or_default();
        let left = u64::try_from(per_second).ok().and_then(|rate| left.checked_div(rate));
        let left = left.map(Duration::from_secs);
        (self.report)(Progress { stage, done, total, per_second, left });
    }
}

/// Where the live table is: the furthest of its ranges.
async fn live<P: Projection>(pool: &PgPool) -> Result<Position, sqlx::Error> {
    sqlx::query_scalar("select coalesce(max(position), 0) from checkpoints where consumer = $1")
        .bind(checkpoint(P::NAME))
        .fetch_one(pool)
        .await
}
