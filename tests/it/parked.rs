//! What operators see of parked streams over HTTP, and do about them.

use std::collections::BTreeMap;

use event_store::{Options, Store};
use schemas::Ids;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::delivery;
use crate::world::{World, until};

async fn ask(world: &World, path: &str) -> Value {
    let url = format!("{}{path}", world.query_url());
    world.send(world.http().get(url)).await.expect(200).body
}

async fn act(world: &World, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}{path}", world.command_url());
    let request = world.http().post(url).json(body);
    let reply = world.send(request).await;
    (reply.status.as_u16(), reply.body)
}

#[tokio::test]
async fn operators_see_what_is_parked_and_try_it_again_or_drop_it() {
    let world = World::start().await;
    let options = Options {
        database_url: world.database_url().to_owned(),
        log: world.log().to_owned(),
        connections_max: 2,
    };
    let (store, writer) = Store::open(&options, None).await.unwrap();
    let drain = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(writer.run(drain.clone()));
    // Of a type that this release does not know.
    let stream = Ids::system().next();
    delivery::append(&store, stream, 0, 2).await;
    let cause = until("the order's read models to park it", async || {
        let causes = ask(&world, "/v1/parked").await;
        let found = causes["data"].as_array().unwrap().iter();
        let mut found = found.filter(|cause| cause["consumer"] == "projection/order_summary");
        found.find(|cause| cause["events"] == 2).cloned()
    })
    .await;
    world.settle().await; // Everybody who listens to orders has met it.
    let fingerprint = cause["fingerprint"].as_str().unwrap().to_owned();
    let path = format!("/v1/parked/{fingerprint}");
    let streams = pages(&world, &path, stream).await;
    let dry = json!({ "reason": "how much?", "dry_run": true });
    let (status, told) = act(&world, &format!("{path}/drop"), &dry).await;
    assert_eq!((status, &told["streams"]), (200, &streams.into()));
    refusals(&world, &path, &dry).await;

    let body = json!({ "reason": "nobody knows it", "consumer": "projection/order_summary" });
    let everything = json!({ "reason": "nobody knows it" });
    let (status, told) = act(&world, &format!("{path}/retry"), &body).await;
    assert_eq!((status, &told["streams"], &told["events"]), (202, &1.into(), &2.into()));
    until("it to be parked again", async || {
        let rows = ask(&world, &path).await;
        let mut rows = rows["data"].as_array().unwrap().iter();
        rows.any(|row| row["tries"] == 1).then_some(())
    })
    .await;
    let (status, told) = act(&world, &format!("{path}/drop"), &body).await;
    assert_eq!((status, &told["events"], &told["dry_run"]), (200, &2.into(), &false.into()));
    let (status, told) = act(&world, &format!("{path}/drop"), &body).await;
    assert_eq!((status, &told["code"]), (404, &"not_found".into()));
    let acts = ask(&world, "/v1/parked/acts?limit=1").await;
    assert_eq!(acts["data"][0]["action"], "drop");
    let cursor = acts["page"]["next_cursor"].as_str().unwrap();
    let acts = ask(&world, &format!("/v1/parked/acts?cursor={cursor}")).await;
    assert_eq!(
        (&acts["data"][0]["actor"], &acts["data"][0]["action"]),
        (&"developer".into(), &"retry".into())
    );

    // Whoever else listens to orders parks it too, in its own time.
    until("everything to be dropped", async || {
        world.settle().await;
        for (cause, _) in parked_causes(&world).await {
            act(&world, &format!("/v1/parked/{cause}/drop"), &everything).await;
        }
        parked_causes(&world).await.is_empty().then_some(())
    })
    .await;
    drain.cancel();
    tasks.join_all().await;
    world.end().await;
}

/// The causes for which something is parked, and for how many consumers.
async fn parked_causes(world: &World) -> BTreeMap<String, usize> {
    let mut causes = BTreeMap::new();
    for cause in ask(world, "/v1/parked").await["data"].as_array().unwrap() {
        *causes.entry(cause["fingerprint"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    causes
}

/// Reads the streams of a cause one by one; tells how many there are, of several consumers.
async fn pages(world: &World, path: &str, stream: Uuid) -> i64 {
    let mut consumers = Vec::new();
    let mut next = format!("{path}?limit=1");
    loop {
        let page = ask(world, &next).await;
        let row = &page["data"][0];
        assert_eq!(
            (&row["stream"], &row["tries"]),
            (&format!("order/{}", stream.simple()).into(), &0.into())
        );
        consumers.push(row["consumer"].as_str().unwrap().to_owned());
        let Some(cursor) = page["page"]["next_cursor"].as_str() else { break };
        next = format!("{path}?limit=1&cursor={cursor}");
    }
    consumers.sort_unstable();
    consumers.dedup();
    assert!(consumers.len() > 1, "several read models listen to orders: {consumers:?}");
    i64::try_from(consumers.len()).unwrap()
}

/// What cannot be asked for, and by whom.
async fn refusals(world: &World, path: &str, dry: &Value) {
    let body = dry;
    for (path, body, status, code) in [
        ("/v1/parked/x/drop".to_owned(), body, 400, "invalid_id"),
        (
            format!("{path}/drop"),
            &json!({ "actor": "Ada", "reason": "b" }),
            422,
            "validation_failed",
        ),
        (format!("{path}/retry"), &json!({ "reason": "b", "rate": 0 }), 422, "validation_failed"),
        (format!("{path}/drop"), &json!({ "reason": "b", "rate": 1 }), 422, "validation_failed"),
    ] {
        let (found, told) = act(world, &path, body).await;
        assert_eq!((found, told["code"].as_str()), (status, Some(code)), "{path} {body}");
    }
    for token in [None, Some("guess")] {
        let request =
            world.stranger().post(format!("{}{path}/drop", world.command_url())).json(dry);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        assert_eq!(world.send(request).await.status.as_u16(), 401);
    }
}
