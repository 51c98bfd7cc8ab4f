//! Publishes the log to JetStream, in order, one leader at a time.
//!
//! There is no table of what was published: the last message in the stream says it.

mod publish;

use std::convert::Infallible;
use std::time::Duration;

use schemas::Position;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::consumer::{Backoff, chain};
use crate::feed::wake;
use crate::feed::wire::{self, Raw};
use crate::{Error, Store};
use publish::{Last, PublishError, Publisher};

/// Events that are read and sent together. JetStream is asked for its word on them while the next
/// are sent, so twice as many wait for it at most.
const BATCH_EVENTS_MAX: usize = 256;

/// Events before the head that a new stream starts with.
const START_EVENTS_MAX: i64 = 1_000;

/// How often those who do not lead try to.
const STANDBY_EVERY: Duration = Duration::from_millis(500);

/// How often the log is read while nobody says that it has grown.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// How often an idle leader looks whether its stream is still there.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// How long one read of the log may take.
const READ_WAIT_MAX: Duration = Duration::from_secs(10);

/// May do no more than it must, and loses the lock within 15 s when it is cut off.
const ON_CONNECT: &str = "set role waybill_write;
    set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 5;
    set tcp_user_timeout = 15000";

/// The oldest NATS server that does what we ask of it: older ones answer OK and drop the fields
/// that they do not know.
const SERVER_MIN: (u64, u64) = (2, 10);

/// The relay of one log.
#[derive(Debug)]
pub struct Relay {
    store: Store,
    nats: async_nats::Client,
    /// How far it has come; none while it does not lead.
    published: watch::Sender<Option<Position>>,
}

/// Why somebody stops leading, or cannot start to.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("Postgres is away")]
    Database(#[from] sqlx::Error),
    #[error("Postgres does not answer")]
    TooSlow,
    #[error("NATS is not connected")]
    NotConnected,
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("nats-server {found} is too old: {}.{} or newer is needed", SERVER_MIN.0, SERVER_MIN.1)]
    TooOld { found: String },
}

impl Relay {
    /// A relay that waits to lead.
    #[must_use]
    pub fn new(store: Store, nats: async_nats::Client) -> Self {
        Self { store, nats, published: watch::Sender::new(None) }
    }

    /// How far it has come; none while it does not lead.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<Option<Position>> {
        self.published.subscribe()
    }

    /// Leads when it can and publishes until `drain` is cancelled. Faults of Postgres and NATS
    /// are waited out.
    ///
    /// # Errors
    /// [`Error::Config`] only: something that waiting does not mend.
    pub async fn run(self, drain: CancellationToken) -> Result<(), Error> {
        let mut faults = Backoff::default();
        loop {
            let lost = tokio::select! {
                biased;
                () = drain.cancelled() => return Ok(()),
                lost = self.lead(&mut faults) => lost,
            };
            self.published.send_replace(None);
            let log = self.store.log();
            match lost {
                Ok(never) => match never {},
                Err(lost @ Lost::TooOld { .. }) => return Err(Error::Config(lost.to_string())),
                Err(lost) if faults.failed() => {
                    tracing::warn!(log, error = chain(&lost), "the relay waits");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = drain.cancelled() => return Ok(()),
                () = sleep(faults.delay()) => {}
            }
        }
    }

    /// Waits for leadership and leads until something fails.
    async fn lead(&self, faults: &mut Backoff) -> Result<Infallible, Lost> {
        check_server(&self.nats)?;
        let log = self.store.log();
        let mut pokes = wake::pokes(&self.nats, log).await;
        let mut grown = self.store.head_watch();
        let mut leader = Leader {
            log,
            connection: self.take_lock().await?,
            publisher: Publisher::new(&self.nats, log),
            last: 0,
            sent: 0,
            ahead: Vec::new(),
            checked: Instant::now(),
        };
        leader.open().await?;
        tracing::info!(log, position = leader.last, "the relay leads");
        loop {
            let more = leader.publish().await?;
            self.published.send_if_modified(|known| known.replace(leader.last) != *known);
            if faults.recovered() {
                tracing::info!(log, position = leader.last, "the relay goes on");
            }
            if more {
                continue;
            }
            let last = leader.last;
            tokio::select! {
                () = wake::grown(&mut grown, last) => {}
                () = wake::poked(&mut pokes, last) => {}
                () = sleep(POLL_EVERY) => {}
            }
        }
    }

    /// Waits until the log's lock is ours. It is freed when the connection ends, whichever way.
    async fn take_lock(&self) -> Result<PgConnection, Lost> {
        let options = self.store.pool().connect_options();
        let options = options.as_ref().clone().application_name("waybill relay");
        let mut connection = PgConnection::connect_with(&options).await?;
        sqlx::raw_sql(ON_CONNECT).execute(&mut connection).await?;
        let log = self.store.log();
        let mut told = false;
        loop {
            let ours: bool =
                sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended($1, 0))")
                    .bind(format!("waybill.relay.{log}"))
                    .fetch_one(&mut connection)
                    .await?;
            if ours {
                return Ok(connection);
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!(log, "another relay leads: standing by");
            }
            sleep(STANDBY_EVERY).await;
        }
    }
}

