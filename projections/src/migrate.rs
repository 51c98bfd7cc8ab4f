//! The tables of the read models, and which version of a read model each of them holds.

use std::time::Duration;

use event_store::Error;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;

use crate::projection::Projection;
use crate::registry;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How often to look whether a table was rebuilt for this release.
const LOOK_EVERY: Duration = Duration::from_secs(2);

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

/// Waits until the table of `P` holds the version that this release folds. False when `drain`
/// is cancelled first.
pub(crate) async fn folded_by_us<P: Projection>(pool: &PgPool, drain: &CancellationToken) -> bool {
    let mut told = false;
    loop {
        match version(pool, P::NAME).await {
            Ok(Some(version)) if version == i32::from(P::VERSION) => return true,
            Ok(found) if !told => {
                told = true;
                tracing::error!(
                    projection = P::NAME,
                    found,
                    expected = P::VERSION,
                    "{} is of another version: rebuild it",
                    P::NAME
                );
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(projection = P::NAME, %error, "its version cannot be read");
            }
        }
        tokio::select! {
            () = drain.cancelled() => return false,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn version(pool: &PgPool, name: &str) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar("select version from read_models.versions where name = $1")
        .bind(name)
        .fetch_optional(pool)
        .await
}
