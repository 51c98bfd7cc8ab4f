//! The event store as a library: the program that others start from.

use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// The longest example that somebody reads to its end, in lines.
const LINES_MAX: usize = 60;

#[tokio::test]
async fn an_example_of_at_most_60_lines_keeps_events_of_its_own_on_postgres_alone() {
    let example = include_str!("../../../event-store/examples/theatre.rs");
    assert!(example.lines().count() <= LINES_MAX, "{} lines", example.lines().count());

    let run = Command::new(env!("CARGO_BIN_EXE_theatre"))
        .env("DATABASE_URL", crate::services::database().await)
        .kill_on_drop(true)
        .output();
    let run = timeout(Duration::from_mins(1), run).await.expect("it ends by itself").unwrap();
    let (printed, complaints) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{complaints}");
    assert_eq!(
        printed.lines().collect::<Vec<_>>(),
        [r#"Some(Sold { guest: "Ada" })"#, r#"Some(Sold { guest: "Grace" })"#, "sold out"],
        "{complaints}"
    );
}
