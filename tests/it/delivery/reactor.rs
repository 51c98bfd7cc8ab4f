//! Many events in flight, those of one key in order, none forgotten in a crash.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use event_store::parked::{self, Action};
use uuid::Uuid;

use super::consumers::{Testimony, Witness};
use super::{Log, Process, eventually, stream};

/// Appends to `keys` in turns, `rounds` times one event each.
async fn interleave(process: &Process, keys: &[Uuid], from: i64, rounds: i64) -> i64 {
    let mut head = 0;
    for version in from..from + rounds {
        for key in keys {
            head = process.append(*key, version, 1).await;
        }
    }
    head
}

/// Every version of every key, none before the one it follows; `repeats` may be seen again.
#[track_caller]
fn check_order(testimony: &Testimony, keys: &[Uuid], versions: i64, repeats: bool) {
    let mut highest: HashMap<Uuid, i64> = HashMap::new();
    for (key, version) in testimony.lock().unwrap().iter() {
        let before = highest.entry(*key).or_default();
        assert!(*version <= *before + 1, "{key}: {version} after {before}");
        assert!(repeats || *version == *before + 1, "{key}: {version} repeated");
        *before = (*version).max(*before);
    }
    for key in keys {
        assert_eq!(highest.get(key), Some(&versions), "{key}");
    }
}

#[tokio::test]
async fn events_of_one_key_stay_in_order_and_others_run_beside_them() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    let witness = Witness::default();
    let keys: Vec<_> = (0..20).map(|_| stream()).collect();
    let head = interleave(&process, &keys, 0, 10).await;
    process.reactor(witness.clone());
    log.wait_for("witness", head).await;
    check_order(&witness.testimony, &keys, 10, false);
    let most = witness.active.1.load(Ordering::SeqCst);
    assert!((2..=64).contains(&most), "{most} at once");
    process.stop().await;
}

#[tokio::test]
async fn after_a_crash_the_last_events_come_again_in_order() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    let witness = Witness::default();
    process.reactor(witness.clone());
    let keys: Vec<_> = (0..10).map(|_| stream()).collect();
    let mut head = 0;
    for round in 0..3 {
        head = interleave(&process, &keys, round * 10, 10).await;
        eventually("it has begun", async || {
            i64::try_from(witness.testimony.lock().unwrap().len()).unwrap() > round * 100 + 20
        })
        .await;
        process.kill().await;
        // As if the five seconds of its lease had gone by.
        log.execute("update checkpoints set leased_until = null").await;
        process = log.process().await;
        process.relay();
        process.reactor(witness.clone());
    }
    log.wait_for("witness", head).await;
    check_order(&witness.testimony, &keys, 30, true);
    process.stop().await;
}

#[tokio::test]
async fn poison_parks_its_key_and_nothing_of_it_overtakes() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    let witness = Witness::default();
    let (good, bad) = (stream(), stream());
    witness.faults.poison.lock().unwrap().insert(bad);
    let head = interleave(&process, &[good, bad], 0, 5).await;
    process.reactor(witness.clone());
    log.wait_for("witness", head).await;
    check_order(&witness.testimony, &[good], 5, false);
    let told: Vec<_> = witness.testimony.lock().unwrap().clone();
    assert_eq!(told.iter().filter(|(key, _)| *key == bad).count(), 1);
    let parked = parked::list(&log.database, None, None, 10).await.unwrap();
    let [parked] = parked.as_slice() else { panic!("{parked:?}") };
    assert_eq!((parked.key, parked.first_position, parked.waiting), (bad, 4, 4));

    // Mended, and asked for: everything that waited, in order, and what comes later.
    witness.faults.poison.lock().unwrap().clear();
    let selection = parked::Selection {
        fingerprint: parked.fingerprint.clone(),
        consumer: Some("witness".to_owned()),
        key: Some(bad),
    };
    let by = parked::By { actor: "Ada".to_owned(), reason: "mended".to_owned() };
    parked::act(&log.database, &selection, Action::Retry { rate: 1 }, &by, false).await.unwrap();
    let head = interleave(&process, &[good, bad], 5, 3).await;
    log.wait_for("witness", head).await;
    eventually("nothing is parked", async || {
        parked::counts(&log.database).await.unwrap().is_empty()
    })
    .await;
    check_order(&witness.testimony, &[good, bad], 8, false);

    // Parked once more, and dropped: what comes later is acted on.
    let worse = stream();
    witness.faults.poison.lock().unwrap().insert(worse);
    let head = interleave(&process, &[worse], 0, 3).await;
    log.wait_for("witness", head).await;
    let fingerprint = selection.fingerprint;
    let selection = parked::Selection { fingerprint, consumer: None, key: None };
    let extent = parked::act(&log.database, &selection, Action::Drop, &by, false).await.unwrap();
    assert_eq!((extent.streams, extent.events), (1, 2));
    let head = interleave(&process, &[worse], 3, 2).await;
    log.wait_for("witness", head).await;
    let testimony = witness.testimony.lock().unwrap().clone();
    let versions = testimony.iter().filter(|(key, _)| *key == worse).map(|(_, version)| *version);
    assert_eq!(versions.collect::<Vec<_>>(), [1, 4, 5]);
    process.stop().await;
}

#[tokio::test]
async fn a_fault_of_the_system_is_tried_again_until_it_is_gone() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    let witness = Witness::default();
    witness.faults.down.store(true, Ordering::SeqCst);
    process.reactor(witness.clone());
    let keys = [stream(), stream()];
    let head = interleave(&process, &keys, 0, 3).await;
    let met_down = &witness.faults.met_down;
    eventually("it was tried again", async || met_down.load(Ordering::SeqCst) > 10).await;
    assert_eq!(log.checkpoint("witness").await, 0);
    witness.faults.down.store(false, Ordering::SeqCst);
    log.wait_for("witness", head).await;
    check_order(&witness.testimony, &keys, 3, false);
    assert!(parked::list(&log.database, None, None, 10).await.unwrap().is_empty());
    process.stop().await;
}

#[tokio::test]
async fn whoever_is_asked_to_stop_finishes_what_it_has_begun() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    let witness = Witness::default();
    let keys: Vec<_> = (0..5).map(|_| stream()).collect();
    interleave(&process, &keys, 0, 10).await;
    process.reactor(witness.clone());
    eventually("it has begun", async || !witness.testimony.lock().unwrap().is_empty()).await;
    process.stop().await;
    let heard = i64::try_from(witness.testimony.lock().unwrap().len()).unwrap();
    let saved = log.checkpoint("witness").await;
    let leased: Option<bool> =
        sqlx::query_scalar("select leased_until is not null from checkpoints")
            .fetch_one(&log.database)
            .await
            .unwrap();
    assert!(saved <= heard, "{saved} saved, {heard} heard");
    assert_eq!(leased, Some(false), "the lease was given back");
}
