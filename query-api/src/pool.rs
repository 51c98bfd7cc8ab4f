//! The connections of the read side.

use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgPool};

/// The database role of the read side: it may select and nothing else.
const READER: &str = "waybill_read";

/// A connection that was used within this time is not asked whether it is still there: that would
/// be a second way to the database for each query.
const TRUSTED: Duration = Duration::from_secs(1);

/// Connections that can only read, to the database at `url`; made when they are needed.
///
/// # Errors
/// Where `url` cannot be read.
pub fn pool(url: &str, connections_max: u32) -> Result<PgPool, sqlx::Error> {
    let options = url.parse::<PgConnectOptions>()?.options([
        ("role", READER),
        ("default_transaction_read_only", "on"),
        ("jit", "off"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(connections_max)
        .test_before_acquire(false)
        .before_acquire(|connection, known| {
            if known.idle_for < TRUSTED {
                return async { Ok(true) }.boxed();
            }
            connection.ping().map(|pong| Ok(pong.is_ok())).boxed()
        });
    Ok(pool.connect_lazy_with(options))
}
