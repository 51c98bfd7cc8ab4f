//! Customers who ask their bank for the money back.

use schemas::OrderId;
use serde_json::{Value, json};

use crate::world::{World, key, until};

/// The order's money at the provider, by its own books.
async fn entry(world: &World, id: &str) -> Value {
    let books = format!("{}/sandbox/books?order_id={id}", world.payment_url());
    world.send(world.http().get(books)).await.expect(200).body["intents"][0].clone()
}

/// Every webhook comes twice, and the first ones late, so that the others overtake them.
async fn muddle_webhooks(world: &World) {
    let url = format!("{}/sandbox/faults", world.payment_url());
    for fault in [
        json!({ "kind": "delay_webhooks", "ms": 300, "times": 2 }),
        json!({ "kind": "duplicate_webhooks", "times": 4 }),
    ] {
        world.send(world.http().post(&url).json(&fault)).await.expect(201);
    }
}

/// The customer disputes what they paid; this is the dispute's id.
async fn dispute(world: &World, id: &str) -> String {
    muddle_webhooks(world).await;
    let intent = entry(world, id).await["id"].as_str().unwrap().to_owned();
    let url = format!("{}/sandbox/payment_intents/{intent}/dispute", world.payment_url());
    let opened = world.send(world.http().post(url)).await.expect(200).body;
    opened["id"].as_str().unwrap().to_owned()
}

/// The bank decides.
async fn close(world: &World, dispute: &str, status: &str) {
    let url = format!("{}/sandbox/disputes/{dispute}/close", world.payment_url());
    let request =
        world.http().post(url).header("content-type", "application/x-www-form-urlencoded");
    world.send(request.body(format!("status={status}"))).await.expect(200);
}

/// The order's payment, once its dispute stands like this.
async fn payment(world: &World, id: &str, status: &str) -> Value {
    let path = format!("/v1/payments/{}", id.parse::<OrderId>().unwrap().payment());
    let stands = |seen: &Value| (seen["disputes"][0]["status"] == status).then(|| seen.clone());
    world.get_until(&path, stands).await
}

fn saga(id: &str) -> String {
    format!("/v1/sagas/{}", id.parse::<OrderId>().unwrap().saga())
}

async fn is_parked(world: &World, id: &str, reason: &str) {
    let parked = |seen: &Value| (seen["parked"]["reason"] == reason).then_some(());
    world.get_until(&saga(id), parked).await;
}

/// A person has looked, and has the order go on.
async fn resume(world: &World, id: &str) {
    let path = saga(id);
    until("the saga to be resumed", || async {
        let seen = world.get(&path).await.expect(200).body;
        let verbs = seen["verbs"].as_array().unwrap().iter();
        let verbs: Vec<_> = verbs.map(|legal| legal["verb"].as_str().unwrap()).collect();
        assert!(verbs.contains(&"resume"), "{seen}");
        let body = json!({ "reason": "the bank has our evidence" });
        let request = world.post_request(&key(), &format!("{path}/resume"), &body);
        let request = request.header("If-Match", format!("\"{}\"", seen["version"]));
        // What it heard meanwhile and put off counts as a version.
        (world.send(request).await.status == 200).then_some(())
    })
    .await;
}

/// An order that is paid for, and whose parcel is still here.
async fn paid(world: &World) -> String {
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.pack(&id).await;
    let path = format!("/v1/orders/{id}");
    world.get_until(&path, |order| (order["payment_status"] == "paid").then_some(())).await;
    id
}

#[tokio::test]
async fn what_is_disputed_stays_in_the_house_until_the_bank_has_decided() {
    let world = World::start().await;
    world.stock("mug", 2).await;
    let id = paid(&world).await;
    let disputed = dispute(&world, &id).await;
    is_parked(&world, &id, "dispute").await;
    let order = world.order_is(&id, "on_hold").await;
    assert_eq!(order["holds"], json!(["dispute"]), "{order}");
    let seen = payment(&world, &id, "open").await;
    assert_eq!((&seen["state"], &seen["balance"]["amount"]), (&json!("disputed"), &json!(0)));
    assert_eq!(seen["disputed"]["amount"], 1250, "{seen}");
    assert_eq!(seen["disputes"][0]["reason"], "fraudulent", "{seen}");
    let fulfilment = world.fulfilment(&id).await;
    let gate = format!("/v1/fulfilment-orders/{fulfilment}/hand-over");
    assert_eq!(world.post(&gate, json!({})).await.expect(409).body["code"], "on_hold");

    resume(&world, &id).await;
    close(&world, &disputed, "won").await;
    let seen = payment(&world, &id, "won").await;
    assert_eq!((&seen["state"], &seen["balance"]["amount"]), (&json!("captured"), &json!(1250)));
    world.order_is(&id, "confirmed").await;
    world.send_packed(&id).await;
    world.order_is(&id, "completed").await;

    // The bank decides for the customer: the goods stay.
    let id = paid(&world).await;
    let disputed = dispute(&world, &id).await;
    is_parked(&world, &id, "dispute").await;
    close(&world, &disputed, "lost").await;
    let seen = payment(&world, &id, "lost").await;
    assert_eq!(
        (&seen["reversed"]["amount"], &seen["balance"]["amount"]),
        (&json!(1250), &json!(0))
    );
    resume(&world, &id).await;
    let order = world.order_is(&id, "cancelled").await;
    assert_eq!(order["payment_status"], "refunded", "the customer has it again");
    world.settle().await;
    assert_eq!(world.stock_level("mug").await["available"], 1);
    let books = entry(&world, &id).await;
    assert_eq!((&books["captured"], &books["disputed"]), (&json!(1250), &json!(1250)));
    assert_eq!(books["refunded"], 0, "nobody gives back what is gone");
    world.end().await;
}

/// R20, and that word of it, however often and in whichever order it comes, counts once.
#[tokio::test]
async fn a_dispute_after_completion_calls_a_person() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.send_goods(&id).await;
    world.order_is(&id, "completed").await;
    let disputed = dispute(&world, &id).await;
    close(&world, &disputed, "won").await;
    is_parked(&world, &id, "money_reversed").await;
    let seen = payment(&world, &id, "won").await;
    assert_eq!(seen["balance"]["amount"], 1250, "{seen}");
    until("every webhook to be heard", || async {
        let url = format!("{}/sandbox/books", world.payment_url());
        let books = world.send(world.http().get(url)).await.expect(200).body;
        (books["webhooks_waiting"] == 0).then_some(())
    })
    .await;
    world.settle().await;
    let payment = id.parse::<OrderId>().unwrap().payment();
    let stream = format!("/v1/streams/payment/{payment}");
    let events = world.get(&stream).await.expect(200).body;
    let types = events["data"].as_array().unwrap().iter();
    let types: Vec<_> = types.map(|event| event["type"].as_str().unwrap()).collect();
    for once in ["payment.dispute_opened.v1", "payment.dispute_won.v1"] {
        let times = types.iter().filter(|of| **of == once).count();
        assert_eq!(times, 1, "{once}: {types:?}");
    }
    resume(&world, &id).await;
    assert_eq!(world.order(&id).await["status"], "completed");
    world.settle().await;
    world.end().await;
}
