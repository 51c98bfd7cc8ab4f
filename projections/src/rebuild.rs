//! Folds the whole log again, beside the live table, and switches.
//!
//! 1. A *shadow* table is made: the live one's columns, no indexes.
//! 2. The slices are cut into groups. Each group is folded from the beginning of the log up to one
//!    fixed position, in memory, a few groups at a time, and copied in.
//! 3. The live table's indexes are built, and the shadow catches up with the checkpoints.
//! 4. Its rows are counted, and some, chosen by chance, folded anew from their own streams.
//! 5. Under the locks of the checkpoints nothing moves: the shadow takes the last few events, and
//!    the two tables trade names in one transaction. Queries wait for that moment and then read
//!    the new table.
//!
//! What is done is written down in the transaction that does it (`record.rs`), so a rebuild that
//! was killed goes on where it was. Nobody sees anything of it before the switch. The old table
//! stays as `NAME_old` until the next rebuild, for [`rollback`].
//!
//! Rows that events of several streams touch cannot be folded apart: there is one group then, and
//! no sample.

mod check;
mod group;
mod plan;
mod record;
mod rollback;
mod scan;
mod shadow;
mod switch;

use std::sync::atomic::Ordering;
use std::time::Duration;

use event_store::Store;
use schemas::{Chance, Position, StreamId};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use crate::checkpoint;
use crate::fold::Fold;
use crate::projection::Projection;
use crate::registry::Entry;
use crate::row::{Row as _, SCHEMA, Table};
use crate::sample::Drift;

use group::Passed;
use plan::{Group, SLICES};
use record::Record;
pub use rollback::{RolledBack, rollback};
use scan::Scan;
use switch::Switched;

/// How many groups are folded at a time unless told otherwise.
pub const PARALLEL_DEFAULT: u8 = 2;

/// The most groups that are folded at a time.
pub const PARALLEL_MAX: u8 = 16;

/// The most rows of one group that are held in memory; beyond that they are written and read back.
const ROWS_MAX: usize = 200_000;

/// How far behind the checkpoints the shadow may be when the locks are taken, in events.
const GAP_EVENTS_MAX: i64 = 500;

/// How often it is told how far a rebuild is, at least.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// How to rebuild.
#[derive(Debug, Clone, Copy)]
pub struct Rebuild {
    /// How many groups of slices are folded at a time, from 1 to [`PARALLEL_MAX`].
    pub parallel: u8,
    /// How many rows of a group are held in memory.
    pub rows_max: usize,
    /// What chooses the rows that are checked.
    pub chance: Chance,
}

impl Rebuild {
    /// As is usual.
    #[must_use]
    pub const fn new(chance: Chance) -> Self {
        Self { parallel: PARALLEL_DEFAULT, rows_max: ROWS_MAX, chance }
    }
}

/// What a rebuild is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Folding the log.
    Folding,
    /// Building the indexes.
    Indexing,
    /// Folding what was written meanwhile.
    CatchingUp,
    /// Counting, and folding single rows anew.
    Checking,
    /// It has switched.
    Done,
}

impl Stage {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Folding => "folding",
            Self::Indexing => "indexing",
            Self::CatchingUp => "catching up",
            Self::Checking => "checking",
            Self::Done => "done",
        }
    }
}

/// How far a rebuild has come, in positions of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub stage: Stage,
    /// So many positions are folded.
    pub done: Position,
    /// Of so many.
    pub total: Position,
    /// Positions a second, since this start.
    pub per_second: i64,
    /// How long the rest takes at that rate; none where there is no telling yet.
    pub left: Option<Duration>,
}

/// What came of a rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Rows in the new table.
    pub rows: i64,
    /// Events that were folded into it.
    pub events: i64,
    /// The position that the new table was switched at.
    pub position: Position,
    /// Whether the new table said the same as the old one; none where they cannot be compared,
    /// because the version is another or the old table was behind.
    pub unchanged: Option<bool>,
    /// Whether it went on with what an earlier start had left behind.
    pub resumed: bool,
    /// How long it took since this start, comparing not counted.
    pub took: Duration,
}

