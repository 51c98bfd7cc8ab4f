//! `waybill log import`: a log, made of what was exported from another.

use anyhow::{Context as _, bail};
use clap::Args;
use event_store::log::{Batch, Import, Intake, Report, Taken, Walked, Wanted};
use tokio::sync::mpsc;

use super::file::{self, Item};
use super::pace::Pace;
use super::{Where, connect, verify};
use crate::exit::{Ending, Misconfigured};
use crate::output::Output;

/// How many batches may wait for Postgres.
const BATCHES_WAITING_MAX: usize = 4;

/// How often a walk through a file that is only checked tells how far it is.
const TOLD_EVERY_ROWS: u64 = 4096;

/// Fill an empty log from an exported file: positions, versions, ids and times as they were, the
/// ledger, and the seals. All of it is there in the end, or nothing is; whatever was cut off is
/// simply done again. As the owner of the database, after `waybill migrate`.
///
/// What the file holds is checked on the way and the whole log once more at the end. Ends with 1
/// where something does not hold.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    at: Where,
    /// The file, of either format; `-` for lines of JSON on standard input.
    #[arg(value_name = "FILE")]
    file: String,
}

/// Runs the command.
pub(super) async fn run(output: Output, options: Options) -> anyhow::Result<Ending> {
    let owner_url = options.at.owner_url()?;
    let mut import = Import::begin(&owner_url).await.map_err(refused)?;
    let mut pace = Pace::start();
    let (sender, mut batches) = mpsc::channel(BATCHES_WAITING_MAX);
    let file = options.file;
    let reading = tokio::task::spawn_blocking(move || {
        let send = |batch, walked| match sender.blocking_send((batch, walked)) {
            Ok(()) => Ok(()),
            Err(_) => bail!("the database does not take any more"),
        };
        take(&file, true, Vec::new(), send)
    });
    let mut failed = Ok(());
    while let Some((batch, walked)) = batches.recv().await {
        failed = import.write(batch).await;
        if failed.is_err() {
            break;
        }
        pace.set(walked);
    }
    drop(batches);
    let taken = reading.await.context("the reader panicked")?;
    failed.context("nothing was imported")?;
    let taken = taken.context("nothing was imported")?;
    if !taken.report.is_clean() {
        verify::show(output, &taken.report);
        output.line("nothing was imported");
        return Ok(Ending::Failed);
    }
    let events = taken.report.events;
    import.commit(taken).await.map_err(refused).context("nothing was imported")?;
    let (took, rate) = pace.end(events);
    output.line(format!("{events} events imported in {} ms: {rate} a second", took.as_millis()));

    let report = whole(&owner_url).await.context("imported, but the log could not be verified")?;
    verify::show(output, &report);
    Ok(if report.is_clean() { Ending::Orderly } else { Ending::Failed })
}

fn refused(error: event_store::Error) -> anyhow::Error {
    match error {
        event_store::Error::Config(why) => Misconfigured::error(why),
        error => anyhow::Error::new(error).context("the log cannot be written"),
    }
}

async fn whole(owner_url: &str) -> anyhow::Result<Report> {
    let pool = connect(owner_url).await?;
    let mut pace = Pace::start();
    let walk = event_store::log::verify(&pool, Wanted::default(), |walked| pace.set(walked));
    Ok(Box::pin(walk).await?)
}

/// Reads a file, checks its rows, and hands on those that are kept; blocks.
pub(super) fn take(
    file: &str,
    keep: bool,
    expected: Vec<(i64, [u8; 32])>,
    mut send: impl FnMut(Batch, Walked) -> anyhow::Result<()>,
) -> anyhow::Result<Taken> {
    let mut expected = Some(expected);
    let mut intake: Option<Intake> = None;
    let (mut said, mut rows) = (None, 0_u64);
    file::read(file, &mut |item| {
        match (item, &mut intake) {
            (Item::Header(header), none @ None) => {
                if keep && header.from > 1 {
                    bail!("it begins at position {}, and a log begins at 1", header.from);
                }
                *none = Some(Intake::new(header, keep, expected.take().unwrap_or_default()));
            }
            (Item::Record(record), Some(intake)) => {
                let batch = intake.take(record);
                rows += 1;
                // What does not hold is read to its end, and written no further.
                match batch {
                    Some(batch) if intake.is_clean() => send(batch, intake.walked())?,
                    None if !keep && rows % TOLD_EVERY_ROWS == 0 => {
                        send(Batch::default(), intake.walked())?;
                    }
                    _ => {}
                }
            }
            (Item::End(counts), Some(_)) if said.is_none() => said = Some(counts),
            _ => bail!("the file does not begin as an exported log does, or begins again"),
        }
        Ok(())
    })?;
    let intake = intake.context("the file is empty, or no exported log")?;
    Ok(intake.finish(said))
}
