//! `waybill migrate`: brings the database up to date.

use anyhow::Context as _;
use clap::Args;
use event_store::Store;
use tracing::info;

use crate::exit::Ending;

/// Bring the database up to date. Migrations only go forward, and running them again changes
/// nothing. The user must own the database and be allowed to make roles.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Postgres, as `postgres://owner:password@host:5432/waybill`. The roles that serve have
    /// another user, which cannot change history.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: String,
}

/// Runs the command.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Ending> {
    migrate(&options.database_url).await?;
    info!("the database is up to date");
    Ok(Ending::Orderly)
}

/// Lays the tables of every layer, lowest first.
pub(crate) async fn migrate(database_url: &str) -> anyhow::Result<()> {
    Store::migrate(database_url).await.context("cannot migrate the log")?;
    projections::migrate(database_url).await.context("cannot migrate the read models")?;
    saga::migrate(database_url).await.context("cannot migrate the sagas' tables")
}
