//! How much memory the command side takes once it has touched many streams.

use anyhow::{Context as _, Result};
use event_store::Store;
use schemas::{Ids, Sku};
use tokio::task::JoinSet;

use crate::contention;

/// What it may take, in megabytes.
pub(crate) const LIMIT_MB: f64 = 200.0;
/// Callers at once.
const CALLERS: usize = 512;

/// The most memory that this process, load generator and all, has held when `streams` streams were
/// written through `Store::create`, in megabytes.
///
/// # Errors
/// The first command that fails, or a system that does not tell.
pub(crate) async fn peak_mb(store: &Store, streams: usize) -> Result<f64> {
    let run = Ids::system().next().simple().to_string();
    let mut tasks = JoinSet::new();
    for caller in 0..CALLERS {
        let (store, run) = (store.clone(), run.clone());
        tasks.spawn(async move {
            for index in (caller..streams).step_by(CALLERS) {
                let sku: Sku = format!("{run}-{index}").parse()?;
                contention::receive(&store, &sku).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let status = std::fs::read_to_string("/proc/self/status").context("only Linux tells")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak_kb: u32 =
        peak.and_then(|peak| peak.trim().strip_suffix("kB")).context("no VmHWM")?.trim().parse()?;
    Ok(f64::from(peak_kb) / 1000.0)
}
