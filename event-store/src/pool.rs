//! Connections that are shared, and transactions that nobody leaves open by going away.

use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgPool, Postgres, Transaction};

/// A connection that was used within this time is not asked whether it is still there: that would
/// be one more way to the database for each use.
const TRUSTED: Duration = Duration::from_secs(1);

/// A pool of so many connections.
#[must_use]
pub fn pool_options(connections_max: u32) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(connections_max).test_before_acquire(false).before_acquire(
        |connection, known| {
            if known.idle_for < TRUSTED {
                return async { Ok(true) }.boxed();
            }
            connection.ping().map(|pong| Ok(pong.is_ok())).boxed()
        },
    )
}

/// Begins a transaction, to its end even where the caller goes away meanwhile.
///
/// With sqlx 0.9.0 a `begin` that is dropped halfway, by a time-out or a client that hangs up,
/// gives its connection back to the pool with a transaction open that sqlx knows nothing of:
/// whatever is written through that connection next is never committed
/// ([sqlx#4385](https://github.com/transact-rs/sqlx/issues/4385), mended after 0.9.0). A task of
/// its own is not dropped, and the transaction that nobody takes from it is rolled back.
///
/// # Errors
/// Where the database is away.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    #[expect(clippy::disallowed_methods, reason = "the one place; the pool's time-out ends it")]
    let begun = tokio::spawn(async move { pool.begin().await });
    begun.await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(sqlx::Error::PoolClosed), // The runtime is ending.
    })
}
