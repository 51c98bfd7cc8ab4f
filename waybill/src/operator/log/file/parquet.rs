//! Apache Parquet: one table with a column for everything that a row of any kind has. `kind` says
//! what a row is: `seal`, `event` or `answer`. What the file says about itself, and how many rows
//! it has, are lines of JSON in its metadata.

use std::fs::File;
use std::io;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use event_store::log::{AnswerRow, Counts, EventRow, Header, Record, Seal, from_micros, to_micros};
use parquet::basic::Compression;
use parquet::column::reader::ColumnReader;
use parquet::data_type::{
    ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use schemas::Timestamp;
use uuid::Uuid;

use super::{Item, Sink, Take, ndjson};

/// Rows that are compressed together, and held in memory.
const GROUP_ROWS: usize = 65_536;
/// Where the metadata has the first and the last line.
const HEADER: &str = "waybill.header";
const END: &str = "waybill.end";

/// The columns, in this order. Times are in microseconds since the start of 1970.
const SCHEMA: &str = "message waybill_log {
    optional binary kind (STRING);
    optional int64 position;
    optional fixed_len_byte_array(16) stream_id (UUID);
    optional int64 stream_version;
    optional fixed_len_byte_array(16) event_id (UUID);
    optional fixed_len_byte_array(16) command_id (UUID);
    optional fixed_len_byte_array(16) correlation_id (UUID);
    optional fixed_len_byte_array(16) causation_id (UUID);
    optional int64 occurred_at (TIMESTAMP(MICROS,true));
    optional int64 recorded_at (TIMESTAMP(MICROS,true));
    optional int32 slice;
    optional binary category (STRING);
    optional binary event_type (STRING);
    optional binary actor (STRING);
    optional binary traceparent (STRING);
    optional binary payload (STRING);
    optional binary request_hash;
    optional binary refusal_code (STRING);
    optional binary refusal_detail (STRING);
    optional int64 segment;
    optional int64 first_position;
    optional int64 last_position;
    optional binary log (STRING);
    optional binary seal;
    optional int64 sealed_at (TIMESTAMP(MICROS,true));
}";

/// How many there are.
const COLUMNS: usize = 25;

/// A value of a column.
#[derive(Debug, Clone, Copy)]
enum Cell<'a> {
    Null,
    Long(i64),
    Short(i32),
    Id(Uuid),
    Bytes(&'a [u8]),
}

use Cell::{Bytes, Id, Long, Null, Short};

impl<'a> Cell<'a> {
    fn text(text: &'a str) -> Self {
        Bytes(text.as_bytes())
    }

    fn optional(text: Option<&'a str>) -> Self {
        text.map_or(Null, Self::text)
    }

    fn long(self) -> anyhow::Result<i64> {
        if let Long(value) = self { Ok(value) } else { bail!("a number is missing") }
    }

    fn time(self) -> anyhow::Result<Timestamp> {
        Timestamp::from_timestamp_micros(self.long()?).context("a time that no calendar knows")
    }

    fn id(self) -> anyhow::Result<Uuid> {
        if let Id(value) = self { Ok(value) } else { bail!("an id is missing") }
    }

    fn bytes(self) -> anyhow::Result<&'a [u8]> {
        if let Bytes(value) = self { Ok(value) } else { bail!("a text is missing") }
    }

    fn str(self) -> anyhow::Result<&'a str> {
        std::str::from_utf8(self.bytes()?).context("a text is not UTF-8")
    }

    fn optional_str(self) -> anyhow::Result<Option<&'a str>> {
        if matches!(self, Null) { Ok(None) } else { self.str().map(Some) }
    }
}

/// The values of one column in a group of rows: those that are there, and for every row whether
/// there is one.
#[derive(Debug)]
struct Column {
    levels: Vec<i16>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Long(Vec<i64>),
    Short(Vec<i32>),
    Id(Vec<FixedLenByteArray>),
    Bytes(Vec<ByteArray>),
}

impl Column {
    fn push(&mut self, cell: Cell<'_>) -> io::Result<()> {
        match (&mut self.values, cell) {
            (_, Null) => {
                self.levels.push(0);
                return Ok(());
            }
            (Values::Long(values), Long(value)) => values.push(value),
            (Values::Short(values), Short(value)) => values.push(value),
            (Values::Id(values), Id(value)) => values.push(value.as_bytes().to_vec().into()),
            (Values::Bytes(values), Bytes(value)) => values.push(value.to_vec().into()),
            _ => return Err(io::Error::other("a value is in the wrong column")),
        }
        self.levels.push(1);
        Ok(())
    }

