//! The file that outlives the process: one line of JSON for every change.
//!
//! Lines reach the operating system before the caller is answered, so they survive a killed
//! process; they are not synced to the disk, so they need not survive a power cut.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Mutex;

use serde::{Serialize, de::DeserializeOwned};

/// An append-only file of lines, or nothing at all.
#[derive(Debug)]
pub(crate) struct Journal(Option<Mutex<File>>);

impl Journal {
    /// Opens `path` and hands back what it holds. A last line that was cut off by a kill is
    /// dropped: its caller was never answered.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or a whole line is not what was written.
    pub(crate) fn open<L: DeserializeOwned>(path: Option<&Path>) -> io::Result<(Self, Vec<L>)> {
        let Some(path) = path else { return Ok((Self(None), Vec::new())) };
        let text = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let lines = text[..whole]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice)
            .collect::<Result<Vec<L>, _>>()?;
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(whole as u64)?;
        Ok((Self(Some(Mutex::new(file))), lines))
    }

    /// Adds a line. A failed write is reported and otherwise ignored: the books in memory stay
    /// right, and only a kill would show what is missing.
    pub(crate) fn append(&self, line: &impl Serialize) {
        let Some(file) = &self.0 else { return };
        let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            file.write_all(&bytes)
        });
        if let Err(error) = written {
            tracing::error!(%error, "the sandbox cannot write its journal");
        }
    }
}
