//! Seven scenes: what can happen to an order, and what must have come of it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use schemas::{Currency, Ids, Money};
use serde_json::Value;
use tokio::task::JoinSet;

use super::check::Checks;
use super::shop::{DECLINED_CARD, GOOD_CARD, Shop};
use super::stage::Stage;
use crate::output::{Output, Style};
use crate::timeline;

/// Customers who want one of the last three.
const RACERS: usize = 10;
/// How many there are.
const LAST: u32 = 3;

/// Where a scene is played.
struct Scene<'a> {
    output: Output,
    checks: &'a mut Checks,
    shop: Shop,
}

/// Plays all seven.
pub(super) async fn play(
    output: Output,
    stage: &mut Stage,
    checks: &mut Checks,
) -> anyhow::Result<()> {
    output.line(output.paint(Style::Bold, "Waybill: an order's life, and what can come between"));
    output.line("Starting a private Postgres, a private NATS and every role …");
    let (shop, took) = stage.start().await?;
    output.line(format!("Ready after {} ms.", took.as_millis()));
    for (sku, quantity) in [("mug", 40), ("tee", 20), ("poster", 2), ("lamp", LAST)] {
        shop.receive(sku, quantity).await?;
    }
    output.line(format!("The shop has 40 mugs, 20 tees, 2 posters and {LAST} lamps."));
    let mut scene = Scene { output, checks, shop };
    Box::pin(scene.fulfilled()).await?;
    Box::pin(scene.declined()).await?;
    Box::pin(scene.short()).await?;
    Box::pin(scene.cancelled()).await?;
    Box::pin(scene.race()).await?;
    Box::pin(scene.twice()).await?;
    Box::pin(scene.killed(stage)).await
}

