//! Walks the log in Postgres and holds it against everything that is known about it.
//!
//! Events and ledger are copied out on a connection each, in the order of positions, and checked
//! on a thread of their own; what is in tables without order is asked for in sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use schemas::{Position, Timestamp, Version};
use sqlx::{PgConnection, PgPool};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::audit::{Audit, Scope};
use super::canon;
use super::report::{Kind, Report};
use super::row::{AnswerRow, Rows, to_micros};
use super::seal::seals;
use super::streams;
use crate::Error;

/// How many positions one statement copies out, so that no snapshot stays open for long.
const COPY_POSITIONS: i64 = 64 * 4096;
/// How much is gathered before it is handed to the thread that checks, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;
/// How many such chunks may wait.
pub(super) const CHUNKS_WAITING_MAX: usize = 16;
/// How often progress is told.
pub(super) const TELL_EVERY: Duration = Duration::from_millis(200);
/// What sorting a leaf of the ledger may use in memory before it uses the disk.
const SETTINGS: &str = "set work_mem = '256MB'; set jit = off; set synchronize_seqscans = off";

/// The columns of the ledger, in the order in which they are copied.
pub(super) const ANSWER_COLUMNS: &str = "command_id, request_hash, stream_id, version, position, \
     recorded_at, refusal_code, refusal_detail";

/// What to verify.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The first position; the beginning where it is not given.
    pub from: Option<Position>,
    /// The last one; the head of the log where it is not given.
    pub to: Option<Position>,
    /// Seals that were kept elsewhere: number and bytes.
    pub expected: Vec<(i64, [u8; 32])>,
}

/// How far a walk has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Events seen.
    pub done: u64,
    /// Events there are.
    pub total: u64,
}

/// A range of the log, and what belongs to it.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) from: Position,
    pub(super) to: Position,
    pub(super) head: Position,
    /// From when to when each leaf of the ledger is, oldest first. They are read through their
    /// parent, since only that is granted to whoever serves.
    pub(super) ledger: Vec<(Timestamp, Timestamp)>,
}

impl Range {
    /// What is asked for, cut to what there is.
    pub(super) async fn find(
        pool: &PgPool,
        from: Option<Position>,
        to: Option<Position>,
    ) -> Result<Self, Error> {
        let head: Option<Position> =
            sqlx::query_scalar("select position from events order by position desc limit 1")
                .fetch_optional(pool)
                .await?;
        let head = head.unwrap_or(0);
        let ledger = sqlx::query_as(
            "select from_time, before_time from log_leaves where parent = 'commands' \
             order by from_time",
        );
        let ledger = ledger.fetch_all(pool).await?;
        Ok(Self { from: from.unwrap_or(1).max(1), to: to.unwrap_or(head).min(head), head, ledger })
    }

    /// The ledger has every answer since then.
    pub(super) fn ledger_from(&self) -> Option<Timestamp> {
        self.ledger.first().map(|(from, _)| *from)
    }

    /// Whether it goes to the end of the log.
    pub(super) fn is_whole(&self) -> bool {
        self.to >= self.head
    }

    /// How many events it has.
    pub(super) fn events(&self) -> u64 {
        u64::try_from(self.to - self.from + 1).unwrap_or(0)
    }
}

/// Walks a range of the log and reports every violation. Needs to read `events`, `streams`,
/// `commands` and `segments`; appends may go on meanwhile.
///
/// Memory grows with the number of streams in the range, by about a hundred bytes each.
///
/// # Errors
/// [`Error::Database`] where the walk could not be finished; what was found is lost.
pub async fn verify(
    pool: &PgPool,
    wanted: Wanted,
    tell: impl FnMut(Walked),
) -> Result<Report, Error> {
    // Large, and awaited by many.
    Box::pin(walk(pool, wanted, tell)).await
}

