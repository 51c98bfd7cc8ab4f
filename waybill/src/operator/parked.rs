//! `waybill parked`: what consumers could not take, what waits behind it, and what to do about it.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use event_store::parked::{self, Act, Action, By, Extent, Fingerprint, Group, Parked, Selection};
use schemas::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::projections::Where;
use crate::exit::Ending;
use crate::output::{Output, Style};

/// Streams that one call shows.
const STREAMS_MAX: i64 = 1_000;

/// Acts that one call shows.
const ACTS_MAX: i64 = 100;

/// Show which streams consumers have parked and why, try them again, or leave their events out.
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
    /// Try the streams of one cause again, in order, after what was wrong is mended. What is poison
    /// still stays parked, from that event on. Ends with 1 where nothing is parked for it.
    Retry {
        #[command(flatten)]
        what: What,
        /// Streams a second.
        #[arg(long, default_value_t = 10,
              value_parser = clap::value_parser!(u16).range(1..=i64::from(parked::RATE_MAX)))]
        rate: u16,
        #[command(flatten)]
        at: Where,
    },
    /// Leave out every event that waits in the streams of one cause, for good; the consumer goes on
    /// with what comes after. Ends with 1 where nothing is parked for it.
    Drop {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        at: Where,
    },
    /// What people did about parked streams, the latest 100 first.
    Acts {
        /// As an array of JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: Where,
    },
    /// The streams of one cause, oldest first. Ends with 1 where nothing is parked for it.
    Show {
        /// The cause, as `waybill parked list` names it.
        fingerprint: Fingerprint,
        /// As an array of JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: Where,
    },
}

/// Which streams, and who says so.
#[derive(Debug, Args)]
struct What {
    /// The cause, as `waybill parked list` names it.
    fingerprint: Fingerprint,
    /// Only this consumer's.
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Only this key, as `waybill parked show --json` names it.
    #[arg(long)]
    key: Option<Uuid>,
    /// Why, for those who ask later.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who asks.
    #[arg(long, env = "USER", value_name = "NAME", default_value = "operator")]
    actor: String,
    /// Only tell how much it would be about.
    #[arg(long)]
    dry_run: bool,
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
            let store = at.store().await?;
            let streams = parked::list(store.pool(), Some(&fingerprint), None, STREAMS_MAX).await;
            let streams = streams.context("cannot read what is parked")?;
            show(output, json, &streams)?;
            Ok(if streams.is_empty() { Ending::Failed } else { Ending::Orderly })
        }
        Command::Retry { what, rate, at } => {
            let (extent, verb) = act(at, what, Action::Retry { rate }).await?;
            let Extent { streams, events } = extent;
            output.line(format!(
                "{streams} streams with {events} events {verb} tried again, {rate} streams a second"
            ));
            Ok(if streams == 0 { Ending::Failed } else { Ending::Orderly })
        }
        Command::Drop { what, at } => {
            let (Extent { streams, events }, verb) = act(at, what, Action::Drop).await?;
            output.line(format!("{events} events of {streams} streams {verb} left out"));
            Ok(if streams == 0 { Ending::Failed } else { Ending::Orderly })
        }
        Command::Acts { json, at } => {
            let acts = parked::acts(at.store().await?.pool(), None, ACTS_MAX).await;
            told(output, json, &acts.context("cannot read what was done")?)?;
            Ok(Ending::Orderly)
        }
    }
}

/// Does it, or tells how much it would be about; and how to say which of the two that was.
async fn act(at: Where, what: What, action: Action) -> anyhow::Result<(Extent, &'static str)> {
    let What { fingerprint, consumer, key, reason, actor, dry_run } = what;
    let (selection, by) = (Selection { fingerprint, consumer, key }, By { actor, reason });
    let store = at.store().await?;
    let extent = parked::act(store.pool(), &selection, action, &by, dry_run).await;
    let extent = extent.context("nothing was done")?;
    Ok((extent, if dry_run { "would be" } else { "are" }))
}

fn told(output: Output, json: bool, acts: &[Act]) -> anyhow::Result<()> {
    let object = |act: &Act| {
        json!({
            "act": act.act, "at": time(act.acted_at), "actor": act.actor, "action": act.action,
            "fingerprint": act.fingerprint, "consumer": act.consumer, "key": act.key,
            "streams": act.streams, "events": act.events, "reason": act.reason,
        })
    };
    if json {
        return print(output, acts.iter().map(object).collect());
    }
    let title = format!(
        "{:<20} {:<12} {:<6} {:<16} {:>7} {:>8} {}",
        "at", "actor", "action", "fingerprint", "streams", "events", "reason"
    );
    output.line(output.paint(Style::Bold, title));
    for act in acts {
        let fingerprint = act.fingerprint.as_ref().map(ToString::to_string).unwrap_or_default();
        let (at, reason) = (time(act.acted_at), one_line(&act.reason));
        output.line(format!(
            "{at:<20} {:<12} {:<6} {fingerprint:<16} {:>7} {:>8} {reason}",
            act.actor, act.action, act.streams, act.events
        ));
    }
    Ok(())
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
    end(output, groups.len(), parked::LIST_MAX)
}

fn show(output: Output, json: bool, streams: &[Parked]) -> anyhow::Result<()> {
    let object = |parked: &Parked| {
        json!({
            "consumer": parked.consumer, "key": parked.key, "category": parked.category,
            "stream_id": parked.stream_id, "position": parked.first_position,
            "waiting": parked.waiting, "since": time(parked.parked_at), "reason": parked.reason,
            "tries": parked.tries, "retry_at": parked.retry_at.map(time),
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
    end(output, streams.len(), STREAMS_MAX)
}

/// Says where the list may go on.
fn end(output: Output, shown: usize, most: i64) -> anyhow::Result<()> {
    if shown == usize::try_from(most)? {
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
