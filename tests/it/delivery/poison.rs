//! What a projector cannot take.

use std::process::Command;
use std::sync::atomic::Ordering;

use event_store::parked::{self, Action};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

use super::consumers::{Scribe, Tally};
use super::wire::Deaf;
use super::{Log, Process, append, eventually, stream};

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

    let parked = parked::list(&log.database, None, None, 10).await.unwrap();
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

/// Runs a command on this log; its exit code, and what it printed.
fn command(log: &Log, arguments: &[&str]) -> (Option<i32>, String) {
    let program = Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
        .args(arguments)
        .args(["--database-url", &log.url])
        .output()
        .unwrap();
    (program.status.code(), String::from_utf8(program.stdout).unwrap())
}

/// The command line tells of it as well.
fn told_of(log: &Log, parked: &parked::Parked) {
    let run = |arguments: &[&str]| command(log, arguments);
    let json = |arguments: &[&str]| -> Value {
        let (code, printed) = run(&[arguments, &["--json"]].concat());
        assert_eq!(code, Some(0), "{printed}");
        serde_json::from_str(&printed).unwrap()
    };
    let fingerprint = &*parked.fingerprint.to_string();
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
    assert_eq!(run(&["parked", "show", "0000000000000000"]).0, Some(1));
    assert_eq!(run(&["parked", "show", "none"]).0, Some(2));
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

/// An event that would make an index entry longer than Postgres can have (SQLSTATE 54000).
#[tokio::test]
async fn what_is_beyond_a_limit_of_postgres_is_parked_and_does_not_stop_the_others() {
    let log = Log::new().await;
    let mut process = log.process().await;
    let (good, bad) = (stream(), stream());
    log.execute(
        "alter table seen add column note text;
         create index on seen (note);
         create function write_much() returns trigger language plpgsql as $$ begin
             if new.version = 2 then
                 new.note = (select string_agg(md5(n::text), '') from generate_series(1, 500) n);
             end if;
             return new;
         end $$;
         create trigger write_much before insert on seen for each row execute function write_much()",
    )
    .await;
    process.append(good, 0, 1).await;
    process.append(bad, 0, 2).await;
    let head = process.append(stream(), 0, 1).await;
    process.projector(Scribe::new("scribe"));
    log.wait_for("scribe", head).await;
    assert_eq!(log.seen("scribe").await, [1, 2, 4]);
    let parked = parked::list(&log.database, None, None, 10).await.unwrap();
    assert_eq!(parked.iter().map(|parked| parked.stream_id).collect::<Vec<_>>(), [bad]);
    assert!(parked[0].reason.contains("index row"), "{}", parked[0].reason);
    process.stop().await;
}

/// Whoever waits for a lock that whoever has it waits for in turn is sent away by Postgres, now one
/// and now the other. That says nothing about the events.
#[tokio::test]
async fn a_worker_that_is_sent_away_from_a_deadlock_tries_again_and_parks_nothing() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.projector(Scribe::new("scribe"));
    let first = process.append(stream(), 0, 3).await;
    log.wait_for("scribe", first).await;
    let mut other = PgConnection::connect(&log.url).await.unwrap();
    sqlx::raw_sql("set deadlock_timeout = '1h'; set lock_timeout = '3s'")
        .execute(&mut other)
        .await
        .unwrap();
    let mut sent_away = false;
    while !sent_away {
        // The worker has its checkpoint, and waits for the table,
        let mut tx = other.begin().await.unwrap();
        sqlx::raw_sql("lock table seen in access exclusive mode").execute(&mut *tx).await.unwrap();
        process.append(stream(), 0, 2).await;
        eventually("the worker to wait", async || {
            let waiting = "select exists (select from pg_locks
                           where relation = 'seen'::regclass and not granted)";
            sqlx::query_scalar(waiting).fetch_one(&log.database).await.unwrap()
        })
        .await;
        // while we have the table, and wait for its checkpoint: it, as we never look.
        let checkpoint = "select from checkpoints where consumer = 'scribe' for update";
        sent_away = sqlx::raw_sql(checkpoint).execute(&mut *tx).await.is_ok();
        tx.rollback().await.unwrap();
    }
    let head = process.store.head().await.unwrap();
    log.wait_for("scribe", head).await;
    assert_eq!(log.seen("scribe").await, (1..=head).collect::<Vec<_>>());
    assert!(parked::list(&log.database, None, None, 10).await.unwrap().is_empty());
    let epoch: i64 = sqlx::query_scalar("select epoch from checkpoints where consumer = 'scribe'")
        .fetch_one(&log.database)
        .await
        .unwrap();
    assert_eq!(epoch, 1, "the worker is the same");
    process.stop().await;
}