async fn walk(
    pool: &PgPool,
    wanted: Wanted,
    mut tell: impl FnMut(Walked),
) -> Result<Report, Error> {
    // Seals first: whatever they seal is in the log by then.
    let seals = seals(pool).await?;
    let range = Range::find(pool, wanted.from, wanted.to).await?;
    let scope = Scope {
        from: range.from,
        to: range.to,
        whole: range.is_whole(),
        ledger_from: range.ledger_from().map(to_micros),
        seals,
        expected: wanted.expected,
    };
    let mut audit = Audit::new(scope);
    audit.sealed_beyond(range.head);

    let (event_sender, events) = mpsc::channel(CHUNKS_WAITING_MAX);
    let (answer_sender, answers) = mpsc::channel(CHUNKS_WAITING_MAX);
    let walked = Arc::new(AtomicI64::new(range.from - 1));
    let seen = Arc::clone(&walked);
    let checking =
        tokio::task::spawn_blocking(move || check(audit, Chunks::new(events), answers, &seen));
    let total = range.events();
    let telling = async {
        loop {
            let done = walked.load(Ordering::Relaxed) - range.from + 1;
            tell(Walked { done: u64::try_from(done).unwrap_or(0), total });
            tokio::time::sleep(TELL_EVERY).await;
        }
    };
    let reading = async {
        tokio::try_join!(
            copy_events(pool, &range, event_sender),
            copy_answers(pool, &range, answer_sender)
        )?;
        Ok::<_, sqlx::Error>(())
    };
    let checked = async {
        reading.await?;
        checking.await.map_err(|error| Error::Config(format!("the check ended: {error}")))
    };
    let mut audit = tokio::select! {
        checked = checked => checked?,
        () = telling => return Err(Error::Config("progress has no end".to_owned())),
    };
    tell(Walked { done: total, total });
    audit.end();
    beyond_the_head(pool, &range, &mut audit).await?;
    streams::check(pool, &range, &mut audit).await?;
    Ok(audit.report())
}

/// Copies the events of a range out, chunk by chunk.
pub(super) async fn copy_events(
    pool: &PgPool,
    range: &Range,
    chunks: mpsc::Sender<Vec<u8>>,
) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    sqlx::raw_sql(SETTINGS).execute(&mut *connection).await?;
    let mut first = range.from;
    while first <= range.to {
        let last = range.to.min(first + COPY_POSITIONS - 1);
        copy_out(&mut connection, &canon::copy_events(first, last), &chunks).await?;
        first = last + 1;
    }
    Ok(())
}

/// Copies the ledger's rows of a range out, by position: leaf by leaf, since answers that are
/// later in time are later in the log.
pub(super) async fn copy_answers(
    pool: &PgPool,
    range: &Range,
    chunks: mpsc::Sender<Vec<u8>>,
) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    sqlx::raw_sql(SETTINGS).execute(&mut *connection).await?;
    // What was answered before the first event stands at position 0.
    let from = if range.from <= 1 { 0 } else { range.from };
    for (start, end) in &range.ledger {
        let (start, end) = (start.to_rfc3339(), end.to_rfc3339());
        let statement = format!(
            "copy (select {ANSWER_COLUMNS} from commands \
             where recorded_at >= '{start}' and recorded_at < '{end}' \
             and position between {from} and {} order by position) to stdout (format binary)",
            range.to
        );
        copy_out(&mut connection, &statement, &chunks).await?;
    }
    Ok(())
}

/// Runs a copy and hands on what comes: whole rows, without header and trailer.
pub(super) async fn copy_out(
    connection: &mut PgConnection,
    statement: &str,
    chunks: &mpsc::Sender<Vec<u8>>,
) -> Result<(), sqlx::Error> {
    let mut copy = connection.copy_out_raw(statement).await?;
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
    while let Some(message) = copy.try_next().await? {
        let rows = message.strip_prefix(canon::COPY_HEADER).unwrap_or(&message);
        if rows == canon::COPY_TRAILER {
            continue;
        }
        chunk.extend_from_slice(rows);
        if chunk.len() >= CHUNK_BYTES {
            let next = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
            // Whoever does not listen any more will say why.
            if chunks.send(std::mem::replace(&mut chunk, next)).await.is_err() {
                return Ok(());
            }
        }
    }
    let _ = chunks.send(chunk).await;
    Ok(())
}

