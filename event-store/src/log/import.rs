//! Fills an empty log with what was exported from another, in one transaction: all of it is
//! there, or nothing is.

use schemas::Position;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use super::audit::{Audit, Scope};
use super::canon::{COLUMNS, COPY_HEADER, COPY_TRAILER};
use super::export::{Counts, Header, Record};
use super::report::{Kind, Report};
use super::row::{copy_stream, from_micros, to_micros};
use super::seal::{SEGMENT_POSITIONS, Seal};
use super::verify::ANSWER_COLUMNS;
use crate::Error;

/// The lock that appends hold, so that nobody appends meanwhile.
const APPEND_LOCK: i64 = 24_560_174_593_821_772;
/// How much is gathered before it is copied in, in bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// A week of the ledger, in microseconds.
const WEEK_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;

/// The most weeks of the ledger that one batch makes leaves for: a century.
const WEEKS_MAX: i64 = 5_218;

/// Rows of a file, checked as they come, and put together for Postgres.
#[derive(Debug)]
pub struct Intake {
    header: Header,
    seals: Vec<Seal>,
    audit: Option<Audit>,
    events: Vec<u8>,
    answers: Vec<u8>,
    canonical: Vec<u8>,
    last: Position,
    /// The first and the last time of an answer in the batch.
    answered: Option<(i64, i64)>,
    counts: Counts,
    /// Whether rows are kept for Postgres, or only checked.
    keep: bool,
    expected: Vec<(i64, [u8; 32])>,
}

/// Rows that are ready for Postgres.
#[derive(Debug, Default)]
pub struct Batch {
    events: Vec<u8>,
    answers: Vec<u8>,
    last: Position,
    answered: Option<(i64, i64)>,
}

/// What came of a file: its report, and what an import still needs.
#[derive(Debug)]
pub struct Taken {
    /// What holds and what does not.
    pub report: Report,
    /// The rows that are left.
    pub batch: Batch,
    /// Rows of `streams`, as Postgres copies them.
    streams: Vec<u8>,
    seals: Vec<Seal>,
}

impl Intake {
    /// For a file that says this about itself; `keep` where its rows go on to Postgres.
    #[must_use]
    pub fn new(header: Header, keep: bool, expected: Vec<(i64, [u8; 32])>) -> Self {
        Self {
            last: header.from - 1,
            header,
            seals: Vec::new(),
            audit: None,
            events: Vec::new(),
            answers: Vec::new(),
            canonical: Vec::new(),
            answered: None,
            counts: Counts::default(),
            keep,
            expected,
        }
    }

    /// How many events have been taken, of how many.
    #[must_use]
    pub fn walked(&self) -> super::Walked {
        let total = u64::try_from(self.header.to - self.header.from + 1).unwrap_or(0);
        super::Walked { done: self.counts.events, total }
    }

    /// Takes a row; gives a batch when one is full.
    pub fn take(&mut self, record: Record<'_>) -> Option<Batch> {
        match record {
            Record::Seal(seal) => {
                self.seals.push(seal.clone());
                return None;
            }
            Record::Event(event) => {
                self.canonical.clear();
                event.copy_to(&mut self.canonical);
                let canonical = std::mem::take(&mut self.canonical);
                self.audit().event(&event, &canonical);
                if self.keep {
                    self.events.extend_from_slice(&canonical);
                }
                self.canonical = canonical;
                self.last = event.position;
                self.counts.events += 1;
            }
            Record::Answer(row) => {
                self.audit().answer(&row);
                if self.keep {
                    row.copy_to(&mut self.answers);
                    let at = row.recorded_at;
                    let (first, last) = self.answered.unwrap_or((at, at));
                    self.answered = Some((first.min(at), last.max(at)));
                }
                self.counts.answers += 1;
            }
        }
        (self.events.len() + self.answers.len() >= BATCH_BYTES).then(|| self.batch())
    }

    /// Whether everything held so far.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.audit.as_ref().is_none_or(|audit| audit.violations.total() == 0)
    }

    fn batch(&mut self) -> Batch {
        Batch {
            events: std::mem::take(&mut self.events),
            answers: std::mem::take(&mut self.answers),
            last: self.last,
            answered: self.answered.take(),
        }
    }

    /// The audit starts with the first row that is not a seal.
    fn audit(&mut self) -> &mut Audit {
        let (header, seals, expected) = (&self.header, &self.seals, &self.expected);
        self.audit.get_or_insert_with(|| {
            let mut audit = Audit::new(Scope {
                from: header.from,
                to: header.to,
                whole: header.whole,
                ledger_from: header.ledger_from.map(to_micros),
                seals: seals.clone(),
                expected: expected.clone(),
            });
            if header.segment_positions != SEGMENT_POSITIONS {
                audit.violations.add(Kind::Form, None, None, || {
                    format!(
                        "its segments have {} positions, and this program knows {SEGMENT_POSITIONS}",
                        header.segment_positions
                    )
                });
            }
            audit.sealed_beyond(header.to);
            audit
        })
    }

    /// The file has ended; with what it says it holds, or without an end.
    #[must_use]
    pub fn finish(mut self, said: Option<Counts>) -> Taken {
        let (counts, last) = (self.counts, self.last);
        let audit = self.audit();
        if said != Some(counts) {
            audit.violations.add(Kind::Form, Some(last), None, || match said {
                None => "the file has no end: it was cut short".to_owned(),
                Some(said) => format!("the file should hold {said:?} and holds {counts:?}"),
            });
        }
        audit.end();
        let mut streams = Vec::new();
        if self.keep {
            let audit = self.audit();
            for (id, seen) in &audit.streams {
                let category = audit.category(seen);
                copy_stream(&mut streams, (*id, category, seen.version, seen.first, seen.last));
            }
        }
        let batch = self.batch();
        self.audit();
        let seals = self.seals;
        let report = self.audit.map(Audit::report).unwrap_or_default();
        Taken { report, batch, streams, seals }
    }
}

