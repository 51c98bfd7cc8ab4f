//! Folds one group of slices from the beginning of the log, in memory, and copies it in.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use event_store::Slices;
use sqlx::{PgPool, Postgres, Transaction};

use super::plan;
use super::record::{Folded, Record};
use super::scan::{Page, Scan};
use super::{RebuildError, shadow};
use crate::checkpoint;
use crate::fold::Fold;
use crate::projection::Projection;
use crate::row::{Row as _, Table};

/// Events that are folded before others get a turn on this thread.
const EVENTS_PER_TURN: usize = 500;

/// What is folded of all groups together: positions times slices.
pub(super) type Passed = Arc<AtomicI64>;

/// Folds `group` and writes it to the shadow, together with the note that it is done.
pub(super) async fn fold<P: Projection>(
    pool: PgPool,
    record: Record,
    group: Slices,
    rows_max: usize,
    passed: Passed,
) -> Result<(), RebuildError> {
    let consumer = checkpoint(P::NAME);
    let range = (0, record.through);
    let mut scan = Scan::start(&pool, &consumer, P::CATEGORIES, group, range).await?;
    let mut folding = Folding::<P>::new(group, rows_max);
    let mut done = 0;
    while let Some(page) = scan.next().await? {
        folding.take(&pool, &page).await?;
        passed.fetch_add((page.through - done) * plan::count(group), Ordering::Relaxed);
        done = page.through;
    }
    let (mut tx, folded) = folding.finish(&pool).await?;
    record.group_done(&mut tx, group, folded, &scan.left_out()).await?;
    tx.commit().await?;
    Ok(())
}

/// The rows of one group: in memory, or, where they are too many, in a table that only the group's
/// own transaction sees.
struct Folding<P: Projection> {
    fold: Fold<P>,
    shadow: Table<P::Row>,
    spill: Table<P::Row>,
    spilled: Option<Transaction<'static, Postgres>>,
    rows_max: usize,
    rows: u64,
    events: usize,
}

impl<P: Projection> Folding<P> {
    fn new(group: Slices, rows_max: usize) -> Self {
        Self {
            fold: Fold::new(),
            shadow: Table::new(&shadow::name(P::NAME)),
            spill: Table::new(&format!("{}_spill_{}", P::NAME, group.from())),
            spilled: None,
            rows_max,
            rows: 0,
            events: 0,
        }
    }

    async fn take(&mut self, pool: &PgPool, page: &Page) -> Result<(), sqlx::Error> {
        for events in page.events.chunks(EVENTS_PER_TURN) {
            if let Some(tx) = &mut self.spilled {
                self.fold.fetch(&self.spill, tx, events.iter()).await?;
            }
            for event in events {
                self.fold.apply(event);
            }
            tokio::task::yield_now().await;
        }
        self.events += page.events.len();
        if self.fold.len() >= self.rows_max {
            self.spill(pool).await?;
        }
        Ok(())
    }

    /// Writes what is in memory, so that it can be found again.
    async fn spill(&mut self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let first = self.spilled.is_none();
        let tx = match &mut self.spilled {
            Some(tx) => tx,
            none => none.insert(event_store::begin(pool).await?),
        };
        if P::WRITES_ONCE {
            self.rows += self.fold.copy(&self.shadow, tx).await?; // Nobody looks for them again.
        } else if first {
            shadow::create_spill(tx, P::NAME, self.spill.name()).await?;
            self.fold.copy(&self.spill, tx).await?;
            shadow::add_key(tx, self.spill.name(), P::Row::COLUMNS[0]).await?;
        } else {
            self.fold.write(&self.spill, tx).await?;
        }
        Ok(())
    }

    /// Writes the rest, in the transaction that has yet to be committed.
    async fn finish(
        mut self,
        pool: &PgPool,
    ) -> Result<(Transaction<'static, Postgres>, Folded), sqlx::Error> {
        let (mut tx, spilled) = match self.spilled {
            Some(tx) => (tx, !P::WRITES_ONCE),
            None => (event_store::begin(pool).await?, false),
        };
        if spilled {
            self.fold.write(&self.spill, &mut tx).await?;
            self.rows =
                shadow::take_in(&mut tx, self.spill.name(), self.shadow.name(), P::Row::COLUMNS)
                    .await?;
        } else {
            self.rows += self.fold.copy(&self.shadow, &mut tx).await?;
        }
        let folded = Folded {
            rows: i64::try_from(self.rows).unwrap_or(i64::MAX),
            events: i64::try_from(self.events).unwrap_or(i64::MAX),
        };
        Ok((tx, folded))
    }
}
