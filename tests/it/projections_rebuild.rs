//! Read models made anew: beside the live one, by whoever was killed on the way, and back again.

use std::process::{Child, Command, Output, Stdio};

use projections::{Rebuild, RebuildError};
use schemas::Chance;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use crate::world::{World, key, order, until};

/// The lock that keeps the second group of a rebuild from being written; see [`Held`].
const HELD: i64 = 4711;

/// `waybill projections …` as whoever serves.
fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waybill-under-test"));
    command.arg("projections").args(arguments).args(["--database-url", world.serving_url()]);
    command.stdin(Stdio::null());
    command
}

fn succeeded(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Why a command failed.
fn failed(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Places and confirms so many orders, one after the other.
async fn place(world: &World, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(world.place(&[("mug", 1)], "pm_card_visa").await);
    }
    for id in &ids {
        world.order_is(id, "confirmed").await;
    }
    ids
}

async fn store(world: &World) -> event_store::Store {
    let options = event_store::Options {
        database_url: world.serving_url().to_owned(),
        log: world.log().to_owned(),
        connections_max: 4,
    };
    event_store::Store::open(&options, None).await.unwrap().0
}

async fn count(world: &World, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(world.pool()).await.unwrap()
}

async fn execute(world: &World, statement: &'static str) {
    sqlx::raw_sql(statement).execute(world.pool()).await.unwrap();
}

/// A lock without which no group but the first is written.
struct Held(PgConnection);

impl Held {
    async fn hold(world: &World) -> Self {
        execute(
            world,
            "create function hold_back() returns trigger language plpgsql as $$ begin
                 if new.from_slice > 0 then
                     perform pg_advisory_xact_lock(4711);
                 end if;
                 return new;
             end $$;
             create trigger hold_back before update on read_models.rebuild_groups
                 for each row execute function hold_back()",
        )
        .await;
        let mut connection = PgConnection::connect(world.database_url()).await.unwrap();
        let lock = sqlx::query("select pg_advisory_lock($1)").bind(HELD);
        lock.execute(&mut connection).await.unwrap();
        Self(connection)
    }

    async fn let_go(self, world: &World) {
        self.0.close().await.unwrap();
        execute(world, "drop function hold_back() cascade").await;
    }
}

/// A rebuild of the order list that was killed when its first group was written, and no other.
async fn killed_half_way(world: &World) {
    let held = Held::hold(world).await;
    let rebuild = command(world, &["rebuild", "order_summary"]).spawn().unwrap();
    kill_when(
        world,
        rebuild,
        "select count(*) from read_models.rebuild_groups where folded_at is not null",
    )
    .await;
    held.let_go(world).await;
    let done = "select count(*) from read_models.rebuild_groups where folded_at is not null";
    assert_eq!(count(world, done).await, 1);
}

async fn kill_when(world: &World, mut process: Child, query: &'static str) {
    until("the rebuild to be on its way", || async {
        let found: Result<i64, _> = sqlx::query_scalar(query).fetch_one(world.pool()).await;
        (found.unwrap_or_default() == 1).then_some(())
    })
    .await;
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Goal: whoever reads notices nothing of a rebuild.
/// Method: orders are placed, and known ones asked for again and again, while every read model is
/// rebuilt twice by another process; each answer has to be there and not older than the last one.
#[tokio::test(flavor = "multi_thread")]
async fn no_query_fails_or_sees_a_half_built_table_while_everything_is_rebuilt() {
    let world = World::start().await;
    world.stock("mug", 1_000).await;
    let known = place(&world, 10).await;
    let (http, url) = (world.http(), world.query_url());
    let mut load = JoinSet::new();
    let stop = tokio_util::sync::CancellationToken::new();
    for id in known.clone() {
        let (http, url, stop) = (http.clone(), url.clone(), stop.clone());
        load.spawn(async move {
            let (mut asked, mut version) = (0, 0);
            while !stop.is_cancelled() {
                for path in [format!("{url}/v1/orders/{id}"), format!("{url}/v1/orders?limit=100")]
                {
                    let answer = http.get(&path).send().await.unwrap();
                    assert_eq!(answer.status(), 200, "{path}");
                    let body: serde_json::Value = answer.json().await.unwrap();
                    if let Some(orders) = body["data"].as_array() {
                        assert!(orders.len() >= 10, "{} orders are left", orders.len());
                    } else {
                        let seen = body["version"].as_i64().unwrap();
                        assert!(seen >= version, "{path} went back from {version} to {seen}");
                        version = seen;
                    }
                    asked += 1;
                }
            }
            asked
        });
    }
    let requests: Vec<_> = (0..200)
        .map(|_| world.post_request(&key(), "/v1/orders", &order(&[("mug", 1)], "pm_card_visa")))
        .collect();
    let writer = stop.clone();
    let mut placing = JoinSet::new();
    placing.spawn(async move {
        for request in requests {
            if writer.is_cancelled() {
                return;
            }
            assert_eq!(request.send().await.unwrap().status(), 201);
        }
    });
    for _ in 0..2 {
        let mut rebuild = command(&world, &["rebuild", "--all"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until("the rebuild to end", || {
            let ended = rebuild.try_wait().unwrap();
            async move { ended }
        })
        .await;
        let told = succeeded(&rebuild.wait_with_output().unwrap());
        assert_eq!(told.lines().count(), projections::names().len(), "{told}");
    }
    stop.cancel();
    while let Some(asked) = load.join_next().await {
        assert!(asked.unwrap() > 10, "hardly anything was asked");
    }
    placing.join_all().await;
    world.end().await;
}

#[tokio::test]
async fn a_rebuild_appends_nothing_and_calls_nobody() {
    let world = World::start().await;
    world.stock("mug", 3).await;
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.send_goods(&id).await;
    world.order_is(&id, "completed").await;
    world.settle().await;
    let head = "select max(position) from events";
    let before = count(&world, head).await;
    let told = succeeded(&command(&world, &["rebuild", "--all"]).output().unwrap());
    assert_eq!(told.matches("nothing changed").count(), projections::names().len(), "{told}");
    world.settle().await;
    assert_eq!(count(&world, head).await, before);
    for ask in ["rebuild", "rollback"] {
        let why = failed(&command(&world, &[ask, "order_sumary"]).output().unwrap());
        assert!(why.contains("there is no read model `order_sumary`"), "{why}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_rebuild_that_was_killed_goes_on_where_it_was() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    place(&world, 12).await;
    world.settle().await;
    killed_half_way(&world).await;

    // What comes after the kill is caught up with. And the mark shows in what is told, because the
    // group that was done is not folded again.
    place(&world, 2).await;
    world.settle().await;
    execute(
        &world,
        "update read_models.rebuild_groups set events = events + 1000000 where from_slice = 0",
    )
    .await;
    let told = succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    assert!(told.contains("14 rows from 1000"), "{told}");
    assert!(told.contains("going on with an earlier start"), "{told}");
    assert!(told.contains("nothing changed"), "{told}");
    assert_eq!(count(&world, "select count(*) from read_models.rebuilds").await, 0);
    world.end().await;
}

/// Goal: what was parked when its group was folded, and is no longer, is not missing from the new
/// table.
/// Method: a stream that the live table has in full is said to be parked until its group is written.
#[tokio::test]
async fn a_stream_that_was_taken_up_meanwhile_is_folded_again() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    place(&world, 12).await;
    world.settle().await;
    execute(
        &world,
        "insert into parked_streams
             (consumer, key, stream_id, category, first_position, reason, fingerprint)
         select 'projection/order_summary', stream_id, stream_id, category, position, 'it', 'it'
         from events where category = 'order' and slice < 512 and stream_version = 2",
    )
    .await;
    assert!(count(&world, "select count(*) from parked_streams").await > 0);
    killed_half_way(&world).await;
    let behind = "select count(*) from read_models.order_summary_rebuild where version = 1";
    assert!(count(&world, behind).await > 0, "what is parked is left out");
    execute(&world, "delete from parked_streams").await;
    let told = succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    assert!(told.contains("earlier start") && told.contains("nothing changed"), "{told}");
    world.end().await;
}

#[tokio::test]
async fn a_rebuild_by_another_version_starts_over() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    place(&world, 6).await;
    world.settle().await;
    killed_half_way(&world).await;
    execute(&world, "update read_models.rebuilds set version = version + 1").await;
    let told = succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    assert!(!told.contains("earlier start") && told.contains("nothing changed"), "{told}");
    world.end().await;
}

#[tokio::test]
async fn a_new_table_with_a_wrong_row_is_not_switched_to() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    place(&world, 12).await;
    world.settle().await;
    killed_half_way(&world).await;
    execute(&world, "update read_models.order_summary_rebuild set line_count = 77").await;

    let why = failed(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    let named = why.contains(r#"{"line_count":77}"#) && why.contains(r#"{"line_count":1}"#);
    assert!(named && why.contains("row ") && why.contains("of order_summary"), "{why}");
    let live = "select count(*) from read_models.order_summary where line_count = 1";
    assert_eq!(count(&world, live).await, 12);

    let told = succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    assert!(!told.contains("earlier start") && told.contains("nothing changed"), "{told}");
    world.end().await;
}

#[tokio::test]
async fn a_new_table_that_lost_rows_is_not_switched_to() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    place(&world, 12).await;
    world.settle().await;
    killed_half_way(&world).await;
    execute(&world, "truncate read_models.order_summary_rebuild").await;
    let why = failed(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    assert!(why.contains("rows where 12 were written"), "{why}");
    assert_eq!(count(&world, "select count(*) from read_models.order_summary").await, 12);
    let told = succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    assert!(told.contains("nothing changed"), "{told}");
    world.end().await;
}

#[tokio::test]
async fn rows_that_do_not_fit_in_memory_are_written_and_found_again() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    place(&world, 12).await;
    world.settle().await;
    let store = store(&world).await;
    for name in projections::names() {
        let how = Rebuild { parallel: 1, rows_max: 1, ..Rebuild::new(Chance::system()) };
        let rebuilt = projections::rebuild(&store, name, how, |_| {}).await.unwrap();
        assert_eq!(rebuilt.unchanged, Some(true), "{name}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_rollback_brings_the_old_table_back_and_it_goes_on() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    let first = place(&world, 2).await;
    world.settle().await;
    execute(&world, "update read_models.order_summary set line_count = 5").await;
    let told = succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    assert!(told.contains("differs from the old one"), "{told}");
    let lines = "select sum(line_count) from read_models.order_summary";
    assert_eq!(count(&world, lines).await, 2);

    let second = place(&world, 2).await;
    world.settle().await;
    let told = succeeded(&command(&world, &["rollback", "order_summary"]).output().unwrap());
    assert!(told.contains("back to the table before"), "{told}");
    world.settle().await;
    assert_eq!(count(&world, lines).await, 5 + 5 + 1 + 1);
    for id in first.iter().chain(&second) {
        world.order_is(id, "confirmed").await;
    }
    let why = failed(&command(&world, &["rollback", "order_summary"]).output().unwrap());
    assert!(why.contains("has no old table"), "{why}");
    world.end().await;
}

#[tokio::test]
async fn a_table_of_an_older_version_is_rebuilt_by_itself_while_it_is_read() {
    let mut world = World::start().await;
    world.stock("mug", 100).await;
    let ids = place(&world, 3).await;
    world.settle().await;
    world.kill();
    execute(
        &world,
        "update read_models.order_summary set line_count = 5;
         update read_models.versions set version = 0 where name = 'order_summary'",
    )
    .await;
    world.run().await;
    until("the order list to be rebuilt", || async {
        let list = world.get("/v1/orders?limit=100").await.expect(200).body;
        assert_eq!(list["data"].as_array().unwrap().len(), ids.len());
        let version =
            "select version::bigint from read_models.versions where name = 'order_summary'";
        (count(&world, version).await > 0).then_some(())
    })
    .await;
    assert_eq!(count(&world, "select sum(line_count) from read_models.order_summary").await, 3);

    // The way back lasts: what was gone back from is not rebuilt by itself.
    let told = succeeded(&command(&world, &["rollback", "order_summary"]).output().unwrap());
    assert!(told.contains("waits for a release that folds version 0"), "{told}");
    let log = world.folder().join("waybill.log");
    until("the worker to leave it alone", || async {
        let told = std::fs::read_to_string(&log).unwrap();
        told.contains("was rolled back from version").then_some(())
    })
    .await;
    assert_eq!(count(&world, "select sum(line_count) from read_models.order_summary").await, 15);
    let told = succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    assert!(told.contains("of another version"), "{told}");
    world.settle().await;
    world.end().await;
}

#[tokio::test]
async fn a_rebuild_by_itself_that_fails_is_told_and_tried_again() {
    let mut world = World::start().await;
    world.stock("mug", 100).await;
    place(&world, 1).await;
    world.settle().await;
    world.kill();
    execute(
        &world,
        "update read_models.versions set version = 0 where name = 'order_summary';
         create function refuse() returns trigger language plpgsql as $$ begin
             raise exception 'not now';
         end $$;
         create trigger refuse before update on read_models.rebuild_groups
             for each row execute function refuse()",
    )
    .await;
    world.run().await;
    let log = world.folder().join("waybill.log");
    until("the failure to be told", || async {
        let told = std::fs::read_to_string(&log).unwrap();
        (told.contains("order_summary was not rebuilt") && told.contains("not now")).then_some(())
    })
    .await;
    world.get("/v1/orders?limit=100").await.expect(200);
    execute(&world, "drop function refuse() cascade").await;
    until("the order list to be rebuilt", || async {
        let version =
            "select version::bigint from read_models.versions where name = 'order_summary'";
        (count(&world, version).await > 0).then_some(())
    })
    .await;
    world.end().await;
}

/// Goal: a release writes nothing into a table that a newer release folds, and does not undo it.
/// Method: the table is said to be of a later version while a worker of ours keeps it.
#[tokio::test]
async fn a_table_of_a_newer_version_is_left_alone() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    place(&world, 2).await;
    world.settle().await;
    // As its switch does it.
    execute(
        &world,
        "with switched as (
             update read_models.versions set version = 99 where name = 'order_summary')
         update checkpoints set epoch = epoch + 1, leased_until = null
         where consumer = 'projection/order_summary'",
    )
    .await;
    let id = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.order_is(&id, "confirmed").await; // By the order's own page.
    until("the worker to give its lease back", || async {
        let held = "select count(*) from checkpoints
                    where consumer = 'projection/order_summary' and leased_until is not null";
        (count(&world, held).await == 0).then_some(())
    })
    .await;
    assert_eq!(count(&world, "select count(*) from read_models.order_summary").await, 2);
    let store = store(&world).await;
    let how = Rebuild::new(Chance::system());
    let refused = projections::rebuild(&store, "order_summary", how, |_| {}).await;
    assert!(matches!(refused, Err(RebuildError::Newer { found: 99, .. })), "{refused:?}");

    execute(&world, "update read_models.versions set version = 1 where name = 'order_summary'")
        .await;
    world.settle().await;
    assert_eq!(count(&world, "select count(*) from read_models.order_summary").await, 3);
    world.end().await;
}

#[tokio::test]
async fn progress_without_a_terminal_is_json_on_standard_error() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    place(&world, 4).await;
    world.settle().await;
    let held = Held::hold(&world).await;
    let mut rebuild = command(&world, &["rebuild", "order_summary"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut line, error) = (String::new(), rebuild.stderr.take().unwrap());
    let mut error = std::io::BufReader::new(error);
    std::io::BufRead::read_line(&mut error, &mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["projection"], json!("order_summary"));
    assert_eq!(told["stage"], json!("folding"));
    assert!(told["total"].as_i64().unwrap() > 0 && told.get("left_s").is_some(), "{told}");
    held.let_go(&world).await;
    let told = succeeded(&rebuild.wait_with_output().unwrap());
    assert!(told.starts_with("order_summary: 4 rows"), "{told}");
    world.end().await;
}

/// Spreads the order list over two workers, and lets nobody work on the second half of its slices.
async fn second_half_stands_still(world: &World) {
    execute(world, "update consumers set workers = 2 where consumer = 'projection/order_summary'")
        .await;
    until("two workers", || async {
        let held = "select count(*) from checkpoints
                    where consumer = 'projection/order_summary' and leased_until > now()";
        (count(world, held).await == 2).then_some(())
    })
    .await;
    execute(
        world,
        "update checkpoints
         set epoch = epoch + 1, owner = 'nobody', leased_until = now() + interval '1 hour'
         where consumer = 'projection/order_summary' and from_slice = 512",
    )
    .await;
}

/// Waits until the first half of the slices is at the end of the log, and fails if the second is.
async fn halves_stand_apart(world: &World) {
    until("the first half to get ahead", || async {
        let ahead = "select position - (select max(position) from events) from checkpoints
                     where consumer = 'projection/order_summary' and from_slice = 0";
        (count(world, ahead).await == 0).then_some(())
    })
    .await;
    let apart = "select max(position) - min(position) from checkpoints
                 where consumer = 'projection/order_summary'";
    assert!(count(world, apart).await > 0);
}

#[tokio::test]
async fn workers_that_stand_apart_stand_together_after_the_switch_and_apart_after_a_rollback() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    place(&world, 2).await;
    world.settle().await;
    second_half_stands_still(&world).await;
    place(&world, 12).await;
    halves_stand_apart(&world).await;
    let rows = "select count(*) from read_models.order_summary";
    let before = count(&world, rows).await;
    assert!(before < 14, "{before}");

    let told = succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    assert!(told.contains("14 rows") && told.contains("or behind"), "{told}");
    world.settle().await;
    place(&world, 2).await;
    world.settle().await;
    assert_eq!(count(&world, rows).await, 16);

    // Each half takes again what it had not taken, and nothing twice.
    succeeded(&command(&world, &["rollback", "order_summary"]).output().unwrap());
    world.settle().await;
    let told = succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    assert!(told.contains("16 rows") && told.contains("nothing changed"), "{told}");
    world.end().await;
}

/// Goal: what a switch passes over on behalf of a worker that is behind still waits behind the
/// stream that it belongs to.
#[tokio::test]
async fn events_of_a_parked_stream_wait_behind_it_after_the_switch() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    place(&world, 12).await;
    world.settle().await;
    second_half_stands_still(&world).await;
    let parked: uuid::Uuid = sqlx::query_scalar(
        "insert into parked_streams
             (consumer, key, stream_id, category, first_position, reason, fingerprint)
         select 'projection/order_summary', stream_id, stream_id, category, position, 'it', 'it'
         from events where category = 'order' and slice >= 512 and stream_version = 2 limit 1
         returning key",
    )
    .fetch_one(world.pool())
    .await
    .unwrap();
    execute(
        &world,
        "insert into parked_events (consumer, key, position)
         select consumer, key, position from parked_streams join events using (stream_id)
         where position >= first_position",
    )
    .await;
    succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    let behind = "select version from read_models.order_summary
                  where order_id = (select key from parked_streams)";
    assert_eq!(count(&world, behind).await, 1, "what is parked is left out");

    // The switch has freed both halves.
    second_half_stands_still(&world).await;
    world.send_goods(&schemas::OrderId::new(parked).to_string()).await;
    halves_stand_apart(&world).await;
    succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    world.settle().await;
    assert_eq!(count(&world, behind).await, 1);
    let missing = "select count(*) from parked_streams join events using (stream_id)
                   where position >= first_position
                       and position not in (select position from parked_events)";
    assert_eq!(count(&world, missing).await, 0);

    execute(&world, "update parked_streams set retry_at = now()").await;
    until("the stream to be taken up", || async {
        (count(&world, "select count(*) from parked_streams").await == 0).then_some(())
    })
    .await;
    world.settle().await;
    let told = succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    assert!(told.contains("nothing changed"), "{told}");
    world.end().await;
}

/// Goal: a worker does not write back from memory what a rebuild has put right.
/// Method: a row is damaged, and the worker made to read it and to remember it.
#[tokio::test]
async fn what_a_rebuild_puts_right_is_not_written_back_from_memory() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let id = place(&world, 1).await.remove(0);
    world.fulfilment(&id).await;
    world.settle().await;
    execute(
        &world,
        "update read_models.order_summary set line_count = 5;
         update checkpoints set epoch = epoch + 1, leased_until = null
         where consumer = 'projection/order_summary'",
    )
    .await;
    let path = format!("/v1/orders/{id}/hold");
    world.post(&path, json!({ "reason": "fraud" })).await.expect(200);
    let held = "select count(*) from read_models.order_summary where holds <> '[]'";
    until("the order to be on hold", || async { (count(&world, held).await == 1).then_some(()) })
        .await;
    world.settle().await;
    let lines = "select sum(line_count) from read_models.order_summary";
    assert_eq!(count(&world, lines).await, 5);

    let told = succeeded(&command(&world, &["rebuild", "order_summary"]).output().unwrap());
    assert!(told.contains("differs from the old one"), "{told}");
    assert_eq!(count(&world, lines).await, 1);
    world.post(&format!("/v1/orders/{id}/release"), json!({})).await.expect(200);
    until("the order to go on", || async { (count(&world, held).await == 0).then_some(()) }).await;
    assert_eq!(count(&world, lines).await, 1);
    world.end().await;
}

/// Whether `statement` counts one of those who wait for a lock.
async fn someone_waits(world: &World, statement: &'static str) {
    until("somebody to wait", || async { (count(world, statement).await == 1).then_some(()) })
        .await;
}

/// Goal: a switch that waits for whoever waits for it is sent away by Postgres, and tries again.
/// Method: it is held up when it has the checkpoints. Meanwhile a reader of the table comes to wait for
/// one of them, and the switch then for the reader.
#[tokio::test]
async fn a_switch_that_is_sent_away_from_a_deadlock_tries_again() {
    let world = World::start().await;
    world.stock("mug", 100).await;
    place(&world, 2).await;
    world.settle().await;
    execute(
        &world,
        "do $$ begin
             execute format('alter database %I set deadlock_timeout = ''10ms''', current_database());
         end $$;
         create function wait() returns trigger language plpgsql as $$ begin
             perform pg_advisory_xact_lock(tg_argv[0]::bigint);
             return new;
         end $$;
         create trigger wait before update on read_models.rebuild_groups
             for each row when (new.from_slice = 0) execute function wait(4711);
         create trigger wait before update on read_models.rebuilds
             for each row when (new.position > old.position) execute function wait(4712)",
    )
    .await;
    let mut held = PgConnection::connect(world.database_url()).await.unwrap();
    let lock = "select pg_advisory_lock(4711), pg_advisory_lock(4712)";
    sqlx::raw_sql(lock).execute(&mut held).await.unwrap();
    let rebuild = command(&world, &["rebuild", "order_summary"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
    someone_waits(&world, waiting).await;
    // What it has to fold when it has the checkpoints.
    place(&world, 1).await;
    world.settle().await;
    sqlx::raw_sql("select pg_advisory_unlock(4711)").execute(&mut held).await.unwrap();
    let switching = "select count(*) from pg_locks
                     where locktype = 'advisory' and not granted and objid = 4712";
    someone_waits(&world, switching).await;

    let mut reader = PgConnection::connect(world.database_url()).await.unwrap();
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        sqlx::raw_sql(
            "set deadlock_timeout = '1h'; set application_name = 'reader'; begin;
             select from read_models.order_summary;
             select from checkpoints where consumer = 'projection/order_summary' for update;
             commit",
        )
        .execute(&mut reader)
        .await
        .unwrap();
        reader.close().await.unwrap();
    });
    let reader_waits = "select count(*) from pg_stat_activity
                        where application_name = 'reader' and wait_event_type = 'Lock'";
    someone_waits(&world, reader_waits).await;
    held.close().await.unwrap();
    reading.join_all().await;
    let told = succeeded(&rebuild.wait_with_output().unwrap());
    assert!(told.contains("3 rows") && told.contains("nothing changed"), "{told}");
    until("Postgres to have told", || async {
        let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
        (count(&world, deadlocks).await > 0).then_some(())
    })
    .await;
    world.end().await;
}
