//! How far something has come: a bar where standard error is a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the bar moves while nothing else happens.
const TICK: Duration = Duration::from_millis(200);

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

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