/// Why a table was not rebuilt. The live table is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There is no such read model.
    #[error("there is no read model `{0}`")]
    Unknown(String),
    /// Somebody else rebuilds it right now.
    #[error("`{0}` is being rebuilt already")]
    Busy(String),
    /// The table is of a later release, which a rebuild would undo.
    #[error(
        "the table of `{name}` holds version {found}, and this release folds version {ours}: \
         rebuild it with the release that folds version {found}, or go back with \
         `waybill projections rollback {name}`"
    )]
    Newer {
        /// Of which read model.
        name: &'static str,
        /// The version that it holds.
        found: i32,
        /// The version that this release folds.
        ours: u16,
    },
    /// There is no old table to go back to.
    #[error("`{0}` has no old table")]
    NoOld(&'static str),
    /// The log holds an event that this release cannot read, and the live table has not parked
    /// its stream: deploy the release that can.
    #[error("event {position} of {stream} cannot be read: {why}")]
    Unreadable {
        /// Whose event.
        stream: StreamId,
        /// Which one.
        position: Position,
        /// What is wrong with it.
        why: String,
    },
    /// Rows were lost or made by somebody else. The next start begins anew.
    #[error(
        "the new table of `{name}` has {found} rows where {written} were written, so it was not \
         switched to; it stays as {name}_rebuild until the next start, which begins anew"
    )]
    Miscounted {
        /// Of which read model.
        name: &'static str,
        /// So many rows are there.
        found: i64,
        /// So many should be.
        written: i64,
    },
    /// A row of the new table is not what its stream says. The next start begins anew.
    #[error(
        "the new table was not switched to: {0}; it stays as {table}_rebuild until the next \
         start, which begins anew",
        table = .0.projection
    )]
    Wrong(Box<Drift>),
    /// A stream was parked when it was folded and is no longer. The next start begins anew.
    #[error(
        "stream {stream} was parked when `{name}` was folded and has been taken up since, and its \
         rows are shared with others: start again"
    )]
    TakenUp {
        /// Of which read model.
        name: &'static str,
        /// Whose events.
        stream: Uuid,
    },
    /// Readers would not let go of the table: try again later.
    #[error(
        "the tables of `{0}` could not be switched: others kept them busy; the next start goes on \
         from here"
    )]
    Contended(&'static str),
    /// The database is away: try again later.
    #[error("the database is unavailable")]
    Database(#[from] sqlx::Error),
}

impl RebuildError {
    /// Whether what was built so far is worth nothing.
    fn begins_anew(&self) -> bool {
        matches!(self, Self::Miscounted { .. } | Self::Wrong(_) | Self::TakenUp { .. })
    }
}

/// Rebuilds the read model `name` and tells `progress` how far it is.
///
/// # Errors
/// See [`RebuildError`].
pub async fn rebuild(
    store: &Store,
    name: &str,
    how: Rebuild,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Rebuilt, RebuildError> {
    let entry = Entry::find(name).ok_or_else(|| RebuildError::Unknown(name.to_owned()))?;
    entry.rebuild(store, how, &mut progress).await
}

/// A digest of everything that the table of the read model `name` says.
///
/// # Errors
/// [`RebuildError::Unknown`] or [`RebuildError::Database`].
pub async fn fingerprint(pool: &PgPool, name: &str) -> Result<String, RebuildError> {
    let entry = Entry::find(name).ok_or_else(|| RebuildError::Unknown(name.to_owned()))?;
    let mut connection = pool.acquire().await?;
    let digest = shadow::digest(&mut connection, entry.name).await?;
    Ok(format!("{} rows, {}", digest.rows, digest.digest))
}

pub(crate) async fn run<P: Projection>(
    store: &Store,
    how: Rebuild,
    progress: Report<'_>,
) -> Result<Rebuilt, RebuildError> {
    // A connection of its own, closed at the end: its session holds the lock.
    let mut guard = store.pool().acquire().await?.detach();
    if !lock(&mut guard, P::NAME).await? {
        return Err(RebuildError::Busy(P::NAME.to_owned()));
    }
    let found = crate::migrate::version(&mut guard, P::NAME).await?;
    if let Some(found) = found.filter(|found| *found > i32::from(P::VERSION)) {
        return Err(RebuildError::Newer { name: P::NAME, found, ours: P::VERSION });
    }
    let mut builder = Builder::<P>::open(store.pool(), how, progress).await?;
    let mut switched = match builder.build(&mut guard).await {
        Ok(switched) => switched,
        Err(error) => {
            if error.begins_anew() {
                builder.record.forget(&mut guard).await?;
            }
            return Err(error);
        }
    };
    let took = builder.started.elapsed();
    let new = shadow::digest(&mut switched.snapshot, P::NAME).await?;
    let unchanged = if switched.comparable {
        let old = shadow::digest(&mut switched.snapshot, &switch::old(P::NAME)).await?;
        Some(old == new)
    } else {
        None
    };
    guard.close().await?;
    Ok(Rebuilt {
        rows: new.rows,
        events: builder.events,
        position: builder.record.position,
        unchanged,
        resumed: builder.record.resumed(),
        took,
    })
}

/// Who is told how far it is.
pub(crate) type Report<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// Takes the lock of a read model's rebuild for the session. False where another has it.
async fn lock(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_lock(hashtext('waybill rebuild'), hashtext($1))")
        .bind(name)
        .fetch_one(connection)
        .await
}

/// Builds the shadow of one read model.
struct Builder<'r, P: Projection> {
    pool: PgPool,
    how: Rebuild,
    record: Record,
    shadow: Table<P::Row>,
    report: Report<'r>,
    started: Instant,
    /// Positions that were folded before this start.
    before: Option<Position>,
    /// Events of the groups, and those of this start while catching up.
    events: i64,
}

impl<'r, P: Projection> Builder<'r, P> {
    async fn open(pool: &PgPool, how: Rebuild, report: Report<'r>) -> Result<Self, RebuildError> {
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
    async fn build(&mut self, guard: &mut PgConnection) -> Result<Switched, RebuildError> {
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
        let open: i64 = groups.iter().map(|group| i64::from(group.slices())).sum();
        let passed = Passed::new(((i64::from(SLICES) - open) * through).into());
        let folded = || passed.load(Ordering::Relaxed) / i64::from(SLICES);
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
        let mut tx = self.pool.begin().await?;
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
    async fn catch_up(&mut self) -> Result<(), RebuildError> {
        loop {
            let live = live::<P>(&self.pool).await?;
            if live - self.record.position <= GAP_EVENTS_MAX {
                return Ok(());
            }
            self.catch_up_to(live).await?;
        }
    }

    /// Folds what was written up to `live` into the shadow.
    async fn catch_up_to(&mut self, live: Position) -> Result<(), RebuildError> {
        let range = (self.record.position, live);
        let consumer = checkpoint(P::NAME);
        let mut scan = Scan::start(&self.pool, &consumer, P::CATEGORIES, Group::ALL, range).await?;
        let mut fold = Fold::<P>::new();
        while let Some(page) = scan.next().await? {
            let mut tx = self.pool.begin().await?;
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
    fn tell(&mut self, stage: Stage, total: Position) {
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
