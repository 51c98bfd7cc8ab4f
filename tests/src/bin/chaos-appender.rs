//! Appends at random, as a plan says that is given as JSON: see `tests::chaos`.

use anyhow::Context as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let plan = std::env::args().nth(1).context("the plan is missing")?;
    tests::chaos::run(serde_json::from_str(&plan).context("not a plan")?).await
}
