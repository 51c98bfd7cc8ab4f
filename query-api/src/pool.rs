//! The connections of the read side.

use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

/// The database role of the read side: it may select and nothing else.
const READER: &str = "waybill_read";

/// How long one statement may take, in milliseconds: less than a request may, so that a query that
/// nobody waits for any more does not go on.
const STATEMENT_MS_MAX: &str = "9000";

/// Connections that can only read, to the database at `url`; made when they are needed.
///
/// # Errors
/// Where `url` cannot be read.
pub fn pool(url: &str, connections_max: u32) -> Result<PgPool, sqlx::Error> {
    let options = url.parse::<PgConnectOptions>()?.options([
        ("role", READER),
        ("default_transaction_read_only", "on"),
        ("jit", "off"),
        // What a list asks for is in its text, and each finds its index without looking at values.
        ("plan_cache_mode", "force_generic_plan"),
        ("statement_timeout", STATEMENT_MS_MAX),
    ]);
    Ok(event_store::pool_options(connections_max).connect_lazy_with(options))
}
