//! Measures Waybill against the raw limit of Postgres, in one run on one private server.
//!
//! Machines are noisy and differ, so every figure stands beside a reference that was measured
//! in the same minutes, and what counts is the ratio. fsync, synchronous commit and autovacuum
//! are on.

#![expect(clippy::float_arithmetic, reason = "rates and ratios for people, no money")]

mod access;
mod append;
mod contention;
mod flow;
mod fulfilment;
mod http;
mod large;
mod log;
mod memory;
mod naive;
mod pgbench;
mod queries;
mod reading;
mod rebuild;
mod relaying;
mod report;
mod rows;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use waybill::embedded::Servers;

use report::Row;
use rows::Bench;

/// Every row of a run, in the order in which it is measured.
const ROWS: [&str; 20] = [
    "append_1_latency",
    "append_16",
    "append_64",
    "append_1024",
    "append_batch_100",
    "post_orders_64_naive",
    "post_orders_secured",
    "hot_sku",
    "visible_p50",
    "visible_p99",
    "live_projections",
    "rebuild_order_summary",
    "scan",
    "load_long_stream",
    "append_at_10m",
    "relay_publish",
    "get_order_64",
    "list_at_10m",
    "fulfilments",
    "fulfilments_failing",
];
/// Rows that are only measured where they are asked for: this one, in a process of its own.
const ROWS_ON_REQUEST: [&str; 1] = ["memory_1m_streams"];

/// Measures Waybill against the raw limit of Postgres.
#[derive(Debug, Parser)]
struct Cli {
    /// The rows to measure, separated by commas; all of them where none are named.
    #[arg(long, env = "ROWS", value_delimiter = ',')]
    rows: Vec<String>,
    /// Seconds for each measurement of a rate.
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Orders of four events each that are fanned out live.
    #[arg(long, default_value_t = 25_000)]
    live_orders: usize,
    /// Orders of four events each that the rebuilt log holds at least.
    #[arg(long, default_value_t = 100_000)]
    rebuild_orders: usize,
    /// Events that the large log is filled to.
    #[arg(long, default_value_t = 9_900_000)]
    large_events: i64,
    /// Orders in the long list.
    #[arg(long, default_value_t = 10_000_000)]
    list_orders: i64,
    /// Streams that are touched to see what memory it takes.
    #[arg(long, default_value_t = 1_000_000)]
    memory_streams: usize,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/bench/latest.json")]
    output: PathBuf,
}

/// `bench up …` is `waybill up …`: the platform that is measured as a whole runs in a process of
/// its own.
fn main() -> Result<ExitCode> {
    if std::env::args().nth(1).as_deref() == Some("up") {
        return Ok(waybill::main());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(Cli::parse()))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(cli: Cli) -> Result<()> {
    let known = [&ROWS[..], &ROWS_ON_REQUEST[..]].concat();
    let unknown = cli.rows.iter().find(|row| !row.is_empty() && !known.contains(&row.as_str()));
    if let Some(row) = unknown {
        bail!("there is no row `{row}`; there are {}", known.join(", "));
    }
    let folder = std::env::temp_dir().join(format!("waybill-bench-{}", std::process::id()));
    let servers = Servers::start(&folder).await?;
    let measured = measure(&cli, &servers, &folder).await;
    servers.stop().await;
    std::fs::remove_dir_all(&folder).context("cannot remove the data folder")?;
    let rows = measured?;
    report::write(&rows, &cli.output)?;
    eprintln!("\n{}\nwritten to {}", report::table(&rows), cli.output.display());
    Ok(())
}

async fn measure(cli: &Cli, servers: &Servers, folder: &Path) -> Result<Vec<Row>> {
    let mut bench = Bench::start(cli, servers, folder).await?;
    let mut rows = Vec::new();
    for name in ROWS.into_iter().chain(ROWS_ON_REQUEST) {
        let usual = cli.rows.iter().all(String::is_empty) && ROWS.contains(&name);
        if usual || cli.rows.iter().any(|row| row == name) {
            eprint!("{name} … ");
            let row = bench.row(name).await.with_context(|| format!("row {name}"))?;
            eprintln!("{:.1} {} ({:.2}x)", row.value, row.unit, row.ratio);
            rows.push(row);
        }
    }
    bench.stop().await;
    Ok(rows)
}
