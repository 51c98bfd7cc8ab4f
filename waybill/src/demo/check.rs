//! What must be so at the end of a scene, said aloud and counted.

use std::fmt::{Debug, Display};

use crate::output::{Output, Style};

/// Expectations that were met and not met.
#[derive(Debug)]
pub(super) struct Checks {
    output: Output,
    met: u32,
    missed: u32,
}

impl Checks {
    pub(super) fn new(output: Output) -> Self {
        Self { output, met: 0, missed: 0 }
    }

    /// `what` must be `expected`.
    pub(super) fn equal<T: PartialEq + Debug>(
        &mut self,
        what: impl Display,
        found: &T,
        expected: &T,
    ) {
        if found == expected {
            self.met(what);
        } else {
            self.missed(format_args!("{what}: expected {expected:?}, found {found:?}"));
        }
    }

    /// `what` must hold.
    pub(super) fn holds(&mut self, what: impl Display, holds: bool) {
        if holds { self.met(what) } else { self.missed(what) }
    }

    fn met(&mut self, what: impl Display) {
        self.met += 1;
        let mark = self.output.paint(Style::Good, "✓");
        self.output.line(format_args!("  {mark} {what}"));
    }

    fn missed(&mut self, what: impl Display) {
        self.missed += 1;
        self.output.line(self.output.paint(Style::Bad, format_args!("  ✗ {what}")));
    }

    /// Says the sum, and whether all was met.
    pub(super) fn verdict(&self) -> bool {
        let all = self.missed == 0;
        let text = match self.missed {
            0 => format!("Every ending is the right one: {} checks.", self.met),
            missed => format!("{missed} of {} checks failed.", self.met + missed),
        };
        self.output.line(self.output.paint(if all { Style::Good } else { Style::Bad }, text));
        all
    }
}
