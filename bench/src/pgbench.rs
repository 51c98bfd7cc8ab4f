//! The raw limit: Postgres's own load generator inserting one event row per transaction.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::process::Command;

/// The same columns as the log's, a key, and nothing else: no second index, no ledger, no order.
const TABLE: &str = "
create table if not exists plain_events (
    position bigint generated always as identity primary key,
    stream_id uuid not null, stream_version bigint not null, slice smallint not null,
    category text not null, event_type text not null, event_id uuid not null,
    command_id uuid not null, correlation_id uuid not null, causation_id uuid not null,
    occurred_at timestamptz not null, recorded_at timestamptz not null default now(),
    actor text not null, traceparent text, payload json not null)";

/// One transaction's work.
fn script(payload: &str) -> String {
    format!(
        "insert into plain_events (stream_id, stream_version, slice, category, event_type, \
         event_id, command_id, correlation_id, causation_id, occurred_at, actor, payload) \
         values (gen_random_uuid(), 1, 7, 'order', 'order.placed.v1', gen_random_uuid(), \
         gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now(), 'bench', '{payload}');\n"
    )
}

/// What one run of pgbench reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain {
    /// Rows a second.
    pub(crate) rate: f64,
    /// Mean latency in milliseconds.
    pub(crate) latency_ms: f64,
}

/// Inserts with `clients` connections for `seconds`.
///
/// # Errors
/// Where pgbench is missing or fails.
pub(crate) async fn plain_inserts(
    pool: &PgPool,
    database_url: &str,
    folder: &Path,
    payload: &str,
    clients: u32,
    seconds: u32,
) -> Result<Plain> {
    sqlx::raw_sql(AssertSqlSafe(TABLE)).execute(pool).await?;
    let file = folder.join("insert.sql");
    // A quote in the payload would end the SQL text; ours has none.
    std::fs::write(&file, script(payload))?;
    let output = Command::new("pgbench")
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
        .arg(format!("--client={clients}"))
        .arg(format!("--time={seconds}"))
        .arg(format!("--file={}", file.display()))
        .arg(database_url)
        .stdin(Stdio::null())
        .output()
        .await
        .context("pgbench could not be started; it comes with Postgres (Debian: postgresql)")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
    let number = |before: &str| {
        let line = printed.lines().find(|line| line.starts_with(before));
        line.and_then(|line| line[before.len()..].split_whitespace().next()?.parse::<f64>().ok())
            .with_context(|| format!("pgbench printed no `{before}`: {printed}"))
    };
    Ok(Plain { rate: number("tps = ")?, latency_ms: number("latency average = ")? })
}
