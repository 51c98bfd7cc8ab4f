//! `waybill projections list | rebuild`: how the read models stand, and making one anew.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use event_store::Store;

use super::standing::{self, Shown};
use crate::endpoints::{DATA_DIR_DEFAULT, Endpoints};
use crate::exit::{Ending, Misconfigured};
use crate::options;
use crate::output::{Output, Style};
use crate::progress::Progress;
use crate::role;

/// Maintain, list or rebuild the read models.
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
    /// Fold the whole log into a new table beside the live one, and switch. Queries go on.
    Rebuild {
        /// Which read model, as `order_summary`.
        name: String,
        #[command(flatten)]
        at: Where,
    },
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
        Command::Rebuild { name, at } => {
            rebuild(output, &at.store().await?, &name).await?;
            Ok(Ending::Orderly)
        }
    }
}

/// Rebuilds `name` with a progress bar, and says what came of it.
async fn rebuild(output: Output, store: &Store, name: &str) -> anyhow::Result<()> {
    let mut bar = Progress::new("events", 0);
    let rebuilt = projections::rebuild(store, name, |progress| {
        bar.set(progress.done.unsigned_abs(), progress.total.unsigned_abs());
    })
    .await;
    drop(bar);
    let rebuilt = rebuilt.with_context(|| format!("{name} was not rebuilt"))?;
    let changed = if rebuilt.unchanged {
        output.paint(Style::Good, "nothing changed")
    } else {
        output.paint(Style::Notice, "the new table differs from the old one")
    };
    output.line(format!(
        "{name}: {} rows from {} events in {} ms, and {changed}",
        rebuilt.rows,
        rebuilt.events,
        rebuilt.took.as_millis()
    ));
    Ok(())
}
