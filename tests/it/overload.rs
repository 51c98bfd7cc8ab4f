//! More than can be worked on is turned away at once; what was let in is done.

use reqwest::header::HeaderValue;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::world::{World, key};

/// Requests that an API works on at once; see `web::limits`.
const IN_FLIGHT_MAX: usize = 2048;
/// The fewest commands that may wait, however slow the store is.
const QUEUE_MIN: i64 = 512;
/// Those that are too many.
const TOO_MANY: usize = 100;

/// Goal: under overload a caller hears so at once, and nobody who was let in is lost.
/// Method: the log's lock is held, so that nothing is answered, and more is sent than is let in; those
/// beyond it have to hear while the others still wait. Then it is let go.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bound_callers_are_turned_away_at_once_and_the_others_are_answered() {
    waybill::open_files::raise(); // This test has a connection for every caller.
    let world = World::start().await;
    let mut held = PgConnection::connect(world.database_url()).await.unwrap();
    let lock = sqlx::query("select pg_advisory_lock(24560174593821772)");
    lock.execute(&mut held).await.unwrap();

    let (tell, mut told) = mpsc::unbounded_channel();
    let mut callers = JoinSet::new();
    for number in 0..IN_FLIGHT_MAX + TOO_MANY {
        let path = format!("/v1/stock/sku-{number}/receive");
        let request = world.post_request(&key(), &path, &json!({ "quantity": 1 }));
        let tell = tell.clone();
        callers.spawn(async move {
            let answer = request.send().await.unwrap();
            let again = answer.headers().get("retry-after").cloned();
            let status = answer.status().as_u16();
            tell.send((status, again, answer.text().await.unwrap())).unwrap();
        });
    }
    let turned_away = |status: u16, again: Option<HeaderValue>, body: &str| {
        assert_eq!((status, again.unwrap().as_bytes()), (503, &b"1"[..]), "{body}");
        assert!(body.contains("\"code\":\"overloaded\""), "{body}");
    };
    for _ in 0..TOO_MANY {
        let (status, again, body) = told.recv().await.unwrap();
        turned_away(status, again, &body);
    }
    held.close().await.unwrap();
    drop(tell);
    let mut done = 0;
    while let Some((status, again, body)) = told.recv().await {
        if status == 200 {
            done += 1;
        } else {
            // The store lets in fewer than the edge once it has been slow.
            turned_away(status, again, &body);
        }
    }
    callers.join_all().await;
    assert!(done >= QUEUE_MIN, "{done}");

    // What was answered is in the log, and what was turned away is not.
    let events = sqlx::query_scalar("select count(*) from events");
    let events: i64 = events.fetch_one(world.pool()).await.unwrap();
    assert_eq!(events, done);
    world.end().await;
}
