//! Into which groups the slices are cut, so that each can be folded apart and in memory.

use event_store::Slices;
use schemas::Position;

use super::Rebuild;

/// How many positions of the log a group should stand for: what a kill costs at most.
const GROUP_POSITIONS: i64 = 2_000_000;

/// The most groups. Each reads the whole log, though Postgres sends it only its own slices.
const GROUPS_MAX: i64 = 64;

/// How many slices a group has.
pub(super) fn count(group: Slices) -> i64 {
    i64::from(group.before() - group.from())
}

/// The groups for a log of so many positions and a table of about so many rows. Each is to come to
/// half of the rows that are held in memory, for the estimate may be wrong.
pub(super) fn groups(positions: Position, rows: i64, how: Rebuild) -> Vec<Slices> {
    let group_rows = i64::try_from(how.rows_max / 2).unwrap_or(i64::MAX).max(1);
    let groups =
        i64::from(how.parallel).max(rows / group_rows + 1).max(positions / GROUP_POSITIONS + 1);
    cut(groups.clamp(1, GROUPS_MAX))
}

/// Cuts all slices into so many groups, as even as can be.
fn cut(groups: i64) -> Vec<Slices> {
    let edge = |n: i64| {
        let slice = count(Slices::ALL) * n / groups;
        i16::try_from(slice).unwrap_or(Slices::ALL.before())
    };
    (0..groups).map(|n| Slices::new(edge(n), edge(n + 1))).collect()
}

#[cfg(test)]
mod tests {
    use schemas::Chance;

    use super::*;

    #[test]
    fn groups_lie_side_by_side_and_cover_every_slice() {
        for number in 1..=GROUPS_MAX {
            let groups = cut(number);
            assert_eq!(groups.len(), usize::try_from(number).unwrap());
            assert_eq!((groups[0].from(), groups[groups.len() - 1].before()), (0, 1024));
            assert!(groups.windows(2).all(|pair| pair[0].before() == pair[1].from()));
            assert!(groups.iter().all(|group| count(*group) >= 16));
        }
    }

    #[test]
    fn there_are_more_groups_the_more_there_is_to_fold() {
        let one = Rebuild { parallel: 1, ..Rebuild::new(Chance::system()) };
        assert_eq!(groups(0, -1, one), [Slices::ALL]);
        let two = Rebuild { parallel: 2, ..one };
        assert_eq!(groups(1_000, 100, two).len(), 2);
        assert_eq!(groups(10_000_000, 100, two).len(), 6);
        assert_eq!(groups(1_000, 1_000_000, two).len(), 11);
        assert_eq!(groups(Position::MAX, Position::MAX, two).len(), 64);
    }
}