/// An import that has begun. Dropped before [`Import::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Import {
    owner: PgConnection,
    leaf_positions: i64,
    next_leaf: i64,
}

impl Import {
    /// Makes sure that the log is empty, and keeps everybody else from appending.
    ///
    /// # Errors
    /// [`Error::Config`] where the log is not empty, or the user does not own it;
    /// [`Error::Database`].
    pub async fn begin(owner_url: &str) -> Result<Self, Error> {
        let options: PgConnectOptions = owner_url.parse()?;
        let mut owner = options.application_name("waybill import").connect().await?;
        sqlx::raw_sql("begin").execute(&mut owner).await?;
        sqlx::query("select pg_advisory_xact_lock($1)")
            .bind(APPEND_LOCK)
            .execute(&mut owner)
            .await?;
        let (owns, empty, leaf_positions): (bool, bool, i64) = sqlx::query_as(
            "select pg_has_role(relowner, 'member'), \
                 not exists (select from events) and not exists (select from commands) \
                 and not exists (select from streams) and not exists (select from segments), \
                 leaf_positions \
             from pg_class, log_settings where oid = 'events'::regclass",
        )
        .fetch_one(&mut owner)
        .await?;
        if !owns {
            return Err(Error::Config(
                "only the owner of the log may import: give the URL that `waybill migrate` is given"
                    .to_owned(),
            ));
        }
        if !empty {
            return Err(Error::Config(
                "the log is not empty, and an import keeps positions as they are: import into a \
                 database that has just been migrated"
                    .to_owned(),
            ));
        }
        Ok(Self { owner, leaf_positions, next_leaf: 0 })
    }

    /// Writes a batch, into partitions that are made for it.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn write(&mut self, batch: Batch) -> Result<(), Error> {
        while self.next_leaf <= batch.last / self.leaf_positions {
            sqlx::query("select log_make_events_leaf($1)")
                .bind(self.next_leaf)
                .execute(&mut self.owner)
                .await?;
            self.next_leaf += 1;
        }
        if let Some((first, last)) = batch.answered {
            if last.saturating_sub(first) / WEEK_MICROS > WEEKS_MAX {
                return Err(Error::Config(
                    "the times of the ledger are more than a century apart".to_owned(),
                ));
            }
            let mut week = first;
            // The last step may overshoot, but not by a week.
            while week < last.saturating_add(WEEK_MICROS) {
                let moment = from_micros(week.min(last));
                sqlx::query("select log_make_commands_leaf($1)")
                    .bind(moment)
                    .execute(&mut self.owner)
                    .await?;
                week += WEEK_MICROS;
            }
        }
        self.copy(&format!("events ({COLUMNS})"), &batch.events).await?;
        self.copy(&format!("commands ({ANSWER_COLUMNS})"), &batch.answers).await
    }

    async fn copy(&mut self, into: &str, rows: &[u8]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let statement = format!("copy {into} from stdin with (format binary)");
        let mut copy = self.owner.copy_in_raw(&statement).await?;
        copy.send(COPY_HEADER).await?;
        for part in rows.chunks(BATCH_BYTES) {
            copy.send(part).await?;
        }
        copy.send(COPY_TRAILER).await?;
        copy.finish().await?;
        Ok(())
    }

    /// Writes what is left and makes it all visible.
    ///
    /// # Errors
    /// [`Error::Config`] where the file does not hold what it should, or does not begin at the
    /// beginning: then nothing is written. [`Error::Database`].
    pub async fn commit(mut self, taken: Taken) -> Result<(), Error> {
        if !taken.report.is_clean() {
            return Err(Error::Config("the file does not hold what it should".to_owned()));
        }
        if taken.report.from > 1 {
            return Err(Error::Config(format!(
                "the file begins at position {}: a log is imported from its first position",
                taken.report.from
            )));
        }
        self.write(taken.batch).await?;
        self.copy(
            "streams (stream_id, category, version, first_position, last_position)",
            &taken.streams,
        )
        .await?;
        for seal in taken.seals {
            sqlx::query(
                "insert into segments (number, first_position, last_position, log, seal, sealed_at) \
                 values ($1, $2, $3, $4, $5, $6)",
            )
            .bind(seal.number)
            .bind(seal.first)
            .bind(seal.last)
            .bind(seal.log)
            .bind(seal.seal)
            .bind(seal.sealed_at)
            .execute(&mut self.owner)
            .await?;
        }
        sqlx::raw_sql("select log_ahead()").execute(&mut self.owner).await?;
        sqlx::raw_sql("commit").execute(&mut self.owner).await?;
        sqlx::raw_sql("analyze events, commands, streams, segments")
            .execute(&mut self.owner)
            .await?;
        Ok(())
    }
}
