//! Parcels that do not arrive.

use schemas::OrderId;
use serde_json::{Value, json};

use crate::world::World;

/// The carrier sees the order's parcel, as its people would say.
async fn seen(world: &World, fulfilment: &str, scan: Value) {
    let url = format!("{}/sandbox/shipments/{fulfilment}/scan", world.carrier_url());
    world.send(world.http().post(url).json(&scan)).await.expect(200);
}

/// An order whose parcel may go, and nobody has handed it over yet.
async fn ready(world: &World) -> (String, String) {
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    let fulfilment = world.pack(&id).await;
    let path = format!("/v1/orders/{id}/shipments");
    world
        .get_until(&path, |body| {
            let shipment = &body["data"][0];
            (shipment["released"] == true && shipment["label"] == "bought").then_some(())
        })
        .await;
    (id, fulfilment)
}

/// Why the order's saga is parked, once it is.
async fn parked(world: &World, id: &str) -> String {
    let path = format!("/v1/sagas/{}", id.parse::<OrderId>().unwrap().saga());
    world.get_until(&path, |saga| Some(saga["parked"]["reason"].as_str()?.to_owned())).await
}

#[tokio::test]
async fn a_parcel_that_is_lost_or_comes_back_calls_a_person() {
    let world = World::start().await;
    world.stock("mug", 3).await;
    let lost = json!({ "status": "failure", "status_detail": "lost" });
    for (scan, status, reason) in
        [(lost, "lost", "lost"), (json!({ "status": "return_to_sender" }), "returned", "returned")]
    {
        let (id, fulfilment) = ready(&world).await;
        seen(&world, &fulfilment, scan).await;
        assert_eq!(parked(&world, &id).await, reason);
        let path = format!("/v1/orders/{id}/shipments");
        world.get_until(&path, |body| (body["data"][0]["status"] == status).then_some(())).await;
        world
            .get_until(&format!("/v1/orders/{id}"), |order| {
                (order["fulfilment_status"] == "shipped").then_some(())
            })
            .await;
    }

    // What the carrier mends by itself needs nobody.
    let (id, fulfilment) = ready(&world).await;
    seen(&world, &fulfilment, json!({ "status": "failure" })).await;
    seen(&world, &fulfilment, json!({ "status": "delivered" })).await;
    world.order_is(&id, "completed").await;
    world.end().await;
}