    /// The value of the next row; `taken` counts those that were there.
    fn cell(&self, row: usize, taken: &mut usize) -> Cell<'_> {
        if self.levels.get(row) != Some(&1) {
            return Null;
        }
        let at = std::mem::replace(taken, *taken + 1);
        let cell = match &self.values {
            Values::Long(values) => values.get(at).map(|value| Long(*value)),
            Values::Short(values) => values.get(at).map(|value| Short(*value)),
            Values::Id(values) => {
                values.get(at).and_then(|v| Uuid::from_slice(v.data()).ok()).map(Id)
            }
            Values::Bytes(values) => values.get(at).map(|value| Bytes(value.data())),
        };
        cell.unwrap_or(Null)
    }
}

/// A file that is being written.
pub(super) struct Writer {
    file: SerializedFileWriter<Sink>,
    columns: Vec<Column>,
    rows: usize,
}

impl Writer {
    pub(super) fn create(sink: Sink, header: &Header) -> io::Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let header = KeyValue::new(HEADER.to_owned(), ndjson::header(header)?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_key_value_metadata(Some(vec![header]))
            .build();
        let columns = schema.get_fields().iter().map(|field| empty(field.get_physical_type()));
        let columns = columns.collect::<io::Result<_>>()?;
        let file = SerializedFileWriter::new(sink, schema, Arc::new(properties))?;
        Ok(Self { file, columns, rows: 0 })
    }

