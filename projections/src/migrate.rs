//! The tables of the read models, and which version of a read model each of them holds.

use std::time::Duration;

use event_store::{Error, Fault, Store};
use schemas::Chance;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgExecutor, PgPool};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::projection::Projection;
use crate::rebuild::{self, Progress, Rebuild, RebuildError, Rebuilt};
use crate::registry;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How often to look which version a table holds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A process rebuilds one read model at a time by itself: each takes memory and connections.
static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);

/// How often it is told how far a rebuild is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How long to wait after a rebuild that failed; twice as long after each further one.
const RETRY_FIRST: Duration = Duration::from_secs(5);

/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_mins(5);

/// Brings the tables of the read models up to date; after the log's own migrations, and for the
/// same role.
///
/// # Errors
/// [`Error::Migrate`] or [`Error::Database`].
pub async fn migrate(database_url: &str) -> Result<(), Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect(database_url).await?;
    // Other crates keep their migrations in the same database, numbered apart.
    let mut migrations = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
    migrations.set_ignore_missing(true);
    migrations.run(&pool).await?;
    for entry in registry::ALL {
        let new = sqlx::query(
            "insert into read_models.versions (name, version) values ($1, $2)
             on conflict (name) do nothing",
        );
        new.bind(entry.name).bind(i32::from(entry.version)).execute(&pool).await?;
    }
    pool.close().await;
    Ok(())
}

/// Waits until the table of `P` holds the version that this release folds, and rebuilds it where it
/// holds an older one; meanwhile the old release keeps it and queries read it. False when `drain` is
/// cancelled first.
pub(crate) async fn folded_by_us<P: Projection>(
    store: &Store,
    chance: Chance,
    drain: &CancellationToken,
) -> bool {
    let upgrade = async {
        let mut told = None;
        let mut wait = RETRY_FIRST;
        loop {
            let standing = Standing::of::<P>(store.pool()).await;
            if told != Some(standing) {
                standing.tell::<P>();
                told = Some(standing);
            }
            match standing {
                Standing::Ours => return,
                Standing::Older => match rebuild_by_itself::<P>(store, chance).await {
                    Ok(()) | Err(RebuildError::Busy(_)) => sleep(LOOK_EVERY).await,
                    Err(error) => {
                        let why = chain(&error);
                        let wait_s = wait.as_secs();
                        tracing::error!(
                            projection = P::NAME,
                            why,
                            wait_s,
                            "{} was not rebuilt: {why}; it is tried again in {wait_s} s",
                            P::NAME
                        );
                        sleep(wait).await;
                        wait = (wait * 2).min(RETRY_MAX);
                    }
                },
                Standing::Newer | Standing::Refused | Standing::Unknown => sleep(LOOK_EVERY).await,
            }
        }
    };
    drain.run_until_cancelled(upgrade).await.is_some()
}

/// Waits until the table of `P` holds another version than this release folds, or `drain` is
/// cancelled.
pub(crate) async fn folded_by_others<P: Projection>(pool: &PgPool, drain: &CancellationToken) {
    let another = async {
        loop {
            sleep(LOOK_EVERY).await;
            let standing = Standing::of::<P>(pool).await;
            if !matches!(standing, Standing::Ours | Standing::Unknown) {
                return;
            }
        }
    };
    drain.run_until_cancelled(another).await;
}

/// Refuses to go on where the table holds another version than this release folds.
pub(crate) async fn fence<P: Projection>(pool: &PgPool) -> Result<(), Fault> {
    let found = version(pool, P::NAME).await?;
    if found == Some(i32::from(P::VERSION)) {
        return Ok(());
    }
    let (name, ours) = (P::NAME, P::VERSION);
    Err(Fault::System(format!(
        "the table of {name} holds version {found:?}, and this release folds version {ours}"
    )))
}

/// The version that the table of the read model `name` holds.
pub(crate) async fn version(
    executor: impl PgExecutor<'_>,
    name: &str,
) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar("select version from read_models.versions where name = $1")
        .bind(name)
        .fetch_optional(executor)
        .await
}

async fn rebuild_by_itself<P: Projection>(
    store: &Store,
    chance: Chance,
) -> Result<(), RebuildError> {
    let _mine = ONE_AT_A_TIME.acquire().await;
    let mut told = Instant::now();
    let rebuilt = rebuild::run::<P>(store, Rebuild::new(chance), &mut |progress| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let Progress { stage, done, total, per_second, left } = progress;
            let (stage, left_s) = (stage.as_str(), left.map(|left| left.as_secs()));
            tracing::info!(
                projection = P::NAME,
                stage,
                done,
                total,
                per_second,
                left_s,
                "rebuilding"
            );
        }
    })
    .await?;
    let Rebuilt { rows, events, position, took, .. } = rebuilt;
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let version = P::VERSION;
    tracing::info!(projection = P::NAME, version, rows, events, position, took_ms, "rebuilt");
    Ok(())
}

/// Which version a table holds, next to the one that this release folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Ours,
    /// An older one, to be rebuilt.
    Older,
    /// An older one, because people went back from ours.
    Refused,
    Newer,
    /// The database is away, or was not migrated.
    Unknown,
}

impl Standing {
    async fn of<P: Projection>(pool: &PgPool) -> Self {
        let found: Result<Option<(i32, Option<i32>)>, _> = sqlx::query_as(
            "select version, refused_version from read_models.versions where name = $1",
        )
        .bind(P::NAME)
        .fetch_optional(pool)
        .await;
        let ours = i32::from(P::VERSION);
        match found {
            Ok(Some((found, _))) if found == ours => Self::Ours,
            Ok(Some((found, _))) if found > ours => Self::Newer,
            Ok(Some((_, refused))) if refused == Some(ours) => Self::Refused,
            Ok(Some(_)) => Self::Older,
            Ok(None) | Err(_) => Self::Unknown,
        }
    }

    fn tell<P: Projection>(self) {
        let (projection, version) = (P::NAME, P::VERSION);
        match self {
            Self::Ours => {}
            Self::Older => tracing::info!(
                projection,
                version,
                "{projection} is of an older version: it is rebuilt to version {version}"
            ),
            Self::Refused => tracing::warn!(
                projection,
                version,
                "{projection} was rolled back from version {version}, so this release leaves it \
                 alone: run the release that folds what it holds, or \
                 `waybill projections rebuild {projection}`"
            ),
            Self::Newer => tracing::warn!(
                projection,
                version,
                "{projection} is of a newer version than this release folds ({version}): this \
                 process waits, and leaves it to the newer release"
            ),
            Self::Unknown => tracing::warn!(
                projection,
                "the version of {projection} cannot be read: is the database there, and did \
                 `waybill migrate` run?"
            ),
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
