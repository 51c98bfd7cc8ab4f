//! A log as a file: out, checked without a database, and in again.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use event_store::Store;
use event_store::log::Wanted;
use serde_json::Value;
use sqlx::PgPool;

use super::super::{Log, append, order, superuser};
use super::run;
use super::verify::{found, report, sealed_at, tamper};
use crate::services;
use crate::world::until;

/// Runs `waybill log`.
fn waybill(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
        .arg("log")
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

#[track_caller]
fn expect(ended: &Output, code: i32) -> String {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = said(&ended.stdout) + &said(&ended.stderr);
    assert_eq!(ended.status.code(), Some(code), "{said}");
    said
}

/// A migrated database with nothing in it.
async fn empty() -> String {
    let url = services::database().await;
    Store::migrate(&url).await.unwrap();
    url
}

/// Exports the log at `url` as whoever may read it.
async fn export(url: &str, format: &str) -> String {
    let folder = services::folder(&services::name());
    let file = folder.join(format!("log.{format}")).display().to_string();
    let reader = services::serving(url).await;
    let arguments = ["export", "--database-url", &reader, "--format", format, "--output", &file];
    expect(&waybill(&arguments), 0);
    assert!(!Path::new(&format!("{file}.part")).exists());
    file
}

/// What the report of `waybill log verify --file` says.
fn verify_file(file: &str, code: i32) -> Value {
    let ended = waybill(&["verify", "--json", "--file", file]);
    expect(&ended, code);
    serde_json::from_slice(&ended.stdout).unwrap()
}

/// Every row of the log's tables, as text.
async fn rows(pool: &PgPool) -> Vec<String> {
    let mut all = Vec::new();
    for (table, key) in [
        ("events", "position"),
        ("commands", "command_id"),
        ("streams", "stream_id"),
        ("segments", "number"),
    ] {
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select t::text from {table} t order by {key}"
        )))
        .fetch_all(pool)
        .await
        .unwrap();
        assert!(!rows.is_empty(), "{table}");
        all.extend(rows);
    }
    all
}

#[tokio::test]
async fn an_exported_log_is_imported_row_for_row_in_both_formats() {
    let (url, log) = sealed_at().await;
    let mut asked = append(&[(order(), 0)], 2);
    asked.meta.traceparent = Some("00-0af7-b7ad-01".to_owned());
    asked.writes[0].events[0].payload = r#"{ "ä":"\"\n\\" , "n":1.0e2}"#.to_owned();
    log.store.append(asked.clone()).await.unwrap();
    let source = superuser(&url).await;
    run(&source, "select log_make_commands_leaf(now() - interval '20 days')").await;
    run(
        &source,
        "insert into commands (command_id, request_hash, stream_id, version, position, recorded_at)
         values (gen_random_uuid(), 'x', gen_random_uuid(), 0, 0, now() - interval '20 days')",
    )
    .await;
    let exported = rows(&source).await;
    for format in ["ndjson", "parquet"] {
        let file = export(&url, format).await;
        let clean = verify_file(&file, 0);
        assert_eq!((&clean["events"], &clean["segments"]), (&8202.into(), &2.into()), "{clean}");

        let url = empty().await;
        let said = expect(&waybill(&["import", "--database-url", &url, &file]), 0);
        assert!(
            said.contains("8202 events imported") && said.contains("everything holds"),
            "{said}"
        );
        let owner = superuser(&url).await;
        assert_eq!(rows(&owner).await, exported, "{format}");
        found(&report(&owner, Wanted::default()).await, &[]);

        // A command that is sent again hears its first answer, and the log goes on.
        let copy = Log::open(&url).await;
        let again = copy.store.append(asked.clone()).await.unwrap();
        assert_eq!((again.replayed, again.version, again.position), (true, 2, 8202));
        let next = copy.store.append(append(&[(asked.writes[0].stream, 2)], 1)).await.unwrap();
        assert_eq!((next.position, next.version), (8203, 3));
        copy.end().await;

        let refused = waybill(&["import", "--database-url", &url, &file]);
        assert!(expect(&refused, 2).contains("the log is not empty"));
    }
    log.end().await;
}

