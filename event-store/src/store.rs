//! The handle that everybody holds.

use std::sync::Arc;

use schemas::{Position, StreamId, Version};
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::{mpsc, oneshot, watch};

use crate::backlog::Backlog;
use crate::cache::Cache;
use crate::feed::wake;
use crate::lane::Link;
use crate::pool::pool_options;
use crate::request::{self, Request};
use crate::snapshot::Snapshots;
use crate::ticket::Ticket;
use crate::{Append, AppendError, Done, Error, History, Moves, Writer};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How to reach a log.
#[derive(Debug, Clone)]
pub struct Options {
    /// `postgres://…`
    pub database_url: String,
    /// The log's name: 1 to 32 of `a-z 0-9 _`. Names its JetStream stream and subjects.
    pub log: String,
    /// Connections in the pool, besides the writer's own.
    pub connections_max: u32,
}

/// A log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: String,
    history: History,
    snapshots: Snapshots,
    /// Holds what [`Backlog`] lets in, which bounds it.
    queue: mpsc::UnboundedSender<Request>,
    backlog: Arc<Backlog>,
    head: watch::Receiver<Position>,
    cache: Cache,
    moves: Moves,
}

impl Store {
    /// Connects. `nats`, where given, is poked after commits so that readers look at once:
    /// a message on `poke.<log>` whose body is the new head in decimal digits.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Database`].
    pub async fn open(
        options: &Options,
        nats: Option<async_nats::Client>,
    ) -> Result<(Self, Writer), Error> {
        let log = options.log.clone();
        let named = (1..=32).contains(&log.len())
            && log.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !named {
            return Err(Error::Config(format!(
                "a log is named by 1 to 32 of a-z 0-9 _, not `{log}`"
            )));
        }
        let connect: PgConnectOptions = options
            .database_url
            .parse()
            .map_err(|error| Error::Config(format!("the database's address: {error}")))?;
        // What is asked here is found by keys: to plan it anew each time takes as long as to do it.
        let plans = [("jit", "off"), ("plan_cache_mode", "force_generic_plan")];
        let pool = pool_options(options.connections_max)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::query("set role waybill_write").execute(connection).await?;
                    Ok(())
                })
            })
            .connect_with(connect.clone().application_name("waybill").options(plans))
            .await?;

        let (queue, waiting) = mpsc::unbounded_channel();
        let (announce, head) = watch::channel(0);
        let backlog = Arc::new(Backlog::new());
        let (snapshots, snapshotter) = Snapshots::new(pool.clone());
        let link = Link { connect, head: announce };
        let mut writer = Writer::new(waiting, Arc::clone(&backlog), link);
        writer.beside(|drain| snapshotter.run(drain));
        if let Some(nats) = nats {
            let poked = wake::poke(nats, log.clone(), head.clone());
            writer.beside(|_| poked);
        }
        let store = Self(Arc::new(Shared {
            log,
            history: History::hinted(pool, head.clone()),
            snapshots,
            queue,
            backlog,
            head,
            cache: Cache::new(),
            moves: Moves::new(),
        }));
        store.head().await?;
        Ok((store, writer))
    }

    /// Brings the schema of the log up to date; for the role that owns it.
    ///
    /// # Errors
    /// [`Error::Migrate`] or [`Error::Database`].
    pub async fn migrate(database_url: &str) -> Result<(), Error> {
        let pool = PgPoolOptions::new().max_connections(1).connect(database_url).await?;
        // Other crates keep their migrations in the same database, numbered apart.
        let mut migrations = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
        migrations.set_ignore_missing(true);
        migrations.run(&pool).await?;
        pool.close().await;
        Ok(())
    }

    /// Connections for reading and for the consumers' own tables.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        self.0.history.pool()
    }

    /// The same log for those who may only look.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.0.history
    }

    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.0.snapshots
    }

    /// The log's name.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.0.log
    }

    /// The last position that this process has written; 0 until it has written one. Others may
    /// have written more: see [`Store::head`].
    #[must_use]
    pub fn head_watch(&self) -> watch::Receiver<Position> {
        self.0.head.clone()
    }

    /// How far the workers of this process have come.
    #[must_use]
    pub fn moves(&self) -> &Moves {
        &self.0.moves
    }

    /// How many commands wait to be written, and how many may: as many as are written within half
    /// a second, at the pace of late.
    #[must_use]
    pub fn queue(&self) -> (usize, usize) {
        self.0.backlog.commands()
    }

    pub(crate) fn backlog(&self) -> &Backlog {
        &self.0.backlog
    }

    /// Writes one command's answer, whole or not at all, in a batch with others.
    ///
    /// # Errors
    /// See [`AppendError`]; each variant asks for a different next step.
    pub async fn append(&self, append: Append) -> Result<Done, AppendError> {
        let (_, answer) = self.submit(append, Vec::new(), Vec::new())?;
        answer.await
    }

    /// Queues a command that was also decided on the streams in `reads` and builds on what the
    /// commands in `after` write.
    ///
    /// # Errors
    /// [`AppendError::Invalid`], [`AppendError::Overloaded`], or [`AppendError::Unavailable`] where
    /// nobody writes any more.
    pub(crate) fn submit(
        &self,
        append: Append,
        reads: Vec<(StreamId, Version)>,
        after: Vec<Ticket>,
    ) -> Result<(Ticket, impl Future<Output = Result<Done, AppendError>> + use<>), AppendError>
    {
        request::check(&append, &reads)?;
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket::new();
        let request = Request { append, reads, after, ticket: ticket.clone(), reply };
        let bytes = request.bytes();
        if !self.0.backlog.enter(bytes) {
            return Err(AppendError::Overloaded);
        }
        if self.0.queue.send(request).is_err() {
            self.0.backlog.leave(1, bytes);
            return Err(stopped());
        }
        Ok((ticket, async move { answer.await.unwrap_or_else(|_| Err(stopped())) }))
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.0.cache
    }
}

fn stopped() -> AppendError {
    AppendError::Unavailable(Box::new(Error::Config("the writer has stopped".to_owned())))
}
