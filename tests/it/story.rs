//! The story that the demo tells, point by point.

use serde_json::json;

use crate::world::{World, key, order, until};

/// The names of an order's events without their versions, in order.
async fn story(world: &World, id: &str) -> Vec<String> {
    // What an order has come to and how it got there are two read models.
    world.settle().await;
    let events = world.events(id).await;
    events.iter().map(|event| event.rsplit_once(".v").unwrap().0.to_owned()).collect()
}

/// Asserts that `wanted` occur in this order, whatever else happens in between.
#[track_caller]
fn assert_in_order(story: &[String], wanted: &[&str]) {
    let mut rest = story.iter();
    for event in wanted {
        assert!(rest.any(|told| told == event), "{event} is missing or too early in {story:#?}");
    }
}

/// What the provider holds, took and gave back for an order, by its own books.
async fn books(world: &World, id: &str) -> (i64, i64, i64) {
    let url = format!("{}/sandbox/books?order_id={id}", world.payment_url());
    let books = world.send(world.http().get(url)).await.expect(200).body;
    let sum = |name: &str| books["currencies"]["eur"][name].as_i64().unwrap_or(0);
    (sum("authorised_open"), sum("captured"), sum("refunded"))
}

#[tokio::test]
async fn an_order_for_two_skus_is_fulfilled() {
    let world = World::start().await;
    world.stock("mug", 5).await;
    world.stock("tea", 5).await;

    let id = world.place(&[("mug", 2), ("tea", 1)], "pm_card_visa").await;
    world.send_goods(&id).await;
    let order = world.order_is(&id, "completed").await;

    assert_eq!(order["payment_status"], "paid");
    assert_eq!(order["fulfilment_status"], "delivered");
    assert_in_order(
        &story(&world, &id).await,
        &[
            "order.placed",
            "inventory.reserved",
            "payment.authorised",
            "order.confirmed",
            "shipping.created",
            "shipping.packed",
            "payment.captured",
            "shipping.released",
            "shipping.handed_over",
            "shipping.delivered",
            "order.completed",
        ],
    );
    assert_eq!(books(&world, &id).await, (0, 3750, 0));
    let mugs = world.stock_level("mug").await;
    assert_eq!((&mugs["on_hand"], &mugs["reserved"]), (&json!(3), &json!(0)));
    world.end().await;
}

#[tokio::test]
async fn a_declined_card_gives_the_stock_back() {
    let world = World::start().await;
    world.stock("mug", 1).await;

    let id = world.place(&[("mug", 1)], "pm_card_chargeDeclinedStolenCard").await;
    let order = world.order_is(&id, "rejected").await;

    assert_eq!(order["payment_status"], "failed");
    assert_in_order(
        &story(&world, &id).await,
        &[
            "inventory.reserved",
            "payment.declined",
            "inventory.reservation_released",
            "order.rejected",
        ],
    );
    assert_eq!(books(&world, &id).await, (0, 0, 0));
    assert_eq!(world.stock_level("mug").await["available"], 1);
    world.end().await;
}

#[tokio::test]
async fn a_short_sku_holds_nothing_and_charges_nothing() {
    let world = World::start().await;
    world.stock("mug", 5).await;
    world.stock("tea", 1).await;

    let id = world.place(&[("mug", 1), ("tea", 2)], "pm_card_visa").await;
    let order = world.order_is(&id, "rejected").await;

    let short = json!([{ "sku": "tea", "wanted": 2, "available": 1 }]);
    assert_eq!(order["short"], short, "{order}");
    let story = story(&world, &id).await;
    assert!(!story.iter().any(|event| event.starts_with("payment.")), "{story:?}");
    assert_eq!(world.stock_level("mug").await["available"], 5);
    assert_eq!(world.stock_level("tea").await["available"], 1);
    world.end().await;
}

#[tokio::test]
async fn a_cancellation_before_the_hand_over_gives_everything_back() {
    let world = World::start().await;
    world.stock("mug", 2).await;

    // One is cancelled while it is only authorised, the other after the money was taken.
    let held = world.place(&[("mug", 1)], "pm_card_visa").await;
    let taken = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.order_is(&held, "confirmed").await;
    world.pack(&taken).await;
    world
        .get_until(&format!("/v1/orders/{taken}"), |order| {
            (order["payment_status"] == "paid").then_some(())
        })
        .await;
    for id in [&held, &taken] {
        let path = format!("/v1/orders/{id}/cancel");
        let reply = world.post(&path, json!({ "reason": "customer" })).await.expect(202);
        assert!(reply.header("Location").unwrap().starts_with("/v1/sagas/sag_"), "{reply:?}");
        world.order_is(id, "cancelled").await;
    }

    assert_eq!(books(&world, &held).await, (0, 0, 0));
    assert_eq!(books(&world, &taken).await, (0, 1250, 1250));
    assert_eq!(world.order(&held).await["payment_status"], "voided");
    assert_eq!(world.order(&taken).await["payment_status"], "refunded");
    world.settle().await;
    let mugs = world.stock_level("mug").await;
    assert_eq!((&mugs["available"], &mugs["reserved"]), (&json!(2), &json!(0)));
    world.end().await;
}