#[tokio::test]
async fn a_part_of_a_log_is_exported_and_checked_but_not_imported() {
    let (url, log) = sealed_at().await;
    let reader = services::serving(&url).await;
    let part = services::folder(&services::name()).join("part").display().to_string();
    let arguments =
        ["export", "--database-url", &reader, "--from", "3000", "--to", "8197", "--output", &part];
    expect(&waybill(&arguments), 0);
    let report = verify_file(&part, 0);
    assert_eq!((&report["events"], &report["segments"]), (&5198.into(), &1.into()), "{report}");
    let refused = waybill(&["import", "--database-url", &empty().await, &part]);
    assert!(expect(&refused, 1).contains("begins at position 3000"));
    log.end().await;
}

#[tokio::test]
async fn a_tampered_export_is_found() {
    let (url, log) = sealed_at().await;
    let file = export(&url, "ndjson").await;
    let whole = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let position = |at: usize| format!("\"position\":{at},\"stream_id\"");
    let line = |at: usize| lines.iter().position(|line| line.contains(&position(at))).unwrap();
    let changed = |at: usize, to: &str| {
        let mut lines = lines.clone();
        lines[line(at)] = to;
        lines.join("\n") + "\n"
    };
    let other = lines[line(5000)].replace("\\\"by\\\":1", "\\\"by\\\":2");
    assert_ne!(other, lines[line(5000)]);
    for (tampered, kind) in [
        (changed(5000, &other), "seal"),
        (changed(8199, ""), "gap"),
        (lines[..line(8199)].join("\n") + "\n", "form"),
    ] {
        std::fs::write(&file, tampered.replace("\n\n", "\n")).unwrap();
        let report = verify_file(&file, 1);
        let kinds: Vec<_> = report["violations"].as_array().unwrap().iter().collect();
        assert!(kinds.iter().any(|violation| violation["kind"] == kind), "{kind}: {report}");

        let url = empty().await;
        let refused = waybill(&["import", "--database-url", &url, &file]);
        assert!(expect(&refused, 1).contains("nothing was imported"));
        let left: i64 = sqlx::query_scalar("select count(*) from events")
            .fetch_one(&superuser(&url).await)
            .await
            .unwrap();
        assert_eq!(left, 0);
    }

    let owner = superuser(&url).await;
    tamper(&owner, "update events set actor = 'nobody' where position = 5000").await;
    let report = verify_file(&export(&url, "parquet").await, 1);
    assert_eq!(report["violations"][0]["kind"], "seal", "{report}");
    log.end().await;
}

#[tokio::test]
async fn an_import_that_is_killed_leaves_nothing_and_is_done_again() {
    let (url, log) = sealed_at().await;
    let file = export(&url, "ndjson").await;
    let whole = std::fs::read(&file).unwrap();
    let copy = empty().await;
    let owner = superuser(&copy).await;
    let mut import = Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
        .args(["log", "import", "--database-url", &copy, "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    import.stdin.as_mut().unwrap().write_all(&whole[..whole.len() * 3 / 4]).unwrap();
    // A transaction has an id of its own once it has written something.
    let writing = "select count(*) from pg_stat_activity where application_name = 'waybill import' \
                   and datname = current_database() and backend_xid is not null";
    let sessions = |statement: &'static str, wanted: i64| {
        let owner = owner.clone();
        async move {
            until("the import to write, or to be gone", || async {
                let count: i64 = sqlx::query_scalar(statement).fetch_one(&owner).await.ok()?;
                (count == wanted).then_some(())
            })
            .await;
        }
    };
    sessions(writing, 1).await;
    import.kill().unwrap();
    import.wait().unwrap();
    sessions(writing, 0).await;
    let left: i64 =
        sqlx::query_scalar("select count(*) from events").fetch_one(&owner).await.unwrap();
    assert_eq!(left, 0, "a killed import leaves nothing");

    expect(&waybill(&["import", "--database-url", &copy, &file]), 0);
    assert_eq!(rows(&owner).await, rows(&superuser(&url).await).await);
    log.end().await;
}
