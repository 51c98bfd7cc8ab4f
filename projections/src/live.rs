//! The one consumer that all read models run on: read, fold, write, a batch at a time.
//!
//! Rows that were written of late are remembered, and rows and checkpoint are written by one statement,
//! so a batch is mostly one way to the database and back.

use std::sync::Arc;

use event_store::{Batch, Fault, Moved, Projector};
use schemas::Recorded;
use sqlx::PgPool;

use crate::fold::Fold;
use crate::migrate;
use crate::projection::{Keys, Projection, unreadable};
use crate::recent::Recent;
use crate::row::Table;

/// Keeps the table of `P` up to date. The checkpoint moves in the same transaction.
#[derive(Debug)]
pub struct Live<P: Projection> {
    table: Table<P::Row>,
    name: String,
}

impl<P: Projection> Live<P> {
    /// A consumer for the live table.
    #[must_use]
    pub fn new() -> Self {
        Self { table: Table::new(P::NAME), name: crate::checkpoint(P::NAME) }
    }
}

impl<P: Projection> Default for Live<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Projection> Projector for Live<P> {
    type Held = Recent<P::Row>;

    fn name(&self) -> &str {
        &self.name
    }

    fn spreads(&self) -> bool {
        !P::SHARED_ROWS
    }

    fn wants(&self, event: &Recorded) -> bool {
        unreadable::<P>(event).is_some() || P::keys(event) != Keys::None
    }

    /// Whoever puts another version in the table's place raises the epoch of every lease there is,
    /// so what holds now holds for as long as the lease does.
    async fn begin(&self, pool: &PgPool) -> Result<Self::Held, Fault> {
        migrate::fence::<P>(pool).await?;
        Ok(Recent::new())
    }

    async fn apply(
        &self,
        recent: &mut Self::Held,
        mut batch: Batch<'_>,
        events: &[Arc<Recorded>],
    ) -> Result<Moved, Fault> {
        for event in events {
            if let Some(why) = unreadable::<P>(event) {
                return Err(Fault::Poison { position: event.position, why: why.to_owned() });
            }
        }
        let mut fold = Fold::<P>::new();
        fold.recall(recent, events.iter().map(Arc::as_ref));
        let missing = fold.missing(events.iter().map(Arc::as_ref));
        if !missing.is_empty() {
            fold.read(&self.table, batch.reader().await?, &missing).await?;
        }
        for event in events {
            fold.apply(event);
        }
        fold.write_batch(&self.table, batch, recent).await
    }
}
