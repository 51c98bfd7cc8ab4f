//! Appends at random, as a plan says that is given as JSON: see `tests::chaos`.

use std::os::unix::process::parent_id;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::sleep;

/// How often we look whether the test that started us is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let plan = std::env::args().nth(1).context("the plan is missing")?;
    let plan = serde_json::from_str(&plan).context("not a plan")?;
    tokio::select! {
        done = tests::chaos::run(plan) => done,
        () = orphaned() => bail!("the test is gone"),
    }
}

/// Waits until nobody is left to tell what became of it all.
async fn orphaned() {
    let test = parent_id();
    while parent_id() == test {
        sleep(LOOK_EVERY).await;
    }
}