#[tokio::test]
async fn a_park_of_which_nobody_heard_came_through_once() {
    let log = Log::new().await;
    // Postgres parks the stream, and the connection ends before it says so.
    let deaf = Deaf::start(&log.url, "insert into parked_streams").await;
    let mut process = Log { url: deaf.url(&log.url), ..log.again() }.process().await;
    let (good, bad, scribe) = (stream(), stream(), Scribe::new("scribe"));
    scribe.faults.poison.lock().unwrap().insert(bad);
    for version in 0..3 {
        for stream in [good, bad] {
            append(&process.store, stream, version, 1).await;
        }
    }
    process.projector(scribe);
    log.wait_for("scribe", 6).await;
    assert_eq!(deaf.unheard(), 1, "the answer was lost");
    let head = process.append(good, 3, 1).await;
    log.wait_for("scribe", head).await;
    assert_eq!(log.seen("scribe").await, [1, 2, 3, 5, 7]);
    let parked = parked::list(&log.database, None, None, 10).await.unwrap();
    let [parked] = parked.as_slice() else { panic!("{parked:?}") };
    assert_eq!((parked.stream_id, parked.first_position, parked.waiting), (bad, 4, 2));
    process.stop().await;
}

/// A crash of the database takes back what was written last, and the checkpoint with it; what a worker
/// remembers of its rows is then not so.
#[tokio::test]
async fn who_remembers_what_a_crash_took_back_tries_nothing_again_with_it() {
    let log = Log::new().await;
    log.execute(
        "create table tally (count bigint not null); insert into tally values (0);
         grant select, update on tally to waybill_write",
    )
    .await;
    let mut process = log.process().await;
    let (bad, tally) = (stream(), Tally::default());
    let faults = tally.faults.clone();
    faults.poison.lock().unwrap().insert(bad);
    process.projector(tally);
    process.append(bad, 0, 3).await;
    let head = process.append(stream(), 0, 5).await;
    log.wait_for("tally", head).await;
    let count = async || -> i64 {
        let count = sqlx::query_scalar("select count from tally").fetch_one(&log.database);
        count.await.unwrap()
    };
    assert_eq!(count().await, 6, "two are parked");
    faults.poison.lock().unwrap().clear();
    log.execute(
        "begin;
         update tally set count = count - 2;
         update checkpoints set position = position - 2 where consumer = 'tally';
         update parked_streams set retry_at = clock_timestamp();
         commit",
    )
    .await;
    eventually("nothing is parked", async || {
        parked::counts(&log.database).await.unwrap().is_empty()
    })
    .await;
    log.wait_for("tally", head).await;
    assert_eq!(count().await, 8, "each event once");
    process.stop().await;
}

/// Goal: what is tried again takes turns with what was never parked.
/// Method: many events wait, and every transaction that takes some of them takes longer than a turn.
#[tokio::test]
async fn others_go_on_while_what_is_parked_is_tried_again() {
    const WAITING: i64 = 10_000;
    let log = Log::new().await;
    let (bad, scribe) = (stream(), Scribe::new("scribe"));
    let faults = scribe.faults.clone();
    let (process, _) = parked_stream(&log, scribe, bad).await;
    let mut head = 3;
    while head < WAITING {
        head = process.append(bad, head, 500).await;
    }
    log.wait_for("scribe", head).await;
    log.execute(
        "alter table seen drop constraint seen_version_check;
         create function linger() returns trigger language plpgsql as $$ begin
             if (select count(*) from added) > 1 then
                 perform pg_sleep(0.15);
             end if;
             return null;
         end $$;
         create trigger linger after insert on seen referencing new table as added
             for each statement execute function linger()",
    )
    .await;
    faults.poison.lock().unwrap().clear();
    log.execute("update parked_streams set retry_at = clock_timestamp()").await;
    eventually("some of it to be taken", async || log.seen("scribe").await.len() > 1).await;
    let other = process.append(stream(), 0, 1).await;
    log.wait_for("scribe", other).await;
    assert!(!parked::counts(&log.database).await.unwrap().is_empty(), "the rest still waits");
    eventually("nothing is parked", async || {
        parked::counts(&log.database).await.unwrap().is_empty()
    })
    .await;
    assert_eq!(log.seen("scribe").await, (1..=other).collect::<Vec<_>>());
    process.stop().await;
}

