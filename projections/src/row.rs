//! One struct is one table row: read in bulk, written in bulk, copied in bulk.
//!
//! [`table!`](crate::table) writes down everything that Postgres needs to know about such a
//! struct. Arrays for `unnest` and the fields of a binary `copy` are both made by sqlx's own
//! encoders, so a column type is whatever sqlx can encode.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

use event_store::{AtOnce, Batch, Fault, Moved};
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgHasArrayType, PgRow, PgTypeInfo, PgValueRef,
};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row as _};
use uuid::Uuid;

/// The schema that all read models live in.
pub(crate) const SCHEMA: &str = "read_models";

/// A row of a read model. Its first column is its primary key, a UUID.
pub trait Row: Sized + Send + Sync + Unpin + 'static {
    /// The columns, in the order of the table.
    const COLUMNS: &'static [&'static str];

    /// The primary key.
    fn key(&self) -> Uuid;

    /// Reads a row that was selected in the order of [`Row::COLUMNS`].
    ///
    /// # Errors
    /// Where a column does not hold what the struct expects.
    fn read(row: &PgRow) -> Result<Self, sqlx::Error>;

    /// One array per column.
    ///
    /// # Errors
    /// Where a value cannot be encoded.
    fn arrays(rows: &[&Self]) -> Result<PgArguments, BoxDynError>;

    /// Appends the fields as a binary `copy` wants them.
    ///
    /// # Errors
    /// Where a value cannot be encoded.
    fn copy_fields(&self, buffer: &mut PgArgumentBuffer) -> Result<(), BoxDynError>;
}

