//! `waybill streams show`: a stream and its state, now or at a moment of the past.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use event_store::{At, History, Moment, Stored};
use schemas::{CommandId, StreamId, Timestamp, Version};
use serde_json::{Value, json};

use crate::endpoints::{DATA_DIR_DEFAULT, Endpoints};
use crate::exit::{Ending, Misconfigured};
use crate::output::{Output, Style};
use crate::role::query_api;

/// Connections that this needs.
const CONNECTIONS_MAX: u32 = 2;
/// How many events are read at a time.
const PAGE_EVENTS: u32 = 500;

/// Look into a stream of the log.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a stream's events and its folded state, now or at a moment of the past. What is
    /// personal in them stays sealed.
    Show(Box<Show>),
}

#[derive(Debug, Args)]
struct Show {
    /// As `ord_0197…`, `pay_…`, `rsv_…`, `ful_…`, `sag_…`, as `order/0197…`, or as `sku/mug`.
    stream: StreamId,
    /// A version, or a time in RFC 3339: what the log had recorded by then, by the database's
    /// clock. [default: now]
    #[arg(long, value_name = "VERSION|TIME")]
    at: Option<When>,
    /// Print what stands in the events as well.
    #[arg(long)]
    payload: bool,
    /// Print one JSON object, payloads included.
    #[arg(long)]
    json: bool,
    /// Leave out the events up to this version. The state counts them all the same.
    #[arg(long, value_name = "VERSION", default_value_t = 0,
          value_parser = clap::value_parser!(i64).range(0..))]
    after: Version,
    /// How many events are printed at most.
    #[arg(long, value_name = "COUNT", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(0..=100_000))]
    limit: u32,
    /// Postgres, as `postgres://user:password@host:5432/waybill`; a member of `waybill_read`
    /// will do. [default: that of the `waybill up` which runs in --data-dir]
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// The data folder of a running `waybill up`.
    #[arg(long, env = "WAYBILL_DATA_DIR", value_name = "FOLDER",
          default_value = DATA_DIR_DEFAULT)]
    data_dir: PathBuf,
}

/// A moment as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct When(At);

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(version) = text.parse() {
            return Ok(Self(At::Version(version)));
        }
        let time = text.parse::<Timestamp>();
        time.map(|time| Self(At::Recorded(time))).map_err(|error| {
            format!("neither a version nor a time like 2026-11-23T08:00:00Z: {error}")
        })
    }
}

/// Runs the command.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let Command::Show(show) = options.command;
    let history = show.history()?;
    let at = show.at.map_or(At::End, |when| when.0);
    let moment = history.moment(show.stream, at).await.context("cannot look up the stream")?;
    let Some(moment) = moment else { bail!("there is no stream {}", show.stream) };
    if let At::Version(asked) = at
        && asked != moment.version
    {
        bail!("{} has the versions 0 to {}, not {asked}", show.stream, moment.latest);
    }
    let output = Output::standard();
    if show.json {
        show.print_json(output, &history, moment).await?;
    } else {
        show.print_text(output, &history, moment).await?;
    }
    Ok(Ending::Orderly)
}

impl Show {
    fn history(&self) -> anyhow::Result<History> {
        let running = || Endpoints::read(&self.data_dir).map(|endpoints| endpoints.reading_url);
        let database_url = self.database_url.clone().or_else(running).ok_or_else(|| {
            Misconfigured::error(format!(
                "no database: give DATABASE_URL (--database-url), or the data folder of a \
                 running `waybill up` (--data-dir); none runs in {}",
                self.data_dir.display()
            ))
        })?;
        Ok(History::new(query_api::pool(&database_url, CONNECTIONS_MAX)?))
    }