/// Whoever has nothing to do but to look whether a parked stream is to be tried again still says that
/// it lives: else another takes its lease.
#[tokio::test]
async fn a_worker_at_rest_keeps_its_lease_while_a_stream_is_parked() {
    let log = Log::new().await;
    let (process, _) = parked_stream(&log, Scribe::new("scribe"), stream()).await;
    log.execute("update checkpoints set leased_until = clock_timestamp() + interval '1 hour'")
        .await;
    let lease = async || -> (bool, i64) {
        let lease = sqlx::query_as(
            "select leased_until < clock_timestamp() + interval '1 minute', epoch from checkpoints",
        );
        lease.fetch_one(&log.database).await.unwrap()
    };
    eventually("it gives a sign", async || lease().await.0).await;
    assert_eq!(lease().await.1, 1);
    process.stop().await;
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
    assert!(parked::list(&log.database, None, None, 10).await.unwrap().is_empty());
    process.stop().await;
}

/// A log whose projector has parked one stream of three events at its second.
async fn parked_stream(log: &Log, scribe: Scribe, bad: uuid::Uuid) -> (Process, parked::Parked) {
    let mut process = log.process().await;
    process.relay();
    scribe.faults.poison.lock().unwrap().insert(bad);
    process.projector(scribe);
    let head = process.append(bad, 0, 3).await;
    log.wait_for("scribe", head).await;
    assert_eq!(log.seen("scribe").await, [1]);
    let mut parked = parked::list(&log.database, None, None, 10).await.unwrap();
    (process, parked.pop().unwrap())
}

#[tokio::test]
async fn what_is_parked_is_tried_again_in_order_when_somebody_says_so() {
    let log = Log::new().await;
    let (bad, scribe) = (stream(), Scribe::new("scribe"));
    let faults = scribe.faults.clone();
    let (process, parked) = parked_stream(&log, scribe, bad).await;
    let cause = &*parked.fingerprint.to_string();
    let retry = |more: &[&str]| {
        let arguments = ["parked", "retry", cause, "--reason", "deployed 1.2", "--actor", "Ada"];
        command(&log, &[&arguments, more].concat())
    };
    let (code, printed) = retry(&["--dry-run"]);
    assert_eq!(code, Some(0));
    assert!(printed.starts_with("1 streams with 2 events would be tried again"), "{printed}");
    assert_eq!(command(&log, &["parked", "retry", "0000000000000000", "--reason", "x"]).0, Some(1));

    // It is poison still.
    assert_eq!(retry(&[]).0, Some(0));
    let tried = async || parked::list(&log.database, None, None, 10).await.unwrap()[0].clone();
    eventually("it was tried again", async || tried().await.tries == 1).await;
    let again = tried().await;
    assert_eq!((again.first_position, again.waiting, again.retry_at), (2, 2, None));
    assert_eq!(log.seen("scribe").await, [1]);

    // Mended. What comes meanwhile waits its turn.
    faults.poison.lock().unwrap().clear();
    let head = process.append(bad, 3, 2).await;
    log.wait_for("scribe", head).await;
    assert_eq!(retry(&["--consumer", "scribe", "--key", &bad.to_string()]).0, Some(0));
    eventually("nothing is parked", async || {
        parked::counts(&log.database).await.unwrap().is_empty()
    })
    .await;
    assert_eq!(log.seen("scribe").await, [1, 2, 3, 4, 5]);
    let head = process.append(bad, 5, 1).await;
    log.wait_for("scribe", head).await;
    assert_eq!(log.seen("scribe").await.len(), 6);

    let (_, acts) = command(&log, &["parked", "acts", "--json"]);
    let acts: Value = serde_json::from_str(&acts).unwrap();
    assert_eq!(acts.as_array().unwrap().len(), 2, "neither a dry run nor nothing: {acts}");
    assert_eq!((&acts[1]["actor"], &acts[1]["action"]), (&"Ada".into(), &"retry".into()));
    assert_eq!((&acts[1]["reason"], &acts[1]["events"]), (&"deployed 1.2".into(), &2.into()));
    assert_eq!((&acts[0]["events"], &acts[0]["streams"]), (&4.into(), &1.into()));
    process.stop().await;
}

