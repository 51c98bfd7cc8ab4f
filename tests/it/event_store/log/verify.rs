//! What `waybill log verify` finds, and how precisely it names it.

use event_store::log::{Kind, Report, Sealing, Wanted, seal_next, verify};
use event_store::{Append, Refused};
use serde_json::Value;
use sqlx::PgPool;

use super::super::{Log, append, log, order, superuser};
use super::{fill, run, small};
use crate::services;

/// Seals everything that is full.
async fn seal(log: &Log) {
    while let Sealing::Sealed(_) = seal_next(log.store.pool(), log.store.log()).await.unwrap() {}
}

pub(super) async fn report(pool: &PgPool, wanted: Wanted) -> Report {
    verify(pool, wanted, |_| {}).await.unwrap()
}

/// A log of two sealed segments and a tail, on several streams, with answers that changed nothing.
async fn sealed() -> (PgPool, Log) {
    let (url, log) = sealed_at().await;
    (superuser(&url).await, log)
}

/// The same, and where it is.
pub(super) async fn sealed_at() -> (String, Log) {
    let (url, log) = small().await;
    fill(&log, 2).await;
    let stream = order();
    log.store.append(append(&[(stream, 0), (order(), 0)], 3)).await.unwrap();
    log.store
        .append(Append { writes: vec![], answers: (stream, 3), ..append(&[(stream, 3)], 1) })
        .await
        .unwrap();
    let refused = Refused { code: "no".to_owned(), detail: "No.".to_owned() };
    let refused = Append { refused: Some(refused), writes: vec![], ..append(&[(stream, 3)], 1) };
    let _ = log.store.append(refused).await;
    log.store.append(append(&[(stream, 3)], 2)).await.unwrap();
    seal(&log).await;
    (url, log)
}

/// Changes what happened, as only a superuser can.
pub(super) async fn tamper(owner: &PgPool, statements: &str) {
    let statements = format!(
        "set session_replication_role = replica; {statements}; set session_replication_role = origin"
    );
    run(owner, &statements).await;
}

/// Fails unless exactly these violations were found: kind, position, and a part of what is said.
#[track_caller]
pub(super) fn found(report: &Report, expected: &[(Kind, i64, &str)]) {
    let named = &report.violations.named;
    assert_eq!(named.len(), expected.len(), "{named:#?}");
    for (kind, position, what) in expected {
        let same = named.iter().any(|violation| {
            violation.kind == *kind
                && violation.position == Some(*position)
                && violation.what.contains(what)
        });
        assert!(same, "no {kind} at {position} saying `{what}` in {named:#?}");
    }
}

#[tokio::test]
async fn a_log_that_nobody_touched_is_clean() {
    let (owner, log) = sealed().await;
    let whole = report(&owner, Wanted::default()).await;
    found(&whole, &[]);
    assert_eq!((whole.events, whole.answers, whole.segments), (8200, 20, 2));
    assert_eq!((whole.sealed_to, whole.to), (8192, 8200), "the tail is not sealed");
    let middle = Wanted { from: Some(3000), to: Some(8197), ..Wanted::default() };
    let middle = report(&owner, middle).await;
    found(&middle, &[]);
    assert_eq!((middle.events, middle.segments), (5198, 1));
    log.end().await;
}

#[tokio::test]
async fn an_empty_log_is_clean() {
    let (url, log) = log().await;
    found(&report(&superuser(&url).await, Wanted::default()).await, &[]);
    log.end().await;
}

#[tokio::test]
async fn tampering_is_found_by_the_seal_of_its_segment() {
    let (owner, log) = sealed().await;
    tamper(&owner, "update events set payload = '{\"by\":2}' where position = 5000").await;
    let whole = report(&owner, Wanted::default()).await;
    found(&whole, &[(Kind::Seal, 4097, "segment 2, positions 4097 to 8192")]);
    let first = report(&owner, Wanted { to: Some(4096), ..Wanted::default() }).await;
    found(&first, &[]);
    log.end().await;
}

