//! Reading one's own writes where a read model is spread over workers.

use serde_json::Value;
use sqlx::Connection as _;

use crate::world::{Reply, World, key, order, until};

const CONSUMERS: [&str; 2] = ["projection/order_detail", "projection/order_summary"];

/// An order, where it was written, and its slice.
struct Placed {
    id: String,
    position: String,
    slice: i16,
}

async fn place(world: &World) -> Placed {
    let reply = world.post_as(&key(), "/v1/orders", order(&[("mug", 1)], "pm_card_visa")).await;
    let position = reply.header("commit-position").unwrap().to_owned();
    let id = reply.expect(201).body["id"].as_str().unwrap().to_owned();
    let uuid = id.strip_prefix("ord_").unwrap().parse().unwrap();
    Placed { id, position, slice: event_store::slice(uuid) }
}

async fn get(world: &World, path: &str, position: &str, prefer: &str) -> (u16, Value, Option<i64>) {
    let request = world.http().get(format!("{}{path}", world.query_url()));
    let request = request.header("min-position", position).header("prefer", prefer);
    let reply = world.send(request).await;
    let seen = seen(&reply);
    (reply.status.as_u16(), reply.body, seen)
}

fn seen(reply: &Reply) -> Option<i64> {
    reply.header("projection-position").map(|seen| seen.parse().unwrap())
}

#[tokio::test]
async fn a_read_waits_for_the_worker_of_its_row_and_not_for_the_slowest() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    for consumer in CONSUMERS {
        event_store::scale(world.pool(), consumer, 2).await.unwrap();
    }
    until("two workers each", || async {
        let parts = event_store::positions(world.pool()).await.unwrap();
        let ready = parts.iter().filter(|part| CONSUMERS.contains(&part.consumer.as_str()));
        (ready.filter(|part| part.held && part.slices().from() <= 512).count() == 4).then_some(())
    })
    .await;
    world.settle().await;

    // The worker of the upper half cannot move its checkpoint.
    let mut blocker = sqlx::PgConnection::connect(world.database_url()).await.unwrap();
    let mut held = blocker.begin().await.unwrap();
    sqlx::query(
        "select 1 from checkpoints where consumer = any($1) and from_slice = 512 for update",
    )
    .bind(CONSUMERS)
    .execute(&mut *held)
    .await
    .unwrap();
    let (mut lower, mut upper) = (None, None);
    while lower.is_none() || upper.is_none() {
        let placed = place(&world).await;
        let half = if placed.slice < 512 { &mut lower } else { &mut upper };
        *half = Some(placed);
    }
    let (lower, upper) = (lower.unwrap(), upper.unwrap());

    let path = format!("/v1/orders/{}", lower.id);
    let reply = world.get_at(&path, &lower.position).await;
    assert_eq!(reply.body["id"], lower.id.as_str());
    assert!(seen(&reply) >= lower.position.parse().ok());
    let path = format!("/v1/orders/{}", upper.id);
    let (status, body, _) = get(&world, &path, &upper.position, "wait=1").await;
    assert_eq!((status, &body["code"]), (503, &"projection_behind".into()));
    let (status, _, seen) = get(&world, &path, &upper.position, "wait=0, handling=lenient").await;
    assert_eq!(status, 404, "what there is: nothing yet");
    assert!(seen < upper.position.parse().ok());
    // A list is of both halves.
    let (status, body, _) = get(&world, "/v1/orders", &lower.position, "wait=0").await;
    assert_eq!((status, &body["code"]), (503, &"projection_behind".into()));
    let lenient = "handling=lenient; wait=0";
    let (status, body, seen) = get(&world, "/v1/orders", &lower.position, lenient).await;
    assert_eq!(status, 200);
    assert!(body["data"].is_array() && seen < lower.position.parse().ok());

    held.rollback().await.unwrap();
    world.get_until(&path, |body| (body["id"] == upper.id.as_str()).then_some(())).await;
    world.get_at("/v1/orders", &upper.position).await;
    world.end().await;
}
