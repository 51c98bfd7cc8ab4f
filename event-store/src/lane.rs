//! A connection that writes: one batch at a time, until everybody in it is answered.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use schemas::Position;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::batch::{Answers, Round, judge};
use crate::request::Request;
use crate::statement::{self, Outcome, Tip};
use crate::ticket::Fate;
use crate::{AppendError, Error};

/// How long a batch is sent again before its callers are told to come back.
const GIVE_UP_AFTER: Duration = Duration::from_secs(15);
/// How long one statement may take before its connection is given up.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(30);
/// The wait before the second attempt; it doubles from there.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(20);
/// The longest wait between two attempts.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);

/// What every lane of a writer has.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connect: PgConnectOptions,
    pub(crate) head: watch::Sender<Position>,
}

/// One of the writer's connections. Batches of several lanes are on their way at once; Postgres
/// takes one after the other, and they share no stream and no command.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Which of the writer's lanes, from 0.
    pub(crate) number: usize,
    link: Arc<Link>,
    session: Option<Session>,
    /// Whether the last batch was given up: then nobody else waits as long until one comes through.
    away: bool,
}

/// A connection that appends.
#[derive(Debug)]
struct Session {
    connection: PgConnection,
    /// Where the log ended, as far as it knows. It is forgotten with the connection: the next may
    /// be to another server, which was put in this one's place and has less.
    tip: Option<Tip>,
}

/// Why a round did not come through.
enum Failure {
    /// The connection broke, or the server cannot work right now: the outcome may be unknown.
    Lost(sqlx::Error),
    /// A row has no partition to go to.
    NoPartition(sqlx::Error),
    /// Something in the round is not to Postgres's liking.
    Refused(sqlx::Error),
}

impl Lane {
    pub(crate) fn new(number: usize, link: Arc<Link>) -> Self {
        Self { number, link, session: None, away: false }
    }

    /// Writes a batch, and answers everybody in it.
    pub(crate) async fn write(&mut self, batch: Vec<Request>) {
        // A part that Postgres refuses is halved until the culprit stands alone; the first part
        // is on top.
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            if let Some((first, second)) = self.write_part(part).await {
                parts.push(second);
                parts.push(first);
            }
        }
    }

    /// Answers everybody in `waiting`, or gives them back in two halves.
    async fn write_part(
        &mut self,
        mut waiting: Vec<Request>,
    ) -> Option<(Vec<Request>, Vec<Request>)> {
        let give_up = Instant::now() + if self.away { Duration::ZERO } else { GIVE_UP_AFTER };
        let mut delay = RETRY_DELAY_MIN;
        let (mut alone, mut resent) = (false, false);
        loop {
            waiting = without_orphans(waiting);
            if waiting.is_empty() {
                return None;
            }
            let round = Round::compose(&waiting, alone);
            match self.send(&waiting, &round).await {
                Ok(Outcome::Written { head }) => {
                    self.announce(head + round.included.last().map_or(0, |(_, events)| *events));
                    let answers = round.finish(&waiting, head);
                    waiting = settle(waiting, answers, resent);
                    alone = false;
                }
                Ok(Outcome::Stale(facts)) => {
                    let before = waiting.len();
                    let answers = judge(&waiting, &facts);
                    waiting = settle(waiting, answers, resent);
                    // Nobody was answered: the first one alone is either written or answered.
                    alone = waiting.len() == before;
                }
                Err(Failure::Lost(error)) if Instant::now() < give_up => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "append will be sent again"
                    );
                    resent = true;
                    sleep(delay).await;
                    delay = (delay * 2).min(RETRY_DELAY_MAX);
                }
                Err(Failure::NoPartition(_)) if Instant::now() < give_up => {
                    self.make_partitions().await;
                    sleep(delay).await;
                    delay = (delay * 2).min(RETRY_DELAY_MAX);
                }
                Err(Failure::Refused(error)) if waiting.len() == 1 => {
                    fail(waiting, || AppendError::Invalid(error.to_string()));
                    return None;
                }
                Err(Failure::Refused(_)) => {
                    let second = waiting.split_off(waiting.len() / 2);
                    return Some((waiting, second));
                }
                Err(Failure::Lost(error) | Failure::NoPartition(error)) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "append given up");
                    self.away = true;
                    let why = error.to_string();
                    fail(waiting, || {
                        let error = Error::Database(sqlx::Error::Protocol(why.clone()));
                        AppendError::Unavailable(Box::new(error))
                    });
                    return None;
                }
            }
        }
    }

    /// One round trip. A connection on which anything went wrong but a refusal is dropped.
    async fn send(&mut self, waiting: &[Request], round: &Round) -> Result<Outcome, Failure> {
        let hint = *self.link.head.borrow();
        let mut session = self.session().await.map_err(Failure::Lost)?;
        let sent = async {
            let Session { connection, tip } = &mut session;
            *tip = statement::append_one(connection, hint, tip.take(), waiting).await?;
            match tip {
                Some(tip) => Ok(Outcome::Written { head: tip.position - 1 }),
                None => statement::append(connection, hint, waiting, round).await,
            }
        };
        let sent = match timeout(STATEMENT_TIME_MAX, sent).await {
            Ok(sent) => sent.map_err(Failure::from),
            Err(_) => Err(Failure::Lost(sqlx::Error::PoolTimedOut)),
        };
        if !matches!(sent, Err(Failure::Lost(_))) {
            self.session = Some(session);
            self.away = false;
        }
        sent
    }

    async fn session(&mut self) -> Result<Session, sqlx::Error> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => Session::open(&self.link.connect).await,
        }
    }

    /// Tells the readers that the log has grown, unless they know.
    fn announce(&self, head: Position) {
        self.link.head.send_if_modified(|known| {
            let grown = head > *known;
            *known = head.max(*known);
            grown
        });
    }

    /// Has the partitions made that the next appends need.
    pub(crate) async fn make_partitions(&mut self) {
        let made = async {
            let mut session = self.session().await?;
            sqlx::query("select log_ahead()").execute(&mut session.connection).await?;
            self.session = Some(session);
            Ok::<_, sqlx::Error>(())
        };
        if let Ok(Err(error)) = timeout(STATEMENT_TIME_MAX, made).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "no partitions made ahead");
        }
    }
}

