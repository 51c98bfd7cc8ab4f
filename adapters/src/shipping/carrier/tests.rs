use schemas::OrderId;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::world::Sandbox;

struct World {
    sandbox: Sandbox,
    api: Api,
    fulfilment: FulfilmentId,
}

impl World {
    async fn start() -> Self {
        let sandbox = Sandbox::carrier().await;
        let api = Api::new(&sandbox.hasty()).unwrap();
        Self { sandbox, api, fulfilment: OrderId::new(Uuid::from_u128(7)).fulfilment() }
    }

    async fn labelled(&self) -> Shipment {
        match self.api.buy_label(self.fulfilment, Some(&address("DE"))).await {
            Outcome::Ok(shipment) => shipment,
            outcome => panic!("{outcome:?}"),
        }
    }

    async fn count(&self, what: &str) -> u64 {
        self.sandbox.books().await[what].as_u64().unwrap()
    }
}

fn address(country: &str) -> Address {
    let json = json!({ "name": "Ada", "line1": "Weg 1", "city": "Berlin", "country": country });
    serde_json::from_value(json).unwrap()
}

#[track_caller]
fn code<T: std::fmt::Debug>(outcome: Outcome<T>) -> String {
    match outcome {
        Outcome::Rejected(rejection) => rejection.code(),
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn a_label_is_bought_once_however_often_it_is_asked_for() {
    let world = World::start().await;
    let first = world.labelled().await;
    assert!(first.tracking_code.is_some());
    assert_eq!(world.labelled().await, first);
    assert_eq!((world.count("created").await, world.count("labels_bought").await), (1, 1));
}

#[tokio::test]
async fn a_label_is_bought_once_also_where_answers_are_lost() {
    for operation in ["create", "buy"] {
        let world = World::start().await;
        // More often than one question is put: the next one finds what the last one left.
        let fault = json!({ "kind": "hang", "times": 4, "operation": operation });
        world.sandbox.fault(fault).await;
        let asked = world.api.buy_label(world.fulfilment, Some(&address("DE"))).await;
        assert!(matches!(asked, Outcome::Unknown(_)), "{operation}: {asked:?}");
        world.labelled().await;
        let counts = (world.count("created").await, world.count("labels_bought").await);
        assert_eq!(counts, (1, 1), "{operation}");
    }
}

#[tokio::test]
async fn an_address_that_is_not_served_is_a_no() {
    let world = World::start().await;
    let asked = world.api.buy_label(world.fulfilment, Some(&address("AQ"))).await;
    assert_eq!(code(asked), "ADDRESS.VERIFY.FAILURE");
}

#[tokio::test]
async fn without_an_address_no_label_is_bought_and_one_that_was_is_found() {
    let world = World::start().await;
    let asked = world.api.buy_label(world.fulfilment, None).await;
    assert_eq!(code(asked), "address_erased");
    assert_eq!(world.count("created").await, 0);
    let bought = world.labelled().await;
    match world.api.buy_label(world.fulfilment, None).await {
        Outcome::Ok(shipment) => assert_eq!(shipment, bought),
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(world.count("labels_bought").await, 1);
}

#[tokio::test]
async fn a_parcel_is_picked_up_once_and_its_label_then_stays() {
    let world = World::start().await;
    let shipment = world.labelled().await;
    for _ in 0..2 {
        let asked = world.api.pick_up(world.fulfilment, &shipment.id).await;
        assert!(matches!(asked, Outcome::Ok(_)), "{asked:?}");
    }
    assert_eq!(world.count("picked_up").await, 1);
    let back = world.api.refund_label(world.fulfilment, &shipment.id).await;
    assert_eq!(code(back), "SHIPMENT.REFUND.IN_TRANSIT");
}

#[tokio::test]
async fn a_label_that_is_not_needed_is_given_back() {
    let world = World::start().await;
    let shipment = world.labelled().await;
    for _ in 0..2 {
        let asked = world.api.refund_label(world.fulfilment, &shipment.id).await;
        assert!(matches!(asked, Outcome::Ok(_)), "{asked:?}");
    }
    assert_eq!(world.count("labels_refunded").await, 1);
}

#[test]
fn the_cheapest_rate_is_taken() {
    let rate = |id: &str, rate: &str| json!({ "id": id, "rate": rate });
    let rates = json!([rate("a", "12.00"), rate("b", "5.10"), rate("c", "5.05")]);
    let shipment = json!({ "id": "shp_1", "tracking_code": null, "rates": rates });
    let shipment: Shipment = serde_json::from_value(shipment).unwrap();
    assert_eq!(shipment.cheapest(), Some("c"));
}
