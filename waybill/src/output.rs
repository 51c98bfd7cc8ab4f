//! The one place that writes to standard output. Logs go to standard error instead.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a line could not be written.
static UNREAD: AtomicBool = AtomicBool::new(false);

/// How a piece of text stands out, where there is a terminal to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A heading.
    Bold,
    /// Of less weight.
    Dim,
    /// Went well.
    Good,
    /// Went wrong.
    Bad,
    /// Worth a look: a compensation, a warning.
    Notice,
    /// A name or a number to find again.
    Key,
}

impl Style {
    /// The parameter of the ANSI sequence that turns it on.
    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "31;1",
            Self::Notice => "33",
            Self::Key => "36",
        }
    }
}

/// Standard output, in colour only where a person looks at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    sink: fn() -> io::Stdout,
    colour: bool,
}

impl Output {
    /// Colour where standard output is a terminal and `NO_COLOR` is not set.
    pub(crate) fn standard() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { sink: io::stdout, colour: wanted && io::stdout().is_terminal() }
    }

    /// Writes a line. A reader that went away (`waybill … | head`) is no fault of ours.
    pub(crate) fn line(self, text: impl Display) {
        let mut stdout = (self.sink)().lock();
        if writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_err() {
            UNREAD.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the reader went away, so that there is nobody to write for.
    pub(crate) fn is_unread() -> bool {
        UNREAD.load(Ordering::Relaxed)
    }

    /// Standard output for bytes that are no lines: an exported log.
    pub(crate) fn bytes() -> io::Stdout {
        io::stdout()
    }

    /// Empties the screen of a terminal.
    pub(crate) fn clear(self) {
        let mut stdout = (self.sink)().lock();
        let _ = write!(stdout, "\u{1b}[2J\u{1b}[H");
    }

    /// An empty line.
    pub(crate) fn gap(self) {
        self.line("");
    }

    /// `text` in `style`, where there is colour.
    pub(crate) fn paint(self, style: Style, text: impl Display) -> String {
        if self.colour {
            format!("\u{1b}[{}m{text}\u{1b}[0m", style.code())
        } else {
            text.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_painted_without_a_terminal() {
        let output = |colour| Output { sink: io::stdout, colour };
        assert_eq!(output(false).paint(Style::Bad, "no"), "no");
        assert_eq!(output(true).paint(Style::Good, "yes"), "\u{1b}[32myes\u{1b}[0m");
    }
}
