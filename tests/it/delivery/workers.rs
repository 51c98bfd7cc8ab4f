//! One consumer spread over several workers: who has which slices, and what moving them may not do.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use schemas::{Ids, Position};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::consumers::{Scribe, Witness};
use super::{Log, Process, append, eventually, stream};
use crate::services;

/// Who holds how many ranges of `consumer`.
async fn shares(log: &Log, consumer: &str) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select owner, count(*) from checkpoints
         where consumer = $1 and leased_until > clock_timestamp() group by owner",
    )
    .bind(consumer)
    .fetch_all(&log.database)
    .await
    .unwrap();
    rows.into_iter().collect()
}

async fn scaled(log: &Log, consumer: &str, workers: i16) {
    event_store::scale(&log.database, consumer, workers).await.unwrap();
    let ranges = usize::try_from(workers).unwrap();
    eventually("the ranges are laid out", async || {
        let parts = event_store::positions(&log.database).await.unwrap();
        let parts: Vec<_> = parts.iter().filter(|part| part.consumer == consumer).collect();
        parts.len() == ranges && parts.iter().all(|part| part.held)
    })
    .await;
}

/// Appends to a few streams, one event after the other, until told to stop; returns the versions.
fn load(process: &Process, stop: &CancellationToken) -> JoinSet<HashMap<Uuid, i64>> {
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let (store, stop) = (process.store.clone(), stop.clone());
        load.spawn(async move {
            let streams: Vec<_> = (0..16).map(|_| Ids::system().next()).collect();
            let mut versions: HashMap<Uuid, i64> = HashMap::new();
            while !stop.is_cancelled() {
                for stream in &streams {
                    let version = versions.entry(*stream).or_default();
                    append(&store, *stream, *version, 1).await;
                    *version += 1;
                }
            }
            versions
        });
    }
    load
}

/// Every event was taken once, and those of one stream in order: `seen` is inserted into in order.
async fn check_all_seen(log: &Log, consumer: &str, head: Position) {
    assert_eq!(log.seen(consumer).await, (1..=head).collect::<Vec<_>>());
}

#[tokio::test]
async fn slices_are_split_and_merged_while_events_flow() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    process.projector(Scribe::new("scribe"));
    let witness = Witness::default();
    process.reactor(witness.clone());
    let stop = CancellationToken::new();
    let load = load(&process, &stop);
    log.wait_for("scribe", 100).await;
    log.wait_for("witness", 100).await;
    for workers in [2, 8, 3, 16, 1] {
        scaled(&log, "scribe", workers).await;
        scaled(&log, "witness", workers).await;
        let head = process.store.head().await.unwrap();
        log.wait_for("scribe", head + 100).await;
    }
    stop.cancel();
    let versions: HashMap<_, _> = load.join_all().await.into_iter().flatten().collect();
    let head = process.store.head().await.unwrap();
    log.wait_for("scribe", head).await;
    log.wait_for("witness", head).await;
    process.stop().await;
    check_all_seen(&log, "scribe", head).await;
    // A reactor may see the last events again when a range moves, but none before its time.
    let mut highest: HashMap<Uuid, i64> = HashMap::new();
    for (stream, version) in witness.testimony.lock().unwrap().iter() {
        let before = highest.entry(*stream).or_default();
        assert!(*version <= *before + 1, "{stream}: {version} after {before}");
        *before = (*version).max(*before);
    }
    assert_eq!(highest, versions);
}

