//! What a bank asks of a customer, and another card.

use schemas::OrderId;
use serde_json::{Value, json};

use crate::world::{World, key};

const ASKS: &str = "pm_card_threeDSecure2Required";

/// The payment's page, once it is in `state`.
async fn payment_is(world: &World, id: &str, state: &str) -> Value {
    let path = format!("/v1/payments/{}", id.parse::<OrderId>().unwrap().payment());
    world.get_until(&path, |payment| (payment["state"] == state).then(|| payment.clone())).await
}

/// Places an order whose payment the bank asks about, and gives it with the bank's page.
async fn asked(world: &World, sku: &str) -> (String, String) {
    let id = world.place(&[(sku, 1)], ASKS).await;
    let payment = payment_is(world, &id, "action_required").await;
    let url = payment["action_url"].as_str().unwrap().to_owned();
    (id, url)
}

/// What the customer does on the bank's page.
async fn at_the_bank(world: &World, url: &str, result: &str) -> Value {
    let form = [("result", result)];
    world.send(world.http().post(url).form(&form)).await.expect(200).body
}

async fn replace(world: &World, id: &str, method: &str) {
    let path = format!("/v1/orders/{id}/payment-method");
    world.post(&path, json!({ "payment_method": method })).await.expect(202);
}

/// Orders a fault of the provider.
async fn fault(world: &World, fault: Value) {
    let url = format!("{}/sandbox/faults", world.payment_url());
    world.send(world.http().post(url).json(&fault)).await.expect(201);
}

/// What the provider holds for an order, by its own books, and how its intents stand.
async fn books(world: &World, id: &str) -> (i64, i64, Vec<String>) {
    let url = format!("{}/sandbox/books?order_id={id}", world.payment_url());
    let books = world.send(world.http().get(url)).await.expect(200).body;
    let sum = |name: &str| books["currencies"]["eur"][name].as_i64().unwrap_or(0);
    let intents = books["intents"].as_array().unwrap().iter();
    let states = intents.map(|intent| intent["status"].as_str().unwrap().to_owned()).collect();
    (sum("authorised_open"), sum("captured"), states)
}

#[tokio::test]
async fn a_payment_that_the_customer_confirms_is_an_order() {
    let world = World::start().await;
    world.stock("mug", 3).await;

    // R6: everything is told twice. R10: what was asked is told after it was answered.
    fault(&world, json!({ "kind": "delay_webhooks", "ms": 300 })).await;
    fault(&world, json!({ "kind": "duplicate_webhooks", "times": 3 })).await;
    let (id, url) = asked(&world, "mug").await;
    assert_eq!(world.order(&id).await["status"], "pending");
    assert_eq!(at_the_bank(&world, &url, "complete").await["status"], "requires_capture");
    world.order_is(&id, "confirmed").await;
    let payment = payment_is(&world, &id, "authorised").await;
    assert_eq!(payment["action_url"], Value::Null);

    world.send_goods(&id).await;
    world.order_is(&id, "completed").await;
    assert_eq!(books(&world, &id).await, (0, 1250, vec!["succeeded".to_owned()]));
    world.end().await;
}

#[tokio::test]
async fn a_payment_that_the_customer_does_not_confirm_may_go_by_another_card() {
    let world = World::start().await;
    world.stock("mug", 1).await;

    let (id, url) = asked(&world, "mug").await;
    at_the_bank(&world, &url, "fail").await;
    let declined = payment_is(&world, &id, "declined").await;
    let code = "payment_intent_authentication_failure";
    assert_eq!(declined["transactions"][0]["code"], code, "{declined}");
    assert_eq!(world.order(&id).await["status"], "pending", "the goods are kept for them");

    replace(&world, &id, "pm_card_visa").await;
    world.order_is(&id, "confirmed").await;
    world.settle().await;
    let (held, _, states) = books(&world, &id).await;
    assert_eq!((held, states), (1250, vec!["canceled".to_owned(), "requires_capture".to_owned()]));
    let path = format!("/v1/orders/{id}/payment-method");
    let late = world.post(&path, json!({ "payment_method": "pm_card_visa" })).await.expect(409);
    assert_eq!(late.body["code"], "method_not_wanted");
    world.end().await;
}

#[tokio::test]
async fn a_card_that_is_declined_three_times_is_the_end_of_it() {
    let world = World::start().await;
    world.stock("mug", 1).await;

    let short = "pm_card_chargeDeclinedInsufficientFunds";
    let id = world.place(&[("mug", 1)], short).await;
    let path = format!("/v1/payments/{}", id.parse::<OrderId>().unwrap().payment());
    for declines in 1..=2 {
        world
            .get_until(&path, |payment| {
                let asked = payment["transactions"].as_array()?.len();
                (payment["state"] == "declined" && asked == declines).then_some(())
            })
            .await;
        replace(&world, &id, short).await;
    }
    let order = world.order_is(&id, "rejected").await;
    assert_eq!(order["payment_status"], "failed");
    world.settle().await;
    let (held, captured, states) = books(&world, &id).await;
    assert_eq!((held, captured, states), (0, 0, vec!["canceled".to_owned(); 3]));
    assert_eq!(world.stock_level("mug").await["available"], 1);
    world.end().await;
}

#[tokio::test]
async fn a_bank_that_is_left_alone_is_not_paid() {
    let world = World::start().await;
    world.stock("mug", 2).await;

    // Cancelled while the bank asks; and the customer confirms it all the same.
    let (id, url) = asked(&world, "mug").await;
    let path = format!("/v1/orders/{id}/cancel");
    world.post(&path, json!({ "reason": "customer" })).await.expect(202);
    world.order_is(&id, "cancelled").await;
    let late = world.send(world.http().post(&url).form(&[("result", "complete")])).await;
    assert_eq!(late.expect(400).body["error"]["code"], "payment_intent_unexpected_state");
    assert_eq!(books(&world, &id).await, (0, 0, vec!["canceled".to_owned()]));

    // Another card takes the place of a bank that asks, and the first page is closed.
    let (id, url) = asked(&world, "mug").await;
    replace(&world, &id, "pm_card_mastercard").await;
    world.order_is(&id, "confirmed").await;
    world.settle().await;
    world.send(world.http().post(&url).form(&[("result", "complete")])).await.expect(400);
    let (held, _, states) = books(&world, &id).await;
    assert_eq!((held, states), (1250, vec!["canceled".to_owned(), "requires_capture".to_owned()]));
    world.end().await;
}

#[tokio::test]
async fn the_same_card_is_named_once() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let (id, _) = asked(&world, "mug").await;
    let (key, path) = (key(), format!("/v1/orders/{id}/payment-method"));
    let body = json!({ "payment_method": "pm_card_visa" });
    let first = world.post_as(&key, &path, body.clone()).await.expect(202);
    let again = world.post_as(&key, &path, body).await.expect(202);
    assert_eq!(again.header("Idempotent-Replayed"), Some("true"));
    assert_eq!(first.body, again.body);
    world.order_is(&id, "confirmed").await;
    assert_eq!(books(&world, &id).await.0, 1250);
    world
        .post(
            "/v1/orders/ord_00000000000000000000000000000007/payment-method",
            json!({ "payment_method": "pm_card_visa" }),
        )
        .await
        .expect(404);
    world.end().await;
}
