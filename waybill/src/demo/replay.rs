//! A real shop's purchase log, played through the APIs: every purchase an order.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use schemas::{Currency, Money};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::balance;
use super::check::Checks;
use super::purchases::{self, Fate, Purchase};
use super::shop::{DECLINED_CARD, GOOD_CARD, Shop};
use super::stage::Stage;
use crate::output::{Output, Style};
use crate::progress::Progress;

/// How many different things the shop sells; a line of the log does not say which.
const TITLES: usize = 100;
/// How often the rate and the lag are looked at.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// Purchases that may go wrong before the rest is given up.
const FAILURES_MAX: usize = 10;

/// How to play.
#[derive(Debug, Clone, Copy)]
pub(super) struct Play {
    /// Chooses what becomes of each purchase.
    pub(super) seed: u64,
    /// How many are under way at once.
    pub(super) in_flight: usize,
}

/// A purchase, and the order that it became.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) order: String,
    pub(super) purchase: Purchase,
}

/// Plays `file` and balances the books.
pub(super) async fn play(
    output: Output,
    stage: &mut Stage,
    checks: &mut Checks,
    file: &Path,
    play: Play,
) -> anyhow::Result<()> {
    let purchases = purchases::read(file, play.seed)?;
    announce(output, &purchases, play.seed);
    let (shop, took) = stage.start().await?;
    output.line(format!("The platform is ready after {} ms.", took.as_millis()));
    let stocked = stock(&shop, &purchases, play.in_flight).await?;
    output.line(format!("{stocked} units of {TITLES} titles are in the house."));

    let started = Instant::now();
    let played = Box::pin(run(output, &shop, purchases, play.in_flight)).await?;
    let seconds = started.elapsed().as_millis().max(1);
    let rate = played.len() as u128 * 10_000 / seconds;
    output.line(format!(
        "{} purchases in {}.{} s: {}.{} orders a second from placing to delivery",
        played.len(),
        seconds / 1000,
        seconds % 1000 / 100,
        rate / 10,
        rate % 10
    ));
    Box::pin(balance::play(output, &shop, checks, &played, play.in_flight)).await
}

fn announce(output: Output, purchases: &[Purchase], seed: u64) {
    let count = |fate| purchases.iter().filter(|purchase| purchase.fate == fate).count();
    let total: i64 = purchases.iter().map(|purchase| purchase.cents).sum();
    let (first, last) = purchases
        .iter()
        .fold((purchases[0].placed_at, purchases[0].placed_at), |(first, last), purchase| {
            (first.min(purchase.placed_at), last.max(purchase.placed_at))
        });
    output.line(output.paint(Style::Bold, "A real shop's purchases, played through the APIs"));
    output.line(format!(
        "{} purchases by {} customers from {} to {}, {} in all, {} of them worth nothing.",
        purchases.len(),
        purchases::customers(purchases).len(),
        first.date_naive(),
        last.date_naive(),
        Money::new(total, Currency::USD),
        purchases.iter().filter(|purchase| purchase.cents == 0).count(),
    ));
    output.line(format!(
        "Seed {seed} declines {} and cancels {}; the other {} are to be delivered.",
        count(Fate::Declined),
        count(Fate::Cancelled),
        count(Fate::Fulfilled)
    ));
}

/// The title that unit group `group` of a purchase is of.
pub(super) fn sku(purchase: &Purchase, group: usize) -> String {
    format!("cd-{:02}", (purchase.number + group) % TITLES)
}

/// Units by title.
pub(super) fn units<'a>(purchases: impl Iterator<Item = &'a Purchase>) -> BTreeMap<String, u32> {
    let mut units = BTreeMap::new();
    for purchase in purchases {
        for (group, (count, _)) in purchase.prices().into_iter().enumerate() {
            *units.entry(sku(purchase, group)).or_default() += count;
        }
    }
    units
}

/// Receives exactly what the log sells. Gives the number of units.
async fn stock(shop: &Shop, purchases: &[Purchase], in_flight: usize) -> anyhow::Result<u32> {
    let units = units(purchases.iter());
    let total = units.values().sum();
    let mut receiving = JoinSet::new();
    for (sku, count) in units {
        if receiving.len() >= in_flight
            && let Some(received) = receiving.join_next().await
        {
            received.context("a delivery went wrong")??;
        }
        let shop = shop.apart();
        receiving.spawn(async move { shop.receive(&sku, count).await });
    }
    while let Some(received) = receiving.join_next().await {
        received.context("a delivery went wrong")??;
    }
    Ok(total)
}

/// Plays every purchase, at most `in_flight` at once.
async fn run(
    output: Output,
    shop: &Shop,
    purchases: Vec<Purchase>,
    in_flight: usize,
) -> anyhow::Result<Vec<Played>> {
    let mut progress = Progress::new("purchases", purchases.len() as u64);
    let mut waiting = purchases.into_iter();
    let mut playing = JoinSet::new();
    let (mut played, mut failures) = (Vec::new(), 0);
    let mut told = (Instant::now(), 0);
    let mut tick = tokio::time::interval(TOLD_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while playing.len() < in_flight
            && let Some(purchase) = waiting.next()
        {
            playing.spawn(one(shop.apart(), purchase));
        }
        tokio::select! {
            ended = playing.join_next() => match ended {
                None => return Ok(played),
                Some(ended) => match ended.context("a customer gave up")? {
                    Ok(one) => {
                        played.push(one);
                        progress.advance();
                    }
                    Err(error) => {
                        output.line(output.paint(Style::Bad, format_args!("  {error:#}")));
                        failures += 1;
                        anyhow::ensure!(failures < FAILURES_MAX, "too many purchases went wrong");
                    }
                },
            },
            _ = tick.tick() => {
                let (since, before) = told;
                let rate = rate(played.len() - before, since.elapsed());
                let lag = shop.lag().await.map_or_else(|_| "?".to_owned(), |lag| lag.to_string());
                progress.say(format!("{rate}/s, read models {lag} events behind,"));
                told = (Instant::now(), played.len());
            }
        }
    }
}

fn rate(count: usize, elapsed: Duration) -> u128 {
    count as u128 * 1000 / elapsed.as_millis().max(1)
}

/// One purchase, from placing to its end.
async fn one(shop: Shop, purchase: Purchase) -> anyhow::Result<Played> {
    let ended = async {
        let card = match purchase.fate {
            Fate::Declined => DECLINED_CARD,
            Fate::Fulfilled | Fate::Cancelled => GOOD_CARD,
        };
        let groups = purchase.prices();
        let skus: Vec<_> = (0..groups.len()).map(|group| sku(&purchase, group)).collect();
        let lines: Vec<_> = skus
            .iter()
            .zip(&groups)
            .map(|(sku, (units, cents))| (sku.as_str(), *units, *cents))
            .collect();
        let mut body = Shop::order_body(purchase.customer, Currency::USD, &lines, card);
        body["placed_at"] = json!(purchase.placed_at);
        let key = format!("purchase-{}", purchase.number);
        let order = shop.place_as(&body, &key).await?.text("/id")?.to_owned();
        match purchase.fate {
            Fate::Fulfilled => {
                shop.pack(&order).await?;
                shop.hand_over(&order).await?;
            }
            Fate::Cancelled => {
                shop.cancel(&order).await?.succeeded()?;
            }
            Fate::Declined => {}
        }
        shop.until(&order, "status", purchase.fate.status()).await?;
        Ok::<_, anyhow::Error>(order)
    };
    let order = ended.await.with_context(|| format!("purchase {}", purchase.number))?;
    Ok(Played { order, purchase })
}
