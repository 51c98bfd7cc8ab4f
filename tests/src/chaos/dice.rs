//! Chance that a seed repeats.

use std::ops::Range;

/// A sequence of numbers that follows from its seed.
///
/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014
/// (`SplitMix64`).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice of their own for every list of numbers.
    #[must_use]
    pub fn new(seed: &[u64]) -> Self {
        seed.iter().fold(Self(0), |mut dice, number| Self(dice.throw() ^ *number))
    }

    /// Any number.
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in the range.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        assert!(!range.is_empty());
        range.start + self.throw() % (range.end - range.start)
    }

    /// Yes, in so many of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.range(0..100) < percent
    }

    /// One of them; none where there are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let index = self.throw().checked_rem(of.len().try_into().ok()?)?;
        of.get(usize::try_from(index).ok()?)
    }

    /// So many different numbers below `end`, or as many as there are.
    pub fn several(&mut self, count: usize, end: u32) -> Vec<u32> {
        let mut all: Vec<u32> = (0..end).collect();
        let mut drawn = Vec::new();
        while drawn.len() < count && !all.is_empty() {
            let at = self.range(0..all.len() as u64);
            drawn.extend(usize::try_from(at).map(|at| all.swap_remove(at)));
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same_numbers() {
        let throws = |seed: &[u64]| {
            let mut dice = Dice::new(seed);
            (0..5).map(|_| dice.throw()).collect::<Vec<_>>()
        };
        assert_eq!(throws(&[1, 2]), throws(&[1, 2]));
        assert_ne!(throws(&[1, 2]), throws(&[2, 1]));
        assert_ne!(throws(&[1]), throws(&[1, 0]));
        let mut several = Dice::new(&[7]).several(4, 4);
        several.sort_unstable();
        assert_eq!(several, [0, 1, 2, 3]);
    }
}
