//! Into which groups the slices are cut, so that each can be folded apart and in memory.

use schemas::Position;

use super::Rebuild;

/// How many slices there are, as the log stores them.
pub(super) const SLICES: i16 = 1024;

/// How many positions of the log a group should stand for: what a kill costs at most.
const GROUP_POSITIONS: i64 = 2_000_000;

/// The most groups. Each reads the whole log, though Postgres sends it only its own slices.
const GROUPS_MAX: i64 = 64;

/// Slices side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Group {
    /// The first.
    #[sqlx(rename = "from_slice")]
    pub(super) from: i16,
    /// The first that is beyond.
    #[sqlx(rename = "before_slice")]
    pub(super) before: i16,
}

impl Group {
    /// Every slice.
    pub(super) const ALL: Self = Self { from: 0, before: SLICES };

    /// How many.
    pub(super) fn slices(self) -> i16 {
        self.before - self.from
    }
}

/// The groups for a log of so many positions and a table of about so many rows. Each is to come to
/// half of the rows that are held in memory, for the estimate may be wrong.
pub(super) fn groups(positions: Position, rows: i64, how: Rebuild) -> Vec<Group> {
    let group_rows = i64::try_from(how.rows_max / 2).unwrap_or(i64::MAX).max(1);
    let groups =
        i64::from(how.parallel).max(rows / group_rows + 1).max(positions / GROUP_POSITIONS + 1);
    cut(groups.clamp(1, GROUPS_MAX))
}

/// Cuts all slices into so many groups, as even as can be.
fn cut(groups: i64) -> Vec<Group> {
    let edge = |n: i64| i16::try_from(i64::from(SLICES) * n / groups).unwrap_or(SLICES);
    (0..groups).map(|n| Group { from: edge(n), before: edge(n + 1) }).collect()
}

#[cfg(test)]
mod tests {
    use schemas::Chance;

    use super::*;

    #[test]
    fn groups_lie_side_by_side_and_cover_every_slice() {
        for count in 1..=GROUPS_MAX {
            let groups = cut(count);
            assert_eq!(groups.len(), usize::try_from(count).unwrap());
            assert_eq!((groups[0].from, groups[groups.len() - 1].before), (0, SLICES));
            assert!(groups.windows(2).all(|pair| pair[0].before == pair[1].from));
            assert!(groups.iter().all(|group| group.slices() >= 16));
        }
    }

    #[test]
    fn there_are_more_groups_the_more_there_is_to_fold() {
        let one = Rebuild { parallel: 1, ..Rebuild::new(Chance::system()) };
        assert_eq!(groups(0, -1, one), [Group::ALL]);
        let two = Rebuild { parallel: 2, ..one };
        assert_eq!(groups(1_000, 100, two).len(), 2);
        assert_eq!(groups(10_000_000, 100, two).len(), 6);
        assert_eq!(groups(1_000, 1_000_000, two).len(), 11);
        assert_eq!(groups(Position::MAX, Position::MAX, two).len(), 64);
    }
}
