//! The log as something that is kept for decades.

mod files;
mod partitions;
mod roles;
mod seals;
mod verify;

use event_store::Store;
use event_store::log::SEGMENT_POSITIONS;
use sqlx::{AssertSqlSafe, PgPool};

use super::{Log, append, order, superuser};

/// Events that a test writes with one command.
const COMMAND_EVENTS: usize = 512;

/// A log whose leaves of `events` hold one segment each, and its database.
async fn small() -> (String, Log) {
    let url = crate::services::database().await;
    Store::migrate(&url).await.unwrap();
    let owner = superuser(&url).await;
    // Positions are counted from 1, so the first leaf ends with the first segment.
    run(&owner, "drop table events_00000, events_00001, events_00002").await;
    let size = format!("update log_settings set leaf_positions = {}", SEGMENT_POSITIONS + 1);
    run(&owner, &size).await;
    run(&owner, "select log_ahead()").await;
    let log = Log::open(&url).await;
    (url, log)
}

/// Appends as many events as `segments` segments have, to a stream for each command.
async fn fill(log: &Log, segments: usize) {
    let commands = segments * usize::try_from(SEGMENT_POSITIONS).unwrap() / COMMAND_EVENTS;
    for _ in 0..commands {
        log.store.append(append(&[(order(), 0)], COMMAND_EVENTS)).await.unwrap();
    }
}

async fn run(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
}
