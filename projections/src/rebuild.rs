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
//! stays as `NAME_old` until the next rebuild, for [`rollback()`].
//!
//! Rows that events of several streams touch cannot be folded apart: there is one group then.

mod builder;
mod check;
mod error;
mod group;
mod plan;
mod record;
mod rollback;
mod scan;
mod shadow;
mod switch;

use std::time::Duration;

use event_store::Store;
use schemas::{Chance, Position};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::projection::Projection;
use crate::registry::Entry;
use crate::row::SCHEMA;

use builder::Builder;
pub use error::RebuildError;
pub use rollback::{RolledBack, rollback};

/// How many groups are folded at a time unless told otherwise.
pub const PARALLEL_DEFAULT: u8 = 2;

/// The most groups that are folded at a time.
pub const PARALLEL_MAX: u8 = 16;

/// Connections of a group: one reads the log, one writes the rows.
const CONNECTIONS_PER_GROUP: u32 = 2;

/// Connections besides: one holds the lock and switches, one sees both tables as they were then.
const CONNECTIONS_APART: u32 = 2;

/// The most rows of one group that are held in memory; beyond that they are written and read back.
const ROWS_MAX: usize = 200_000;

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
    let pool = own_pool(store.pool(), how);
    // Its session holds the lock.
    let mut guard = pool.acquire().await?.detach();
    if !lock(&mut guard, P::NAME).await? {
        return Err(RebuildError::Busy(P::NAME.to_owned()));
    }
    let found = crate::migrate::version(&mut guard, P::NAME).await?;
    if let Some(found) = found.filter(|found| *found > i32::from(P::VERSION)) {
        return Err(RebuildError::Newer { name: P::NAME, found, ours: P::VERSION });
    }
    let mut builder = Builder::<P>::open(&pool, how, progress).await?;
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

/// Connections for one rebuild. Those who serve are left theirs; and a rebuild that is cut off may
/// be in the middle of a transaction, which ends with its connection.
fn own_pool(shared: &PgPool, how: Rebuild) -> PgPool {
    let groups = u32::from(how.parallel.clamp(1, PARALLEL_MAX));
    let options = shared.options().clone().min_connections(0);
    let options = options.max_connections(groups * CONNECTIONS_PER_GROUP + CONNECTIONS_APART);
    options.connect_lazy_with((*shared.connect_options()).clone())
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
