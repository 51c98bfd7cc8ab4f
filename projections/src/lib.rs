//! The read models: tables in Postgres that are folded from the log.
//!
//! A read model is one file. It holds the table's row, the keys that an event touches, what
//! becomes of a row ([`Projection`]), and the queries that read it; everything else is written
//! once:
//!
//! * [`walk`] reads a page of a list by one walk of an index.
//! * [`row`] turns a struct into the statements that read and write it in bulk.
//! * [`run_all`] keeps the tables up to date, each by a consumer of its own. Rows and checkpoint
//!   move in one transaction.
//! * [`rebuild()`] folds the whole log again beside the live table, and switches; [`rollback()`]
//!   goes back. A table of an older version is rebuilt by itself.
//! * [`Detector`] folds single rows anew, all the time, and tells of those that are wrong.
//! * [`list`] says how far behind each is, and [`Freshness`] lets a query wait for a position.
//!
//! A resource of the query API folds one stream, so that the stream's version names one state of
//! it. Only the timeline, the search and the sales listen to several contexts.
//!
//! To add one more: 1. a file with the row, the fold, the queries and their tests; 2. a migration
//! with its table; 3. one line in [`registry`].

mod drift;
mod events;
mod fold;
#[cfg(test)]
mod given;
mod live;
mod lookup;
mod migrate;
mod position;
mod projection;
mod rebuild;
mod recent;
pub mod registry;
pub mod row;
mod sample;
mod status;
pub mod walk;
mod words;

pub mod customer_summary;
pub mod order_detail;
pub mod order_progress;
pub mod order_search;
pub mod order_sku;
pub mod order_summary;
pub mod order_timeline;
pub mod payment_ledger;
pub mod saga_view;
pub mod sales;
pub mod shipment_tracking;
pub mod stock_level;

pub use drift::{Detector, RATE_DEFAULT, RATE_MAX, describe as describe_metrics};
pub use live::Live;
pub use lookup::Lookup;
pub use migrate::migrate;
pub use position::{Freshness, Reached, WaitError, positions};
pub use projection::{Keys, Projection};
pub use rebuild::{
    PARALLEL_DEFAULT, PARALLEL_MAX, Progress, Rebuild, RebuildError, Rebuilt, RolledBack, Stage,
    fingerprint, rebuild, rollback,
};
pub use registry::{names, run_all, spreads};
pub use sample::Drift;
pub use status::{Status, Worker, list};
pub use words::UnknownWord;

/// The name of the consumer that keeps the read model `name` up to date.
#[must_use]
pub fn checkpoint(name: &str) -> String {
    format!("projection/{name}")
}
