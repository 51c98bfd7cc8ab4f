//! What a process asked and heard, written down line by line.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::{Answer, Ask};

/// A line of a journal. The order of the lines is the order in which things happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Line {
    /// About to be sent.
    Asked {
        /// Tells sends of this journal apart.
        send: u64,
        /// The caller and its turn, where the command was never sent before by anybody.
        turn: Option<(u32, u64)>,
        /// What.
        ask: Ask,
    },
    /// Answered.
    Heard {
        /// To which send.
        send: u64,
        /// What.
        answer: Answer,
    },
}

/// A journal that is being written. A line is with the kernel before the call returns, so it
/// survives the process; it need not survive the machine.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<File>,
    sends: AtomicU64,
}

impl Journal {
    /// Goes on with the journal at `path`, of which `lines` have been read.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn open(path: &Path, lines: &[Line]) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        if file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                // Whoever wrote before was killed in the middle of a line.
                file.write_all(b"\n")?;
            }
        }
        let sends = lines.iter().map(|line| match line {
            Line::Asked { send, .. } | Line::Heard { send, .. } => send + 1,
        });
        let sends = AtomicU64::new(sends.max().unwrap_or(0));
        Ok(Self { file: Mutex::new(file), sends })
    }

    /// Writes down that a command is about to be sent.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn asked(&self, turn: Option<(u32, u64)>, ask: &Ask) -> io::Result<u64> {
        let send = self.sends.fetch_add(1, Ordering::Relaxed);
        self.write(&Line::Asked { send, turn, ask: ask.clone() })?;
        Ok(send)
    }

    /// Writes down what was answered.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn heard(&self, send: u64, answer: &Answer) -> io::Result<()> {
        self.write(&Line::Heard { send, answer: answer.clone() })
    }

    fn write(&self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut file = self.file.lock().map_err(|_| io::Error::other("the journal is broken"))?;
        file.write_all(&text)
    }
}

/// Reads a journal, or its end where it is longer than `bytes_max`. A line that was cut off by a
/// kill says nothing: what it would have asked was not sent, what it would have heard is unknown.
///
/// # Errors
/// Where the file is there and cannot be read.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<Line>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::How;
    use super::*;

    #[test]
    fn a_journal_goes_on_after_a_torn_line() {
        let path = std::env::temp_dir().join(format!("waybill-journal-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let how = How::Append { expected: vec![(1, 2)] };
        let ask = Ask { id: Uuid::from_u128(7), how, moves: vec![(1, 3)], body: 1 };
        let journal = Journal::open(&path, &[]).unwrap();
        assert_eq!(journal.asked(Some((2, 0)), &ask).unwrap(), 0);
        journal.heard(0, &Answer::Contended).unwrap();
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"Asked\":{\"se")
            .unwrap();

        let lines = read(&path, u64::MAX).unwrap();
        let journal = Journal::open(&path, &lines).unwrap();
        assert_eq!(journal.asked(None, &ask).unwrap(), 1);
        let lines = read(&path, u64::MAX).unwrap();
        assert_eq!(
            lines,
            [
                Line::Asked { send: 0, turn: Some((2, 0)), ask: ask.clone() },
                Line::Heard { send: 0, answer: Answer::Contended },
                Line::Asked { send: 1, turn: None, ask },
            ]
        );
        assert_eq!(read(&path, 150).unwrap().len(), 1);
        std::fs::remove_file(&path).unwrap();
    }
}
