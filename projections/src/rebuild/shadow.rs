//! The table beside the live one, and what it has to be made of. Names come from our own code.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::row::SCHEMA;

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

/// What a table says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) rows: i64,
    pub(super) digest: String,
}

/// Reads the whole table, row by row in the order of its keys.
pub(super) async fn digest(
    connection: &mut PgConnection,
    table: &str,
    key: &str,
) -> Result<Digest, sqlx::Error> {
    let query = format!(
        "select count(*), md5(coalesce(string_agg(md5(t::text), '' order by {key}), ''))
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
