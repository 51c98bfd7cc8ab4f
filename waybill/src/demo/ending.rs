//! After the story: the final read model, the books, and the read model made anew.

use std::env;
use std::process::Stdio;

use anyhow::Context as _;
use serde_json::Value;

use super::check::Checks;
use super::stage::Stage;
use crate::output::{Output, Style};
use crate::timeline;

/// The read model that is rebuilt.
const REBUILT: &str = "order_summary";

/// Shows how everything stands, compares it with the provider's books, and rebuilds.
pub(super) async fn play(
    output: Output,
    stage: &mut Stage,
    checks: &mut Checks,
) -> anyhow::Result<()> {
    let shop = stage.shop()?;
    let title = |text: &str| {
        output.gap();
        output.line(output.paint(Style::Bold, text));
    };
    title("The final read model");
    shop.at_rest().await?;
    let orders = shop.orders(None).await?;
    for order in &orders {
        timeline::summary(output, order);
    }
    let amount =
        |order: &Value, name: &str| order["totals"][name]["amount"].as_i64().unwrap_or_default();
    let sum = |name: &str| orders.iter().map(|order| amount(order, name)).sum::<i64>();
    let open = orders.iter().filter(|order| !closed(order)).count();
    checks.equal("every order has come to its end", &open, &0);
    let (held, captured, refunded) = shop.books("eur").await?;
    let books = (held, captured, refunded);
    checks.equal(
        "the provider took and gave back what the read model says, and holds nothing",
        &books,
        &(0, sum("captured"), sum("refunded")),
    );

    title("How far the read models are behind the log");
    for row in shop.projections().await? {
        output.line(format!(
            "  {:<20} at {:>5} of {:>5}, {} events and {} s behind, {} parked",
            row["name"].as_str().unwrap_or_default(),
            row["position"],
            row["head"],
            row["lag_events"],
            row["lag_seconds"],
            row["parked"],
        ));
        checks_of(checks, &row);
    }

    title("The same read model, made anew from the log");
    let said = rebuild(stage).await?;
    output.line(format!("  {}", said.trim()));
    checks.holds("the rebuilt table is the same", said.contains("nothing changed"));
    shop.caught_up().await?;
    checks.equal("and the query API says the same", &shop.orders(None).await?, &orders);
    Ok(())
}

/// A read model that is behind or has parked something is no good ending.
fn checks_of(checks: &mut Checks, row: &Value) {
    if row["lag_events"] != 0 || row["parked"] != 0 {
        checks.holds(format_args!("{} is up to date, with nothing parked", row["name"]), false);
    }
}

/// Whether nothing more will happen to the order.
fn closed(order: &Value) -> bool {
    ["completed", "cancelled", "rejected"].iter().any(|status| order["status"] == *status)
}

/// Runs `waybill projections rebuild`, whose progress goes to standard error as it is.
pub(super) async fn rebuild(stage: &Stage) -> anyhow::Result<String> {
    let program = env::current_exe().context("where is this program?")?;
    let output = tokio::process::Command::new(program)
        .args(["projections", "rebuild", REBUILT, "--data-dir"])
        .arg(stage.data_dir())
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run the rebuild")?
        .wait_with_output()
        .await?;
    anyhow::ensure!(output.status.success(), "the rebuild failed: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
