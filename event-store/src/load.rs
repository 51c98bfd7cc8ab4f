//! Reading streams and the log.

use schemas::Version;

/// A stream, folded.
#[derive(Debug, Clone)]
pub struct Loaded<S> {
    /// What came of its events.
    pub state: S,
    /// How many there are.
    pub version: Version,
}
