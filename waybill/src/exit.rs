//! How the program ends, and what its exit code says.

use std::process::ExitCode;

/// The codes, for `--help` and the README.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done, or stopped in order
  1  failed: the reason is the last line of standard error
  2  not started: an option, a variable or a server it needs is missing or wrong
  3  stopped at once: a second signal came, or the drain time was over; the log has kept
     everything that was answered, and the next start goes on from there";

/// How a run ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything begun was finished.
    Orderly,
    /// Something failed, and the rest was stopped in order.
    Failed,
    /// Stopped before everything was finished.
    Cut,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Orderly => Self::SUCCESS,
            Ending::Failed => Self::FAILURE,
            Ending::Cut => Self::from(3),
        }
    }
}

/// Something the operator has to set right before the program can start. The message says
/// what is wrong, where, and what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misconfigured(pub(crate) String);

impl Misconfigured {
    /// As an error for `anyhow`.
    pub(crate) fn error(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(message.into()))
    }
}

/// The code for a run that failed.
pub(crate) fn code_of(error: &anyhow::Error) -> ExitCode {
    let misconfigured = error.chain().any(<dyn std::error::Error>::is::<Misconfigured>);
    if misconfigured { ExitCode::from(2) } else { ExitCode::FAILURE }
}
