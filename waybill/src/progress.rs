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
        if let Some(bar) = &self.bar {
            bar.set_length(total.unsigned_abs());
            bar.set_position(done.unsigned_abs());
            bar.set_message(beside_the_bar(progress));
        } else if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let line = serde_json::json!({
                "projection": self.name, "stage": stage.as_str(), "done": done, "total": total,
                "per_second": per_second, "left_s": left.map(|left| left.as_secs()),
            });
            let _ = writeln!(io::stderr().lock(), "{line}");
        }
    }
}

/// What a rebuild does, how fast, and how long it takes yet.
fn beside_the_bar(progress: projections::Progress) -> String {
    let projections::Progress { stage, per_second, left, .. } = progress;
    let left = left.map(|left| format!(", {} s left", left.as_secs())).unwrap_or_default();
    format!("{}, {per_second}/s{left}", stage.as_str())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_tells_the_rate_and_the_time_that_is_left() {
        let stage = projections::Stage::Folding;
        let left = Some(Duration::from_millis(72_900));
        let progress = projections::Progress { stage, done: 7, total: 9, per_second: 1_200, left };
        assert_eq!(beside_the_bar(progress), "folding, 1200/s, 72 s left");
        let progress = projections::Progress { per_second: 0, left: None, ..progress };
        assert_eq!(beside_the_bar(progress), "folding, 0/s");
    }
}
