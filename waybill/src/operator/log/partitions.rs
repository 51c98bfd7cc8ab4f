//! `waybill log partitions | maintain`: how the log lies in its tables.

use anyhow::Context as _;
use event_store::log::{Ahead, Leaf, Part};
use sqlx::PgPool;

use crate::exit::Misconfigured;
use crate::output::{Output, Style};

/// How times are shown.
const DAY: &str = "%Y-%m-%d";

/// A table of the partitions, and how many lie ahead.
pub(super) async fn show(output: Output, pool: &PgPool) -> anyhow::Result<()> {
    let unread = "cannot read the partitions (did `waybill migrate` run?)";
    let leaves = event_store::log::leaves(pool).await.context(unread)?;
    let Ahead { events, commands } = event_store::log::ahead(pool).await.context(unread)?;
    let title =
        format!("{:<18} {:>27} {:>12} {:>14}  state", "partition", "range", "rows", "bytes");
    output.line(output.paint(Style::Bold, title));
    for leaf in &leaves {
        output.line(line(leaf));
    }
    output.gap();
    for (table, ahead) in [("events", events), ("commands", commands)] {
        let style = if ahead == 0 { Style::Bad } else { Style::Good };
        let ahead = output.paint(style, ahead);
        output.line(format!("{table}: {ahead} ahead of the one in use"));
    }
    Ok(())
}

fn line(leaf: &Leaf) -> String {
    let (range, state) = match &leaf.part {
        Part::Events { first, last } => {
            let state = match (leaf.sealed, &leaf.frozen) {
                (_, Some(at)) => format!("sealed, frozen {at}"),
                (true, None) => "sealed: `waybill log maintain` freezes it".to_owned(),
                (false, None) => "open".to_owned(),
            };
            (format!("{first}–{last}"), state)
        }
        Part::Commands { from, before } => {
            (format!("{}–{}", from.format(DAY), before.format(DAY)), "ledger".to_owned())
        }
    };
    let rows = leaf.rows.map_or_else(|| "?".to_owned(), |rows| format!("~{rows}"));
    format!("{:<18} {range:>27} {rows:>12} {:>14}  {state}", leaf.name, leaf.bytes)
}

/// Freezes what is full and sealed.
pub(super) async fn maintain(output: Output, owner_url: &str) -> anyhow::Result<()> {
    let frozen = event_store::log::maintain(owner_url).await.map_err(|error| match error {
        event_store::Error::Config(why) => Misconfigured::error(why),
        error => anyhow::Error::new(error).context("the partitions could not be frozen"),
    })?;
    for leaf in &frozen {
        output.line(format!("{leaf}: frozen"));
    }
    if frozen.is_empty() {
        output.line("nothing to freeze: no partition is full, sealed and not frozen yet");
    }
    Ok(())
}
