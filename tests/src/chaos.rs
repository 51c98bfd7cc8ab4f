//! Callers that append at random, and the journals that they leave behind.
//!
//! A caller draws a command, writes down that it is about to send it, sends it, and writes down
//! what it heard. Killed at any moment, its journal still tells what was asked and what was
//! answered, and the next process goes on from there. `chaos-appender` is the program; the test
//! that runs it is `tests/it/event_store/chaos.rs`.
//!
//! What a seed fixes: which commands every caller asks, in which order, and how stubborn it is.
//! What it does not fix: how the callers interleave, and so the versions that they expect.

mod account;
mod ask;
mod caller;
mod dice;
mod journal;

use std::path::{Path, PathBuf};

use schemas::{Category, StreamId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use account::{Accounts, Event, Order};
pub use ask::{Answer, Ask, How};
pub use caller::run;
pub use dice::Dice;
pub use journal::{Journal, Line, read};

/// What one process does. It is handed over as JSON, the program's only argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The log's database.
    pub database_url: String,
    /// Where every process keeps its journal.
    pub folder: PathBuf,
    /// Which process this is, counted from 0.
    pub process: u32,
    /// How many there are.
    pub processes: u32,
    /// How many callers it has; none of them is ever without a command on its way.
    pub callers: u32,
    /// How many commands each of them makes up.
    pub turns: u64,
    /// How many streams all processes share.
    pub streams: u32,
    /// What is drawn follows from this.
    pub seed: u64,
    /// Instead of making up commands, sends again those that are in the others' journals.
    pub settle: bool,
}

impl Plan {
    /// The journal of a process.
    #[must_use]
    pub fn journal(folder: &Path, process: u32) -> PathBuf {
        folder.join(format!("journal-{process}"))
    }
}

/// A stream of a run, by its number.
#[must_use]
pub fn stream(seed: u64, number: u32) -> StreamId {
    StreamId::new(Category::Order, id(seed, &format!("stream/{number}")))
}

/// The id of the command that a caller makes up at a turn.
#[must_use]
pub fn command(seed: u64, process: u32, caller: u32, turn: u64) -> Uuid {
    id(seed, &format!("command/{process}/{caller}/{turn}"))
}

fn id(seed: u64, name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::from_u128(u128::from(seed)), name.as_bytes())
}
