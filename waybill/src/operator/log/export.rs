//! `waybill log export`: everything that the log is, into a file.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use clap::Args;
use event_store::log::Export;

use super::Where;
use super::file::{Format, STANDARD, Writer};
use super::pace::Pace;
use crate::exit::Ending;

/// Write events, ledger and seals into a file that needs no database: `waybill log verify --file`
/// checks it, `waybill log import` makes a log of it. Personal data stays encrypted.
///
/// Events may be appended meanwhile; they are not in the file.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    at: Where,
    /// How the file is written.
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// The first position. [default: the first there is]
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    from: Option<i64>,
    /// The last position. [default: the last there is]
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    to: Option<i64>,
    /// Where to, or `-` for standard output. Has its name when it is whole, and `.part` behind
    /// it until then.
    #[arg(long, value_name = "FILE")]
    output: String,
}

/// Runs the command.
pub(super) async fn run(options: Options) -> anyhow::Result<Ending> {
    let mut pace = Pace::start();
    let pool = options.at.reader().await?;
    let unread = "cannot read the log (did `waybill migrate` run?)";
    let export = Export::open(&pool, options.from, options.to).await.context(unread)?;
    let header = export.header();
    let writer = Writer::create(options.format, &options.output, &header)?;
    let writer = Arc::new(Mutex::new(writer));
    let rows = Arc::clone(&writer);
    let put = move |record: event_store::log::Record<'_>| {
        rows.lock().unwrap_or_else(PoisonError::into_inner).put(record)
    };
    let counts = Box::pin(export.run(put, |walked| pace.set(walked))).await?;
    // The thread that wrote has ended, so nobody else holds it.
    let writer = Arc::into_inner(writer).context("the file is still being written")?;
    writer.into_inner().unwrap_or_else(PoisonError::into_inner).finish(counts)?;
    let (took, rate) = pace.end(counts.events);
    let file = if options.output == STANDARD { "standard output" } else { &options.output };
    // Standard output may be the file.
    let _ = writeln!(
        io::stderr().lock(),
        "{} events and {} answers, positions {} to {}, in {file}: {} ms, {rate} events a second",
        counts.events,
        counts.answers,
        header.from,
        header.to,
        took.as_millis()
    );
    Ok(Ending::Orderly)
}
