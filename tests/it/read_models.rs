//! The read models as people ask them: over HTTP, on orders that went every way.
//!
//! Goal: every list finds what its filters say, page by page, forwards and back; what was sold
//! is what the ledger has; and no query reads more than it shows.
//! Method: real orders through the whole system; for the plans, large tables filled by SQL.

mod how_to;
mod lookup;
mod plans;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::world::{World, order};

const ADA: &str = "usr_0197b0c0000070008000000000000001";
const BOB: &str = "usr_0197b0c0000070008000000000000002";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Orders of two customers, in the order of their placing.
struct Shop {
    world: World,
    /// Ada's, of two mugs and a tea: delivered.
    completed: String,
    /// Ada's, of a mug, on a card that is declined.
    rejected: String,
    /// Bob's, of a mug: cancelled after the money was taken.
    cancelled: String,
    /// Bob's, of three teas in dollars: paid for, not sent.
    paid: String,
}

impl Shop {
    async fn open() -> Self {
        let world = World::start().await;
        world.stock("mug", 3).await;
        world.stock("tea", 9).await;
        world.stock("rare", 1).await;
        let completed = {
            let request = world.post_request(
                &crate::world::key(),
                "/v1/orders",
                &order(&[("mug", 2), ("tea", 1)], "pm_card_visa"),
            );
            let trace = format!("00-{TRACE}-00f067aa0ba902b7-01");
            let reply = world.send(request.header("traceparent", trace)).await.expect(201);
            reply.body["id"].as_str().unwrap().to_owned()
        };
        world.send_goods(&completed).await;
        world.order_is(&completed, "completed").await;
        let rejected = world.place(&[("mug", 1)], "pm_card_chargeDeclinedStolenCard").await;
        world.order_is(&rejected, "rejected").await;
        let cancelled = place(&world, &[("mug", 1)], "EUR").await;
        pay(&world, &cancelled).await;
        let cancel = format!("/v1/orders/{cancelled}/cancel");
        world.post(&cancel, json!({ "reason": "fraud" })).await.expect(202);
        world.order_is(&cancelled, "cancelled").await;
        let paid = place(&world, &[("tea", 3)], "USD").await;
        pay(&world, &paid).await;
        world.settle().await;
        Self { world, completed, rejected, cancelled, paid }
    }

    /// The values under `name` of all rows of a list, read two at a time, forwards; and read
    /// back from the last page where the list goes back.
    async fn all(&self, path: &str, name: &str) -> Vec<String> {
        let rows = self.rows(path).await;
        rows.iter().map(|row| row[name].as_str().unwrap().to_owned()).collect()
    }

    async fn rows(&self, path: &str) -> Vec<Value> {
        let sign = if path.contains('?') { '&' } else { '?' };
        let first = format!("{path}{sign}limit=2");
        let mut pages: Vec<Value> = Vec::new();
        let mut next = first.clone();
        loop {
            let reply = self.world.get(&next).await.expect(200);
            assert!(reply.header("Projection-Position").is_some(), "{next}");
            assert!(reply.body["data"].as_array().unwrap().len() <= 2, "{next}");
            let cursor = reply.body["page"]["next_cursor"].as_str().map(str::to_owned);
            assert_eq!(reply.body["page"]["has_more"], cursor.is_some(), "{next}");
            let link = reply.header("Link").unwrap_or_default().to_owned();
            pages.push(reply.body);
            assert!(pages.len() < 100, "{path} does not end");
            let Some(cursor) = cursor else { break };
            assert!(link.contains(&cursor) && link.contains("rel=\"next\""), "{link}");
            next = format!("{first}&cursor={cursor}");
        }
        for (index, page) in pages.iter().enumerate().skip(1) {
            let Some(cursor) = page["page"]["prev_cursor"].as_str() else { continue };
            let before = self.world.get(&format!("{first}&cursor={cursor}")).await.expect(200);
            assert_eq!(before.body["data"], pages[index - 1]["data"], "back from {path}");
        }
        let rows = pages.into_iter().flat_map(|page| page["data"].as_array().unwrap().clone());
        rows.collect()
    }
}

async fn place(world: &World, lines: &[(&str, u32)], currency: &str) -> String {
    let mut body = order(lines, "pm_card_visa");
    body["customer"] = json!(BOB);
    for line in body["lines"].as_array_mut().unwrap() {
        line["unit_price"]["currency"] = json!(currency);
    }
    let placed = world.post("/v1/orders", body).await.expect(201);
    placed.body["id"].as_str().unwrap().to_owned()
}

