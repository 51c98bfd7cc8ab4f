//! Whether the read models, the file and the provider's own books agree, to the cent.

use std::collections::BTreeMap;

use anyhow::Context as _;
use schemas::{Currency, CustomerId, Money};
use serde_json::Value;
use tokio::task::JoinSet;

use super::check::Checks;
use super::purchases::Purchase;
use super::replay::{Played, units};
use super::shop::Shop;
use crate::output::{Output, Style};
use crate::progress::Progress;

/// What is compared of an order: when, for how much, how it ended, what the shop keeps.
type Line = (String, i64, String, i64);

/// Compares everything with everything.
pub(super) async fn play(
    output: Output,
    shop: &Shop,
    checks: &mut Checks,
    played: &[Played],
    in_flight: usize,
) -> anyhow::Result<()> {
    output.gap();
    output.line(output.paint(Style::Bold, "The books"));
    shop.at_rest().await?;
    histories(shop, checks, played, in_flight).await?;
    provider(shop, checks, played).await?;
    stock(shop, checks, played).await
}

/// Every customer's history in the query API against the file.
async fn histories(
    shop: &Shop,
    checks: &mut Checks,
    played: &[Played],
    in_flight: usize,
) -> anyhow::Result<()> {
    let mut expected: BTreeMap<CustomerId, Vec<Line>> = BTreeMap::new();
    for Played { purchase, .. } in played {
        expected.entry(purchase.customer).or_default().push(line_of(purchase));
    }
    let customers = expected.len();
    let mut progress = Progress::new("customers", customers as u64);
    let (mut asking, mut wrong, mut sum) = (JoinSet::new(), 0, 0);
    let mut waiting = expected.into_iter();
    loop {
        while asking.len() < in_flight
            && let Some((customer, lines)) = waiting.next()
        {
            let shop = shop.apart();
            asking.spawn(async move { history(&shop, customer, lines).await });
        }
        let Some(asked) = asking.join_next().await else { break };
        match asked.context("a look went wrong")?? {
            (customer, Err(difference)) => {
                wrong += 1;
                checks.holds(format_args!("{customer}: {difference}"), false);
            }
            (_, Ok(kept)) => sum += kept,
        }
        progress.advance();
    }
    drop(progress);
    let all = format!("the histories of all {customers} customers are those of the file");
    checks.equal(all, &wrong, &0);
    let kept: i64 = played.iter().map(|one| one.purchase.kept()).sum();
    checks.equal("and sum to what was delivered", &dollars(sum), &dollars(kept));
    Ok(())
}

/// What the file says about a purchase.
fn line_of(purchase: &Purchase) -> Line {
    let at = purchase.placed_at.date_naive().to_string();
    (at, purchase.cents, purchase.fate.status().to_owned(), purchase.kept())
}

/// What the shop keeps of a customer, where the history is that of the file.
async fn history(
    shop: &Shop,
    customer: CustomerId,
    mut expected: Vec<Line>,
) -> anyhow::Result<(CustomerId, Result<i64, String>)> {
    let orders = shop.history(customer).await?;
    let mut found = orders.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    found.sort();
    expected.sort();
    if found != expected {
        return Ok((customer, Err(format!("the file says {expected:?}, the query API {found:?}"))));
    }
    Ok((customer, Ok(found.iter().map(|(.., kept)| kept).sum())))
}

fn read(order: &Value) -> anyhow::Result<Line> {
    let amount = |name: &str| {
        let money = &order["totals"][name];
        anyhow::ensure!(money["currency"] == "USD", "an order in {}", money["currency"]);
        money["amount"].as_i64().context("an amount is missing")
    };
    let placed_at = order["placed_at"].as_str().context("placed_at is missing")?;
    let status = order["status"].as_str().context("status is missing")?;
    let kept = amount("captured")? - amount("refunded")?;
    Ok((placed_at.chars().take(10).collect(), amount("grand")?, status.to_owned(), kept))
}

/// The provider's own books against both.
async fn provider(shop: &Shop, checks: &mut Checks, played: &[Played]) -> anyhow::Result<()> {
    let mut kept_by_order: BTreeMap<String, i64> = BTreeMap::new();
    let mut held = 0;
    for intent in shop.all_books().await? {
        let number = |name: &str| intent[name].as_i64().unwrap_or_default();
        held += number("authorised_open");
        let order = intent["order_id"].as_str().unwrap_or_default().to_owned();
        *kept_by_order.entry(order).or_default() += number("captured") - number("refunded");
    }
    let sum: i64 = kept_by_order.values().sum();
    let mut wrong = 0;
    for Played { order, purchase } in played {
        let kept = kept_by_order.remove(order).unwrap_or_default();
        if kept != purchase.kept() {
            wrong += 1;
            let what = format!("{order}: the provider keeps {kept}, not {}", purchase.kept());
            checks.holds(what, false);
        }
    }
    let strangers = kept_by_order.values().filter(|kept| **kept != 0).count();
    let expected: i64 = played.iter().map(|one| one.purchase.kept()).sum();
    checks.equal("the provider's books agree, order by order", &wrong, &0);
    checks.equal("and in sum", &dollars(sum), &dollars(expected));
    checks.equal("and know of no order but these", &strangers, &0);
    checks.equal("and hold nothing", &held, &0);
    Ok(())
}

/// What was declined or cancelled is back on the shelf, and nothing else.
async fn stock(shop: &Shop, checks: &mut Checks, played: &[Played]) -> anyhow::Result<()> {
    let back = played.iter().map(|one| &one.purchase);
    let back = units(back.filter(|purchase| purchase.fate.status() != "completed"));
    let mut wrong = 0;
    for level in shop.all_stock().await? {
        let sku = level["sku"].as_str().unwrap_or_default();
        let expected = i64::from(back.get(sku).copied().unwrap_or_default());
        if level["on_hand"] != expected || level["reserved"] != 0 {
            wrong += 1;
            checks.holds(format_args!("{sku}: {expected} should be there, not {level}"), false);
        }
    }
    checks.equal("the shelves hold what was not delivered, and nothing is held back", &wrong, &0);
    Ok(())
}

fn dollars(cents: i64) -> String {
    Money::new(cents, Currency::USD).to_string()
}
