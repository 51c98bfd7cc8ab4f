//! What keeps an order from going on: a unit that is not on the shelf, a hold, a warehouse that is
//! late, money that cannot be taken.

use schemas::OrderId;
use serde_json::{Value, json};

use crate::world::{World, until};

/// The provider refuses what it is asked for, so many times.
async fn refuse(world: &World, operation: &str, times: u32) {
    let fault = json!({ "kind": "refuse", "times": times, "operation": operation });
    let url = format!("{}/sandbox/faults", world.payment_url());
    world.send(world.http().post(url).json(&fault)).await.expect(201);
}

/// What the provider holds and took, and how its intents stand.
async fn books(world: &World, id: &str) -> (i64, i64, Vec<String>) {
    let url = format!("{}/sandbox/books?order_id={id}", world.payment_url());
    let books = world.send(world.http().get(url)).await.expect(200).body;
    let sum = |name: &str| books["currencies"]["eur"][name].as_i64().unwrap_or(0);
    let intents = books["intents"].as_array().unwrap().iter();
    let states = intents.map(|intent| intent["status"].as_str().unwrap().to_owned()).collect();
    (sum("authorised_open"), sum("captured"), states)
}

/// The provider lets go of what nobody took in time.
async fn expire(world: &World, id: &str) {
    let url = format!("{}/sandbox/books?order_id={id}", world.payment_url());
    let books = world.send(world.http().get(url)).await.expect(200).body;
    let intents = books["intents"].as_array().unwrap();
    let intent = intents.last().unwrap()["id"].as_str().unwrap();
    let url = format!("{}/sandbox/payment_intents/{intent}/expire", world.payment_url());
    world.send(world.http().post(url)).await.expect(200);
}

/// The time has come for one of the order's timers, once it runs.
async fn time_passes(world: &World, id: &str, timer: &str) {
    let saga = id.parse::<OrderId>().unwrap().saga();
    until(&format!("{timer} to run"), || async {
        let due = "update saga_timers set due = now() where saga_id = $1 and name = $2";
        let due = sqlx::query(due).bind(saga.uuid()).bind(timer).execute(world.pool()).await;
        (due.unwrap().rows_affected() == 1).then_some(())
    })
    .await;
}

async fn alerts(world: &World, reason: &str) {
    let url = format!("{}/metrics", world.command_url());
    let series = format!("waybill_saga_alerts_total{{reason=\"{reason}\"}} ");
    until(&series, || async {
        let text = world.http().get(&url).send().await.unwrap().text().await.unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok());
        count.filter(|count| *count >= 1.0).map(drop)
    })
    .await;
    until("the line in the log", || async {
        let log = std::fs::read_to_string(world.folder().join("waybill.log")).unwrap();
        let is_told = |line: &str| line.contains("an order is late") && line.contains(reason);
        log.lines().any(is_told).then_some(())
    })
    .await;
}

fn payment(id: &str) -> String {
    format!("/v1/payments/{}", id.parse::<OrderId>().unwrap().payment())
}

/// Waits until the order waits for `reason`, and gives it.
async fn held(world: &World, id: &str, reason: &str) -> Value {
    let order = world.order_is(id, "on_hold").await;
    assert_eq!(order["holds"], json!([reason]), "{order}");
    order
}

async fn is_paid(world: &World, id: &str) -> Value {
    let path = format!("/v1/orders/{id}");
    let paid = |order: &Value| (order["payment_status"] == "paid").then(|| order.clone());
    world.get_until(&path, paid).await
}

#[tokio::test]
async fn what_is_not_on_the_shelf_is_not_paid_for() {
    let world = World::start().await;
    world.stock("mug", 2).await;
    world.stock("tea", 1).await;

    let id = world.place(&[("mug", 2), ("tea", 1)], "pm_card_visa").await;
    let fulfilment = world.fulfilment(&id).await;
    let path = format!("/v1/fulfilment-orders/{fulfilment}/short");
    let short = |lines: Value| world.post(&path, json!({ "lines": lines }));
    let one = json!([{ "sku": "mug", "quantity": 1 }]);
    let much = short(json!([{ "sku": "mug", "quantity": 3 }])).await.expect(409);
    assert_eq!(much.body["code"], "not_to_be_sent");
    short(one.clone()).await.expect(200);
    world.pack(&id).await;
    assert_eq!(short(one.clone()).await.expect(409).body["code"], "already_packed");
    let order = is_paid(&world, &id).await;
    assert_eq!(order["totals"]["grand"]["amount"], 2500, "{order}");
    assert_eq!(order["lines"][0]["quantities"]["cancelled"], 1, "{order}");
    let shipments = world.get(&format!("/v1/orders/{id}/shipments")).await.expect(200).body;
    assert_eq!(shipments["data"][0]["short"], one, "{shipments}");
    world.send_packed(&id).await;
    world.order_is(&id, "completed").await;
    assert_eq!(books(&world, &id).await, (0, 2500, vec!["succeeded".to_owned()]));
    world.settle().await;
    let mugs = world.stock_level("mug").await;
    assert_eq!((&mugs["available"], &mugs["reserved"]), (&json!(1), &json!(0)));

    // Nothing is there.
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    let fulfilment = world.fulfilment(&id).await;
    let path = format!("/v1/fulfilment-orders/{fulfilment}/short");
    world.post(&path, json!({ "lines": one })).await.expect(200);
    let order = world.order_is(&id, "cancelled").await;
    assert_eq!(
        (&order["cancel_reason"], &order["payment_status"]),
        (&json!("inventory"), &json!("voided"))
    );
    world.settle().await;
    assert_eq!(books(&world, &id).await, (0, 0, vec!["canceled".to_owned()]));
    assert_eq!(world.stock_level("mug").await["available"], 1);
    world.end().await;
}