#[tokio::test]
async fn a_seal_that_was_kept_elsewhere_tells_a_new_chain_from_the_old() {
    let (owner, log) = sealed().await;
    let kept = event_store::log::seals(&owner).await.unwrap().remove(1);
    let kept = (kept.number, <[u8; 32]>::try_from(kept.seal).unwrap());
    let expecting = || Wanted { expected: vec![kept], ..Wanted::default() };
    found(&report(&owner, expecting()).await, &[]);

    tamper(&owner, "update events set actor = 'nobody' where position = 7; delete from segments")
        .await;
    seal(&log).await;
    found(&report(&owner, Wanted::default()).await, &[]);
    found(&report(&owner, expecting()).await, &[(Kind::Seal, 4097, "was expected")]);

    tamper(&owner, "delete from segments where number = 2").await;
    found(&report(&owner, expecting()).await, &[(Kind::Seal, 4097, "segment 2 is not sealed")]);
    log.end().await;
}

#[tokio::test]
async fn a_truncated_seal_and_a_missing_one_are_found() {
    let (owner, log) = sealed().await;
    run(&owner, "alter table segments drop constraint segments_seal_check").await;
    tamper(&owner, "update segments set seal = substr(seal, 1, 16) where number = 2").await;
    found(
        &report(&owner, Wanted::default()).await,
        &[(Kind::Seal, 4097, "has 16 bytes"), (Kind::Seal, 4097, "one of these events, or a seal")],
    );
    tamper(&owner, "delete from segments where number = 1").await;
    let missing = report(&owner, Wanted::default()).await;
    let said = |what: &str| missing.violations.named.iter().any(|found| found.what.contains(what));
    assert!(said("segment 2 comes where segment 1 should"), "{missing:?}");
    log.end().await;
}

#[tokio::test]
async fn a_gap_is_found() {
    let (owner, log) = sealed().await;
    tamper(&owner, "delete from events where position between 8194 and 8195").await;
    let whole = report(&owner, Wanted::default()).await;
    let gaps: Vec<_> = whole.violations.named.iter().filter(|v| v.kind == Kind::Gap).collect();
    assert_eq!(gaps.len(), 1, "{whole:#?}");
    assert_eq!(gaps[0].position, Some(8196));
    assert!(gaps[0].what.contains("positions 8194 to 8195 are missing"), "{gaps:?}");
    log.end().await;
}

#[tokio::test]
async fn a_log_that_was_cut_short_is_found() {
    let (owner, log) = sealed().await;
    tamper(&owner, "delete from events where position > 8100").await;
    let whole = report(&owner, Wanted::default()).await;
    let said = |kind: Kind, what: &str| {
        whole.violations.named.iter().any(|v| v.kind == kind && v.what.contains(what))
    };
    assert!(said(Kind::Gap, "ends at position 8100, and is sealed to 8192"), "{whole:#?}");
    assert!(said(Kind::Ledger, "beyond the end of the log"), "{whole:#?}");
    assert!(said(Kind::Stream, "and it is not"), "{whole:#?}");
    log.end().await;
}

#[tokio::test]
async fn a_broken_version_is_found() {
    let (owner, log) = sealed().await;
    tamper(&owner, "update events set stream_version = 9 where position = 8198").await;
    let whole = report(&owner, Wanted::default()).await;
    found(
        &whole,
        &[
            (Kind::Version, 8198, "version 9 comes after version 2"),
            (Kind::Stream, 8198, "version 3 (events: 9)"),
        ],
    );
    log.end().await;
}

#[tokio::test]
async fn a_streams_row_that_lies_is_found() {
    let (owner, log) = sealed().await;
    for (column, lie, what) in [
        ("version", "version + 1", "version 6 (events: 5)"),
        ("first_position", "first_position + 1", "first position 8194 (events: 8193)"),
        ("last_position", "last_position - 1", "last position 8199 (events: 8200)"),
        ("category", "'payment'", "category payment (its events say order)"),
    ] {
        let set = format!("update streams set {column} = {lie} where last_position = 8200");
        let kept = "create table kept as select * from streams where last_position = 8200";
        run(&owner, kept).await;
        run(&owner, &set).await;
        found(&report(&owner, Wanted::default()).await, &[(Kind::Stream, 8200, what)]);
        run(
            &owner,
            "delete from streams where stream_id in (select stream_id from kept);
             insert into streams select * from kept; drop table kept",
        )
        .await;
    }
    run(&owner, "delete from streams where last_position = 8200").await;
    found(&report(&owner, Wanted::default()).await, &[(Kind::Stream, 8193, "has no row for it")]);
    log.end().await;
}

