//! Publishes the log to JetStream, in order, one leader at a time.
//!
//! There is no table of what was published: the last message in the stream says it.

mod publish;

use std::time::Duration;

use futures_util::StreamExt as _;
use schemas::Position;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::consumer::{Backoff, chain};
use crate::feed::wire;
use crate::{Error, Store};
use publish::{PublishError, Publisher};

/// Events that are read and published together, and so the most that wait for JetStream's word.
const WINDOW_EVENTS_MAX: i64 = 512;

/// How often those who do not lead try to.
const STANDBY_EVERY: Duration = Duration::from_millis(500);

/// How often the log is read while nobody says that it has grown.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// How often an idle leader looks whether its stream is still there.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// The oldest NATS server that does what we ask of it: older ones answer OK and drop the fields
/// that they do not know.
const SERVER_MIN: (u64, u64) = (2, 10);

/// The relay of one log.
#[derive(Debug)]
pub struct Relay {
    store: Store,
    nats: async_nats::Client,
}

/// Why somebody stops leading, or cannot start to.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("Postgres is away")]
    Database(#[from] sqlx::Error),
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
        Self { store, nats }
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
    async fn lead(&self, faults: &mut Backoff) -> Result<std::convert::Infallible, Lost> {
        check_server(&self.nats)?;
        let log = self.store.log();
        let mut connection = self.take_lock().await?;
        let mut publisher = Publisher::new(&self.nats, log);
        let mut pokes = self.nats.subscribe(wire::poke_subject(log)).await.ok();
        let mut grown = self.store.head_watch();
        let mut published = publisher.open(head(&mut connection).await?).await?;
        tracing::info!(log, position = published, "the relay leads");
        let mut checked = Instant::now();
        loop {
            // Reading on the connection that holds the lock proves that we still lead.
            grown.mark_unchanged();
            let rows = wire::read(&mut connection, published, WINDOW_EVENTS_MAX).await?;
            let outcome = publisher.publish(&rows).await;
            published = outcome.published.unwrap_or(published);
            match outcome.error {
                None if !rows.is_empty() => {
                    if faults.recovered() {
                        tracing::info!(log, position = published, "the relay goes on");
                    }
                    checked = Instant::now();
                    continue;
                }
                None => {}
                Some(PublishError::NoStream) => {
                    published = publisher.open(head(&mut connection).await?).await?;
                    tracing::warn!(log, position = published, "the stream was gone: made again");
                    continue;
                }
                Some(error) => return Err(error.into()),
            }
            if checked.elapsed() > CHECK_EVERY {
                checked = Instant::now();
                if !publisher.stream_exists().await? {
                    published = publisher.open(head(&mut connection).await?).await?;
                    tracing::warn!(log, position = published, "the stream was gone: made again");
                    continue;
                }
                faults.recovered();
            }
            let knock = async {
                match &mut pokes {
                    Some(pokes) => pokes.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = grown.changed() => {}
                Some(_) = knock => {}
                () = sleep(POLL_EVERY) => {}
            }
        }
    }

    /// Waits until the log's lock is ours. It is freed when the connection ends, whichever way.
    async fn take_lock(&self) -> Result<PgConnection, Lost> {
        let options = self.store.pool().connect_options();
        let mut connection = PgConnection::connect_with(&options).await?;
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

/// The head of the log, on the leader's own connection.
async fn head(connection: &mut PgConnection) -> Result<Position, sqlx::Error> {
    sqlx::query_scalar("select coalesce(max(position), 0) from events").fetch_one(connection).await
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