#[tokio::test]
async fn an_order_on_hold_is_not_packed_until_it_is_released() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    let fulfilment = world.fulfilment(&id).await;
    let hold = format!("/v1/orders/{id}/hold");
    let body = json!({ "reason": "fraud" });
    world.post(&hold, body).await.expect(200);
    held(&world, &id, "fraud").await;
    let path = format!("/v1/orders/{id}/shipments");
    let waits = |yes: bool| {
        let path = path.clone();
        let world = &world;
        async move {
            let waits = |body: &Value| (body["data"][0]["on_hold"] == yes).then_some(());
            world.get_until(&path, waits).await;
        }
    };
    waits(true).await;
    let pack = format!("/v1/fulfilment-orders/{fulfilment}/pack");
    assert_eq!(world.post(&pack, json!({})).await.expect(409).body["code"], "on_hold");

    world.post(&format!("/v1/orders/{id}/release"), json!({})).await.expect(200);
    world.order_is(&id, "confirmed").await;
    waits(false).await;
    world.send_goods(&id).await;
    world.order_is(&id, "completed").await;
    let late = world.post(&hold, json!({ "reason": "fraud" })).await.expect(409);
    assert_eq!(late.body["code"], "invalid_transition");
    world.end().await;
}

#[tokio::test]
async fn a_warehouse_that_is_late_is_told_of() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.fulfilment(&id).await;
    time_passes(&world, &id, "warehouse").await;
    held(&world, &id, "warehouse").await;
    alerts(&world, "pick_overdue").await;

    let reason = json!({ "reason": "warehouse" });
    world.post(&format!("/v1/orders/{id}/release"), reason).await.expect(200);
    world.order_is(&id, "confirmed").await;
    world.pack_when_allowed(&id).await;
    is_paid(&world, &id).await;
    world.settle().await;
    time_passes(&world, &id, "warehouse").await;
    alerts(&world, "handover_overdue").await;
    assert_eq!(world.order(&id).await["status"], "confirmed", "nobody cancels it for that");
    world.send_packed(&id).await;
    world.order_is(&id, "completed").await;
    world.end().await;
}

#[tokio::test]
async fn money_that_cannot_be_taken_is_waited_for() {
    let world = World::start().await;
    world.stock("mug", 3).await;

    // The same card, once more.
    let wanting = async || {
        refuse(&world, "capture", 1).await;
        let id = world.place(&[("mug", 1)], "pm_card_visa").await;
        world.pack(&id).await;
        held(&world, &id, "payment").await;
        let path = format!("/v1/orders/{id}");
        let is_asked = |order: &Value| (order["payment_status"] == "action_required").then_some(());
        world.get_until(&path, is_asked).await;
        alerts(&world, "payment_wanting").await;
        id
    };
    let id = wanting().await;
    let retry = format!("{}/retry", payment(&id));
    world.post(&retry, json!({})).await.expect(202);
    is_paid(&world, &id).await;
    world.order_is(&id, "confirmed").await;
    assert_eq!(world.post(&retry, json!({})).await.expect(409).body["code"], "retry_not_wanted");
    world.send_packed(&id).await;
    world.order_is(&id, "completed").await;
    assert_eq!(books(&world, &id).await, (0, 1250, vec!["succeeded".to_owned()]));

    // Another card.
    let id = wanting().await;
    let path = format!("/v1/orders/{id}/payment-method");
    let card = json!({ "payment_method": "pm_card_mastercard" });
    world.post(&path, card).await.expect(202);
    is_paid(&world, &id).await;
    world.send_packed(&id).await;
    world.order_is(&id, "completed").await;
    let states = ["canceled", "succeeded"].map(str::to_owned).to_vec();
    assert_eq!(books(&world, &id).await, (0, 1250, states));

    // Nobody pays.
    let id = wanting().await;
    time_passes(&world, &id, "dunning").await;
    let order = world.order_is(&id, "cancelled").await;
    assert_eq!(order["payment_status"], "voided", "{order}");
    world.settle().await;
    assert_eq!(books(&world, &id).await, (0, 0, vec!["canceled".to_owned()]));
    assert_eq!(world.stock_level("mug").await["available"], 1);
    world.end().await;
}

#[tokio::test]
async fn money_that_is_held_no_longer_is_asked_for_anew() {
    let world = World::start().await;
    world.stock("mug", 2).await;
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.fulfilment(&id).await;
    expire(&world, &id).await;
    let states = |states: [&str; 2]| states.map(str::to_owned).to_vec();
    until("the money to be held again", || async {
        (books(&world, &id).await == (1250, 0, states(["canceled", "requires_capture"])))
            .then_some(())
    })
    .await;
    let held = |payment: &Value| (payment["state"] == "authorised").then_some(());
    world.get_until(&payment(&id), held).await;
    world.send_goods(&id).await;
    world.order_is(&id, "completed").await;
    assert_eq!(books(&world, &id).await, (0, 1250, states(["canceled", "succeeded"])));

    // It is found out when it is to be taken.
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.fulfilment(&id).await;
    let fault = json!({ "kind": "delay_webhooks", "ms": 60_000 });
    let url = format!("{}/sandbox/faults", world.payment_url());
    world.send(world.http().post(url).json(&fault)).await.expect(201);
    expire(&world, &id).await;
    world.pack(&id).await;
    is_paid(&world, &id).await;
    assert_eq!(books(&world, &id).await, (0, 1250, states(["canceled", "succeeded"])));
    world.send_packed(&id).await;
    world.order_is(&id, "completed").await;
    world.end().await;
}