#[tokio::test]
async fn what_is_dropped_is_left_out_and_its_stream_goes_on() {
    let log = Log::new().await;
    let (bad, scribe) = (stream(), Scribe::new("scribe"));
    let (process, parked) = parked_stream(&log, scribe, bad).await;
    let cause = &*parked.fingerprint.to_string();
    let drop = ["parked", "drop", cause, "--reason", "a test order"];
    let (code, printed) = command(&log, &[&drop[..], &["--dry-run"]].concat());
    assert_eq!((code, printed.trim()), (Some(0), "2 events of 1 streams would be left out"));
    assert_eq!(parked::counts(&log.database).await.unwrap().len(), 1);
    let (code, printed) = command(&log, &drop);
    assert_eq!((code, printed.trim()), (Some(0), "2 events of 1 streams are left out"));
    assert!(parked::counts(&log.database).await.unwrap().is_empty());
    let head = process.append(bad, 3, 2).await;
    log.wait_for("scribe", head).await;
    assert_eq!(log.seen("scribe").await, [1, 4, 5]);
    let left_out: Vec<i64> = sqlx::query_scalar("select position from dropped_events order by 1")
        .fetch_all(&log.database)
        .await
        .unwrap();
    assert_eq!(left_out, [2, 3]);
    assert_eq!(command(&log, &["parked", "drop", cause]).0, Some(2), "a reason");
    process.stop().await;
}

#[tokio::test]
async fn many_are_tried_again_at_a_rate() {
    let log = Log::new().await;
    let scribe = Scribe::new("scribe");
    let streams: Vec<_> = (0..20).map(|_| stream()).collect();
    let faults = scribe.faults.clone();
    faults.poison.lock().unwrap().extend(&streams);
    let mut process = log.process().await;
    process.relay();
    for stream in &streams {
        process.append(*stream, 0, 2).await;
    }
    process.projector(scribe);
    log.wait_for("scribe", 40).await;
    let parked = parked::list(&log.database, None, None, 100).await.unwrap();
    let (first, rest) = (&parked[0], parked.len());
    let page = parked::list(&log.database, None, None, 7).await.unwrap();
    let after = (page[6].parked_at, page[6].consumer.clone(), page[6].key);
    let others = parked::list(&log.database, None, Some(&after), 100).await.unwrap();
    assert_eq!((rest, others.len(), &others[..]), (20, 13, &parked[7..]));

    let selection =
        parked::Selection { fingerprint: first.fingerprint.clone(), consumer: None, key: None };
    let by = parked::By { actor: "Ada".to_owned(), reason: "mended".to_owned() };
    let retry = async |rate, by: &parked::By| {
        parked::act(&log.database, &selection, Action::Retry { rate }, by, false).await
    };
    for rate in [0, parked::RATE_MAX + 1] {
        assert!(retry(rate, &by).await.is_err());
    }
    let nobody = parked::By { actor: String::new(), ..by.clone() };
    assert!(retry(1, &nobody).await.is_err());
    faults.poison.lock().unwrap().clear();
    let extent = retry(10, &by).await.unwrap();
    assert_eq!((extent.streams, extent.events), (20, 20));
    let spread: f64 = sqlx::query_scalar(
        "select coalesce(extract(epoch from max(retry_at) - min(retry_at)), 0)::float8
         from parked_streams",
    )
    .fetch_one(&log.database)
    .await
    .unwrap();
    assert!(spread <= 1.91, "20 streams at 10 a second: {spread} s");
    eventually("nothing is parked", async || {
        parked::counts(&log.database).await.unwrap().is_empty()
    })
    .await;
    assert_eq!(log.seen("scribe").await, (1..=40).collect::<Vec<_>>());
    process.stop().await;
}
