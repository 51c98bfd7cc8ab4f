//! Time travel: a stream and its state as they were, over the query API and on the command line.

use std::process::Command;

use aggregates::inventory::Inventory;
use aggregates::order::Order;
use saga::Journal;
use saga::fulfilment::Fulfilment;
use schemas::{Decider, Event as _, OrderId, StreamId, Timestamp};
use serde_json::{Value, json};

use crate::world::{Reply, World};

/// An order that has been delivered, and everything that was written on the way.
async fn delivered() -> (World, OrderId) {
    let world = World::start().await;
    world.stock("mug", 3).await;
    let id = world.place(&[("mug", 2)], "pm_card_visa").await;
    world.send_goods(&id).await;
    world.order_is(&id, "completed").await;
    world.settle().await;
    (world, id.parse().unwrap())
}

/// Asks as an operator.
async fn look(world: &World, path: &str) -> Reply {
    let url = format!("{}/v1/streams/{path}", world.query_url());
    world.send(world.http().get(url)).await
}

/// The events of a stream as they stand in the log: type, payload, when.
async fn events(world: &World, stream: StreamId) -> Vec<(String, String, Timestamp)> {
    sqlx::query_as(
        "select event_type, payload::text, recorded_at from events
         where stream_id = $1 order by stream_version",
    )
    .bind(stream.id)
    .fetch_all(world.pool())
    .await
    .unwrap()
}

/// The state after the first events, by the rules alone.
fn fold<D: Decider>(events: &[(String, String, Timestamp)]) -> Value {
    let decoded = events.iter().map(|(kind, data, _)| D::Event::decode(kind, data).unwrap());
    serde_json::to_value(decoded.fold(D::default(), |state, event| state.evolve(&event))).unwrap()
}

/// Looks at every version of a stream.
async fn check_versions<D: Decider>(world: &World, stream: StreamId) {
    let events = events(world, stream).await;
    assert!(!events.is_empty());
    for version in 0..=events.len() {
        let path = format!("{stream}?at_version={version}&limit=200");
        let seen = look(world, &path).await.expect(200).body;
        assert_eq!(seen["state"], fold::<D>(&events[..version]), "{stream} at {version}");
        assert_eq!((&seen["version"], &seen["latest"]), (&json!(version), &json!(events.len())));
        let told = seen["data"].as_array().unwrap();
        assert_eq!(told.len(), version);
        for (told, (kind, data, _)) in told.iter().zip(&events) {
            assert_eq!(told["type"], kind.as_str());
            assert_eq!(told["payload"], serde_json::from_str::<Value>(data).unwrap());
        }
    }
}

#[tokio::test]
async fn the_state_at_each_version_is_the_fold_of_its_prefix() {
    let (world, order) = delivered().await;
    check_versions::<Order>(&world, order.stream()).await;
    check_versions::<Inventory>(&world, "sku/mug".parse().unwrap()).await;
    check_versions::<Journal<Fulfilment>>(&world, order.saga().stream()).await;
    world.end().await;
}

#[tokio::test]
async fn a_time_between_two_events_shows_the_first_of_them() {
    let (world, order) = delivered().await;
    let events = events(&world, order.stream()).await;
    let later = (1..events.len()).find(|&at| events[at - 1].2 < events[at].2).unwrap();
    let between = events[later].2 - chrono::TimeDelta::microseconds(1);
    let at = |time: Timestamp| format!("{}?at_time={}", order.stream(), time.format("%FT%T%.6fZ"));
    let seen = look(&world, &at(between)).await.expect(200).body;
    assert_eq!(seen["version"], json!(later));
    assert_eq!(seen["state"], fold::<Order>(&events[..later]));
    let before = look(&world, &at(events[0].2 - chrono::TimeDelta::seconds(1))).await.expect(200);
    assert_eq!((&before.body["version"], &before.body["data"]), (&json!(0), &json!([])));
    let after = look(&world, &at(events[events.len() - 1].2)).await.expect(200).body;
    assert_eq!(after["version"], json!(events.len()));
    world.end().await;
}

#[tokio::test]
async fn long_streams_are_told_page_by_page() {
    let (world, order) = delivered().await;
    let saga = order.saga();
    let (mut path, mut told) = (format!("saga/{saga}?limit=7"), Vec::new());
    loop {
        let body = look(&world, &path).await.expect(200).body;
        let data = body["data"].as_array().unwrap();
        assert!(data.len() <= 7);
        told.extend(data.iter().map(|event| event["version"].as_u64().unwrap()));
        match body["page"]["next_after"].as_u64() {
            Some(after) => path = format!("saga/{saga}?limit=7&after={after}"),
            None => break assert_eq!(body["page"]["has_more"], json!(false)),
        }
    }
    let all = events(&world, saga.stream()).await.len() as u64;
    assert_eq!(told, (1..=all).collect::<Vec<_>>());
    world.end().await;
}

#[tokio::test]
async fn only_operators_look_into_streams_and_only_into_those_there_are() {
    let (world, order) = delivered().await;
    let stream = order.stream();
    let url = format!("{}/v1/streams/{stream}", world.query_url());
    let anonymous = world.send(world.stranger().get(&url)).await.expect(401);
    assert_eq!(anonymous.header("WWW-Authenticate"), Some("Bearer"));
    world.send(world.http().get(&url).bearer_auth("guess")).await.expect(401);

    let nowhere = OrderId::new(uuid::Uuid::nil()).stream();
    for path in [nowhere.to_string(), format!("payment/{}", stream.id)] {
        assert_eq!(look(&world, &path).await.expect(404).body["code"], "not_found", "{path}");
    }
    for (path, parameter) in [
        (format!("{stream}?at_version=99"), "at_version"),
        (format!("{stream}?at_version=-1"), "at_version"),
        (format!("{stream}?at_time=yesterday"), "at_time"),
        (format!("{stream}?at_version=1&at_time=2026-11-23T08:00:00Z"), "at_time"),
        (format!("{stream}?limit=0"), "limit"),
        (format!("{stream}?after=-1"), "after"),
        (format!("{stream}?colour=red"), "colour"),
        ("order/7".to_owned(), "id"),
    ] {
        let body = look(&world, &path).await.expect(400).body;
        assert_eq!(body["errors"][0]["parameter"], parameter, "{path}: {body}");
    }
    world.end().await;
}

#[tokio::test]
async fn the_command_line_shows_a_stream_at_a_version_and_at_a_time() {
    let (world, order) = delivered().await;
    let events = events(&world, order.stream()).await;
    let show = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
            .args(["streams", "show", &order.to_string()])
            .args(["--database-url", world.database_url()])
            .args(arguments)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), String::from_utf8(output.stdout).unwrap(), error)
    };
    let (ended_well, shown, error) = show(&["--at", "2", "--json"]);
    assert!(ended_well, "{error}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["state"], fold::<Order>(&events[..2]));
    assert_eq!(shown["events"].as_array().unwrap().len(), 2);

    let time = events[0].2.to_rfc3339();
    let (_, shown, _) = show(&["--at", &time, "--payload"]);
    let first = events.iter().filter(|event| event.2 <= events[0].2).count();
    assert!(shown.contains(&format!("version {first} of {}", events.len())), "{shown}");
    assert!(shown.contains("order.placed.v1") && shown.contains("\"pm_card_visa\""), "{shown}");

    let (_, shown, _) = show(&["--limit", "1"]);
    assert!(shown.contains("--after 1") && !shown.contains("order.confirmed"), "{shown}");
    let (ended_well, _, error) = show(&["--at", "99"]);
    assert!(!ended_well && error.contains("versions 0 to"), "{error}");
    world.end().await;
}
