//! How far a walk through the log has come: a bar with rate and time left on a terminal, a line
//! of JSON a second elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use event_store::log::Walked;
use serde_json::json;
use tokio::time::Instant;

use crate::progress::Progress;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Progress of a walk.
#[derive(Debug)]
pub(super) struct Pace {
    bar: Option<Progress>,
    started: Instant,
    told: Instant,
}

impl Pace {
    /// Starts now.
    pub(super) fn start() -> Self {
        let bar = io::stderr().is_terminal().then(|| Progress::new("events", 0));
        let started = Instant::now();
        Self { bar, started, told: started }
    }

    /// So much is done.
    pub(super) fn set(&mut self, Walked { done, total }: Walked) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rate = done.saturating_mul(1000) / millis.max(1);
        if let Some(bar) = &mut self.bar {
            bar.say(format!("{rate}/s,"));
            bar.set(done, total);
            return;
        }
        if self.told.elapsed() < LINE_EVERY {
            return;
        }
        self.told = Instant::now();
        let left = total.saturating_sub(done).checked_div(rate);
        let line = json!({ "done": done, "total": total, "per_second": rate, "eta_seconds": left });
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// How long it took, and how many a second that were.
    pub(super) fn end(self, done: u64) -> (Duration, u64) {
        let took = self.started.elapsed();
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        (took, done.saturating_mul(1000) / millis.max(1))
    }
}
