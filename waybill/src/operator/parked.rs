//! `waybill parked list | show`: what consumers could not take, and what waits behind it.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use event_store::parked::{self, Group, Parked};
use schemas::Timestamp;
use serde_json::{Value, json};

use super::projections::Where;
use crate::exit::Ending;
use crate::output::{Output, Style};

/// Show which streams consumers have parked, and why.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What is parked, by consumer and cause, the most streams first.
    List {
        /// As an array of JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: Where,
    },
    /// The streams of one cause, oldest first. Ends with 1 where nothing is parked for it.
    Show {
        /// The cause, as `waybill parked list` names it.
        fingerprint: String,
        /// As an array of JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: Where,
    },
}

/// Runs the command.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let output = Output::standard();
    match options.command {
        Command::List { json, at } => {
            let groups = parked::groups(at.store().await?.pool()).await;
            list(output, json, &groups.context("cannot read what is parked")?)?;
            Ok(Ending::Orderly)
        }
        Command::Show { fingerprint, json, at } => {
            let streams = parked::list(at.store().await?.pool(), Some(&fingerprint)).await;
            let streams = streams.context("cannot read what is parked")?;
            show(output, json, &streams)?;
            Ok(if streams.is_empty() { Ending::Failed } else { Ending::Orderly })
        }
    }
}

fn list(output: Output, json: bool, groups: &[Group]) -> anyhow::Result<()> {
    let object = |group: &Group| {
        json!({
            "consumer": group.consumer, "fingerprint": group.fingerprint,
            "streams": group.streams, "waiting": group.waiting, "since": time(group.since),
            "reason": group.reason,
        })
    };
    if json {
        return print(output, groups.iter().map(object).collect());
    }
    let title = format!(
        "{:<28} {:<16} {:>7} {:>8} {:<20} {}",
        "consumer", "fingerprint", "streams", "waiting", "since", "reason"
    );
    output.line(output.paint(Style::Bold, title));
    for Group { consumer, fingerprint, streams, waiting, since, reason } in groups {
        let (since, reason) = (time(*since), one_line(reason));
        output.line(format!(
            "{consumer:<28} {fingerprint:<16} {streams:>7} {waiting:>8} {since:<20} {reason}"
        ));
    }
    end(output, groups.len())
}

fn show(output: Output, json: bool, streams: &[Parked]) -> anyhow::Result<()> {
    let object = |parked: &Parked| {
        json!({
            "consumer": parked.consumer, "key": parked.key, "category": parked.category,
            "stream_id": parked.stream_id, "position": parked.first_position,
            "waiting": parked.waiting, "since": time(parked.parked_at), "reason": parked.reason,
        })
    };
    if json {
        return print(output, streams.iter().map(object).collect());
    }
    let title = format!(
        "{:<28} {:<50} {:>10} {:>8} {:<20} {}",
        "consumer", "stream", "position", "waiting", "since", "reason"
    );
    output.line(output.paint(Style::Bold, title));
    for parked in streams {
        let stream = format!("{}/{}", parked.category, parked.stream_id);
        output.line(format!(
            "{:<28} {stream:<50} {:>10} {:>8} {:<20} {}",
            parked.consumer,
            parked.first_position,
            parked.waiting,
            time(parked.parked_at),
            one_line(&parked.reason)
        ));
    }
    end(output, streams.len())
}

/// Says where the list may go on.
fn end(output: Output, shown: usize) -> anyhow::Result<()> {
    if shown == usize::try_from(parked::LIST_MAX)? {
        output.line(output.paint(Style::Dim, format!("no more than {shown} are shown")));
    }
    Ok(())
}

fn print(output: Output, objects: Vec<Value>) -> anyhow::Result<()> {
    output.line(serde_json::to_string_pretty(&Value::Array(objects))?);
    Ok(())
}

fn time(at: Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// A reason may hold what a database said, in several lines.
fn one_line(reason: &str) -> String {
    reason.split_whitespace().collect::<Vec<_>>().join(" ")
}