#[tokio::test]
async fn ranges_move_when_a_process_joins_leaves_or_dies() {
    let log = Log::new().await;
    let mut one = log.process().await;
    one.relay();
    one.projector(Scribe::new("scribe"));
    let first = one.append(stream(), 0, 1).await;
    log.wait_for("scribe", first).await;
    scaled(&log, "scribe", 8).await;
    assert_eq!(shares(&log, "scribe").await.into_values().collect::<Vec<_>>(), [8]);
    let stop = CancellationToken::new();
    let load = load(&one, &stop);

    let mut two = log.process().await;
    two.projector(Scribe::new("scribe"));
    let even = async |shares_wanted: &[i64]| {
        eventually("everybody has a share", async || {
            shares(&log, "scribe").await.into_values().collect::<Vec<_>>() == shares_wanted
        })
        .await;
    };
    even(&[4, 4]).await;
    let mut three = log.process().await;
    three.projector(Scribe::new("scribe"));
    eventually("the third has a share", async || {
        let mut shares: Vec<_> = shares(&log, "scribe").await.into_values().collect();
        shares.sort_unstable();
        shares == [2, 3, 3]
    })
    .await;
    two.stop().await; // It leaves,
    even(&[4, 4]).await;
    three.kill().await; // it dies.
    even(&[8]).await;
    stop.cancel();
    load.join_all().await;
    let head = one.store.head().await.unwrap();
    log.wait_for("scribe", head).await;
    one.stop().await;
    check_all_seen(&log, "scribe", head).await;
}

/// Goal: a process that took its own ranges again, before those who had them knew that they did not,
/// still gives them away when another joins.
/// Method: their leases are taken from them when they have just looked.
#[tokio::test]
async fn what_a_process_took_again_from_itself_still_moves_to_others() {
    let log = Log::new().await;
    let mut one = log.process().await;
    one.projector(Scribe::new("scribe"));
    let first = one.append(stream(), 0, 1).await;
    log.wait_for("scribe", first).await;
    scaled(&log, "scribe", 8).await;
    let ask = async |question: &'static str| -> bool {
        sqlx::query_scalar(question).fetch_one(&log.database).await.unwrap()
    };
    eventually("all have just looked", async || {
        let left = "select min(leased_until) > clock_timestamp() + interval '4 s' from checkpoints";
        ask(left).await
    })
    .await;
    log.execute("update checkpoints set epoch = epoch + 1, leased_until = null").await;
    eventually("all are taken again", async || {
        ask("select bool_and(leased_until is not null) from checkpoints").await
    })
    .await;
    // A worker that lost its lease is no longer there once the next event is taken.
    let second = one.append(stream(), 0, 1).await;
    log.wait_for("scribe", second).await;
    let mut two = log.process().await;
    two.projector(Scribe::new("scribe"));
    eventually("both have a share", async || {
        shares(&log, "scribe").await.into_values().collect::<Vec<_>>() == [4, 4]
    })
    .await;
    let last = two.append(stream(), 0, 5).await;
    log.wait_for("scribe", last).await;
    check_all_seen(&log, "scribe", last).await;
    one.stop().await;
    two.stop().await;
}

/// A role in a process of its own. Killed when dropped.
struct Role {
    child: Child,
    output: PathBuf,
}