/// Packs an order, and waits until its money was taken.
async fn pay(world: &World, id: &str) {
    world.pack(id).await;
    let paid = |order: &Value| (order["payment_status"] == "paid").then_some(());
    world.get_until(&format!("/v1/orders/{id}"), paid).await;
}

#[tokio::test]
async fn every_list_finds_what_its_filters_say() {
    let shop = Shop::open().await;
    orders(&shop).await;
    searches(&shop).await;
    one_order(&shop).await;
    stock(&shop).await;
    payments_shipments_and_sagas(&shop).await;
    sales_are_what_the_ledger_has(&shop).await;
    lists_wait_for_a_position(&shop).await;
    shop.world.end().await;
}

async fn orders(shop: &Shop) {
    let Shop { completed, rejected, cancelled, paid, .. } = shop;
    let newest_first = [paid, cancelled, rejected, completed];
    let oldest_first = [completed, rejected, cancelled, paid];
    assert_eq!(shop.all("/v1/orders", "id").await, newest_first.map(String::clone));
    let turned = shop.all("/v1/orders?sort=placed_at", "id").await;
    assert_eq!(turned, oldest_first.map(String::clone));
    for (path, expected) in [
        ("/v1/orders?filter[status]=completed,cancelled,rejected", &newest_first[1..]),
        ("/v1/orders?filter[status]=confirmed", &newest_first[..1]),
        (&format!("/v1/customers/{BOB}/orders"), &newest_first[..2]),
        (&format!("/v1/customers/{BOB}/orders?filter[status]=cancelled,pending"), &[cancelled]),
        (&format!("/v1/orders?filter[customer]={ADA}&sort=placed_at"), &oldest_first[..2]),
        ("/v1/orders?filter[sku]=mug", &newest_first[1..]),
        ("/v1/orders?filter[sku]=tea&sort=placed_at", &[completed, paid]),
        ("/v1/orders?filter[sku]=nothing", &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|id| (*id).clone()).collect();
        assert_eq!(shop.all(path, "id").await, expected, "{path}");
    }
    let placed_at = shop.world.order(cancelled).await["placed_at"].as_str().unwrap().to_owned();
    let (day, at) = (&placed_at[..10], placed_at.replace('+', "%2B"));
    let of_day = |day: &str| format!("/v1/orders?filter[day]={day}");
    // The test may run over midnight: then not all orders are of the same day.
    assert!(shop.all(&of_day(day), "id").await.contains(cancelled));
    assert!(shop.all(&of_day("2001-01-01"), "id").await.is_empty());
    let since = format!("/v1/orders?filter[placed_at][gte]={at}&filter[sku]=mug");
    assert_eq!(shop.all(&since, "id").await, std::slice::from_ref(cancelled));

    let customer = shop.world.get(&format!("/v1/customers/{BOB}")).await.expect(200).body;
    assert_eq!((&customer["id"], &customer["orders"]), (&json!(BOB), &json!(2)));
    let nobody = format!("/v1/customers/usr_{}", "f".repeat(32));
    shop.world.get(&nobody).await.expect(404);
    assert!(shop.all(&format!("{nobody}/orders"), "id").await.is_empty());
}

async fn searches(shop: &Shop) {
    let Shop { world, completed, cancelled, paid, .. } = shop;
    let order = world.order(completed).await;
    let tracking = order["tracking_code"].as_str().unwrap().to_lowercase();
    let payment = order["links"]["payment"].as_str().unwrap();
    let payment = world.get(payment).await.expect(200).body;
    let reference = payment["provider_ref"].as_str().unwrap();
    let search = |text: &str| format!("/v1/orders?filter[q]={}", text.replace(' ', "%20"));
    for (text, expected) in [
        (&completed[..20], vec![completed]),
        (&completed.to_uppercase(), vec![completed]),
        (&tracking, vec![completed]),
        (reference, vec![completed]),
        ("fraud", vec![cancelled]),
        (BOB, vec![paid, cancelled]),
        ("mug tea", vec![completed]),
        ("mug fraud", vec![cancelled]),
        ("nothing like this", vec![]),
        ("'it's':*|mug", vec![]),
    ] {
        let expected: Vec<_> = expected.into_iter().cloned().collect();
        assert_eq!(shop.all(&search(text), "id").await, expected, "{text}");
    }
}

