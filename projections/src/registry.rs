//! Every read model, by name.

use std::pin::Pin;

use event_store::{FeedHandle, Store, run_projector};
use schemas::Clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::live::Live;
use crate::projection::Projection;
use crate::rebuild::{self, Progress, RebuildError, Rebuilt};
use crate::row::Row;
use crate::{customer_summary, migrate, order_detail, order_search, order_sku, order_summary};
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
type Report<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// One read model: what it is called, and how it is kept.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name of its table.
    pub name: &'static str,
    /// The version that this release folds.
    pub version: u16,
    /// The primary key of its table.
    pub(crate) key: &'static str,
    run: fn(Store, FeedHandle, CancellationToken) -> Running<'static, ()>,
    rebuild: for<'a> fn(&'a Store, Report<'a>) -> Running<'a, Result<Rebuilt, RebuildError>>,
}

impl Entry {
    /// The entry of `P`.
    #[must_use]
    pub const fn of<P: Projection>() -> Self {
        Self {
            name: P::NAME,
            version: P::VERSION,
            key: <P::Row as Row>::COLUMNS[0],
            run: |store, feed, drain| Box::pin(run::<P>(store, feed, drain)),
            rebuild: |store, report| Box::pin(rebuild::run::<P>(store, report)),
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
        report: Report<'_>,
    ) -> Result<Rebuilt, RebuildError> {
        (self.rebuild)(store, report).await
    }
}

/// The names of all read models.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|entry| entry.name).collect()
}

/// Keeps every read model up to date until `drain` is cancelled, each by its own consumer.
///
/// The clock is passed as to every component; no fold may read it, so none does.
pub async fn run_all(store: Store, feed: FeedHandle, _: Clock, drain: CancellationToken) {
    let mut running = JoinSet::new();
    for entry in ALL {
        running.spawn((entry.run)(store.clone(), feed.clone(), drain.clone()));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

async fn run<P: Projection>(store: Store, feed: FeedHandle, drain: CancellationToken) {
    if migrate::folded_by_us::<P>(store.pool(), &drain).await {
        run_projector(store, feed, Live::<P>::new(), drain).await;
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