#[tokio::test]
async fn a_ledger_lie_is_found() {
    let (owner, log) = sealed().await;
    for (lie, at, what) in [
        ("update commands set version = version + 1 where position = 4096", 4096, "at version 512, not 513"),
        ("update commands set refusal_code = 'x' where position = 4096", 4096, "was refused, and it has events"),
        ("delete from commands where position = 4096", 4096, "has no row for command"),
        (
            "insert into commands select gen_random_uuid(), request_hash, stream_id, 600, 4096, recorded_at
             from commands where position = 4096",
            4096,
            "left the stream at version 600",
        ),
        (
            "insert into commands select gen_random_uuid(), request_hash, stream_id, 1, 8999, recorded_at
             from commands where position = 4096",
            8999,
            "beyond the end of the log",
        ),
    ] {
        run(&owner, "create table kept as select * from commands").await;
        run(&owner, lie).await;
        found(&report(&owner, Wanted::default()).await, &[(Kind::Ledger, at, what)]);
        run(&owner, "truncate commands; insert into commands select * from kept; drop table kept").await;
    }
    found(&report(&owner, Wanted::default()).await, &[]);
    log.end().await;
}

#[tokio::test]
async fn what_the_ledgers_window_has_dropped_is_no_lie() {
    let (owner, log) = sealed().await;
    let leaf: String = sqlx::query_scalar("select tableoid::regclass::text from commands limit 1")
        .fetch_one(&owner)
        .await
        .unwrap();
    run(&owner, &format!("drop table {leaf}")).await;
    found(&report(&owner, Wanted::default()).await, &[]);
    log.end().await;
}

#[tokio::test]
async fn ids_slices_and_times_that_do_not_follow_are_found() {
    let (owner, log) = sealed().await;
    for (lie, kind, what) in [
        ("event_id = gen_random_uuid()", Kind::EventId, "is not that of event"),
        ("slice = (slice + 1) % 1024", Kind::Slice, "its slice is"),
        (
            "recorded_at = recorded_at - interval '1 second'",
            Kind::Time,
            "before the event before it",
        ),
    ] {
        run(&owner, "create table kept as select * from events where position = 8195").await;
        tamper(&owner, &format!("update events set {lie} where position = 8195")).await;
        found(&report(&owner, Wanted::default()).await, &[(kind, 8195, what)]);
        tamper(
            &owner,
            "delete from events where position = 8195;
             insert into events select * from kept; drop table kept",
        )
        .await;
    }
    log.end().await;
}

/// Runs `waybill log verify` as whoever may only read and append.
async fn command(owner_url: &str, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let url = services::serving(owner_url).await;
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
        .args(["log", "verify", "--json", "--database-url", &url])
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    let report = serde_json::from_slice(&ended.stdout).unwrap_or(Value::Null);
    (ended.status.code(), report, String::from_utf8_lossy(&ended.stderr).into_owned())
}

#[tokio::test]
async fn the_command_reports_and_tells_clean_from_broken_from_unable() {
    let (url, log) = log().await;
    log.store.append(append(&[(order(), 0)], 3)).await.unwrap();
    let (code, report, errors) = command(&url, &[]).await;
    assert_eq!((code, &report["clean"]), (Some(0), &true.into()), "{report} {errors}");

    let owner = superuser(&url).await;
    tamper(&owner, "delete from events where position = 2").await;
    let (code, report, _) = command(&url, &["--from", "1"]).await;
    assert_eq!((code, &report["clean"]), (Some(1), &false.into()), "{report}");
    assert_eq!(report["violations"][0]["kind"], "gap");
    assert!(report["violations"][0]["do"].as_str().unwrap().contains("backup"), "{report}");

    run(&owner, "alter table segments rename to elsewhere").await;
    let (code, _, errors) = command(&url, &[]).await;
    assert_eq!(code, Some(2), "{errors}");
    log.end().await;
}
