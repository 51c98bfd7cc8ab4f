//! How long to wait after a failure.

use std::time::Duration;

/// The ceiling of the first wait.
const DELAY_MS_MIN: u64 = 50;

/// The ceiling of every wait.
const DELAY_MS_MAX: u64 = 5_000;

/// How long to wait before trying again after `failures` failures in a row.
///
/// The ceiling starts at 50 ms, doubles with every failure, and stops at 5 s. The wait is drawn
/// evenly from the upper half below the ceiling (`chance` is any number), so that those who
/// failed together do not come back together.
///
/// Source: Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015 ("equal
/// jitter").
///
/// # Panics
/// If `failures` is 0: there is nothing to wait for.
fn delay(failures: u32, chance: u64) -> Duration {
    assert!(failures > 0, "nothing has failed");
    let doublings = (failures - 1).min(20);
    let ceiling_ms = (DELAY_MS_MIN << doublings).min(DELAY_MS_MAX);
    let half_ms = ceiling_ms / 2;
    Duration::from_millis(half_ms + chance % (half_ms + 1))
}

/// Counts failures in a row, so that each change of state is logged once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure. True for the first in a row, which is the one to log.
    pub(crate) fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }

    /// Ends the row. True where there was one.
    pub(crate) fn recovered(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }

    /// How long to wait now.
    pub(crate) fn delay(&self) -> Duration {
        wait(self.failures.max(1))
    }
}

/// How long to wait now, after `failures` failures in a row.
pub(crate) fn wait(failures: u32) -> Duration {
    delay(failures, chance())
}

/// Any number, another one each time: the standard library seeds its hashers by chance.
fn chance() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_ceiling() {
        for (failures, shortest, longest) in
            [(1, 25, 50), (2, 50, 100), (3, 100, 200), (8, 2_500, 5_000), (u32::MAX, 2_500, 5_000)]
        {
            for chance in [0, 1, 49, 50, 12_345, u64::MAX] {
                let delay = delay(failures, chance).as_millis();
                assert!((shortest..=longest).contains(&delay), "{failures}, {chance}: {delay}");
            }
        }
    }

    #[test]
    fn only_a_change_of_state_is_told() {
        let mut faults = Backoff::default();
        assert!(!faults.recovered());
        assert!(faults.failed());
        assert!(!faults.failed());
        assert!(faults.recovered());
        assert!(!faults.recovered());
        assert!(faults.failed());
    }
}
