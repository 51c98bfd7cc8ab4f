//! Everything that a log is, row by row: for a file that outlives the database.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use schemas::{Position, Timestamp};
use sqlx::PgPool;
use tokio::sync::mpsc;

use super::row::{AnswerRow, EventRow, Rows};
use super::seal::{SEGMENT_POSITIONS, Seal, seals};
use super::verify::{
    Answers, CHUNKS_WAITING_MAX, Chunks, Range, TELL_EVERY, Walked, copy_answers, copy_events,
};
use crate::Error;

/// What a file says about itself before its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name of the log, where it has been sealed under one.
    pub log: Option<String>,
    /// The first position.
    pub from: Position,
    /// The last one.
    pub to: Position,
    /// Whether that was the end of the log.
    pub whole: bool,
    /// The ledger has every answer since then; none where there is no ledger.
    pub ledger_from: Option<Timestamp>,
    /// How many positions a sealed segment has.
    pub segment_positions: i64,
}

/// A row on its way out or in.
#[derive(Debug, Clone, Copy)]
pub enum Record<'a> {
    /// A seal; all of them come first.
    Seal(&'a Seal),
    /// An event, by position.
    Event(EventRow<'a>),
    /// A row of the ledger, after the event at its position.
    Answer(AnswerRow<'a>),
}

/// How many rows there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Rows of the ledger.
    pub answers: u64,
}

/// An export that can begin.
#[derive(Debug)]
pub struct Export {
    pool: PgPool,
    range: Range,
    seals: Vec<Seal>,
}

impl Export {
    /// Looks what there is from `from` to `to`; the whole log where they are not given.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn open(
        pool: &PgPool,
        from: Option<Position>,
        to: Option<Position>,
    ) -> Result<Self, Error> {
        let range = Range::find(pool, from, to).await?;
        let mut seals = seals(pool).await?;
        seals.retain(|seal| seal.last <= range.to);
        Ok(Self { pool: pool.clone(), range, seals })
    }

    /// What a file should say before the rows.
    #[must_use]
    pub fn header(&self) -> Header {
        Header {
            log: self.seals.first().map(|seal| seal.log.clone()),
            from: self.range.from,
            to: self.range.to,
            whole: self.range.is_whole(),
            ledger_from: self.range.ledger_from(),
            segment_positions: SEGMENT_POSITIONS,
        }
    }

    /// Hands `put` every row in order, on a thread of its own.
    ///
    /// # Errors
    /// [`Error::Database`], or [`Error::Config`] with what `put` could not do.
    pub async fn run(
        self,
        mut put: impl FnMut(Record<'_>) -> io::Result<()> + Send + 'static,
        mut tell: impl FnMut(Walked),
    ) -> Result<Counts, Error> {
        let Self { pool, range, seals } = self;
        let (event_sender, events) = mpsc::channel(CHUNKS_WAITING_MAX);
        let (answer_sender, answers) = mpsc::channel(CHUNKS_WAITING_MAX);
        let walked = Arc::new(AtomicI64::new(range.from - 1));
        let seen = Arc::clone(&walked);
        let writing = tokio::task::spawn_blocking(move || {
            write(&seals, Chunks::new(events), answers, &seen, &mut put)
        });
        let total = range.events();
        let done = |position: Position| u64::try_from(position - range.from + 1).unwrap_or(0);
        let telling = async {
            loop {
                tell(Walked { done: done(walked.load(Ordering::Relaxed)), total });
                tokio::time::sleep(TELL_EVERY).await;
            }
        };
        let written = async {
            tokio::try_join!(
                copy_events(&pool, &range, event_sender),
                copy_answers(&pool, &range, answer_sender)
            )?;
            let written = writing.await.map_err(|error| Error::Config(error.to_string()))?;
            written.map_err(|error| Error::Config(format!("the file cannot be written: {error}")))
        };
        let written = tokio::select! {
            written = written => written?,
            () = telling => return Err(Error::Config("progress has no end".to_owned())),
        };
        tell(Walked { done: total, total });
        Ok(written)
    }
}

/// The thread that writes: seals, then events with the answers between them.
fn write(
    seals: &[Seal],
    mut events: Chunks,
    answers: mpsc::Receiver<Vec<u8>>,
    walked: &AtomicI64,
    put: &mut impl FnMut(Record<'_>) -> io::Result<()>,
) -> io::Result<Counts> {
    for seal in seals {
        put(Record::Seal(seal))?;
    }
    let malformed =
        || io::Error::other("a row of the log cannot be read; run `waybill log verify`");
    let mut counts = Counts::default();
    let mut answers = Answers::new(answers);
    let mut answered = |put: &mut dyn FnMut(Record<'_>) -> io::Result<()>, position| {
        let mut failed = Ok(());
        let readable = answers.up_to(position, |row| {
            counts.answers += 1;
            if failed.is_ok() {
                failed = put(Record::Answer(*row));
            }
        });
        if readable { failed } else { Err(malformed()) }
    };
    let mut written = 0;
    while let Some(chunk) = events.next() {
        let mut rows = Rows::new(&chunk);
        while !rows.is_done() {
            let (event, _) = rows.event().map_err(|_| malformed())?;
            answered(put, event.position - 1)?;
            put(Record::Event(event))?;
            written += 1;
            walked.store(event.position, Ordering::Relaxed);
        }
    }
    answered(put, Position::MAX)?;
    counts.events = written;
    Ok(counts)
}