#[tokio::test]
async fn of_ten_customers_exactly_three_get_the_last_three_units() {
    let world = World::start().await;
    for round in 0..10 {
        let sku = format!("rare-{round}");
        world.stock(&sku, 3).await;

        let lines = [(sku.as_str(), 1)];
        let races = (0..10).map(|_| world.place(&lines, "pm_card_visa"));
        let ids = futures_util::future::join_all(races).await;
        let (mut won, mut lost) = (0, 0);
        for id in &ids {
            let path = format!("/v1/orders/{id}");
            let status = world
                .get_until(&path, |order| {
                    let status = order["status"].as_str()?;
                    matches!(status, "confirmed" | "rejected").then(|| status.to_owned())
                })
                .await;
            if status == "confirmed" { won += 1 } else { lost += 1 }
        }
        assert_eq!((won, lost), (3, 7), "in round {round}");
        world.settle().await;
        assert_eq!(world.stock_level(&sku).await["available"], 0);
    }
    world.end().await;
}

#[tokio::test]
async fn the_same_post_sent_twice_makes_one_order() {
    let world = World::start().await;
    world.stock("mug", 9).await;
    let (key, body) = (key(), order(&[("mug", 1)], "pm_card_visa"));

    // At the same moment, and again later.
    let (first, second) = tokio::join!(
        world.post_as(&key, "/v1/orders", body.clone()),
        world.post_as(&key, "/v1/orders", body.clone())
    );
    let third = world.post_as(&key, "/v1/orders", body.clone()).await.expect(201);
    assert_eq!(third.header("Idempotent-Replayed"), Some("true"));
    for reply in [first.expect(201), second.expect(201)] {
        assert_eq!(reply.body, third.body);
        assert_eq!(reply.header("Location"), third.header("Location"));
        assert_eq!(reply.header("Commit-Position"), third.header("Commit-Position"));
    }
    let other = world.post_as(&key, "/v1/orders", order(&[("mug", 2)], "pm_card_visa")).await;
    assert_eq!(other.expect(422).body["code"], "idempotency_key_reused");

    world.order_is(third.body["id"].as_str().unwrap(), "confirmed").await;
    world.settle().await;
    let orders = world.get("/v1/orders").await.expect(200).body;
    assert_eq!(orders["data"].as_array().unwrap().len(), 1, "{orders}");
    world.end().await;
}

#[tokio::test]
async fn an_order_survives_the_kill_of_the_process_at_any_moment() {
    let mut world = World::start().await;
    world.stock("mug", 50).await;
    let mut ids = Vec::new();
    for round in 0..5 {
        let id = world.place(&[("mug", 1)], "pm_card_visa").await;
        // Each round lets the order come a little further before the kill.
        let path = format!("/v1/orders/{id}/events");
        world
            .get_until(&path, |body| (body["data"].as_array()?.len() >= round * 3).then_some(()))
            .await;
        world.kill();
        world.run().await;
        ids.push(id);
    }
    for id in &ids {
        world.send_goods(id).await;
        world.order_is(id, "completed").await;
        assert_eq!(books(&world, id).await, (0, 1250, 0), "of {id}");
    }
    world.settle().await;
    let mugs = world.stock_level("mug").await;
    assert_eq!((&mugs["on_hand"], &mugs["reserved"]), (&json!(45), &json!(0)));
    world.end().await;
}

#[tokio::test]
async fn an_order_worth_nothing_is_sent_without_a_payment() {
    let world = World::start().await;
    world.stock("sample", 1).await;
    let mut body = order(&[("sample", 1)], "pm_card_visa");
    body["lines"][0]["unit_price"]["amount"] = json!(0);

    let id =
        world.post("/v1/orders", body).await.expect(201).body["id"].as_str().unwrap().to_owned();
    world.send_goods(&id).await;
    world.order_is(&id, "completed").await;

    let story = story(&world, &id).await;
    assert!(!story.iter().any(|event| event.starts_with("payment.")), "{story:?}");
    world.end().await;
}

#[tokio::test]
async fn a_read_waits_for_the_write_it_asks_for() {
    let world = World::start().await;
    let reply = world.post("/v1/orders", order(&[("none", 1)], "pm_card_visa")).await.expect(201);
    let (path, position) = (reply.header("Location").unwrap(), reply.header("Commit-Position"));

    let seen = world.get_at(path, position.unwrap()).await;
    assert_eq!(seen.body["id"], reply.body["id"]);

    let read = world.http().get(format!("{}{path}", world.query_url()));
    let read = read.header("Min-Position", "999999999").header("Prefer", "wait=0");
    let late = world.send(read).await.expect(503);
    assert!(late.header("Retry-After").is_some(), "{late:?}");
    until("the order to be rejected", || async {
        (world.order(reply.body["id"].as_str().unwrap()).await["status"] == "rejected")
            .then_some(())
    })
    .await;
    world.end().await;
}
