//! `waybill demo`: the whole story in a terminal, through the public APIs only.
//!
//! [`stage`] runs `waybill up` as a process of its own, so that it can be killed; [`shop`] speaks
//! to the APIs; [`story`] plays seven scenes and [`ending`] looks at the books; [`replay`] plays
//! a real shop's purchase log instead, and [`balance`] compares the books to the cent.

mod balance;
mod check;
mod ending;
mod purchases;
mod replay;
mod shop;
mod stage;
mod story;

use std::path::PathBuf;

use clap::Args;

use crate::exit::Ending;
use crate::output::{Output, Style};
use crate::supervisor::Signals;
use check::Checks;
use stage::Stage;

/// Watch orders being placed, fulfilled, declined, cancelled and compensated, on a platform
/// that is started for it and gone afterwards. Ends with 0 only if every ending is right.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Play a purchase log instead of the story: lines of id, customer, date (YYYYMMDD),
    /// number of units, dollars.
    #[arg(long, value_name = "FILE")]
    purchases: Option<PathBuf>,
    /// Chooses which purchases are declined and which are cancelled, one in fifty each.
    #[arg(long, value_name = "NUMBER", default_value_t = 1997)]
    seed: u64,
    /// How many purchases are under way at once.
    #[arg(long, value_name = "COUNT", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=512))]
    in_flight: u16,
    /// Keep the data folder, to look at it with `waybill up --data-dir`.
    #[arg(long)]
    keep: bool,
}

/// Plays it, and leaves nothing behind, however it ends.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let mut signals = Signals::listen()?;
    let output = Output::standard();
    let mut stage = Stage::new(options.keep)?;
    let played = tokio::select! {
        played = play(&options, output, &mut stage) => Some(played),
        () = signals.next() => None,
    };
    if matches!(played, Some(Err(_) | Ok(false))) {
        output.line(output.paint(Style::Dim, stage.log_tail()));
    }
    stage.close().await?;
    match played {
        None => Ok(Ending::Cut),
        Some(Err(error)) => Err(error),
        Some(Ok(false)) => Ok(Ending::Failed),
        Some(Ok(true)) => {
            next(output, &options, &stage);
            Ok(Ending::Orderly)
        }
    }
}

/// Whether every ending was right.
async fn play(options: &Options, output: Output, stage: &mut Stage) -> anyhow::Result<bool> {
    let mut checks = Checks::new(output);
    match &options.purchases {
        None => {
            Box::pin(story::play(output, stage, &mut checks)).await?;
            Box::pin(ending::play(output, stage, &mut checks)).await?;
        }
        Some(file) => {
            let play = replay::Play { seed: options.seed, in_flight: options.in_flight.into() };
            Box::pin(replay::play(output, stage, &mut checks, file, play)).await?;
        }
    }
    output.gap();
    Ok(checks.verdict())
}

/// What to try next.
fn next(output: Output, options: &Options, stage: &Stage) {
    output.gap();
    output.line(output.paint(Style::Bold, "What to try next"));
    if options.keep {
        output.line(format!("  waybill up --data-dir {}   look round", stage.data_dir().display()));
    }
    let lines = [
        ("make up", "the same platform, for as long as you like, with lines to paste"),
        ("make demo-real", "a real shop's 6,919 purchases, balanced to the cent"),
        ("make test", "the same promises, as tests on real Postgres and JetStream"),
        ("waybill --help", "every role, every option"),
        ("ARCHITECTURE.md", "one order, followed through the code"),
    ];
    for (what, why) in lines {
        output.line(format!("  {what:<16} {why}"));
    }
}