impl Session {
    /// Connects: the same few statements for ever, so they are planned once, by index whatever the
    /// tables' statistics say while these are young, and never compiled.
    async fn open(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        let options = options.clone().application_name("waybill writer").options([
            ("jit", "off"),
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("statement_timeout", "20s"),
        ]);
        let mut connection = timeout(STATEMENT_TIME_MAX, options.connect())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)??;
        sqlx::query("set role waybill_write").execute(&mut connection).await?;
        Ok(Self { connection, tip: None })
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let Some(refusal) = error.as_database_error() else {
            return match error {
                sqlx::Error::Encode(_) => Self::Refused(error),
                _ => Self::Lost(error),
            };
        };
        let code = refusal.code().unwrap_or_default();
        match (code.as_ref(), code.get(..2).unwrap_or_default()) {
            // A row that no partition takes is a check that fails as well, but one without a name.
            ("23514", _) if refusal.constraint().is_none() => Self::NoPartition(error),
            // Data that does not fit, rows that break a constraint, what a trigger raises by itself,
            // and what is more than Postgres can work on.
            (_, "22" | "23" | "P0" | "54") => Self::Refused(error),
            _ => Self::Lost(error),
        }
    }
}

/// Answers those whose foundation has failed. They decided on events that are not in the log.
fn without_orphans(mut waiting: Vec<Request>) -> Vec<Request> {
    loop {
        if waiting.iter().all(|request| request.after.is_empty()) {
            return waiting;
        }
        let tickets: HashSet<_> = waiting.iter().map(|request| request.ticket.id()).collect();
        let lost = waiting.iter().map(|request| {
            let lost = request.after.iter().any(|ticket| match ticket.fate() {
                Fate::Written => false,
                Fate::Failed => true,
                Fate::Pending => !tickets.contains(&ticket.id()),
            });
            let stream = request.bases().next().filter(|_| lost);
            stream.map(|(stream, current)| Err(AppendError::Conflict { stream, current }))
        });
        let answers: Answers = lost.collect();
        if answers.iter().all(Option::is_none) {
            return waiting;
        }
        waiting = settle(waiting, answers, false);
    }
}

/// Hands out answers and keeps those who have none yet. What was answered to our own earlier
/// attempt (`resent`) is not called a replay.
fn settle(waiting: Vec<Request>, answers: Answers, resent: bool) -> Vec<Request> {
    let mut left = Vec::new();
    for (request, answer) in waiting.into_iter().zip(answers) {
        let Some(mut answer) = answer else {
            left.push(request);
            continue;
        };
        request.ticket.settle(matches!(&answer, Ok(done) if !done.replayed));
        if let Ok(done) = &mut answer {
            // A refusal that finds the command done was refused too late: that is a replay.
            done.replayed &= !resent || request.append.refused.is_some();
        }
        // Whoever asked may have gone; the log does not mind.
        let _ = request.reply.send(answer);
    }
    left
}

fn fail(waiting: Vec<Request>, error: impl Fn() -> AppendError) {
    let answers = waiting.iter().map(|_| Some(Err(error()))).collect();
    settle(waiting, answers, false);
}