/// Chunks of rows, one at a time.
#[derive(Debug)]
pub(super) struct Chunks {
    chunks: mpsc::Receiver<Vec<u8>>,
}

impl Chunks {
    pub(super) fn new(chunks: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { chunks }
    }

    /// The next chunk that is not empty; for threads that may block.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let chunk = self.chunks.blocking_recv()?;
            if !chunk.is_empty() {
                return Some(chunk);
            }
        }
    }
}

/// Rows of the ledger, looked at before they are taken.
#[derive(Debug)]
pub(super) struct Answers {
    chunks: Chunks,
    chunk: Vec<u8>,
    taken: usize,
}

impl Answers {
    pub(super) fn new(chunks: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { chunks: Chunks::new(chunks), chunk: Vec::new(), taken: 0 }
    }

    /// Hands `take` every row at or before `position`. False where a row cannot be read: then the
    /// rest of its chunk is left out.
    pub(super) fn up_to(
        &mut self,
        position: Position,
        mut take: impl FnMut(&AnswerRow<'_>),
    ) -> bool {
        loop {
            if self.taken == self.chunk.len() {
                let Some(chunk) = self.chunks.next() else { return true };
                (self.chunk, self.taken) = (chunk, 0);
            }
            let mut rows = Rows::new(&self.chunk[self.taken..]);
            let before = rows.left();
            match rows.answer() {
                Ok(row) if row.position > position => return true,
                Ok(row) => take(&row),
                Err(_) => {
                    self.taken = self.chunk.len();
                    return false;
                }
            }
            self.taken += before - rows.left();
        }
    }
}

/// The thread that checks.
fn check(
    mut audit: Audit,
    mut events: Chunks,
    answers: mpsc::Receiver<Vec<u8>>,
    walked: &AtomicI64,
) -> Audit {
    let mut answers = Answers::new(answers);
    while let Some(chunk) = events.next() {
        let mut rows = Rows::new(&chunk);
        while !rows.is_done() {
            let Ok((event, bytes)) = rows.event() else {
                audit.malformed("an event");
                break;
            };
            if !answers.up_to(event.position - 1, |row| audit.answer(row)) {
                audit.malformed("a row of the ledger");
            }
            audit.event(&event, bytes);
        }
        walked.store(audit.position(), Ordering::Relaxed);
    }
    if !answers.up_to(Position::MAX, |row| audit.answer(row)) {
        audit.malformed("a row of the ledger");
    }
    audit
}

/// Where the whole log was asked for, nothing claims to be beyond its end.
async fn beyond_the_head(pool: &PgPool, range: &Range, audit: &mut Audit) -> Result<(), Error> {
    if !range.is_whole() {
        return Ok(());
    }
    let most = i64::try_from(super::report::VIOLATIONS_MAX).unwrap_or(i64::MAX);
    for (start, end) in &range.ledger {
        // One statement sees the log and its ledger as they are at one moment.
        let claims: Vec<(Uuid, Uuid, Version, Position)> = sqlx::query_as(
            "select command_id, stream_id, version, position from commands \
             where recorded_at >= $1 and recorded_at < $2 and position > \
                 coalesce((select position from events order by position desc limit 1), 0) \
             order by position limit $3",
        )
        .bind(start)
        .bind(end)
        .bind(most)
        .fetch_all(pool)
        .await?;
        for (command, stream, version, position) in claims {
            audit.violations.add(Kind::Ledger, Some(position), Some(stream), || {
                format!(
                    "the ledger says that command {command} left the stream at version {version} \
                     here, beyond the end of the log"
                )
            });
        }
    }
    Ok(())
}