/// Who holds the lock.
struct Leader<'a> {
    log: &'a str,
    /// Holds the lock: reading on it proves that we still lead.
    connection: PgConnection,
    publisher: Publisher,
    /// The last event that JetStream has confirmed.
    last: Position,
    /// The last event that was sent.
    sent: Position,
    /// What follows it, as far as it has been read.
    ahead: Vec<Raw>,
    /// When the stream was known to be there.
    checked: Instant,
}

impl Leader<'_> {
    /// Makes the stream what it should be, and finds out where to go on.
    async fn open(&mut self) -> Result<(), Lost> {
        let head: Position = sqlx::query_scalar("select coalesce(max(position), 0) from events")
            .fetch_one(&mut self.connection)
            .await?;
        let start = (head - START_EVENTS_MAX).max(0);
        self.last = match self.publisher.open().await? {
            None => start,
            Some(last) if self.has(&last).await? => last.position.max(start),
            Some(last) => {
                // The database was restored to an earlier state, or is another one: the stream
                // tells a history that did not happen, and would take our events for repetitions.
                let (log, last) = (self.log, last.position);
                tracing::error!(log, last, head, "the stream tells of another history: made again");
                self.publisher.renew().await?;
                start
            }
        };
        (self.sent, self.ahead) = (self.last, Vec::new());
        self.checked = Instant::now();
        Ok(())
    }

    /// Whether the log has this very event in this place.
    async fn has(&mut self, last: &Last) -> Result<bool, Lost> {
        let event_id: Option<Uuid> =
            sqlx::query_scalar("select event_id from events where position = $1")
                .bind(last.position)
                .fetch_optional(&mut self.connection)
                .await?;
        Ok(event_id == Some(last.event_id))
    }

    /// Sends what follows, one batch at most. True where there is more.
    ///
    /// While JetStream takes one batch, the next one is read: who lost the lock by then fails
    /// before it is published.
    async fn publish(&mut self) -> Result<bool, Lost> {
        let mut rows = std::mem::take(&mut self.ahead);
        if rows.is_empty() {
            rows = read(&mut self.connection, self.sent).await?;
        }
        if rows.is_empty() && self.publisher.is_idle() {
            return self.check().await;
        }
        let end = rows.last().map_or(self.sent, |row| row.position);
        let full = rows.len() == BATCH_EVENTS_MAX;
        let open_max = if full { BATCH_EVENTS_MAX } else { 0 };
        let next =
            async { if full { read(&mut self.connection, end).await } else { Ok(Vec::new()) } };
        let (mut outcome, next) = tokio::join!(self.publisher.publish(rows, open_max), next);
        let next = next?;
        loop {
            self.last = outcome.published.unwrap_or(self.last);
            if !outcome.error.as_ref().is_some_and(PublishError::is_wrong_tip) {
                break;
            }
            // Perhaps another relay leads, and we have slept. Each turn confirms one event at least.
            self.prove_lead().await?;
            outcome = self.publisher.send_again().await;
        }
        match outcome.error {
            None => {
                self.checked = Instant::now();
                self.sent = end;
                self.ahead = next;
                Ok(full)
            }
            Some(PublishError::NoStream) => {
                self.make_again().await?;
                Ok(true)
            }
            Some(error) => Err(error.into()),
        }
    }

    /// Fails where the lock is lost.
    async fn prove_lead(&mut self) -> Result<(), Lost> {
        let answer = sqlx::query("select 1").execute(&mut self.connection);
        timeout(READ_WAIT_MAX, answer).await.map_err(|_| Lost::TooSlow)??;
        Ok(())
    }

    /// Looks now and then whether the stream is still there. True where it has to be filled.
    async fn check(&mut self) -> Result<bool, Lost> {
        if self.checked.elapsed() < CHECK_EVERY {
            return Ok(false);
        }
        self.checked = Instant::now();
        let gone = !self.publisher.stream_exists().await?;
        if gone {
            self.make_again().await?;
        }
        Ok(gone)
    }

    async fn make_again(&mut self) -> Result<(), Lost> {
        self.open().await?;
        tracing::warn!(log = self.log, position = self.last, "the stream was gone: made again");
        Ok(())
    }
}

/// The batch that follows `after`.
async fn read(connection: &mut PgConnection, after: Position) -> Result<Vec<Raw>, Lost> {
    let limit = i64::try_from(BATCH_EVENTS_MAX).unwrap_or(i64::MAX);
    let rows = wire::read(connection, after, limit);
    Ok(timeout(READ_WAIT_MAX, rows).await.map_err(|_| Lost::TooSlow)??)
}

/// Refuses a server that would silently do less than it is asked to.
fn check_server(nats: &async_nats::Client) -> Result<(), Lost> {
    let Some(info) = nats.try_server_info() else { return Err(Lost::NotConnected) };
    if is_new_enough(&info.version) { Ok(()) } else { Err(Lost::TooOld { found: info.version }) }
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split(['.', '-']).map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= SERVER_MIN,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_told_from_new_ones() {
        for (version, enough) in [
            ("2.9.10", false),
            ("2.10.0", true),
            ("2.15.1", true),
            ("v2.11.0-RC.1", true),
            ("3.0.0", true),
            ("1.4.1", false),
            ("", false),
            ("two.ten", false),
        ] {
            assert_eq!(is_new_enough(version), enough, "{version}");
        }
    }
}
