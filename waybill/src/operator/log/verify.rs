//! `waybill log verify`: whether the log is what it was.

use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;
use event_store::log::{Report, VIOLATIONS_MAX, Violation, Walked, Wanted};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Where;
use super::import::take;
use super::pace::Pace;
use crate::exit::{Ending, Misconfigured};
use crate::output::{Output, Style};

/// Walk the log and check that nothing is missing, doubled, out of order or changed: positions,
/// versions, event ids, slices, times, the ledger, the `streams` table, and the seals.
///
/// Ends with 0 where everything holds, with 1 where something does not, and with 2 where it
/// could not look. Events may be appended meanwhile.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    at: Where,
    /// Look at an exported file instead of a database: everything but the `streams` table.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to"])]
    file: Option<String>,
    /// The first position to look at. [default: the first there is]
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    from: Option<i64>,
    /// The last position to look at. [default: the last there is]
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    to: Option<i64>,
    /// A seal that was kept elsewhere; the log must still have it. May be given several times.
    #[arg(long, value_name = "SEGMENT:HEX")]
    expect: Vec<Expected>,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
}

/// A seal that was kept elsewhere.
#[derive(Debug, Clone)]
struct Expected {
    segment: i64,
    seal: [u8; 32],
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (segment, seal) = text.split_once(':')?;
            let segment = segment.parse().ok().filter(|segment| *segment > 0)?;
            let seal = hex::decode(seal).ok()?.try_into().ok()?;
            Some(Self { segment, seal })
        };
        parse().ok_or_else(|| {
            "a seal looks like 17:3f…, a segment's number and 64 hexadecimal digits, as it was \
             logged when the segment was sealed"
                .to_owned()
        })
    }
}

/// Runs the command.
pub(super) async fn run(output: Output, options: Options) -> anyhow::Result<Ending> {
    let expected = options.expect.iter().map(|expected| (expected.segment, expected.seal));
    let expected = expected.collect();
    let mut pace = Pace::start();
    let walk = async {
        if let Some(file) = &options.file {
            return in_file(file.clone(), expected, &mut pace).await;
        }
        let wanted = Wanted { from: options.from, to: options.to, expected };
        let pool = options.at.reader().await?;
        event_store::log::verify(&pool, wanted, |walked| pace.set(walked))
            .await
            .context("cannot read the log to its end (did `waybill migrate` run?)")
    };
    // Whoever could not look must not be taken for whoever found something.
    let report = walk.await.map_err(|error| Misconfigured::error(format!("{error:#}")))?;
    let (took, rate) = pace.end(report.events);
    if options.json {
        let mut report = to_json(&report);
        report["took_ms"] = json!(took.as_millis());
        report["events_per_second"] = json!(rate);
        output.line(report);
    } else {
        show(output, &report);
        output.line(format!("{} ms, {rate} events a second", took.as_millis()));
    }
    Ok(if report.is_clean() { Ending::Orderly } else { Ending::Failed })
}

/// Checks an exported file.
async fn in_file(
    file: String,
    expected: Vec<(i64, [u8; 32])>,
    pace: &mut Pace,
) -> anyhow::Result<Report> {
    let (sender, mut walked) = watch::channel(Walked { done: 0, total: 0 });
    let reading = tokio::task::spawn_blocking(move || {
        take(&file, false, expected, |_, walked| {
            sender.send_replace(walked);
            Ok(())
        })
    });
    while walked.changed().await.is_ok() {
        pace.set(*walked.borrow_and_update());
    }
    Ok(reading.await.context("the reader panicked")??.report)
}

/// The report for people.
pub(super) fn show(output: Output, report: &Report) {
    let Report { from, to, events, answers, streams, segments, sealed_to, .. } = report;
    output.line(format!(
        "positions {from} to {to}: {events} events of {streams} streams, {answers} answers in the \
         ledger, {segments} seals"
    ));
    if let Some(seal) = &report.last_seal {
        output.line(format!("the last seal, to be kept elsewhere: {seal}"));
    }
    if sealed_to < to {
        let tail = to - sealed_to.max(&(from - 1));
        output.line(format!("not sealed yet: the last {tail} events of them"));
    }
    let total = report.violations.total();
    if total == 0 {
        output.line(output.paint(Style::Good, "everything holds"));
        return;
    }
    for violation in &report.violations.named {
        output.line(output.paint(Style::Bad, line(violation)));
    }
    if total > VIOLATIONS_MAX as u64 {
        output.line(format!("… {total} in all; the first {VIOLATIONS_MAX} are named"));
    }
    for (kind, count) in &report.violations.counts {
        output.line(format!("{count} of {kind}: {}", kind.advice()));
    }
}

fn line(violation: &Violation) -> String {
    let at = violation.position.map(|position| format!(" at position {position}"));
    let stream = violation.stream.map(|stream| format!(" in stream {}", stream.simple()));
    format!(
        "{}{}{}: {}",
        violation.kind,
        at.unwrap_or_default(),
        stream.unwrap_or_default(),
        violation.what
    )
}

/// The report for programs.
pub(super) fn to_json(report: &Report) -> Value {
    let violations = report.violations.named.iter().map(|violation| {
        json!({
            "kind": violation.kind.as_str(),
            "position": violation.position,
            "stream": violation.stream,
            "what": violation.what,
            "do": violation.kind.advice(),
        })
    });
    json!({
        "clean": report.is_clean(),
        "from": report.from,
        "to": report.to,
        "events": report.events,
        "answers": report.answers,
        "streams": report.streams,
        "segments": report.segments,
        "last_seal": report.last_seal,
        "sealed_to": report.sealed_to,
        "violations_total": report.violations.total(),
        "violations": violations.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expected_seal_is_read_or_refused() {
        let seal = format!("17:{}", "ab".repeat(32));
        assert_eq!(seal.parse::<Expected>().unwrap().segment, 17);
        for wrong in ["", "17", "17:ab", "0:", &seal[1..].replace(':', ""), "-1:00"] {
            assert!(wrong.parse::<Expected>().is_err(), "{wrong}");
        }
    }
}
