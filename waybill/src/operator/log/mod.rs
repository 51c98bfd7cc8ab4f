//! `waybill log`: the log as something that is kept for decades.

mod export;
mod file;
mod import;
mod pace;
mod partitions;
mod verify;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::endpoints::{DATA_DIR_DEFAULT, Endpoints};
use crate::exit::{Ending, Misconfigured};
use crate::output::Output;

/// Connections that a command opens at most.
const CONNECTIONS_MAX: u32 = 4;

/// Look after the log: verify it, export and import it, show and freeze its partitions.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Walk the log and check that nothing is missing, doubled, out of order or changed.
    Verify(verify::Options),
    /// Write the log into a file that needs no database.
    Export(export::Options),
    /// Fill an empty log from such a file; as the owner of the database.
    Import(import::Options),
    /// Show the partitions of the log and of the ledger, and how many lie ahead.
    Partitions(Where),
    /// Freeze the partitions that are full and sealed; as the owner of the database.
    Maintain(Where),
}

/// Which database.
#[derive(Debug, Args)]
struct Where {
    /// Postgres, as `postgres://user:password@host:5432/waybill`. [default: that of the
    /// `waybill up` which runs in --data-dir]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// The data folder of a running `waybill up`.
    #[arg(long, env = "WAYBILL_DATA_DIR", value_name = "FOLDER",
          default_value = DATA_DIR_DEFAULT)]
    data_dir: PathBuf,
}

impl Where {
    /// For somebody who reads.
    async fn reader(&self) -> anyhow::Result<PgPool> {
        connect(&self.url(|endpoints| endpoints.database_url)?).await
    }

    /// The URL of whoever owns the log.
    fn owner_url(&self) -> anyhow::Result<String> {
        self.url(|endpoints| endpoints.owner_url)
    }

    fn url(&self, of: impl Fn(Endpoints) -> String) -> anyhow::Result<String> {
        let running = || Endpoints::read(&self.data_dir).map(of);
        self.database_url.clone().or_else(running).ok_or_else(|| {
            Misconfigured::error(format!(
                "no database: give DATABASE_URL (--database-url), or the data folder of a \
                 running `waybill up` (--data-dir); none runs in {}",
                self.data_dir.display()
            ))
        })
    }
}

/// A few connections, as whoever the URL names.
async fn connect(url: &str) -> anyhow::Result<PgPool> {
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).connect(url).await;
    pool.context("cannot log in to the database (is DATABASE_URL right?)")
}

/// Runs the command.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let output = Output::standard();
    match options.command {
        Command::Verify(options) => verify::run(output, options).await,
        Command::Export(options) => export::run(options).await,
        Command::Import(options) => import::run(output, options).await,
        Command::Partitions(at) => {
            partitions::show(output, &at.reader().await?).await?;
            Ok(Ending::Orderly)
        }
        Command::Maintain(at) => {
            partitions::maintain(output, &at.owner_url()?).await?;
            Ok(Ending::Orderly)
        }
    }
}
