//! How far something has come: a bar where standard error is a terminal; elsewhere plain lines, or
//! for what runs long a line of JSON a second.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// How often the bar moves while nothing else happens.
const TICK: Duration = Duration::from_millis(200);

/// How often a line is written where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Something that is being done, piece by piece.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    done: u64,
    total: u64,
    message: String,
    /// The tenths that were told.
    told: u64,
}

impl Progress {
    /// `total` pieces of `what`, as `events`.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total);
            let template = format!("  {{bar:36.cyan}} {{pos}}/{{len}} {what} {{msg}} {{eta}} left");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { what, bar, done: 0, total, message: String::new(), told: 0 }
    }

    /// So many of so many are done.
    pub(crate) fn set(&mut self, done: u64, total: u64) {
        (self.done, self.total) = (done, total);
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        let tenths = (done * 10).checked_div(total).unwrap_or(10);
        if tenths > self.told {
            self.told = tenths;
            let mut stderr = io::stderr().lock();
            let message = &self.message;
            let _ = writeln!(stderr, "  {done}/{total} {} {message}", self.what);
        }
    }

    /// One more is done.
    pub(crate) fn advance(&mut self) {
        self.set(self.done + 1, self.total);
    }

    /// What else there is to say: a rate, a lag.
    pub(crate) fn say(&mut self, message: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(message.clone());
        }
        self.message = message;
    }
}

/// How far a rebuild is.
#[derive(Debug)]
pub(crate) struct RebuildProgress {
    name: String,
    bar: Option<ProgressBar>,
    told: Instant,
}

impl RebuildProgress {
    /// The rebuild of the read model `name`.
    pub(crate) fn new(name: &str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let template = "  {bar:36.cyan} {pos}/{len} positions {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { name: name.to_owned(), bar, told: Instant::now() }
    }

    /// It is there now. Without a terminal told once a second, on standard error.
    pub(crate) fn set(&mut self, progress: projections::Progress) {
        let projections::Progress { stage, done, total, per_second, left } = progress;
        let left_s = left.map(|left| left.as_secs());
        if let Some(bar) = &self.bar {
            bar.set_length(total.unsigned_abs());
            bar.set_position(done.unsigned_abs());
            let left = left_s.map(|left_s| format!(", {left_s} s left")).unwrap_or_default();
            bar.set_message(format!("{}, {per_second}/s{left}", stage.as_str()));
        } else if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let line = serde_json::json!({
                "projection": self.name, "stage": stage.as_str(), "done": done, "total": total,
                "per_second": per_second, "left_s": left_s,
            });
            let _ = writeln!(io::stderr().lock(), "{line}");
        }
    }
}

impl Drop for RebuildProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
