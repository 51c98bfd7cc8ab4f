//! What happens next: sagas, their journals and their timers.
//!
//! A saga is a stream of the log: what it heard, what it asked for, what it waits for. Its
//! rules are one pure function, [`Saga::react`]; [`Journal`] turns that into a decider, so that
//! a saga is loaded, decided and appended like any aggregate. It calls nobody: it appends
//! `CommandIssued`, and the inbox of the command side carries the command out.
//!
//! * [`Runner`] hears the log and puts each input to the saga it is about, once.
//! * Silence is not in any table. Each step has a [`Patience`]: the same command is sent again
//!   under the same id, and in the end the saga is parked for a person to look.
//! * What is parked is taken up again by an [`Act`] of a person; `docs/sagas.md` says which of them
//!   are possible when.
//! * [`Timers`] keeps a table of what is due, [`TimerPoller`] fires it.
//!
//! To add one more saga: 1. a file with its inputs, its steps and its table, as
//! [`fulfilment`]; 2. a line in `registry.rs`; 3. its rows as tests, and a line in the laws.

mod definition;
mod journal;
mod operate;
mod registry;
mod runner;
mod timers;

pub mod fulfilment;

pub use definition::{Answer, Name, Never, Output, Patience, Reaction, Saga};
pub use journal::{Act, Choice, Heard, Journal, Legal, Outcome, Refusal, What};
pub use operate::{Begun, act, begun, verbs};
pub use registry::{names, park_reasons, run_all};
pub use runner::Runner;
pub use timers::{TimerPoller, Timers, describe_metrics};

use event_store::Error;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Brings the tables of this crate up to date; for the role that owns them, after the log's
/// own migrations.
///
/// # Errors
/// [`Error::Migrate`] or [`Error::Database`].
pub async fn migrate(database_url: &str) -> Result<(), Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect(database_url).await?;
    // Other crates keep their migrations in the same database, numbered apart.
    let mut migrations = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
    migrations.set_ignore_missing(true);
    migrations.run(&pool).await?;
    pool.close().await;
    Ok(())
}
