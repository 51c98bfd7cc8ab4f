//! Folds the whole log again, beside the live table, and switches.
//!
//! 1. A *shadow* table is made: the live one's columns, no indexes.
//! 2. The log is scanned up to the live checkpoint, folded in memory, and copied in.
//! 3. The live table's indexes are built, and the shadow catches up with the checkpoint.
//! 4. Under the lock of the checkpoint's row nothing moves: the shadow takes the last few events,
//!    and the two tables trade names in one transaction. Queries wait for that moment and then
//!    read the new table.
//!
//! Whatever interrupts a rebuild, it is simply started over: only the switch changes anything
//! that others see. The old table stays as `NAME_old` until the next rebuild, for [`rollback`].

mod scan;
mod shadow;
mod switch;

use std::time::Duration;

use event_store::Store;
use schemas::{Category, Position, StreamId};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::Instant;

use crate::checkpoint;
use crate::fold::Fold;
use crate::projection::Projection;
use crate::registry::Entry;
use crate::row::{Row as _, SCHEMA, Table};

use scan::Scan;
pub use switch::rollback;

/// The most rows that are folded in memory; beyond that they are written and read back.
const ROWS_MAX: usize = 200_000;

/// How far behind the checkpoint the shadow may be when the lock is taken, in events.
const GAP_EVENTS_MAX: i64 = 500;

/// How far a rebuild has come, in positions of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to this position is folded.
    pub done: Position,
    /// Where the live table was when this was told.
    pub total: Position,
}

