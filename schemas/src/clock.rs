//! Time and chance, handed to whoever needs them instead of being reached for.

use chrono::{DateTime, SubsecRound as _, Utc};
use uuid::Uuid;

/// A moment in UTC, kept to the millisecond.
pub type Timestamp = DateTime<Utc>;

/// Where a component reads the time.
#[derive(Debug, Clone, Copy)]
pub struct Clock(fn() -> Timestamp);

impl Clock {
    /// The machine's clock, cut to milliseconds.
    #[must_use]
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
        Self(|| Utc::now().trunc_subsecs(3))
    }

    /// A clock that a test winds by hand.
    #[must_use]
    pub fn from_fn(now: fn() -> Timestamp) -> Self {
        Self(now)
    }

    /// The current time.
    #[must_use]
    pub fn now(self) -> Timestamp {
        (self.0)()
    }
}

/// Where a component gets new ids.
#[derive(Debug, Clone, Copy)]
pub struct Ids(fn() -> Uuid);

impl Ids {
    /// Version 7 ids: unique, and sorted by the time of their making.
    #[must_use]
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place where chance comes in")]
        Self(Uuid::now_v7)
    }

    /// Ids that a test chooses.
    #[must_use]
    pub fn from_fn(next: fn() -> Uuid) -> Self {
        Self(next)
    }

    /// A new id.
    #[must_use]
    pub fn next(self) -> Uuid {
        (self.0)()
    }
}

/// Where a component gets bytes that nobody can foresee: keys, and numbers used once.
#[derive(Debug, Clone, Copy)]
pub struct Chance(fn(&mut [u8]));

impl Chance {
    /// The operating system's.
    ///
    /// # Panics
    /// Later, where bytes are asked for and the operating system has none: nothing that needs them
    /// may then be done.
    #[must_use]
    pub fn system() -> Self {
        Self(|bytes| {
            if let Err(error) = getrandom::fill(bytes) {
                panic!("the operating system has no randomness: {error}");
            }
        })
    }

    /// Bytes that a test chooses.
    #[must_use]
    pub fn from_fn(fill: fn(&mut [u8])) -> Self {
        Self(fill)
    }

    /// So many bytes.
    #[must_use]
    pub fn bytes<const N: usize>(self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.0)(&mut bytes);
        bytes
    }
}