async fn one_order(shop: &Shop) {
    let Shop { world, completed, rejected, paid, .. } = shop;
    let quantities = async |id: &str| world.order(id).await["lines"][0]["quantities"].clone();
    let told = |ordered, open, reserved, shipped, delivered, cancelled| {
        json!({
            "ordered": ordered, "open": open, "reserved": reserved, "shipped": shipped,
            "delivered": delivered, "cancelled": cancelled,
        })
    };
    assert_eq!(quantities(completed).await, told(2, 0, 0, 2, 2, 0));
    assert_eq!(quantities(rejected).await, told(1, 0, 0, 0, 0, 1));
    assert_eq!(quantities(paid).await, told(3, 0, 3, 0, 0, 0));

    let events = shop.rows(&format!("/v1/orders/{completed}/events")).await;
    let order = &completed["ord_".len()..];
    for event in &events {
        let correlation = event["correlation_id"].as_str().unwrap().replace('-', "");
        assert_eq!(correlation, order, "{event}");
        assert!(event["command_id"].as_str().unwrap().starts_with("cmd_"), "{event}");
        assert!(event["causation_id"].is_string() && event["actor"].is_string(), "{event}");
    }
    let placed = &events[0];
    assert!(placed["traceparent"].as_str().unwrap().contains(TRACE), "{placed}");
}

async fn stock(shop: &Shop) {
    let world = &shop.world;
    let rare = |body| async move { world.post("/v1/stock/rare/expect", body).await };
    rare(json!({ "quantity": 5, "reference": "PO-1" })).await.expect(200);
    rare(json!({ "quantity": 2, "reference": "PO-2" })).await.expect(200);
    let too_many = rare(json!({ "quantity": 1_000_000, "reference": "PO-3" })).await.expect(422);
    assert_eq!(too_many.body["errors"][0]["pointer"], "#/quantity", "{}", too_many.body);
    let came = json!({ "quantity": 4, "reference": "PO-1" });
    world.post("/v1/stock/rare/receive", came).await.expect(200);
    world.post("/v1/stock/rare/adjust", json!({ "delta": -5, "reason": "wet" })).await.expect(200);
    world.settle().await;
    let level = world.stock_level("rare").await;
    assert_eq!(level["expected"], json!({ "PO-1": 1, "PO-2": 2 }));
    let numbers = ["on_hand", "reserved", "available", "incoming"].map(|name| &level[name]);
    assert_eq!(numbers, [&json!(0), &json!(0), &json!(0), &json!(3)]);
    assert_eq!(shop.all("/v1/stock", "sku").await, ["mug", "rare", "tea"]);
    assert_eq!(shop.all("/v1/stock?filter[out]=true", "sku").await, ["rare"]);
}

async fn payments_shipments_and_sagas(shop: &Shop) {
    let Shop { completed, rejected, cancelled, paid, .. } = shop;
    for (path, name, expected) in [
        ("/v1/payments", "order_id", vec![paid, cancelled, rejected, completed]),
        ("/v1/payments?filter[state]=refunded", "order_id", vec![cancelled]),
        (
            "/v1/payments?filter[state]=captured,refunded",
            "order_id",
            vec![paid, cancelled, completed],
        ),
        (&format!("/v1/payments?filter[order]={paid}"), "order_id", vec![paid]),
        (&format!("/v1/payments?filter[order]={paid}&filter[state]=voided"), "order_id", vec![]),
        ("/v1/shipments?sort=opened_at", "order_id", vec![completed, cancelled, paid]),
        ("/v1/shipments?filter[status]=delivered", "order_id", vec![completed]),
        ("/v1/shipments?filter[status]=packed,cancelled", "order_id", vec![paid, cancelled]),
        ("/v1/sagas", "order", vec![paid, cancelled, rejected, completed]),
        ("/v1/sagas?filter[outcome]=completed", "order", vec![completed]),
        ("/v1/sagas?filter[outcome]=completed,cancelled", "order", vec![cancelled, completed]),
        ("/v1/sagas?filter[running]=true", "order", vec![paid]),
        ("/v1/sagas?filter[parked]=true", "order", vec![]),
        ("/v1/sagas?filter[older_than]=2001-01-01T00:00:00Z", "order", vec![]),
    ] {
        let expected: Vec<_> = expected.into_iter().cloned().collect();
        let rows = shop.rows(path).await.into_iter().map(|row| match name {
            "order" => row["links"]["order"].as_str().unwrap()["/v1/orders/".len()..].to_owned(),
            name => row[name].as_str().unwrap().to_owned(),
        });
        assert_eq!(rows.collect::<Vec<_>>(), expected, "{path}");
    }
    let sagas = shop.rows("/v1/sagas").await;
    let (state, began) =
        (sagas[0]["state"].as_str().unwrap(), sagas[1]["started_at"].as_str().unwrap());
    let of_state = shop.rows(&format!("/v1/sagas?filter[state]={state}")).await;
    assert!(of_state.contains(&sagas[0]), "{of_state:?}");
    let older = shop.rows(&format!("/v1/sagas?filter[older_than]={began}")).await;
    assert_eq!(older, sagas[2..]);
}