/// Declares a table's row: a struct whose first field is the primary key, and its [`Row`].
#[macro_export]
macro_rules! table {
    (
        $(#[$doc:meta])*
        $visibility:vis struct $name:ident {
            $(#[$key_doc:meta])* $key:ident: Uuid,
            $($(#[$column_doc:meta])* $column:ident: $type:ty,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        $visibility struct $name {
            $(#[$key_doc])*
            pub $key: ::uuid::Uuid,
            $($(#[$column_doc])* pub $column: $type,)+
        }

        impl $crate::row::Row for $name {
            const COLUMNS: &'static [&'static str] =
                &[stringify!($key), $(stringify!($column)),+];

            fn key(&self) -> ::uuid::Uuid {
                self.$key
            }

            fn read(row: &::sqlx::postgres::PgRow) -> Result<Self, ::sqlx::Error> {
                let mut columns = $crate::row::Columns::of(row);
                Ok(Self { $key: columns.next()?, $($column: columns.next()?,)+ })
            }

            fn arrays(
                rows: &[&Self],
            ) -> Result<::sqlx::postgres::PgArguments, ::sqlx::error::BoxDynError> {
                use ::sqlx::Arguments as _;
                let mut arrays = ::sqlx::postgres::PgArguments::default();
                arrays.add(rows.iter().map(|row| row.$key).collect::<Vec<_>>())?;
                $(arrays.add(rows.iter().map(|row| &row.$column).collect::<Vec<_>>())?;)+
                Ok(arrays)
            }

            fn copy_fields(
                &self,
                buffer: &mut ::sqlx::postgres::PgArgumentBuffer,
            ) -> Result<(), ::sqlx::error::BoxDynError> {
                $crate::row::copy_field(&self.$key, buffer)?;
                $($crate::row::copy_field(&self.$column, buffer)?;)+
                Ok(())
            }
        }
    };
}

/// Walks the columns of a selected row from left to right.
#[derive(Debug)]
pub struct Columns<'r> {
    row: &'r PgRow,
    next: usize,
}

impl<'r> Columns<'r> {
    /// Starts at the first column.
    #[must_use]
    pub fn of(row: &'r PgRow) -> Self {
        Self { row, next: 0 }
    }

    /// The next column.
    ///
    /// # Errors
    /// Where it holds something else.
    #[expect(clippy::should_implement_trait, reason = "every column has a type of its own")]
    pub fn next<T>(&mut self) -> Result<T, sqlx::Error>
    where
        T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        let index = self.next;
        self.next += 1;
        self.row.try_get(index)
    }
}

/// Appends one field of a binary `copy`: its length in bytes, then the bytes; -1 for null.
///
/// # Errors
/// Where the value cannot be encoded, or is longer than 2 GiB.
pub fn copy_field<'q, T: Encode<'q, Postgres>>(
    value: &T,
    buffer: &mut PgArgumentBuffer,
) -> Result<(), BoxDynError> {
    const LENGTH: usize = size_of::<i32>();
    let start = buffer.len();
    buffer.extend_from_slice(&(-1_i32).to_be_bytes());
    if matches!(value.encode_by_ref(buffer)?, IsNull::No) {
        let length = i32::try_from(buffer.len() - start - LENGTH)?;
        buffer[start..start + LENGTH].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// A value that is stored as the text it shows itself as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsText<T>(pub T);

impl<T> sqlx::Type<Postgres> for AsText<T> {
    fn type_info() -> PgTypeInfo {
        <str as sqlx::Type<Postgres>>::type_info()
    }

    fn compatible(info: &PgTypeInfo) -> bool {
        <str as sqlx::Type<Postgres>>::compatible(info)
    }
}

impl<T> PgHasArrayType for AsText<T> {
    fn array_type_info() -> PgTypeInfo {
        <&str as PgHasArrayType>::array_type_info()
    }
}

impl<T: Display> Encode<'_, Postgres> for AsText<T> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        use std::io::Write as _;
        write!(**buffer, "{}", self.0)?;
        Ok(IsNull::No)
    }
}

impl<'r, T: FromStr> sqlx::Decode<'r, Postgres> for AsText<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(value.as_str()?.parse()?))
    }
}

/// The row `key` of the read model `name`. Names come from our own code only.
pub(crate) async fn get<R: Row>(
    pool: &PgPool,
    name: &str,
    key: Uuid,
) -> Result<Option<R>, sqlx::Error> {
    let columns = R::COLUMNS.join(", ");
    let query = format!("select {columns} from {SCHEMA}.{name} where {} = $1", R::COLUMNS[0]);
    let query = sqlx::query(AssertSqlSafe(query)).bind(key);
    query.fetch_optional(pool).await?.as_ref().map(R::read).transpose()
}

/// The statements that read and write the rows `R` of one table.
#[derive(Debug)]
pub(crate) struct Table<R> {
    name: String,
    select: String,
    upsert: String,
    at_once: AtOnce,
    delete: String,
    row: std::marker::PhantomData<fn() -> R>,
}

impl<R: Row> Table<R> {
    /// The table `name` in the schema of the read models. Names come from our own code only.
    pub(crate) fn new(name: &str) -> Self {
        let key = R::COLUMNS[0];
        let columns = R::COLUMNS.join(", ");
        let arrays: Vec<_> = (1..=R::COLUMNS.len()).map(|n| format!("${n}")).collect();
        let updates: Vec<_> =
            R::COLUMNS[1..].iter().map(|column| format!("{column} = excluded.{column}")).collect();
        let upsert = format!(
            "insert into {SCHEMA}.{name} ({columns}) select * from unnest({}) \
             on conflict ({key}) do update set {}",
            arrays.join(", "),
            updates.join(", ")
        );
        Self {
            name: name.to_owned(),
            select: format!("select {columns} from {SCHEMA}.{name} where {key} = any($1)"),
            at_once: AtOnce::new(std::slice::from_ref(&upsert), arrays.len()),
            upsert,
            delete: format!("delete from {SCHEMA}.{name} where {key} = any($1)"),
            row: std::marker::PhantomData,
        }
    }

    /// Its name, without the schema.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The rows with these keys, in any order.
    pub(crate) async fn select(
        &self,
        connection: &mut PgConnection,
        keys: &[Uuid],
    ) -> Result<Vec<R>, sqlx::Error> {
        self.fetch(connection, keys).await?.iter().map(R::read).collect()
    }

    /// The rows with these keys, each under its key, and each for itself where it cannot be read.
    pub(crate) async fn select_each(
        &self,
        connection: &mut PgConnection,
        keys: &[Uuid],
    ) -> Result<HashMap<Uuid, Result<R, sqlx::Error>>, sqlx::Error> {
        let rows = self.fetch(connection, keys).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, R::read(row)))).collect()
    }

    async fn fetch(
        &self,
        connection: &mut PgConnection,
        keys: &[Uuid],
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        sqlx::query(AssertSqlSafe(self.select.as_str())).bind(keys).fetch_all(connection).await
    }

    /// Inserts the rows, or replaces those that are there.
    pub(crate) async fn upsert(
        &self,
        connection: &mut PgConnection,
        rows: &[&R],
    ) -> Result<(), sqlx::Error> {
        if !rows.is_empty() {
            let arrays = R::arrays(rows).map_err(sqlx::Error::Encode)?;
            sqlx::query_with(AssertSqlSafe(self.upsert.as_str()), arrays)
                .execute(connection)
                .await?;
        }
        Ok(())
    }

    /// Inserts the rows, or replaces those that are there, as the whole of a batch.
    pub(crate) async fn upsert_at_once(
        &self,
        batch: Batch<'_>,
        rows: &[&R],
    ) -> Result<Moved, Fault> {
        let arrays = R::arrays(rows).map_err(sqlx::Error::Encode)?;
        batch.at_once(&self.at_once, arrays).await
    }

    /// Deletes the rows with these keys.
    pub(crate) async fn delete(
        &self,
        connection: &mut PgConnection,
        keys: &[Uuid],
    ) -> Result<(), sqlx::Error> {
        if !keys.is_empty() {
            sqlx::query(AssertSqlSafe(self.delete.as_str())).bind(keys).execute(connection).await?;
        }
        Ok(())
    }

    /// Copies new rows in, and says how many. Their keys must not be in the table yet.
    pub(crate) async fn copy<'r>(
        &self,
        connection: &mut PgConnection,
        rows: impl Iterator<Item = &'r R>,
    ) -> Result<u64, sqlx::Error> {
        let columns = R::COLUMNS.join(", ");
        let statement =
            format!("copy {SCHEMA}.{} ({columns}) from stdin with (format binary)", self.name);
        let mut copy = connection.copy_in_raw(&statement).await?;
        let mut buffer = copy_header();
        for row in rows {
            copy_row(row, &mut buffer).map_err(sqlx::Error::Encode)?;
            if buffer.len() >= COPY_BYTES {
                copy.send(std::mem::take(&mut buffer).as_slice()).await?;
            }
        }
        buffer.extend_from_slice(&(-1_i16).to_be_bytes());
        copy.send(buffer.as_slice()).await?;
        copy.finish().await
    }
}