/// What came of a rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Rows in the new table.
    pub rows: i64,
    /// Events that were folded into it.
    pub events: i64,
    /// The position that both tables were at when they were compared.
    pub position: Position,
    /// Whether the new table said the same as the old one.
    pub unchanged: bool,
    /// How long it took, comparing not counted.
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
    Busy(&'static str),
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
    /// Readers would not let go of the table: try again later.
    #[error("the tables could not be switched: others kept them busy")]
    Contended,
    /// The database is away: try again later.
    #[error("the database is unavailable")]
    Database(#[from] sqlx::Error),
}

/// Rebuilds the read model `name` and tells `progress` how far it is.
///
/// # Errors
/// See [`RebuildError`].
pub async fn rebuild(
    store: &Store,
    name: &str,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Rebuilt, RebuildError> {
    let entry = Entry::find(name).ok_or_else(|| RebuildError::Unknown(name.to_owned()))?;
    entry.rebuild(store, &mut progress).await
}

/// A digest of everything that the table of the read model `name` says, key by key.
///
/// # Errors
/// [`RebuildError::Unknown`] or [`RebuildError::Database`].
pub async fn fingerprint(pool: &PgPool, name: &str) -> Result<String, RebuildError> {
    let entry = Entry::find(name).ok_or_else(|| RebuildError::Unknown(name.to_owned()))?;
    let mut connection = pool.acquire().await?;
    Ok(shadow::digest(&mut connection, entry.name, entry.key).await?.digest)
}

pub(crate) async fn run<P: Projection>(
    store: &Store,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Rebuilt, RebuildError> {
    let started = Instant::now();
    // A connection of its own, closed at the end: its session holds the lock.
    let mut guard = store.pool().acquire().await?.detach();
    if !lock(&mut guard, P::NAME).await? {
        return Err(RebuildError::Busy(P::NAME));
    }
    let mut builder = Builder::<P>::new(store.pool()).await?;
    builder.load(progress).await?;
    builder.catch_up(progress).await?;
    let mut snapshot = builder.switch(&mut guard).await?;
    let took = started.elapsed();
    progress(Progress { done: builder.done, total: builder.done });
    let compared = builder.compare(&mut snapshot).await?;
    guard.close().await?;
    Ok(Rebuilt { took, ..compared })
}

/// Takes the lock of a read model's rebuild for the session. False where another has it.
async fn lock(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_lock(hashtext('waybill rebuild'), hashtext($1))")
        .bind(name)
        .fetch_one(connection)
        .await
}

/// Builds the shadow of one read model.
struct Builder<P: Projection> {
    pool: PgPool,
    consumer: String,
    shadow: Table<P::Row>,
    fold: Fold<P>,
    /// Whether the shadow has a primary key, and holds rows that may have to be read back.
    indexed: bool,
    /// Everything up to this position is folded.
    done: Position,
    events: i64,
}

impl<P: Projection> Builder<P> {
    async fn new(pool: &PgPool) -> Result<Self, RebuildError> {
        let shadow = Table::new(&format!("{}_rebuild", P::NAME));
        let mut connection = pool.acquire().await?;
        shadow::create(&mut connection, P::NAME, shadow.name()).await?;
        Ok(Self {
            pool: pool.clone(),
            consumer: checkpoint(P::NAME),
            shadow,
            fold: Fold::new(),
            indexed: false,
            done: 0,
            events: 0,
        })
    }

    /// Folds the log up to where the live table is now, and builds the indexes.
    async fn load(
        &mut self,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), RebuildError> {
        let total = self.live().await?;
        self.fold_to(total, progress).await?;
        let mut connection = self.pool.acquire().await?;
        self.flush(&mut connection).await?;
        if !self.indexed {
            shadow::add_key(&mut connection, self.shadow.name(), P::Row::COLUMNS[0]).await?;
            self.indexed = true;
        }
        shadow::add_indexes(&mut connection, P::NAME, self.shadow.name()).await?;
        Ok(())
    }

    /// Follows the live table until the rest is small.
    async fn catch_up(
        &mut self,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), RebuildError> {
        loop {
            let total = self.live().await?;
            if total - self.done <= GAP_EVENTS_MAX {
                return Ok(());
            }
            self.finish(total, progress).await?;
        }
    }

    /// Folds up to `total` and writes it.
    async fn finish(
        &mut self,
        total: Position,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), RebuildError> {
        self.fold_to(total, progress).await?;
        let mut connection = self.pool.begin().await?;
        self.flush(&mut connection).await?;
        connection.commit().await?;
        Ok(())
    }

    async fn fold_to(
        &mut self,
        total: Position,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), RebuildError> {
        let categories: &[Category] = P::CATEGORIES;
        let mut scan =
            Scan::start(&self.pool, &self.consumer, categories, self.done, total).await?;
        while let Some(page) = scan.next().await? {
            if self.indexed {
                let mut connection = self.pool.acquire().await?;
                self.fold.fetch(&self.shadow, &mut connection, page.events.iter()).await?;
            }
            for event in &page.events {
                self.fold.apply(event);
            }
            self.events += i64::try_from(page.events.len()).unwrap_or(i64::MAX);
            self.done = page.through;
            if self.fold.len() >= ROWS_MAX {
                self.spill().await?;
            }
            progress(Progress { done: self.done, total });
        }
        Ok(())
    }

    /// Writes what is in memory, and makes sure that it can be found again.
    async fn spill(&mut self) -> Result<(), RebuildError> {
        let mut connection = self.pool.acquire().await?;
        self.flush(&mut connection).await?;
        // Rows that are written once are never read back: their key can wait.
        if !self.indexed && !P::WRITES_ONCE {
            shadow::add_key(&mut connection, self.shadow.name(), P::Row::COLUMNS[0]).await?;
            self.indexed = true;
        }
        Ok(())
    }

    async fn flush(&mut self, connection: &mut PgConnection) -> Result<(), RebuildError> {
        if self.indexed && !P::WRITES_ONCE {
            self.fold.write(&self.shadow, connection).await?;
        } else {
            self.fold.copy(&self.shadow, connection).await?;
        }
        Ok(())
    }

    /// Where the live table is.
    async fn live(&self) -> Result<Position, sqlx::Error> {
        let position = sqlx::query_scalar("select position from checkpoints where consumer = $1")
            .bind(&self.consumer)
            .fetch_optional(&self.pool)
            .await?;
        Ok(position.unwrap_or_default())
    }

    /// Compares the two tables as they were when they were switched.
    async fn compare(&self, snapshot: &mut PgConnection) -> Result<Rebuilt, RebuildError> {
        let key = P::Row::COLUMNS[0];
        let new = shadow::digest(snapshot, P::NAME, key).await?;
        let old = shadow::digest(snapshot, &switch::old(P::NAME), key).await;
        // The columns may have changed with the version; then there is nothing to compare.
        let unchanged = old.is_ok_and(|old| old == new);
        Ok(Rebuilt {
            rows: new.rows,
            events: self.events,
            position: self.done,
            unchanged,
            took: Duration::ZERO,
        })
    }
}
