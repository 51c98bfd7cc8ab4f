//! `waybill health`: asks a running role how it is; for the health checks of containers.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::exit::Ending;
use crate::output::Output;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Ask a running role how it is. Ends with 0 where it is ready, with 1 where it is not.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Base address of the role, as `http://127.0.0.1:8080`.
    #[arg(value_name = "URL")]
    url: String,
}

/// Runs the command.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Ending> {
    let url = format!("{}/readyz", options.url.trim_end_matches('/'));
    let client = reqwest::Client::builder().timeout(ANSWER_MAX).build()?;
    let response = client.get(&url).send().await.with_context(|| format!("no answer at {url}"))?;
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    if !status.is_success() {
        bail!("not ready ({status}): {body}");
    }
    Output::standard().line(body);
    Ok(Ending::Orderly)
}