/// How much is gathered before it is sent to Postgres, in bytes.
const COPY_BYTES: usize = 256 * 1024;

/// Signature, flags and the length of the (absent) extension.
fn copy_header() -> PgArgumentBuffer {
    let mut buffer = PgArgumentBuffer::default();
    buffer.extend_from_slice(b"PGCOPY\n\xff\r\n\0");
    buffer.extend_from_slice(&[0; 8]);
    buffer
}

/// The number of fields, then the fields.
fn copy_row<R: Row>(row: &R, buffer: &mut PgArgumentBuffer) -> Result<(), BoxDynError> {
    buffer.extend_from_slice(&i16::try_from(R::COLUMNS.len())?.to_be_bytes());
    row.copy_fields(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::table! {
        /// A row of a table that is nowhere.
        struct Sample {
            /// Key.
            id: Uuid,
            /// Number.
            number: i32,
            /// Text or nothing.
            text: Option<String>,
        }
    }

    #[test]
    fn a_table_names_its_columns_once() {
        let table = Table::<Sample>::new("sample");
        assert_eq!(
            table.select,
            "select id, number, text from read_models.sample where id = any($1)"
        );
        assert_eq!(
            table.upsert,
            "insert into read_models.sample (id, number, text) select * from unnest($1, $2, $3) \
             on conflict (id) do update set number = excluded.number, text = excluded.text"
        );
        assert_eq!(table.delete, "delete from read_models.sample where id = any($1)");
    }

    #[test]
    fn a_copied_row_counts_its_fields_and_their_bytes() {
        let mut buffer = PgArgumentBuffer::default();
        let row = Sample { id: Uuid::from_u128(1), number: 7, text: None };
        copy_row(&row, &mut buffer).unwrap();
        let mut expected = vec![0, 3];
        expected.extend([0, 0, 0, 16]);
        expected.extend(Uuid::from_u128(1).as_bytes());
        expected.extend([0, 0, 0, 4, 0, 0, 0, 7]);
        expected.extend([255, 255, 255, 255]);
        assert_eq!(**buffer, expected);

        let row = Sample { text: Some("ab".to_owned()), ..row };
        let mut buffer = PgArgumentBuffer::default();
        copy_row(&row, &mut buffer).unwrap();
        assert_eq!(buffer[buffer.len() - 6..], [0, 0, 0, 2, b'a', b'b']);
    }

    #[test]
    fn every_column_becomes_one_array() {
        use sqlx::Arguments as _;
        let row = Sample { id: Uuid::from_u128(1), number: 7, text: None };
        assert_eq!(Sample::arrays(&[&row, &row]).unwrap().len(), 3);
    }
}
