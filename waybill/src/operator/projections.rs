//! `waybill projections list | rebuild | rollback`: how the read models stand, making one anew, and
//! the way back.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use event_store::Store;
use projections::{PARALLEL_DEFAULT, PARALLEL_MAX};
use schemas::Chance;

use super::standing::{self, Shown};
use crate::endpoints::{DATA_DIR_DEFAULT, Endpoints};
use crate::exit::{Ending, Misconfigured};
use crate::options;
use crate::output::{Output, Style};
use crate::progress::RebuildProgress;
use crate::role;

/// Maintain, list, rebuild or roll back the read models.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Maintain the read models, until stopped.
    Run(Box<role::projections::Options>),
    /// Tell how far behind the log each read model is.
    List {
        #[command(flatten)]
        shown: Shown,
        #[command(flatten)]
        at: Where,
    },
    /// Fold the whole log into a new table beside the live one, check it, and switch. Queries go
    /// on. What was stopped or killed goes on where it was when it is started again.
    Rebuild(Rebuild),
    /// Go back to the table that the last rebuild replaced. It goes on from where it was left.
    Rollback {
        /// Which read model, as `order_summary`.
        name: String,
        #[command(flatten)]
        at: Where,
    },
}

/// What to rebuild.
#[derive(Debug, Args)]
struct Rebuild {
    /// Which read models, as `order_summary`, one after the other.
    #[arg(required_unless_present = "all")]
    names: Vec<String>,
    /// Every read model.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// How many groups of streams are folded at a time, up to 16. Each holds at most 200,000 rows
    /// in memory, and uses two connections.
    #[arg(long, env = "WAYBILL_REBUILD_PARALLEL", value_name = "COUNT",
          default_value_t = PARALLEL_DEFAULT,
          value_parser = clap::value_parser!(u8).range(1..=i64::from(PARALLEL_MAX)))]
    parallel: u8,
    #[command(flatten)]
    at: Where,
}

/// Which log.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// Postgres, as `postgres://user:password@host:5432/waybill`. [default: that of the
    /// `waybill up` which runs in --data-dir]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// The data folder of a running `waybill up`.
    #[arg(long, env = "WAYBILL_DATA_DIR", value_name = "FOLDER",
          default_value = DATA_DIR_DEFAULT)]
    data_dir: PathBuf,
    #[command(flatten)]
    tuning: options::Tuning,
}

impl Where {
    /// The data folder of a platform that may run.
    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(super) async fn store(&self) -> anyhow::Result<Store> {
        let running = || Endpoints::read(&self.data_dir).map(|endpoints| endpoints.database_url);
        let database_url = self.database_url.clone().or_else(running).ok_or_else(|| {
            Misconfigured::error(format!(
                "no database: give DATABASE_URL (--database-url), or the data folder of a \
                 running `waybill up` (--data-dir); none runs in {}",
                self.data_dir.display()
            ))
        })?;
        let options = event_store::Options {
            database_url,
            log: self.tuning.log_name.clone(),
            connections_max: self.tuning.database_connections,
        };
        // Nothing is written to the log here, so its writer is not run.
        let (store, _writer) = Store::open(&options, None).await.context("cannot open the log")?;
        Ok(store)
    }
}

/// Runs the command.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let output = Output::standard();
    match options.command {
        Command::Run(options) => role::projections::run(*options).await,
        Command::List { shown, at } => {
            standing::projections(output, &at.store().await?, &shown).await
        }
        Command::Rebuild(Rebuild { names, all, parallel, at }) => {
            let names = if all {
                projections::names().into_iter().map(str::to_owned).collect()
            } else {
                names
            };
            let how =
                projections::Rebuild { parallel, ..projections::Rebuild::new(Chance::system()) };
            let store = at.store().await?;
            for name in &names {
                rebuild(output, &store, name, how).await?;
            }
            Ok(Ending::Orderly)
        }
        Command::Rollback { name, at } => {
            rollback(output, &at.store().await?, &name).await?;
            Ok(Ending::Orderly)
        }
    }
}

/// Rebuilds `name` with a progress bar, and says what came of it.
async fn rebuild(
    output: Output,
    store: &Store,
    name: &str,
    how: projections::Rebuild,
) -> anyhow::Result<()> {
    let mut bar = RebuildProgress::new(name);
    let rebuilt = projections::rebuild(store, name, how, |progress| bar.set(progress)).await;
    drop(bar);
    let rebuilt = rebuilt.with_context(|| format!("{name} was not rebuilt"))?;
    let changed = match rebuilt.unchanged {
        Some(true) => output.paint(Style::Good, "nothing changed"),
        Some(false) => output.paint(Style::Notice, "the new table differs from the old one"),
        None => "the old table was of another version or behind".to_owned(),
    };
    let resumed = if rebuilt.resumed { ", going on with an earlier start" } else { "" };
    output.line(format!(
        "{name}: {} rows from {} events in {} ms{resumed}, and {changed}",
        rebuilt.rows,
        rebuilt.events,
        rebuilt.took.as_millis()
    ));
    Ok(())
}

/// Goes back to the table before the last rebuild of `name`, and says to what.
async fn rollback(output: Output, store: &Store, name: &str) -> anyhow::Result<()> {
    let back = projections::rollback(store, name).await;
    let back = back.with_context(|| format!("{name} was not rolled back"))?;
    let next = if back.folded {
        "it goes on from where it was left".to_owned()
    } else {
        format!("it waits for a release that folds version {}", back.version)
    };
    output.line(format!("{name}: back to the table before, of version {}; {next}", back.version));
    Ok(())
}
