//! `waybill projections list` and `waybill consumers`: how far behind the log everybody is, once or
//! again and again, and over how many workers each consumer is spread.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use event_store::{Health, Progress, Store};
use serde_json::{Value, json};

use super::projections::Where;
use crate::exit::{Ending, Misconfigured};
use crate::output::{Output, Style};
use crate::supervisor::Signals;

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How a list is shown.
#[derive(Debug, Args)]
pub(super) struct Shown {
    /// As an array of JSON; with --watch one line a second.
    #[arg(long)]
    json: bool,
    /// Look again every second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

/// Show who follows the log and how far behind each is, or spread one over more workers.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every worker of every consumer: its slices, where it is, and whether it moves.
    List {
        #[command(flatten)]
        shown: Shown,
        #[command(flatten)]
        at: Where,
    },
    /// Spread a consumer over so many workers, while events flow. The processes that run it share
    /// them among them.
    Scale {
        /// Which consumer, as `waybill consumers list` names it: `projection/order_summary`.
        consumer: String,
        /// How many workers, from 1 to 64.
        workers: i16,
        #[command(flatten)]
        at: Where,
    },
}

/// Runs the command.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let output = Output::standard();
    match options.command {
        Command::List { shown, at } => {
            let store = at.store().await?;
            again(&shown, async || {
                let parts = event_store::positions(store.pool()).await;
                consumers(output, &shown, &parts.context("cannot read the checkpoints")?)
            })
            .await
        }
        Command::Scale { consumer, workers, at } => {
            if workers > 1 && !projections::spreads(&consumer) {
                return Err(Misconfigured::error(format!(
                    "{consumer} cannot be spread: events of several streams change one of its rows, \
                     so one worker folds them all"
                )));
            }
            let store = at.store().await?;
            match event_store::scale(store.pool(), &consumer, workers).await {
                Ok(()) => {}
                Err(event_store::Error::Config(why)) => return Err(Misconfigured::error(why)),
                Err(error) => return Err(error).context("nothing was changed"),
            }
            output.line(format!(
                "{consumer} is to have {workers} workers; `waybill consumers list` shows when it has"
            ));
            Ok(Ending::Orderly)
        }
    }
}

/// Shows something once, or every second until a signal comes or nobody reads any more.
async fn again(
    shown: &Shown,
    mut show: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Ending> {
    if !shown.watch {
        show().await?;
        return Ok(Ending::Orderly);
    }
    let mut signals = Signals::listen()?;
    while !Output::is_unread() {
        if !shown.json && io::stdout().is_terminal() {
            Output::standard().clear();
        }
        let look = async {
            show().await?;
            tokio::time::sleep(WATCH_EVERY).await;
            anyhow::Ok(())
        };
        tokio::select! {
            () = signals.next() => break,
            looked = look => looked?,
        }
    }
    Ok(Ending::Orderly)
}

/// A list as JSON: for people to read, or a line a second.
fn print(output: Output, shown: &Shown, objects: Vec<Value>) -> anyhow::Result<()> {
    let list = Value::Array(objects);
    let text = if shown.watch { list.to_string() } else { serde_json::to_string_pretty(&list)? };
    output.line(text);
    Ok(())
}

fn consumers(output: Output, shown: &Shown, parts: &[Progress]) -> anyhow::Result<()> {
    if shown.json {
        let object = |part: &Progress| {
            json!({
                "consumer": part.consumer, "slices": part.slices().to_string(),
                "health": part.health().as_str(), "owner": part.owner, "alive": part.held,
                "epoch": part.epoch, "position": part.position, "head": part.head,
                "lag_events": part.lag_events(), "lag_seconds": part.lag_seconds,
            })
        };
        return print(output, shown, parts.iter().map(object).collect());
    }
    let title = format!(
        "{:<30} {:<10} {:<8} {:>10} {:>8} {:>7} {}",
        "consumer", "slices", "health", "position", "lag", "lag_s", "owner"
    );
    output.line(output.paint(Style::Bold, title));
    for part in parts {
        let owner = match &part.owner {
            Some(owner) if part.held => owner.clone(),
            Some(owner) => format!("nobody ({owner} before)"),
            None => "nobody".to_owned(),
        };
        let line = format!(
            "{:<30} {:<10} {:<8} {:>10} {:>8} {:>7} {owner}",
            part.consumer,
            part.slices().to_string(),
            part.health().as_str(),
            part.position,
            part.lag_events(),
            part.lag_seconds,
        );
        let stuck = part.health() == Health::Stuck;
        output.line(if stuck { output.paint(Style::Bad, line) } else { line });
    }
    Ok(())
}

/// The read models, as a table or as JSON.
pub(super) async fn projections(
    output: Output,
    store: &Store,
    shown: &Shown,
) -> anyhow::Result<Ending> {
    again(shown, async || {
        let statuses = projections::list(store.pool()).await;
        read_models(output, shown, &statuses.context("cannot read the checkpoints")?)
    })
    .await
}

fn read_models(
    output: Output,
    shown: &Shown,
    statuses: &[projections::Status],
) -> anyhow::Result<()> {
    if shown.json {
        let objects = statuses.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
        return print(output, shown, objects);
    }
    let title = format!(
        "{:<20} {:>7} {:>7} {:<8} {:>10} {:>10} {:>7} {:>7} {:>7}",
        "projection", "version", "workers", "health", "position", "head", "lag", "lag_s", "parked"
    );
    output.line(output.paint(Style::Bold, title));
    for status in statuses {
        let line = format!(
            "{:<20} {:>7} {:>7} {:<8} {:>10} {:>10} {:>7} {:>7} {:>7}",
            status.name,
            status.version,
            status.workers.len(),
            status.health,
            status.position,
            status.head,
            status.lag_events,
            status.lag_seconds,
            status.parked
        );
        let bad = status.parked > 0 || status.health == Health::Stuck.as_str();
        output.line(if bad { output.paint(Style::Bad, line) } else { line });
    }
    Ok(())
}