impl Role {
    async fn projections(log: &Log, number: u32) -> Self {
        let output = services::folder(&log.name).join(format!("projections-{number}.log"));
        let file = std::fs::File::create(&output).unwrap();
        let url = services::serving(&log.url).await;
        let child = Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
            .args(["projections", "run", "--database-url", &url, "--log-name", &log.name])
            .args(["--nats-url", &services::nats().await, "--database-connections", "8"])
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, output }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn owns(&self, owner: &str) -> bool {
        owner.contains(&format!("/{}/", self.child.id()))
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_process_that_hangs_is_replaced_and_changes_nothing_when_it_wakes_up() {
    const NAME: &str = "projection/order_summary";
    let log = Log::new().await;
    projections::migrate(&log.url).await.unwrap();
    let process = log.process().await;
    let (one, two) = (Role::projections(&log, 1).await, Role::projections(&log, 2).await);
    eventually("it has begun", async || !shares(&log, NAME).await.is_empty()).await;
    event_store::scale(&log.database, NAME, 4).await.unwrap();
    let share = async |role: &Role| {
        let shares = shares(&log, NAME).await;
        shares.iter().filter(|(owner, _)| role.owns(owner)).map(|(_, count)| count).sum::<i64>()
    };
    eventually("both have a share", async || share(&one).await == 2 && share(&two).await == 2)
        .await;
    one.signal("STOP");
    // Of a type that no read model knows: all of them park it, and it counts all the same.
    let mut head = 0;
    for _ in 0..40 {
        head = process.append(stream(), 0, 1).await;
    }
    log.wait_for(NAME, head).await;
    eventually("the other one has taken over", async || {
        share(&one).await == 0 && share(&two).await == 4
    })
    .await;
    one.signal("CONT");
    eventually("it has noticed", async || {
        std::fs::read_to_string(&one.output).unwrap().contains("the lease was lost")
    })
    .await;
    eventually("it has a share again", async || share(&one).await == 2 && share(&two).await == 2)
        .await;
    let parked: i64 = sqlx::query_scalar("select count(*) from parked_events where consumer = $1")
        .bind(NAME)
        .fetch_one(&log.database)
        .await
        .unwrap();
    assert_eq!(parked, 40, "each event once");
    process.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_stuck_is_told_from_one_that_is_behind() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    let scribe = Scribe::new("scribe");
    let faults = scribe.faults.clone();
    process.projector(scribe);
    let first = process.append(stream(), 0, 1).await;
    log.wait_for("scribe", first).await;
    let health = async || {
        let parts = event_store::positions(&log.database).await.unwrap();
        parts.iter().map(|part| part.health().as_str()).collect::<Vec<_>>()
    };
    assert_eq!(health().await, ["current"]);
    faults.down.store(true, Ordering::SeqCst);
    process.append(stream(), 0, 1).await;
    eventually("it is behind", async || health().await == ["behind"]).await;
    // By the database's clock it has stood still for longer than it may.
    log.execute(
        "alter table events disable trigger user;
         update checkpoints set updated_at = updated_at - interval '1 minute';
         update events set recorded_at = recorded_at - interval '1 minute';",
    )
    .await;
    assert_eq!(health().await, ["stuck"]);
    faults.down.store(false, Ordering::SeqCst);
    eventually("it has taken everything", async || health().await == ["current"]).await;
    process.stop().await;
}

#[tokio::test]
async fn who_watches_is_told_every_second_and_ends_when_asked() {
    let log = Log::new().await;
    projections::migrate(&log.url).await.unwrap();
    let mut process = log.process().await;
    process.projector(Scribe::new("scribe"));
    eventually("it has begun", async || {
        !event_store::positions(&log.database).await.unwrap().is_empty()
    })
    .await;
    let watch = |whom: &str| {
        let mut watcher = tokio::process::Command::new(env!("CARGO_BIN_EXE_waybill-under-test"));
        watcher.args([whom, "list", "--watch", "--json", "--database-url", &log.url]);
        watcher.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
    };
    for (whom, key, first) in
        [("consumers", "consumer", "scribe"), ("projections", "name", "customer_summary")]
    {
        let mut watcher = watch(whom);
        let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
        for _ in 0..2 {
            let line = lines.next_line().await.unwrap().unwrap();
            let list: serde_json::Value = serde_json::from_str(&line).unwrap();
            let named: Vec<_> = list.as_array().unwrap().iter().map(|one| &one[key]).collect();
            assert!(named.iter().any(|name| *name == first), "{line}");
        }
        let pid = watcher.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert_eq!(watcher.wait().await.unwrap().code(), Some(0));
    }
    // Where nobody reads, nobody has to be asked.
    let mut watcher = watch("consumers");
    drop(watcher.stdout.take());
    assert_eq!(watcher.wait().await.unwrap().code(), Some(0));
    process.stop().await;
}

#[tokio::test]
async fn sixty_four_workers_take_every_event_once() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    process.projector(Scribe::new("scribe"));
    let first = process.append(stream(), 0, 1).await;
    log.wait_for("scribe", first).await;
    scaled(&log, "scribe", 64).await;
    let mut head = first;
    for _ in 0..100 {
        head = process.append(stream(), 0, 2).await;
    }
    log.wait_for("scribe", head).await;
    check_all_seen(&log, "scribe", head).await;
    process.stop().await;
}

#[tokio::test]
async fn no_more_workers_than_may_be() {
    let log = Log::new().await;
    for (consumer, workers) in [("scribe", 0), ("scribe", 65), ("nobody", 2)] {
        let refused = event_store::scale(&log.database, consumer, workers).await;
        assert!(matches!(refused, Err(event_store::Error::Config(_))), "{refused:?}");
    }
}
