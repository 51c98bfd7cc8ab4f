//! What no order may notice: a wiped JetStream, a Postgres that restarts, two of everything.

use schemas::Chance;
use serde_json::json;
use waybill::embedded::Servers;

use crate::services;
use crate::world::{World, key, order, until};

/// Orders that are under way while something breaks.
const ORDERS: usize = 30;

/// Places orders one after the other, and sends each again until it has been answered.
async fn place_patiently(world: &World, sku: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let (key, body) = (key(), order(&[(sku, 1)], "pm_card_visa"));
        let id = until("an order to be taken", || async {
            let request = world.post_request(&key, "/v1/orders", &body);
            let reply = world.try_send(request).await.ok()?;
            match reply.status.as_u16() {
                201 => Some(reply.body["id"].as_str()?.to_owned()),
                503 | 504 => None,
                _ => panic!("{reply:?}"),
            }
        })
        .await;
        ids.push(id);
    }
    ids
}

/// Every read model is what a replay of the whole log makes of it.
async fn assert_replay_changes_nothing(world: &World) {
    world.settle().await;
    let nats = services::client(world.nats_url()).await;
    let options = event_store::Options {
        database_url: world.database_url().to_owned(),
        log: world.log().to_owned(),
        connections_max: 4,
    };
    let (store, _writer) = event_store::Store::open(&options, Some(nats)).await.unwrap();
    for name in projections::names() {
        let before = projections::fingerprint(store.pool(), name).await.unwrap();
        let how = projections::Rebuild::new(Chance::system());
        projections::rebuild(&store, name, how, |_| {}).await.unwrap();
        let after = projections::fingerprint(store.pool(), name).await.unwrap();
        assert_eq!(before, after, "{name} is not what its events say");
    }
}

#[tokio::test]
async fn a_wiped_jetstream_costs_nothing_but_time() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    let jetstream = async_nats::jetstream::new(services::client(world.nats_url()).await);
    let name = format!("WAYBILL_{}", world.log());

    let placed = place_patiently(&world, "mug", ORDERS);
    let wiped = async {
        for _ in 0..3 {
            until("the stream to be there", || async {
                jetstream.delete_stream(&name).await.is_ok().then_some(())
            })
            .await;
        }
    };
    let (ids, ()) = tokio::join!(placed, wiped);
    for id in &ids {
        world.order_is(id, "confirmed").await;
    }
    assert_replay_changes_nothing(&world).await;
    world.end().await;
}

#[tokio::test]
async fn a_postgres_that_restarts_loses_and_doubles_nothing() {
    let servers = Servers::start(&services::folder("restarting")).await.unwrap();
    let url = servers.postgres.database("waybill").await.unwrap();
    let world = World::start_on(url, servers.nats.url()).await;
    world.stock("mug", 100).await;

    let placed = place_patiently(&world, "mug", ORDERS);
    let restarted = async {
        for _ in 0..2 {
            servers.postgres.kill();
            until("Postgres to be back", || async {
                sqlx::query("select 1").execute(world.pool()).await.ok().map(|_| ())
            })
            .await;
        }
    };
    let (ids, ()) = tokio::join!(placed, restarted);
    for id in &ids {
        world.order_is(id, "confirmed").await;
    }
    world.settle().await;
    let mugs = world.stock_level("mug").await;
    assert_eq!((&mugs["on_hand"], &mugs["reserved"]), (&json!(100), &json!(ORDERS)));
    assert_replay_changes_nothing(&world).await;
    world.end().await;
    servers.stop().await;
}

#[tokio::test]
async fn a_killed_process_leaves_read_models_that_a_replay_confirms() {
    let mut world = World::start().await;
    world.stock("mug", 100).await;
    for _ in 0..3 {
        let ids = place_patiently(&world, "mug", 8).await;
        assert_eq!(ids.len(), 8);
        world.kill();
        world.run().await;
    }
    world.get_until("/v1/stock/mug", |mug| (mug["reserved"] == 24).then_some(())).await;
    world
        .get_until("/v1/orders?filter[status]=confirmed&limit=100", |body| {
            (body["data"].as_array()?.len() == 24).then_some(())
        })
        .await;
    assert_replay_changes_nothing(&world).await;
    world.end().await;
}
