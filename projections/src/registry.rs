//! Every read model, by name.

use std::pin::Pin;

use event_store::{FeedHandle, Store, run_projector};
use schemas::{Chance, Clock};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::checkpoint;
use crate::live::Live;
use crate::projection::Projection;
use crate::rebuild::{self, Rebuild, RebuildError, Rebuilt, Report};
use crate::sample::Checked;
use crate::{
    customer_summary, drift, migrate, order_detail, order_search, order_sku, order_summary,
};
use crate::{order_timeline, payment_ledger, saga_view, sales, shipment_tracking, stock_level};

/// Every read model.
pub const ALL: [Entry; 11] = [
    Entry::of::<order_summary::OrderSummary>(),
    Entry::of::<order_detail::OrderDetail>(),
    Entry::of::<order_timeline::OrderTimeline>(),
    Entry::of::<order_sku::OrderSku>(),
    Entry::of::<order_search::OrderSearch>(),
    Entry::of::<stock_level::StockLevel>(),
    Entry::of::<payment_ledger::PaymentLedger>(),
    Entry::of::<shipment_tracking::ShipmentTracking>(),
    Entry::of::<saga_view::SagaView>(),
    Entry::of::<sales::Sales>(),
    Entry::of::<customer_summary::CustomerSummary>(),
];

type Running<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// One read model: what it is called, and how it is kept.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name of its table.
    pub name: &'static str,
    /// The version that this release folds.
    pub version: u16,
    /// Whether its streams may be spread over several workers.
    pub(crate) spreads: bool,
    run: fn(Store, FeedHandle, Chance, CancellationToken) -> Running<'static, ()>,
    rebuild:
        for<'a> fn(&'a Store, Rebuild, Report<'a>) -> Running<'a, Result<Rebuilt, RebuildError>>,
    check: for<'a> fn(&'a PgPool, Chance) -> Running<'a, Result<Checked, sqlx::Error>>,
}

impl Entry {
    /// The entry of `P`.
    #[must_use]
    pub const fn of<P: Projection>() -> Self {
        Self {
            name: P::NAME,
            version: P::VERSION,
            spreads: !P::SHARED_ROWS,
            run: |store, feed, chance, drain| Box::pin(run::<P>(store, feed, chance, drain)),
            rebuild: |store, how, report| Box::pin(rebuild::run::<P>(store, how, report)),
            check: |pool, chance| Box::pin(drift::check::<P>(pool, chance)),
        }
    }

    /// Finds a read model.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        ALL.into_iter().find(|entry| entry.name == name)
    }

    pub(crate) async fn rebuild(
        self,
        store: &Store,
        how: Rebuild,
        report: Report<'_>,
    ) -> Result<Rebuilt, RebuildError> {
        (self.rebuild)(store, how, report).await
    }

    /// Looks at one of its rows.
    pub(crate) async fn check(self, pool: &PgPool, chance: Chance) -> Result<Checked, sqlx::Error> {
        (self.check)(pool, chance).await
    }
}

/// Whether `consumer` may have several workers: every one may but a read model whose rows several
/// streams touch.
#[must_use]
pub fn spreads(consumer: &str) -> bool {
    ALL.iter().all(|entry| entry.spreads || checkpoint(entry.name) != consumer)
}

/// The names of all read models.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|entry| entry.name).collect()
}

/// Keeps every read model up to date until `drain` is cancelled, each by its own consumer. One
/// whose table holds an older version is rebuilt first, while the old release keeps the table.
///
/// The clock is passed as to every component; no fold may read it, so none does.
pub async fn run_all(
    store: Store,
    feed: FeedHandle,
    _: Clock,
    chance: Chance,
    drain: CancellationToken,
) {
    let mut running = JoinSet::new();
    for entry in ALL {
        running.spawn((entry.run)(store.clone(), feed.clone(), chance, drain.clone()));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Works for as long as the table holds the version that this release folds.
async fn run<P: Projection>(
    store: Store,
    feed: FeedHandle,
    chance: Chance,
    drain: CancellationToken,
) {
    while migrate::folded_by_us::<P>(&store, chance, &drain).await {
        let turn = drain.child_token();
        let working = run_projector(store.clone(), feed.clone(), Live::<P>::new(), turn.clone());
        let watching = async {
            migrate::folded_by_others::<P>(store.pool(), &turn).await;
            turn.cancel();
        };
        tokio::join!(working, watching);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_its_own() {
        let mut all = names();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), ALL.len());
        assert!(Entry::find("order_summary").is_some());
        assert!(Entry::find("order_summary; drop table events").is_none());
    }
}