    /// Hands the events to `tell`, page by page, and gives the version of the last.
    async fn events(
        &self,
        history: &History,
        until: Version,
        mut tell: impl FnMut(&Stored) -> anyhow::Result<()>,
    ) -> anyhow::Result<Version> {
        let (mut last, mut left) = (self.after, self.limit);
        while left > 0 && last < until {
            let limit = i64::from(left.min(PAGE_EVENTS));
            let page = history.stored(self.stream, last, until, limit).await;
            let page = page.context("cannot read the stream")?;
            for event in &page {
                tell(event)?;
                last = event.version;
            }
            left -= u32::try_from(page.len()).unwrap_or(left).min(left);
            if page.is_empty() {
                break;
            }
        }
        Ok(last)
    }

    async fn print_text(
        &self,
        output: Output,
        history: &History,
        moment: Moment,
    ) -> anyhow::Result<()> {
        let Moment { version, latest } = moment;
        let title = format!("{}  version {version} of {latest}", self.stream);
        output.line(output.paint(Style::Bold, title));
        let tell = |event: &Stored| {
            output.line(line(output, event));
            if self.payload {
                let payload: Value = serde_json::from_str(&event.payload)?;
                for line in serde_json::to_string_pretty(&payload)?.lines() {
                    output.line(output.paint(Style::Dim, format_args!("         {line}")));
                }
            }
            Ok(())
        };
        let last = self.events(history, version, tell).await?;
        if last < version {
            let left = version - last;
            output.line(format!("  … and {left} more: --after {last}"));
        }
        output.gap();
        output.line(output.paint(Style::Bold, format_args!("state at version {version}")));
        let state = ::query_api::state(history, self.stream, version).await;
        let state = state.context("cannot fold the stream")?;
        output.line(serde_json::to_string_pretty(&state)?);
        Ok(())
    }

    async fn print_json(
        &self,
        output: Output,
        history: &History,
        moment: Moment,
    ) -> anyhow::Result<()> {
        let Moment { version, latest } = moment;
        let mut events = Vec::new();
        let tell = |event: &Stored| {
            events.push(object(event)?);
            Ok(())
        };
        let last = self.events(history, version, tell).await?;
        let state = ::query_api::state(history, self.stream, version).await;
        let whole = json!({
            "stream": self.stream.to_string(),
            "latest": latest,
            "version": version,
            "state": state.context("cannot fold the stream")?,
            "events": events,
            "next_after": (last < version).then_some(last),
        });
        output.line(serde_json::to_string_pretty(&whole)?);
        Ok(())
    }
}

/// One event in one line: place, time, what, who, and what led to it.
fn line(output: Output, event: &Stored) -> String {
    let caused = if event.causation_id == event.command_id {
        String::new()
    } else {
        format!(" because of {}", event.causation_id.simple())
    };
    format!(
        "  {} {} {} {:<32} {} {}",
        output.paint(Style::Key, format_args!("{:>5}", event.version)),
        output.paint(Style::Dim, format_args!("#{:<9}", event.position)),
        event.recorded_at.format("%Y-%m-%dT%H:%M:%S%.3fZ"),
        event.event_type,
        output.paint(Style::Key, format_args!("{:<16}", event.actor)),
        output.paint(Style::Dim, format_args!("{}{caused}", CommandId::new(event.command_id))),
    )
}

fn object(event: &Stored) -> anyhow::Result<Value> {
    Ok(json!({
        "version": event.version,
        "position": event.position,
        "id": schemas::EventId::new(event.event_id),
        "type": event.event_type,
        "occurred_at": event.occurred_at,
        "recorded_at": event.recorded_at,
        "actor": event.actor,
        "command_id": CommandId::new(event.command_id),
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "traceparent": event.traceparent,
        "payload": serde_json::from_str::<Value>(&event.payload)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_version_or_a_time() {
        assert_eq!("12".parse(), Ok(When(At::Version(12))));
        let time = "2026-11-23T08:00:00Z".parse::<Timestamp>().unwrap();
        for text in ["2026-11-23T08:00:00Z", "2026-11-23T09:00:00+01:00"] {
            assert_eq!(text.parse(), Ok(When(At::Recorded(time))), "{text}");
        }
        assert!("yesterday".parse::<When>().is_err());
        assert!("2026-11-23".parse::<When>().is_err());
    }
}
