//! Money that is gone again after it was taken.

use schemas::OrderId;
use serde_json::{Value, json};

use crate::world::World;

/// The customer's bank takes the order's money back.
async fn reverse(world: &World, id: &str) {
    let books = format!("{}/sandbox/books?order_id={id}", world.payment_url());
    let books = world.send(world.http().get(books)).await.expect(200).body;
    let intent = books["intents"][0]["id"].as_str().unwrap();
    let url = format!("{}/sandbox/payment_intents/{intent}/reverse", world.payment_url());
    world.send(world.http().post(url)).await.expect(200);
}

/// The order's payment, once it says that the money is gone.
async fn reversed(world: &World, id: &str) -> Value {
    let path = format!("/v1/payments/{}", id.parse::<OrderId>().unwrap().payment());
    world
        .get_until(&path, |payment| {
            (payment["reversed"]["amount"] == 1250).then(|| payment.clone())
        })
        .await
}

#[tokio::test]
async fn money_that_is_gone_again_stops_the_parcel_or_calls_a_person() {
    let world = World::start().await;
    world.stock("mug", 2).await;

    // The parcel is still here: it stays.
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.pack(&id).await;
    let path = format!("/v1/orders/{id}");
    world.get_until(&path, |order| (order["payment_status"] == "paid").then_some(())).await;
    reverse(&world, &id).await;
    assert_eq!(reversed(&world, &id).await["balance"]["amount"], 0);
    let order = world.order_is(&id, "cancelled").await;
    assert_eq!(order["payment_status"], "refunded", "the customer has it again");
    world.settle().await;
    assert_eq!(world.stock_level("mug").await["available"], 2);

    // It has arrived: somebody has to ask for the money.
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.send_goods(&id).await;
    world.order_is(&id, "completed").await;
    reverse(&world, &id).await;
    assert_eq!(reversed(&world, &id).await["state"], "capture_reversed");
    let saga = format!("/v1/sagas/{}", id.parse::<OrderId>().unwrap().saga());
    let reason =
        world.get_until(&saga, |saga| Some(saga["parked"]["reason"].as_str()?.to_owned())).await;
    assert_eq!(reason, "money_reversed");
    let again = json!({ "reason": "customer" });
    let path = format!("/v1/orders/{id}/cancel");
    assert_eq!(world.post(&path, again).await.expect(409).body["code"], "use_return");
    world.end().await;
}
