//! What a projector cannot take.

use std::process::Command;
use std::sync::atomic::Ordering;

use event_store::parked;
use serde_json::Value;

use super::consumers::Scribe;
use super::{Log, eventually, stream};

/// Three streams whose events are interleaved; the second event of the middle one is poison.
async fn one_stream_is_parked(make: impl FnOnce(&Scribe, uuid::Uuid)) {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    let (good, bad, other) = (stream(), stream(), stream());
    let scribe = Scribe::new("scribe");
    make(&scribe, bad);
    // All there before the projector starts, so that they come in one batch.
    for version in 0..4 {
        for stream in [good, bad, other] {
            process.append(stream, version, 1).await;
        }
    }
    process.projector(scribe);
    process.projector(Scribe::new("control"));
    log.wait_for("scribe", 12).await;
    assert_eq!(log.seen("scribe").await, [1, 2, 3, 4, 6, 7, 9, 10, 12]);
    // What comes later waits as well.
    process.append(bad, 4, 2).await;
    let head = process.append(good, 4, 1).await;
    log.wait_for("scribe", head).await;
    log.wait_for("control", head).await;
    assert_eq!(log.seen("scribe").await, [1, 2, 3, 4, 6, 7, 9, 10, 12, 15]);
    assert_eq!(log.seen("control").await.len(), 15);

    let parked = parked::list(&log.database, None).await.unwrap();
    let [parked] = parked.as_slice() else { panic!("{parked:?}") };
    assert_eq!((parked.consumer.as_str(), parked.stream_id), ("scribe", bad));
    assert_eq!((parked.first_position, parked.waiting), (5, 5));
    assert_eq!(parked::counts(&log.database).await.unwrap(), [("scribe".to_owned(), 1)]);
    let [group] = &*parked::groups(&log.database).await.unwrap() else { panic!("several causes") };
    assert_eq!((group.streams, group.waiting, &group.reason), (1, 5, &parked.reason));
    told_of(&log, parked);
    let waiting: Vec<i64> =
        sqlx::query_scalar("select position from parked_events order by position")
            .fetch_all(&log.database)
            .await
            .unwrap();
    assert_eq!(waiting, [5, 8, 11, 13, 14]);

    // A new worker knows what is parked.
    process.stop().await;
    let mut process = log.process().await;
    process.relay();
    process.projector(Scribe::new("scribe"));
    let head = process.append(bad, 6, 1).await;
    log.wait_for("scribe", head).await;
    assert!(!log.seen("scribe").await.contains(&head));
    process.stop().await;
}

/// The command line tells of it as well.
fn told_of(log: &Log, parked: &parked::Parked) {
    let run = |arguments: &[&str]| {
        let program = Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
            .args(arguments)
            .args(["--database-url", &log.url])
            .output()
            .unwrap();
        (program.status.code(), String::from_utf8(program.stdout).unwrap())
    };
    let json = |arguments: &[&str]| -> Value {
        let (code, printed) = run(&[arguments, &["--json"]].concat());
        assert_eq!(code, Some(0), "{printed}");
        serde_json::from_str(&printed).unwrap()
    };
    let fingerprint = parked.fingerprint.as_str();
    let groups = json(&["parked", "list"]);
    assert_eq!(groups.as_array().unwrap().len(), 1);
    assert_eq!(
        (&groups[0]["fingerprint"], &groups[0]["waiting"]),
        (&fingerprint.into(), &5.into())
    );
    let streams = json(&["parked", "show", fingerprint]);
    assert_eq!(streams[0]["stream_id"], parked.stream_id.to_string());
    assert_eq!((&streams[0]["position"], &streams[0]["consumer"]), (&5.into(), &"scribe".into()));
    assert!(run(&["parked", "list"]).1.contains(fingerprint));
    assert!(run(&["parked", "show", fingerprint]).1.contains(&parked.stream_id.to_string()));
    assert_eq!(run(&["parked", "show", "none"]).0, Some(1));
}

#[tokio::test]
async fn poison_parks_its_stream_in_order_and_others_go_on() {
    one_stream_is_parked(|scribe, bad| {
        scribe.faults.poison.lock().unwrap().insert(bad);
    })
    .await;
}

#[tokio::test]
async fn what_the_database_refuses_is_found_and_parked() {
    one_stream_is_parked(|scribe, bad| {
        scribe.faults.refused.lock().unwrap().insert(bad);
    })
    .await;
}

#[tokio::test]
async fn a_fault_of_the_system_is_waited_out_and_parks_nothing() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    let scribe = Scribe::new("scribe");
    let faults = scribe.faults.clone();
    process.projector(scribe);
    let before = process.append(stream(), 0, 5).await;
    log.wait_for("scribe", before).await;
    faults.down.store(true, Ordering::SeqCst);
    let head = process.append(stream(), 0, 5).await;
    eventually("it was tried again", async || faults.met_down.load(Ordering::SeqCst) > 5).await;
    assert_eq!(log.checkpoint("scribe").await, before);
    faults.down.store(false, Ordering::SeqCst);
    log.wait_for("scribe", head).await;
    assert_eq!(log.seen("scribe").await, (1..=head).collect::<Vec<_>>());
    assert!(parked::list(&log.database, None).await.unwrap().is_empty());
    process.stop().await;
}