impl Scene<'_> {
    fn title(&self, number: u32, text: &str) {
        self.output.gap();
        self.output.line(self.output.paint(Style::Bold, format_args!("{number}  {text}")));
    }

    /// Shows what happened about an order, and where its saga is.
    async fn show(&self, order: &str) -> anyhow::Result<()> {
        timeline::print(self.output, &self.shop.events(order).await?);
        let page = self.shop.order(order).await?;
        let saga = self.shop.saga(&page).await?;
        let steps = saga["steps"].as_array().map_or(0, Vec::len);
        let word = |name: &str| saga[name].as_str().unwrap_or("-").to_owned();
        let undone = saga["steps"].as_array().into_iter().flatten();
        let undone: Vec<_> =
            undone.filter(|step| step["compensation"] == true).map(step_line).collect();
        let undone = if undone.is_empty() {
            "nothing had to be undone".to_owned()
        } else {
            format!("undone: {}", undone.join(", "))
        };
        let state = word("state");
        self.output.line(self.output.paint(
            Style::Dim,
            format_args!("  saga {}: {state} after {steps} steps; {undone}", word("id")),
        ));
        Ok(())
    }

    /// The three statuses of an order must be these.
    fn statuses(&mut self, order: &Value, expected: [&str; 3]) {
        let found = ["status", "payment_status", "fulfilment_status"]
            .map(|name| order[name].as_str().unwrap_or_default());
        self.checks.equal(
            format_args!("the order is {}, {}, {}", expected[0], expected[1], expected[2]),
            &found,
            &expected,
        );
    }

    async fn stock(&mut self, sku: &str, expected: (i64, i64, i64)) -> anyhow::Result<()> {
        let (on_hand, reserved, available) = expected;
        let what = format!("{sku}: {on_hand} in the house, {reserved} held, {available} free");
        self.checks.equal(what, &self.shop.stock(sku).await?, &expected);
        Ok(())
    }

    /// What the provider itself says about an order: its status, taken, given back.
    async fn provider(&mut self, order: &str, expected: &[(&str, i64, i64)]) -> anyhow::Result<()> {
        let intents = self.shop.books_of(order).await?;
        let number = |intent: &Value, name: &str| intent[name].as_i64().unwrap_or_default();
        let found: Vec<_> = intents
            .iter()
            .map(|intent| {
                let status = intent["status"].as_str().unwrap_or_default();
                (status, number(intent, "captured"), number(intent, "refunded"))
            })
            .collect();
        let what = match expected {
            [] => "the provider was never asked".to_owned(),
            several => several
                .iter()
                .map(|(status, captured, refunded)| {
                    let euro = |cents: &i64| Money::new(*cents, Currency::EUR);
                    let (taken, back) = (euro(captured), euro(refunded));
                    format!("the provider's books: {status}, {taken} taken, {back} given back")
                })
                .collect::<Vec<_>>()
                .join("; "),
        };
        self.checks.equal(what, &found.as_slice(), &expected);
        Ok(())
    }

    async fn fulfilled(&mut self) -> anyhow::Result<()> {
        self.title(1, "An order for two things is fulfilled");
        let order = self.shop.place(&[("mug", 2, 1250), ("tee", 1, 1999)], GOOD_CARD).await?;
        self.shop.fulfil(&order).await?;
        self.show(&order).await?;
        let page = self.shop.order(&order).await?;
        self.statuses(&page, ["completed", "paid", "delivered"]);
        self.stock("mug", (38, 0, 38)).await?;
        self.stock("tee", (19, 0, 19)).await?;
        self.provider(&order, &[("succeeded", 4499, 0)]).await
    }

    async fn declined(&mut self) -> anyhow::Result<()> {
        self.title(2, "The card is declined: the stock is given back");
        let order = self.shop.place(&[("mug", 3, 1250)], DECLINED_CARD).await?;
        let page = self.shop.settled(&order).await?;
        self.show(&order).await?;
        self.statuses(&page, ["rejected", "failed", "unfulfilled"]);
        self.checks.equal(
            "because of the payment",
            &page["reject_reason"],
            &"payment_declined".into(),
        );
        self.stock("mug", (38, 0, 38)).await?;
        self.provider(&order, &[("canceled", 0, 0)]).await
    }

    async fn short(&mut self) -> anyhow::Result<()> {
        self.title(3, "One thing is short: nothing is held, nothing is charged");
        let order = self.shop.place(&[("mug", 1, 1250), ("poster", 5, 900)], GOOD_CARD).await?;
        let page = self.shop.settled(&order).await?;
        self.show(&order).await?;
        self.statuses(&page, ["rejected", "none", "unfulfilled"]);
        let short = serde_json::json!([{ "sku": "poster", "wanted": 5, "available": 2 }]);
        self.checks.equal("it says what was short", &page["short"], &short);
        self.stock("mug", (38, 0, 38)).await?;
        self.stock("poster", (2, 0, 2)).await?;
        self.provider(&order, &[]).await
    }

    async fn cancelled(&mut self) -> anyhow::Result<()> {
        self.title(4, "The customer cancels: authorised, so the hold is let go …");
        let order = self.shop.place(&[("tee", 2, 1999)], GOOD_CARD).await?;
        self.shop.until(&order, "payment_status", "authorised").await?;
        self.checks.equal(
            "the cancellation is taken",
            &self.shop.cancel(&order).await?.status,
            &202,
        );
        let page = self.shop.settled(&order).await?;
        self.show(&order).await?;
        self.statuses(&page, ["cancelled", "voided", "unfulfilled"]);
        self.stock("tee", (19, 0, 19)).await?;
        self.provider(&order, &[("canceled", 0, 0)]).await?;

        self.output.gap();
        self.output.line("   … or packed and paid, so the money goes back");
        let order = self.shop.place(&[("tee", 1, 1999)], GOOD_CARD).await?;
        self.shop.pack(&order).await?;
        self.shop.until(&order, "payment_status", "paid").await?;
        self.checks.equal(
            "the cancellation is taken",
            &self.shop.cancel(&order).await?.status,
            &202,
        );
        let page = self.shop.settled(&order).await?;
        self.show(&order).await?;
        self.statuses(&page, ["cancelled", "refunded", "unfulfilled"]);
        self.stock("tee", (19, 0, 19)).await?;
        self.provider(&order, &[("succeeded", 1999, 1999)]).await
    }

    async fn race(&mut self) -> anyhow::Result<()> {
        self.title(5, "Ten customers race for the last three lamps");
        let mut racing = JoinSet::new();
        for _ in 0..RACERS {
            let shop = self.shop.clone();
            racing.spawn(async move {
                let order = shop.place(&[("lamp", 1, 4900)], GOOD_CARD).await?;
                loop {
                    // Rejected and done, or confirmed and on its way.
                    let page = shop.order(&order).await?;
                    if page["status"] == "confirmed" {
                        return shop.fulfil(&order).await;
                    }
                    if page["status"] != "pending" {
                        return shop.settled(&order).await;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            });
        }
        let mut endings: BTreeMap<String, usize> = BTreeMap::new();
        while let Some(raced) = racing.join_next().await {
            let page = raced.context("a customer gave up")??;
            timeline::summary(self.output, &page);
            *endings.entry(page["status"].as_str().unwrap_or_default().to_owned()).or_default() +=
                1;
        }
        let expected =
            BTreeMap::from([("completed".to_owned(), 3), ("rejected".to_owned(), RACERS - 3)]);
        self.checks.equal("exactly three win, seven are told so", &endings, &expected);
        self.stock("lamp", (0, 0, 0)).await
    }

    async fn twice(&mut self) -> anyhow::Result<()> {
        self.title(6, "The same request, sent twice at once and once more: one order");
        let customer = Shop::new_customer();
        let body = Shop::order_body(customer, Currency::EUR, &[("mug", 1, 1250)], GOOD_CARD);
        let key = Ids::system().next().to_string();
        let (first, second) =
            tokio::try_join!(self.shop.place_as(&body, &key), self.shop.place_as(&body, &key))?;
        let third = self.shop.place_as(&body, &key).await?;
        let ids = [first.text("/id")?, second.text("/id")?, third.text("/id")?];
        self.output.line(format!("  answers: {}", ids.join(", ")));
        self.checks.holds("all three name the same order", ids.iter().all(|id| *id == ids[0]));
        let replayed = [&first, &second, &third].map(|reply| reply.replayed);
        let originals = replayed.iter().filter(|replayed| !**replayed).count();
        self.checks.equal("two of them say that they are replayed", &originals, &1);
        let order = ids[0].to_owned();
        let page = self.shop.fulfil(&order).await?;
        self.statuses(&page, ["completed", "paid", "delivered"]);
        let orders = self.shop.orders(Some(customer)).await?.len();
        self.checks.equal("the customer has one order", &orders, &1);
        self.stock("mug", (37, 0, 37)).await?;
        self.provider(&order, &[("succeeded", 1250, 0)]).await
    }

    async fn killed(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        self.title(7, "The process is killed in the middle of an order, and started again");
        let order = self.shop.place(&[("mug", 4, 1250)], GOOD_CARD).await?;
        let before = self.wait_for_reservation(&order).await?;
        stage.kill().await;
        let last = before.last().and_then(|event| event["type"].as_str()).unwrap_or_default();
        self.output.line(self.output.paint(
            Style::Bad,
            format_args!("  SIGKILL after {} events, the last of them {last}", before.len()),
        ));
        let (shop, took) = stage.start().await?;
        self.shop = shop;
        self.output
            .line(format!("  started again on the same data, ready after {} ms", took.as_millis()));
        self.shop.fulfil(&order).await?;
        self.show(&order).await?;
        let after = self.shop.events(&order).await?;
        let kept = before.iter().zip(&after).all(|(before, after)| before["id"] == after["id"]);
        self.checks.holds("nothing that had happened was lost", kept);
        let page = self.shop.order(&order).await?;
        self.statuses(&page, ["completed", "paid", "delivered"]);
        self.stock("mug", (33, 0, 33)).await?;
        self.provider(&order, &[("succeeded", 5000, 0)]).await
    }

    /// Waits until the order has its stock, and gives what has happened so far.
    async fn wait_for_reservation(&self, order: &str) -> anyhow::Result<Vec<Value>> {
        loop {
            let events = self.shop.events(order).await?;
            let reserved = |event: &Value| event["type"] == "inventory.reserved.v1";
            if events.iter().any(reserved) {
                return Ok(events);
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}

fn step_line(step: &Value) -> String {
    let word = |name: &str| step[name].as_str().unwrap_or_default().replace('_', " ");
    format!("{} ({})", word("step"), word("status"))
}
