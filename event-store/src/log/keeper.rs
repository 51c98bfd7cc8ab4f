//! What has to be done for a log while it grows, off the append path.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::leaves::{Ahead, ahead};
use super::seal::{Sealing, seal_next};
use crate::consumer::chain;
use crate::metrics::LOG_AHEAD;
use crate::{Error, Store};

/// How often to look whether a segment is full.
const SEAL_EVERY: Duration = Duration::from_secs(5);
/// How often partitions are looked after, and the wait before a broken log is tried again.
const TIDY_EVERY: Duration = Duration::from_mins(10);
/// How many leaves should lie ahead of what is written to.
const AHEAD_WANTED: usize = 2;

/// How long the ledger keeps an answer where nothing else is asked for, in days.
pub const LEDGER_DAYS_DEFAULT: u16 = 30;
/// How long it keeps one at least, in days; `log_forget` insists on the same.
pub const LEDGER_DAYS_MIN: u16 = 7;

/// Looks after a log: seals full segments, drops old leaves of the ledger, and says when leaves
/// run short. Run one in every process that writes; they take turns.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    ledger_days: u16,
    tidied: Option<Instant>,
    /// Not before then, after something that will not mend by itself.
    seal_after: Option<Instant>,
    /// Whether the last round failed; then the next failure is not news.
    failing: bool,
}

impl Keeper {
    /// A keeper of `store` that drops whole leaves of the ledger when every answer in them is
    /// older than `ledger_days`; less than [`LEDGER_DAYS_MIN`] is taken for that.
    #[must_use]
    pub fn new(store: Store, ledger_days: u16) -> Self {
        let ledger_days = ledger_days.max(LEDGER_DAYS_MIN);
        Self { store, ledger_days, tidied: None, seal_after: None, failing: false }
    }

    /// Keeps the log until `drain` is cancelled. Faults are waited out.
    pub async fn run(mut self, drain: CancellationToken) {
        loop {
            // What is cut off in the middle is rolled back.
            tokio::select! {
                biased;
                () = drain.cancelled() => return,
                () = self.round() => {}
            }
            tokio::select! {
                () = drain.cancelled() => return,
                () = sleep(SEAL_EVERY) => {}
            }
        }
    }

    async fn round(&mut self) {
        let log = self.store.log().to_owned();
        match self.attempt().await {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(log, error = chain(&error), "the log is not looked after for now");
            }
            Err(_) => {}
        }
    }

    async fn attempt(&mut self) -> Result<(), Error> {
        if self.tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY_EVERY) {
            self.tidied = Some(Instant::now());
            self.forget().await?;
            self.look_ahead().await?;
        }
        if self.seal_after.is_none_or(|after| after <= Instant::now()) {
            self.seal().await?;
        }
        Ok(())
    }

    /// Seals until nothing is full. Each seal is logged, so that it is kept where the database's
    /// owner cannot change it.
    async fn seal(&mut self) -> Result<(), Error> {
        let log = self.store.log();
        loop {
            match seal_next(self.store.pool(), log).await? {
                Sealing::Waiting => return Ok(()),
                Sealing::Sealed(seal) => tracing::info!(
                    log,
                    segment = seal.number,
                    first_position = seal.first,
                    last_position = seal.last,
                    seal = hex::encode(&seal.seal),
                    "segment sealed; keep {}",
                    seal.expectation()
                ),
                Sealing::Broken(why) => {
                    self.seal_after = Some(Instant::now() + TIDY_EVERY);
                    tracing::error!(log, "the log cannot be sealed: {why}");
                    return Ok(());
                }
            }
        }
    }

    async fn forget(&self) -> Result<(), Error> {
        let forgotten: Result<Vec<String>, _> =
            sqlx::query_scalar("select log_forget(make_interval(days => $1))")
                .bind(i32::from(self.ledger_days))
                .fetch_all(self.store.pool())
                .await;
        let (log, days) = (self.store.log(), self.ledger_days);
        match forgotten {
            Ok(leaves) => {
                for leaf in leaves {
                    tracing::info!(log, leaf, "dropped: it is older than the ledger's {days} days");
                }
                Ok(())
            }
            // Somebody reads the ledger: `lock_not_available`. Another time.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => {
                tracing::info!(log, "old leaves of the ledger are in use and stay for now");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn look_ahead(&self) -> Result<(), Error> {
        let Ahead { events, commands } = ahead(self.store.pool()).await?;
        let log = self.store.log();
        for (table, ahead) in [("events", events), ("commands", commands)] {
            #[expect(clippy::cast_precision_loss, reason = "a handful")]
            metrics::gauge!(LOG_AHEAD, "table" => table).set(ahead as f64);
            if ahead == 0 {
                tracing::error!(
                    log,
                    table,
                    "no partition is ready beyond the one in use: appends will stop; see the \
                     messages of the writer, and run `waybill log partitions`"
                );
            } else if ahead < AHEAD_WANTED {
                tracing::warn!(log, table, ahead, "partitions run short");
            }
        }
        Ok(())
    }
}