    pub(super) fn put(&mut self, record: Record<'_>) -> io::Result<()> {
        for (column, cell) in self.columns.iter_mut().zip(cells(record)?) {
            column.push(cell)?;
        }
        self.rows += 1;
        if self.rows == GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut group = self.file.next_row_group()?;
        for column in &mut self.columns {
            let Some(mut out) = group.next_column()? else { break };
            let levels = Some(column.levels.as_slice());
            match &mut column.values {
                Values::Long(values) => {
                    out.typed::<Int64Type>().write_batch(values, levels, None)?;
                    values.clear();
                }
                Values::Short(values) => {
                    out.typed::<Int32Type>().write_batch(values, levels, None)?;
                    values.clear();
                }
                Values::Id(values) => {
                    out.typed::<FixedLenByteArrayType>().write_batch(values, levels, None)?;
                    values.clear();
                }
                Values::Bytes(values) => {
                    out.typed::<ByteArrayType>().write_batch(values, levels, None)?;
                    values.clear();
                }
            }
            column.levels.clear();
            out.close()?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }

    pub(super) fn finish(mut self, counts: Counts) -> io::Result<()> {
        if self.rows > 0 {
            self.flush()?;
        }
        self.file.append_key_value_metadata(KeyValue::new(END.to_owned(), ndjson::end(counts)?));
        let mut sink = self.file.into_inner()?;
        io::Write::flush(&mut sink)
    }
}

fn empty(physical: parquet::basic::Type) -> io::Result<Column> {
    use parquet::basic::Type;
    let values = match physical {
        Type::INT64 => Values::Long(Vec::new()),
        Type::INT32 => Values::Short(Vec::new()),
        Type::FIXED_LEN_BYTE_ARRAY => Values::Id(Vec::new()),
        Type::BYTE_ARRAY => Values::Bytes(Vec::new()),
        other => return Err(io::Error::other(format!("no column is of type {other}"))),
    };
    Ok(Column { levels: Vec::new(), values })
}

/// Microseconds since 1970 of those since 2000.
fn time<'a>(micros: i64) -> io::Result<Cell<'a>> {
    let at = from_micros(micros);
    let at = at.ok_or_else(|| io::Error::other("the log holds a time that no calendar knows"))?;
    Ok(Long(at.timestamp_micros()))
}

/// A row, column by column.
fn cells(record: Record<'_>) -> io::Result<[Cell<'_>; COLUMNS]> {
    let mut cells = [Null; COLUMNS];
    match record {
        Record::Event(event) => {
            cells[..16].copy_from_slice(&[
                Cell::text("event"),
                Long(event.position),
                Id(event.stream_id),
                Long(event.stream_version),
                Id(event.event_id),
                Id(event.command_id),
                Id(event.correlation_id),
                Id(event.causation_id),
                time(event.occurred_at)?,
                time(event.recorded_at)?,
                Short(event.slice.into()),
                Cell::text(event.category),
                Cell::text(event.event_type),
                Cell::text(event.actor),
                Cell::optional(event.traceparent),
                Cell::text(event.payload),
            ]);
        }
        Record::Answer(row) => {
            cells[0] = Cell::text("answer");
            cells[1] = Long(row.position);
            cells[2] = Id(row.stream_id);
            cells[3] = Long(row.version);
            cells[5] = Id(row.command_id);
            cells[9] = time(row.recorded_at)?;
            cells[16] = Bytes(row.request_hash);
            cells[17] = Cell::optional(row.refusal_code);
            cells[18] = Cell::optional(row.refusal_detail);
        }
        Record::Seal(seal) => {
            cells[0] = Cell::text("seal");
            cells[19..].copy_from_slice(&[
                Long(seal.number),
                Long(seal.first),
                Long(seal.last),
                Cell::text(&seal.log),
                Bytes(&seal.seal),
                Long(seal.sealed_at.timestamp_micros()),
            ]);
        }
    }
    Ok(cells)
}

/// Hands `take` what the file holds.
pub(super) fn read(file: File, take: Take<'_>) -> anyhow::Result<()> {
    let reader = SerializedFileReader::new(file)
        .context("the file is not whole: a Parquet file that was cut cannot be read")?;
    let metadata = reader.metadata().file_metadata();
    let found = metadata.schema_descr().columns().iter().map(|column| column.name());
    let schema = parse_message_type(SCHEMA)?;
    ensure!(
        found.eq(schema.get_fields().iter().map(|field| field.name())),
        "it has other columns than an exported log"
    );
    let line = |key: &str| {
        let pairs = metadata.key_value_metadata()?;
        pairs.iter().find(|pair| pair.key == key)?.value.clone()
    };
    let header = line(HEADER).context("it does not say which log it is of")?;
    ndjson::read(header.as_bytes(), take)?;
    for number in 0..reader.num_row_groups() {
        let group = reader.get_row_group(number)?;
        let rows = usize::try_from(group.metadata().num_rows())?;
        let columns = (0..COLUMNS).map(|index| column(&*group, index, rows));
        let columns: Vec<Column> = columns.collect::<anyhow::Result<_>>()?;
        let mut taken = [0; COLUMNS];
        for row in 0..rows {
            let mut cells = [Null; COLUMNS];
            for ((cell, column), taken) in cells.iter_mut().zip(&columns).zip(&mut taken) {
                *cell = column.cell(row, taken);
            }
            piece(&cells, take).with_context(|| format!("row {row} of group {number}"))?;
        }
    }
    line(END).map_or(Ok(()), |end| ndjson::read(end.as_bytes(), take))
}

/// A column of a group, whole.
fn column(group: &dyn RowGroupReader, index: usize, rows: usize) -> anyhow::Result<Column> {
    let mut levels = Vec::with_capacity(rows);
    /// Reads until there is no more: a call may stop at the end of a page.
    macro_rules! whole {
        ($reader:expr, $kind:ident) => {{
            let mut values = Vec::new();
            while levels.len() < rows {
                let left = rows - levels.len();
                let read = $reader.read_records(left, Some(&mut levels), None, &mut values)?;
                ensure!(read.0 > 0, "a column has fewer rows than its group");
            }
            Values::$kind(values)
        }};
    }
    let values = match group.get_column_reader(index)? {
        ColumnReader::Int64ColumnReader(mut reader) => whole!(reader, Long),
        ColumnReader::Int32ColumnReader(mut reader) => whole!(reader, Short),
        ColumnReader::FixedLenByteArrayColumnReader(mut reader) => whole!(reader, Id),
        ColumnReader::ByteArrayColumnReader(mut reader) => whole!(reader, Bytes),
        _ => return Err(ParquetError::General("a column of another type".to_owned()).into()),
    };
    Ok(Column { levels, values })
}

fn piece(cells: &[Cell<'_>; COLUMNS], take: Take<'_>) -> anyhow::Result<()> {
    let micros = |cell: Cell<'_>| cell.time().map(to_micros);
    let seal;
    let record = match cells[0].str()? {
        "event" => {
            let Short(slice) = cells[10] else { bail!("a slice is missing") };
            Record::Event(EventRow {
                position: cells[1].long()?,
                stream_id: cells[2].id()?,
                stream_version: cells[3].long()?,
                event_id: cells[4].id()?,
                command_id: cells[5].id()?,
                correlation_id: cells[6].id()?,
                causation_id: cells[7].id()?,
                occurred_at: micros(cells[8])?,
                recorded_at: micros(cells[9])?,
                slice: slice.try_into()?,
                category: cells[11].str()?,
                event_type: cells[12].str()?,
                actor: cells[13].str()?,
                traceparent: cells[14].optional_str()?,
                payload: cells[15].str()?,
            })
        }
        "answer" => Record::Answer(AnswerRow {
            command_id: cells[5].id()?,
            request_hash: cells[16].bytes()?,
            stream_id: cells[2].id()?,
            version: cells[3].long()?,
            position: cells[1].long()?,
            recorded_at: micros(cells[9])?,
            refusal_code: cells[17].optional_str()?,
            refusal_detail: cells[18].optional_str()?,
        }),
        "seal" => {
            seal = Seal {
                number: cells[19].long()?,
                first: cells[20].long()?,
                last: cells[21].long()?,
                log: cells[22].str()?.to_owned(),
                seal: cells[23].bytes()?.to_vec(),
                sealed_at: cells[24].time()?,
            };
            Record::Seal(&seal)
        }
        other => bail!("a row of kind `{other}`"),
    };
    take(Item::Record(record))
}