/// What was taken and what was given back, by currency.
type Sums = BTreeMap<String, (i64, i64)>;

fn sums(rows: &[Value]) -> Sums {
    let mut sums = Sums::new();
    for row in rows {
        let amount = |name: &str| row[name]["amount"].as_i64().unwrap_or(0);
        let currency = row["captured"]["currency"].as_str().unwrap_or("none").to_owned();
        let sum = sums.entry(currency).or_default();
        *sum = (sum.0 + amount("captured"), sum.1 + amount("refunded"));
    }
    sums
}

async fn sales_are_what_the_ledger_has(shop: &Shop) {
    let sales = shop.rows("/v1/sales").await;
    let expected: Sums =
        [("EUR".to_owned(), (5000, 1250)), ("USD".to_owned(), (3750, 0))].into_iter().collect();
    assert_eq!(sums(&sales), expected);
    assert_eq!(sums(&shop.rows("/v1/payments").await), expected);
    for payment in shop.rows("/v1/payments").await {
        let amount = |name: &str| payment[name]["amount"].as_i64().unwrap_or(0);
        assert_eq!(amount("balance"), amount("captured") - amount("refunded"), "{payment}");
    }
    let net = |row: &Value| row["net"]["amount"].as_i64().unwrap();
    assert_eq!(sales.iter().map(net).sum::<i64>(), 5000 - 1250 + 3750);

    let of = async |filter: &str| {
        let rows = shop.rows(&format!("/v1/sales?{filter}")).await;
        let sum = |name: &str| rows.iter().map(|row| row[name].as_i64().unwrap()).sum::<i64>();
        (sums(&rows), sum("orders"), sum("units"))
    };
    let euro = |captured, refunded| ("EUR".to_owned(), (captured, refunded));
    assert_eq!(of("filter[sku]=mug").await, (Sums::from([euro(3750, 1250)]), 2, 3));
    let teas = Sums::from([euro(1250, 0), ("USD".to_owned(), (3750, 0))]);
    assert_eq!(of("filter[sku]=tea").await, (teas, 2, 4));
    assert_eq!(of("filter[sku]=tea&filter[currency]=EUR").await.0, Sums::from([euro(1250, 0)]));
    assert_eq!(of("filter[currency]=GBP").await, (Sums::new(), 0, 0));
    let day = sales[0]["day"].as_str().unwrap();
    let since = of(&format!("filter[day][gte]={day}")).await.0;
    let until = of(&format!("filter[day][lt]={day}")).await.0;
    let total = |sums: &Sums| sums.values().map(|sum| sum.0).sum::<i64>();
    assert!(total(&since) > 0);
    assert_eq!(total(&since) + total(&until), total(&expected));
    assert_eq!(of("filter[day][lt]=2001-01-01").await.0, Sums::new());
}

async fn lists_wait_for_a_position(shop: &Shop) {
    let world = &shop.world;
    let last = world.post("/v1/stock/tea/receive", json!({ "quantity": 1 })).await.expect(200);
    let position = last.header("Commit-Position").unwrap();
    for path in [
        "/v1/orders",
        "/v1/orders?filter[sku]=mug",
        "/v1/orders?filter[q]=mug",
        &format!("/v1/customers/{BOB}"),
        &format!("/v1/customers/{BOB}/orders"),
        "/v1/stock?filter[out]=true",
        "/v1/payments",
        "/v1/shipments",
        "/v1/sagas",
        "/v1/sales",
    ] {
        let reply = world.get_at(path, position).await;
        let seen: i64 = reply.header("Projection-Position").unwrap().parse().unwrap();
        assert!(seen >= position.parse().unwrap(), "{path}: {seen}");
        let late = world.http().get(format!("{}{path}", world.query_url()));
        let late = late.header("Min-Position", "999999999").header("Prefer", "wait=0");
        let late = world.send(late).await.expect(503);
        assert_eq!(late.body["code"], "projection_behind", "{path}");
    }
}
