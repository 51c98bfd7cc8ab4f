//! The table beside the live one, and what it has to be made of. Names come from our own code.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::row::SCHEMA;

/// The name of the table that is built beside `live`.
pub(super) fn name(live: &str) -> String {
    format!("{live}_rebuild")
}

/// Whether there is such a table.
pub(super) async fn exists(
    connection: &mut PgConnection,
    table: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(format!("{SCHEMA}.{table}"))
        .fetch_one(connection)
        .await
}

/// Makes an empty `shadow` with the columns and the storage of `live`, and no index.
pub(super) async fn create(
    connection: &mut PgConnection,
    live: &str,
    shadow: &str,
) -> Result<(), sqlx::Error> {
    execute(connection, format!("drop table if exists {SCHEMA}.{shadow}")).await?;
    let columns = format!("like {SCHEMA}.{live} including all excluding indexes");
    execute(connection, format!("create table {SCHEMA}.{shadow} ({columns})")).await?;
    let options: Option<String> = sqlx::query_scalar(
        "select array_to_string(reloptions, ', ') from pg_class where oid = $1::regclass",
    )
    .bind(format!("{SCHEMA}.{live}"))
    .fetch_one(&mut *connection)
    .await?;
    if let Some(options) = options {
        execute(connection, format!("alter table {SCHEMA}.{shadow} set ({options})")).await?;
    }
    Ok(())
}

/// Makes an empty table for the rows of one group that do not fit in memory. It lives as long as
/// the transaction, so nothing of it need survive a crash.
pub(super) async fn create_spill(
    connection: &mut PgConnection,
    live: &str,
    spill: &str,
) -> Result<(), sqlx::Error> {
    let columns =
        format!("like {SCHEMA}.{live} including defaults including generated including storage");
    execute(connection, format!("create unlogged table {SCHEMA}.{spill} ({columns})")).await
}

/// Moves the rows of `spill` into `shadow`, and says how many there were.
pub(super) async fn take_in(
    connection: &mut PgConnection,
    spill: &str,
    shadow: &str,
    columns: &[&str],
) -> Result<u64, sqlx::Error> {
    let columns = columns.join(", ");
    let copy =
        format!("insert into {SCHEMA}.{shadow} ({columns}) select {columns} from {SCHEMA}.{spill}");
    let copied = sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut *connection).await?;
    execute(connection, format!("drop table {SCHEMA}.{spill}")).await?;
    Ok(copied.rows_affected())
}

/// Makes `key` the primary key of `shadow`.
pub(super) async fn add_key(
    connection: &mut PgConnection,
    shadow: &str,
    key: &str,
) -> Result<(), sqlx::Error> {
    execute(connection, format!("alter table {SCHEMA}.{shadow} add primary key ({key})")).await
}

/// Gives `shadow` every index that `live` has besides its primary key, and statistics.
pub(super) async fn add_indexes(
    connection: &mut PgConnection,
    live: &str,
    shadow: &str,
) -> Result<(), sqlx::Error> {
    let indexes: Vec<(bool, String)> = sqlx::query_as(
        "select indisunique, split_part(pg_get_indexdef(indexrelid), ' USING ', 2) from pg_index
         where indrelid = $1::regclass and not indisprimary order by indexrelid",
    )
    .bind(format!("{SCHEMA}.{live}"))
    .fetch_all(&mut *connection)
    .await?;
    for (unique, definition) in indexes {
        let unique = if unique { "unique" } else { "" };
        let create = format!("create {unique} index on {SCHEMA}.{shadow} using {definition}");
        execute(connection, create).await?;
    }
    execute(connection, format!("analyze {SCHEMA}.{shadow}")).await
}

/// How many rows `table` has.
pub(super) async fn count(connection: &mut PgConnection, table: &str) -> Result<i64, sqlx::Error> {
    let query = format!("select count(*) from {SCHEMA}.{table}");
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(connection).await
}

/// What a table says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) rows: i64,
    pub(super) digest: String,
}

/// Reads the whole table. Every row counts, in whatever order they come.
pub(super) async fn digest(
    connection: &mut PgConnection,
    table: &str,
) -> Result<Digest, sqlx::Error> {
    let query = format!(
        "select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text
         from {SCHEMA}.{table} t"
    );
    let (rows, digest) = sqlx::query_as(AssertSqlSafe(query)).fetch_one(connection).await?;
    Ok(Digest { rows, digest })
}

pub(super) async fn execute(
    connection: &mut PgConnection,
    statement: String,
) -> Result<(), sqlx::Error> {
    // Not prepared: each of these runs once, and plans of dropped tables would be kept.
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
