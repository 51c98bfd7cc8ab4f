//! How the log lies in its tables.

use event_store::log::{Keeper, Part, Sealing, ahead, leaves, maintain, seal_next};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::{append, log, order, superuser};
use super::{fill, run, small};
use crate::services;
use crate::world::until;

#[tokio::test]
async fn partitions_are_made_ahead_and_counted() {
    let (url, log) = small().await;
    let owner = superuser(&url).await;
    let counted = ahead(&owner).await.unwrap();
    assert_eq!((counted.events, counted.commands), (2, 2));
    fill(&log, 2).await;
    let counted = ahead(&owner).await.unwrap();
    assert_eq!(counted.events, 1, "the writer makes more when it looks again");
    run(&owner, "select log_ahead()").await;
    assert_eq!(ahead(&owner).await.unwrap().events, 2);

    let parts = leaves(&owner).await.unwrap();
    let ranges = parts.iter().filter_map(|leaf| match leaf.part {
        Part::Events { first, last } => Some((first, last)),
        Part::Commands { .. } => None,
    });
    let expected = [(1, 4096), (4097, 8193), (8194, 12290), (12291, 16387)];
    assert_eq!(ranges.collect::<Vec<_>>(), expected);
    assert_eq!(parts.iter().filter(|leaf| matches!(leaf.part, Part::Commands { .. })).count(), 3);
    log.end().await;
}

#[tokio::test]
async fn a_full_sealed_partition_is_frozen_by_its_owner_only() {
    let (url, log) = small().await;
    fill(&log, 1).await;
    assert_eq!(maintain(&url).await.unwrap(), Vec::<String>::new(), "it is full, but not sealed");
    assert!(matches!(
        seal_next(log.store.pool(), log.store.log()).await.unwrap(),
        Sealing::Sealed(_)
    ));
    let by_server = maintain(&services::serving(&url).await).await.unwrap_err();
    assert!(by_server.to_string().contains("only the owner"), "{by_server}");
    assert_eq!(maintain(&url).await.unwrap(), ["events_00000"]);
    assert_eq!(maintain(&url).await.unwrap(), Vec::<String>::new(), "once is enough");
    let owner = superuser(&url).await;
    let leaf = leaves(&owner).await.unwrap().remove(0);
    assert!(leaf.sealed && leaf.frozen.is_some() && leaf.rows == Some(4096), "{leaf:?}");
    let visible: bool = sqlx::query_scalar(
        "select relpages > 0 and relallvisible = relpages from pg_class where relname = 'events_00000'",
    )
    .fetch_one(&owner)
    .await
    .unwrap();
    assert!(visible, "a frozen leaf needs no vacuum any more");
    log.end().await;
}

/// The leaves of the ledger, as their names sort.
async fn ledger(owner: &PgPool) -> Vec<String> {
    let parts = leaves(owner).await.unwrap();
    let ledger = parts.into_iter().filter(|leaf| matches!(leaf.part, Part::Commands { .. }));
    ledger.map(|leaf| leaf.name).collect()
}

#[tokio::test]
async fn the_ledgers_window_drops_whole_partitions_and_none_that_is_young() {
    let (url, log) = log().await;
    let owner = superuser(&url).await;
    log.store.append(append(&[(order(), 0)], 1)).await.unwrap();
    let before = ledger(&owner).await;
    for days in [20, 60] {
        let old = format!("select log_make_commands_leaf(now() - interval '{days} days')");
        run(&owner, &old).await;
        let row = format!(
            "insert into commands (command_id, request_hash, stream_id, version, position, recorded_at)
             values (gen_random_uuid(), '', gen_random_uuid(), 0, 0, now() - interval '{days} days')"
        );
        run(&owner, &row).await;
    }
    assert_eq!(ledger(&owner).await.len(), before.len() + 2);

    let young = sqlx::query("select log_forget('6 days 23 hours')")
        .execute(log.store.pool())
        .await
        .unwrap_err();
    assert!(young.to_string().contains("is kept for 7 days at least"), "{young}");

    let drain = CancellationToken::new();
    let mut keeper = JoinSet::new();
    keeper.spawn(Keeper::new(log.store.clone(), 30).run(drain.clone()));
    until("the oldest leaf to be dropped", || async {
        (ledger(&owner).await.len() == before.len() + 1).then_some(())
    })
    .await;
    drain.cancel();
    keeper.join_all().await;
    let rows: i64 =
        sqlx::query_scalar("select count(*) from commands").fetch_one(&owner).await.unwrap();
    assert_eq!(rows, 2, "the row of 20 days ago and the new one are inside the window");
    log.end().await;
}
