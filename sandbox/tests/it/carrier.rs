//! The carrier.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sandbox::Config;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::world::{Hook, Journal, Kind, Receiver, WEBHOOK_SECRET, World, config};

fn quick(config: Config) -> Config {
    Config { scan_interval: Some(Duration::from_millis(1)), ..config }
}

fn by_hand(config: Config) -> Config {
    Config { scan_interval: None, ..config }
}

fn order(reference: &str, country: &str) -> Value {
    json!({ "shipment": {
        "reference": reference,
        "to_address": { "name": "Ada", "street1": "Weg 1", "city": "Berlin", "country": country },
        "parcel": { "weight": 16 },
    } })
}

async fn labelled(world: &World, reference: &str) -> Value {
    let (status, shipment) = world.json("/v2/shipments", None, order(reference, "DE")).await;
    assert_eq!(status, 201, "{shipment}");
    let path = format!("/v2/shipments/{}/buy", shipment["id"].as_str().unwrap());
    let rate = json!({ "rate": { "id": shipment["rates"][0]["id"] } });
    let (status, bought) = world.json(&path, None, rate).await;
    assert_eq!(status, 200, "{bought}");
    bought
}

async fn pick_up(world: &World, shipment: &Value) -> (u16, Value) {
    let pickup = json!({ "pickup": { "shipment": { "id": shipment["id"] } } });
    world.json("/v2/pickups", None, pickup).await
}

#[track_caller]
fn is_error(answer: &(u16, Value), status: u16, code: &str) {
    let (found, body) = answer;
    assert_eq!((*found, body["error"]["code"].as_str()), (status, Some(code)), "{body}");
}

fn is_signed(hook: &Hook) -> bool {
    let header = hook.headers["x-hmac-signature"].to_str().unwrap();
    let signature = hex::decode(header.strip_prefix("hmac-sha256-hex=").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET.as_bytes()).unwrap();
    mac.update(hook.body.as_bytes());
    mac.verify_slice(&signature).is_ok()
}

#[tokio::test]
async fn a_parcel_is_scanned_until_it_is_delivered() {
    let mut receiver = Receiver::start().await;
    let config = Config { webhook_url: Some(receiver.url.clone()), ..quick(config()) };
    let world = World::start(Kind::Carrier, config).await;
    let shipment = labelled(&world, "ful_1").await;
    assert!(shipment["tracking_code"].is_string(), "{shipment}");
    assert_eq!(pick_up(&world, &shipment).await.0, 201);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let hook = receiver.next().await;
        assert!(is_signed(&hook));
        let event = hook.json();
        assert_eq!(event["description"], "tracker.updated");
        assert_eq!(event["result"]["reference"], "ful_1");
        assert_eq!(event["result"]["tracking_code"], shipment["tracking_code"]);
        seen.push(event["result"]["status"].as_str().unwrap().to_owned());
    }
    seen.sort_unstable();
    assert_eq!(seen, ["delivered", "in_transit", "out_for_delivery"]);
    let code = shipment["tracking_code"].as_str().unwrap();
    let (_, tracker) = world.get(&format!("/v2/trackers/{code}")).await;
    assert_eq!(tracker["status"], "delivered");
    assert_eq!(tracker["tracking_details"].as_array().unwrap().len(), 3);
    assert_eq!(world.books().await["delivered"], 1);
}

#[tokio::test]
async fn a_label_is_bought_once_and_given_back_while_the_parcel_is_here() {
    let world = World::start(Kind::Carrier, by_hand(config())).await;
    let (back, gone) = (labelled(&world, "ful_1").await, labelled(&world, "ful_2").await);
    let path = |shipment: &Value, action: &str| {
        format!("/v2/shipments/{}/{action}", shipment["id"].as_str().unwrap())
    };
    let rate = json!({ "rate": { "id": back["rates"][0]["id"] } });
    is_error(&world.json(&path(&back, "buy"), None, rate).await, 422, "SHIPMENT.POSTAGE.EXISTS");

    let (status, refunded) = world.json(&path(&back, "refund"), None, json!({})).await;
    assert_eq!((status, &refunded["refund_status"]), (200, &json!("refunded")));
    let again = world.json(&path(&back, "refund"), None, json!({})).await;
    is_error(&again, 422, "SHIPMENT.REFUND.EXISTS");
    is_error(&pick_up(&world, &back).await, 422, "PICKUP.LABEL.MISSING");

    assert_eq!(pick_up(&world, &gone).await.0, 201);
    is_error(&pick_up(&world, &gone).await, 422, "PICKUP.EXISTS");
    let late = world.json(&path(&gone, "refund"), None, json!({})).await;
    is_error(&late, 422, "SHIPMENT.REFUND.IN_TRANSIT");
}

#[tokio::test]
async fn a_shipment_is_found_by_its_reference_and_its_key() {
    let world = World::start(Kind::Carrier, by_hand(config())).await;
    is_error(&world.get("/v2/shipments/ful_1").await, 404, "NOT_FOUND");
    let first = world.json("/v2/shipments", Some("k"), order("ful_1", "DE")).await;
    assert_eq!(world.json("/v2/shipments", Some("k"), order("ful_1", "DE")).await, first);
    assert_eq!(world.get("/v2/shipments/ful_1").await.1["id"], first.1["id"]);
    assert_eq!(world.books().await["created"], 1);
}

#[tokio::test]
async fn an_address_that_is_not_served_is_refused() {
    let world = World::start(Kind::Carrier, config()).await;
    let refused = world.json("/v2/shipments", None, order("ful_1", "AQ")).await;
    is_error(&refused, 422, "ADDRESS.VERIFY.FAILURE");
    is_error(&world.json("/v2/shipments", None, json!({})).await, 422, "PARAMETER.REQUIRED");
}

#[tokio::test]
async fn scans_may_be_steered_by_hand_and_out_of_order() {
    let mut receiver = Receiver::start().await;
    let config = Config { webhook_url: Some(receiver.url.clone()), ..by_hand(config()) };
    let world = World::start(Kind::Carrier, config).await;
    labelled(&world, "ful_1").await;
    for status in ["delivered", "in_transit"] {
        let body = json!({ "status": status });
        assert_eq!(world.json("/sandbox/shipments/ful_1/scan", None, body).await.0, 200);
        assert_eq!(receiver.next().await.json()["result"]["status"], status);
    }
}

#[tokio::test]
async fn a_killed_carrier_goes_on_where_it_was() {
    let journal = Journal::new("carrier");
    let world = World::start(Kind::Carrier, by_hand(journal.config())).await;
    let shipment = labelled(&world, "ful_1").await;
    pick_up(&world, &shipment).await;
    world.json("/sandbox/shipments/ful_1/scan", None, json!({ "status": "in_transit" })).await;
    drop(world);

    let mut receiver = Receiver::start().await;
    let config = Config { webhook_url: Some(receiver.url.clone()), ..quick(journal.config()) };
    let world = World::start(Kind::Carrier, config).await;
    world.books_where(|books| books["delivered"] == 1).await;
    let mut seen = [receiver.next().await.json(), receiver.next().await.json()]
        .map(|event| event["result"]["status"].as_str().unwrap().to_owned());
    seen.sort_unstable();
    assert_eq!(seen, ["delivered", "out_for_delivery"]);
}
