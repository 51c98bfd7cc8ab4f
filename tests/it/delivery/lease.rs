//! One worker at a time, and what an old one may still do: nothing.

use super::consumers::Scribe;
use super::{Log, stream};
use tokio::task::JoinSet;

#[tokio::test]
async fn an_owner_that_lost_its_lease_changes_nothing_any_more() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    process.projector(Scribe::new("scribe"));
    process.projector(Scribe::new("control"));
    let first = process.append(stream(), 0, 3).await;
    log.wait_for("scribe", first).await;

    // Somebody takes over while the owner believes that it still leads.
    log.execute(
        "update checkpoints set epoch = epoch + 1, leased_until = now() + interval '1 hour'
         where consumer = 'scribe'",
    )
    .await;
    let second = process.append(stream(), 0, 3).await;
    log.wait_for("control", second).await;
    assert_eq!(log.checkpoint("scribe").await, first);
    assert_eq!(log.seen("scribe").await, (1..=first).collect::<Vec<_>>());

    log.execute("update checkpoints set leased_until = null where consumer = 'scribe'").await;
    log.wait_for("scribe", second).await;
    assert_eq!(log.seen("scribe").await, (1..=second).collect::<Vec<_>>());
    let epoch: i64 = sqlx::query_scalar("select epoch from checkpoints where consumer = 'scribe'")
        .fetch_one(&log.database)
        .await
        .unwrap();
    assert_eq!(epoch, 3, "one start, one theft, one return");
    process.stop().await;
}

#[tokio::test]
async fn the_next_worker_goes_on_where_the_last_one_stopped() {
    let log = Log::new().await;
    let mut one = log.process().await;
    let mut two = log.process().await;
    one.relay();
    one.projector(Scribe::new("scribe"));
    let first = one.append(stream(), 0, 3).await;
    log.wait_for("scribe", first).await;
    two.relay();
    two.projector(Scribe::new("scribe"));
    let second = one.append(stream(), 0, 3).await;
    log.wait_for("scribe", second).await;
    one.stop().await;
    let third = two.append(stream(), 0, 3).await;
    log.wait_for("scribe", third).await;
    assert_eq!(log.seen("scribe").await, (1..=third).collect::<Vec<_>>());
    two.stop().await;
}

#[tokio::test]
async fn a_killed_worker_is_replaced_when_its_lease_has_run_out() {
    let log = Log::new().await;
    let mut one = log.process().await;
    one.relay();
    one.projector(Scribe::new("scribe"));
    let mut two = log.process().await;
    let writer = two.store.clone();
    let mut load = JoinSet::new();
    load.spawn(async move {
        for _ in 0..200 {
            super::append(&writer, stream(), 0, 1).await;
        }
    });
    log.wait_for("scribe", 50).await;
    one.kill().await; // Most likely in the middle of a batch.
    two.relay();
    two.projector(Scribe::new("scribe"));
    load.join_all().await;
    log.wait_for("scribe", 200).await;
    assert_eq!(log.seen("scribe").await, (1..=200).collect::<Vec<_>>());
    two.stop().await;
}

/// A projector does not wait for the disk: a crash of the database takes its last rows back, and the
/// checkpoint with them.
async fn crash_takes_back(log: &Log) {
    log.execute(
        "begin;
         delete from seen where consumer = 'scribe' and position > 2;
         update checkpoints set position = 2 where consumer = 'scribe';
         commit;",
    )
    .await;
}

#[tokio::test]
async fn what_a_crash_took_back_is_applied_anew_though_nothing_more_happens() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.projector(Scribe::new("scribe"));
    let last = process.append(stream(), 0, 5).await;
    log.wait_for("scribe", last).await;
    crash_takes_back(&log).await;
    log.wait_for("scribe", last).await;
    assert_eq!(log.seen("scribe").await, (1..=last).collect::<Vec<_>>());
    process.stop().await;
}

#[tokio::test]
async fn what_a_crash_took_back_is_not_skipped_by_what_happens_next() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.projector(Scribe::new("scribe"));
    let first = process.append(stream(), 0, 5).await;
    log.wait_for("scribe", first).await;
    crash_takes_back(&log).await;
    let second = process.append(stream(), 0, 3).await;
    log.wait_for("scribe", second).await;
    assert_eq!(log.seen("scribe").await, (1..=second).collect::<Vec<_>>());
    process.stop().await;
}
