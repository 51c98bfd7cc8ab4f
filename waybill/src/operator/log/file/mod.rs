//! An exported log as a file: lines of JSON, or Parquet.
//!
//! Both hold the same: what the file says about itself, every seal, every event in order with the
//! answers of the ledger between them, and at the end how many rows there are.

mod ndjson;
mod parquet;

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use event_store::log::{Counts, Header, Record};

use crate::output::Output;

/// What stands for standard input or output.
pub(super) const STANDARD: &str = "-";

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A JSON object on each line.
    Ndjson,
    /// Apache Parquet: columns, compressed.
    Parquet,
}

/// A piece of a file that is read.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// What it says about itself; the first piece.
    Header(Header),
    /// A row.
    Record(Record<'a>),
    /// How many rows it should have had; the last piece, missing where the file was cut.
    End(Counts),
}

/// Whoever takes the pieces of a file.
pub(super) type Take<'t> = &'t mut dyn FnMut(Item<'_>) -> anyhow::Result<()>;

/// Where a file is written to.
type Sink = Box<dyn Write + Send>;

/// A file that is being written.
pub(super) struct Writer {
    rows: Rows,
    /// Where it is until it is whole, and where it goes then.
    place: Option<(PathBuf, PathBuf)>,
}

enum Rows {
    Ndjson(ndjson::Writer),
    Parquet(Box<parquet::Writer>),
}

impl Writer {
    /// Begins a file, or standard output.
    pub(super) fn create(format: Format, output: &str, header: &Header) -> anyhow::Result<Self> {
        let (sink, place): (Sink, _) = if output == STANDARD {
            (Box::new(BufWriter::new(Output::bytes())), None)
        } else {
            let whole = PathBuf::from(output);
            let mut part = whole.clone().into_os_string();
            part.push(".part");
            let part = PathBuf::from(part);
            let file = File::create(&part);
            let file = file.with_context(|| format!("cannot write {}", part.display()))?;
            (Box::new(BufWriter::new(file)), Some((part, whole)))
        };
        let rows = match format {
            Format::Ndjson => Rows::Ndjson(ndjson::Writer::create(sink, header)?),
            Format::Parquet => Rows::Parquet(Box::new(parquet::Writer::create(sink, header)?)),
        };
        Ok(Self { rows, place })
    }

    /// Adds a row.
    pub(super) fn put(&mut self, record: Record<'_>) -> io::Result<()> {
        match &mut self.rows {
            Rows::Ndjson(writer) => writer.put(record),
            Rows::Parquet(writer) => writer.put(record),
        }
    }

    /// Ends the file, on the disk and under its name.
    pub(super) fn finish(self, counts: Counts) -> anyhow::Result<()> {
        let written = match self.rows {
            Rows::Ndjson(writer) => writer.finish(counts),
            Rows::Parquet(writer) => writer.finish(counts),
        };
        written.context("cannot end the file")?;
        if let Some((part, whole)) = self.place {
            let moved = File::open(&part)
                .and_then(|file| file.sync_all())
                .and_then(|()| fs::rename(&part, &whole));
            moved.with_context(|| format!("cannot make {}", whole.display()))?;
        }
        Ok(())
    }
}

/// Hands `take` every piece of a file, whichever format it is in.
pub(super) fn read(file: &str, take: Take<'_>) -> anyhow::Result<()> {
    if file == STANDARD {
        return ndjson::read(BufReader::new(io::stdin()), take);
    }
    let path = Path::new(file);
    let unread = || format!("cannot read {file}");
    let mut open = File::open(path).with_context(unread)?;
    let mut magic = [0; 4];
    let is_parquet = open.read_exact(&mut magic).is_ok() && &magic == b"PAR1";
    // A pipe cannot go back, and holds no Parquet either.
    if open.metadata().with_context(unread)?.is_file() {
        open.rewind().with_context(unread)?;
        return if is_parquet {
            parquet::read(open, take).with_context(unread)
        } else {
            ndjson::read(BufReader::new(open), take).with_context(unread)
        };
    }
    let begun = io::Cursor::new(magic).chain(open);
    ndjson::read(BufReader::new(begun), take).with_context(unread)
}
