//! What a member sees of a consumer, and what it makes of it: pure, so that every member that sees the
//! same decides the same.

use schemas::Position;
use sqlx::FromRow;

use crate::slice::Slices;

/// A range as it stands in the database.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Range {
    pub(super) from_slice: i16,
    pub(super) before_slice: i16,
    pub(super) position: Position,
    pub(super) stop_at: Option<Position>,
    pub(super) epoch: i64,
    pub(super) owner: Option<String>,
    pub(super) held: bool,
}

impl Range {
    pub(super) fn slices(&self) -> Slices {
        Slices::new(self.from_slice, self.before_slice)
    }

    fn is_free(&self) -> bool {
        !self.held && self.stop_at.is_none_or(|stop| self.position < stop)
    }

    fn is_held_by(&self, member: &str) -> bool {
        self.held && self.owner.as_deref() == Some(member)
    }
}

/// Where the ranges for so many workers begin: each at the position of the range that it is cut
/// from, or all at the one position that all stand at. None where they stand apart.
pub(super) fn layout(ranges: &[Range], workers: i16) -> Option<Vec<(Slices, Position)>> {
    let first = ranges.first()?.position;
    let together = ranges.iter().all(|range| range.position == first);
    let position = |slices: Slices| {
        let whole = ranges.iter().find(|range| range.slices().covers(slices));
        whole.map(|range| range.position).or_else(|| together.then_some(first))
    };
    Slices::cut(workers).into_iter().map(|slices| Some((slices, position(slices)?))).collect()
}

/// What a member sees.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) ranges: Vec<Range>,
    /// The other members that live.
    pub(super) others: Vec<String>,
    /// How many ranges there are to be.
    pub(super) workers: i16,
}

/// What a member makes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The consumer is new.
    Begin,
    /// There are to be so many ranges.
    LayOut(i16),
    /// Takes the ranges that begin there.
    Take(Vec<i16>),
    /// Gives back the range that begins there.
    Release(i16),
    /// Looks again soon.
    Look,
    /// All is well.
    Rest,
}

impl Scene {
    /// Everybody holds as many as everybody else, or one more.
    pub(super) fn step(&self, me: &str) -> Step {
        let Self { ranges, others, workers } = self;
        if ranges.is_empty() {
            return Step::Begin;
        }
        let wanted = usize::try_from(*workers).unwrap_or(1);
        if ranges.len() != wanted || ranges.iter().any(|range| range.stop_at.is_some()) {
            let at_stop = ranges.iter().all(|range| !range.held && !range.is_free());
            let asked = ranges.iter().any(|range| range.stop_at.is_some());
            if !asked || at_stop {
                return Step::LayOut(*workers);
            }
        }
        let held_by = |member: &str| ranges.iter().filter(|range| range.is_held_by(member)).count();
        let (mine, members) = (held_by(me), others.len() + 1);
        let (least, most) = (ranges.len() / members, ranges.len().div_ceil(members));
        let needy = others.iter().any(|other| held_by(other) < least);
        let free = ranges.iter().filter(|range| range.is_free());
        let quota = match mine {
            mine if mine < least => least - mine,
            mine if mine < most && !needy => 1,
            _ => 0,
        };
        let taken: Vec<_> = free.take(quota).map(|range| range.from_slice).collect();
        if !taken.is_empty() {
            return Step::Take(taken);
        }
        if mine > most || mine > least && needy {
            let surplus = ranges.iter().rfind(|range| range.is_held_by(me));
            return surplus.map_or(Step::Look, |range| Step::Release(range.from_slice));
        }
        let settled = mine > 0 && ranges.iter().all(|range| range.held);
        if settled { Step::Rest } else { Step::Look }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many ranges, each held by who is named.
    fn scene<const N: usize>(owners: [Option<&str>; N], others: &[&str]) -> Scene {
        let workers = i16::try_from(N).unwrap();
        let ranges = Slices::cut(workers).into_iter().zip(owners).map(|(slices, owner)| Range {
            from_slice: slices.from(),
            before_slice: slices.before(),
            position: 7,
            stop_at: None,
            epoch: 1,
            owner: owner.map(str::to_owned),
            held: owner.is_some(),
        });
        let others = others.iter().map(|other| (*other).to_owned()).collect();
        Scene { ranges: ranges.collect(), others, workers }
    }

    #[test]
    fn whoever_is_alone_takes_everything() {
        let new = Scene { ranges: Vec::new(), others: Vec::new(), workers: 1 };
        assert_eq!(new.step("a"), Step::Begin);
        let free = scene([None, None, None, None], &[]);
        assert_eq!(free.step("a"), Step::Take(vec![0, 256, 512, 768]));
        let a = Some("a");
        assert_eq!(scene([a, a, a, a], &[]).step("a"), Step::Rest);
    }

    #[test]
    fn whoever_joins_is_given_a_share() {
        let (a, b) = (Some("a"), Some("b"));
        assert_eq!(scene([a, a, a, a], &["b"]).step("a"), Step::Release(768));
        assert_eq!(scene([a, a, a, a], &["a"]).step("b"), Step::Look);
        assert_eq!(scene([a, a, a, None], &["b"]).step("a"), Step::Release(512));
        assert_eq!(scene([a, a, a, None], &["a"]).step("b"), Step::Take(vec![768]));
        assert_eq!(scene([a, a, b, b], &["b"]).step("a"), Step::Rest);
        // One range stays where it is.
        assert_eq!(scene([a], &["b"]).step("a"), Step::Rest);
        assert_eq!(scene([a], &["a"]).step("b"), Step::Look);
    }

    #[test]
    fn what_a_dead_member_held_is_taken_over() {
        let a = Some("a");
        assert_eq!(scene([a, a, None, None], &[]).step("a"), Step::Take(vec![512, 768]));
        assert_eq!(scene([None], &["b"]).step("a"), Step::Take(vec![0]));
    }

    #[test]
    fn however_it_begins_everybody_ends_with_a_fair_share() {
        let members = ["a", "b", "c", "d", "e"];
        for ranges in [1_usize, 2, 3, 5, 8, 13] {
            for count in 1..=members.len() {
                let workers = i16::try_from(ranges).unwrap();
                let mut world = scene([Some("a")], &[]);
                world.workers = workers;
                world.ranges = Slices::cut(workers)
                    .into_iter()
                    .map(|slices| Range {
                        from_slice: slices.from(),
                        before_slice: slices.before(),
                        ..world.ranges[0].clone()
                    })
                    .collect();
                for _ in 0..64 {
                    for me in &members[..count] {
                        world.others = members[..count]
                            .iter()
                            .filter(|other| *other != me)
                            .map(|other| (*other).to_owned())
                            .collect();
                        let (from, held) = match world.step(me) {
                            Step::Take(from) => (from, true),
                            Step::Release(from) => (vec![from], false),
                            _ => continue,
                        };
                        for range in &mut world.ranges {
                            if from.contains(&range.from_slice) {
                                assert_ne!(range.held, held);
                                range.held = held;
                                range.owner = Some((*me).to_owned());
                            }
                        }
                    }
                }
                let shares = members[..count].iter().map(|member| {
                    world.ranges.iter().filter(|range| range.is_held_by(member)).count()
                });
                let shares: Vec<_> = shares.collect();
                assert_eq!(shares.iter().sum::<usize>(), ranges);
                let (least, most) = (ranges / count, ranges.div_ceil(count));
                assert!(shares.iter().all(|share| (least..=most).contains(share)), "{shares:?}");
            }
        }
    }

    #[test]
    fn a_range_is_cut_at_once_and_ranges_are_joined_where_they_meet() {
        let mut scene = scene([None, None], &[]);
        let cut = layout(&scene.ranges, 4).unwrap();
        assert_eq!(cut.len(), 4);
        scene.ranges[1].position = 9;
        let cut = layout(&scene.ranges, 4).unwrap();
        assert_eq!(cut.iter().map(|(_, position)| *position).collect::<Vec<_>>(), [7, 7, 9, 9]);
        assert!(layout(&scene.ranges, 1).is_none());
        assert!(layout(&scene.ranges, 3).is_none());
        scene.ranges[0].position = 9;
        assert_eq!(layout(&scene.ranges, 1).unwrap(), [(Slices::ALL, 9)]);
        assert_eq!(layout(&scene.ranges, 3).unwrap().len(), 3);
    }

    #[test]
    fn ranges_that_are_to_be_joined_first_come_to_one_position() {
        let (a, mut scene) = (Some("a"), scene([Some("a"), Some("a")], &[]));
        scene.workers = 1;
        assert_eq!(scene.step("a"), Step::LayOut(1));
        for (range, position) in scene.ranges.iter_mut().zip([7, 9]) {
            (range.position, range.stop_at, range.held) = (position, Some(9), false);
        }
        assert_eq!(scene.step("a"), Step::Take(vec![0]), "the one that is behind goes on");
        scene.ranges[0].held = true;
        assert_eq!(scene.step("a"), Step::Look);
        (scene.ranges[0].position, scene.ranges[0].held) = (9, false);
        assert_eq!((scene.step("a"), a), (Step::LayOut(1), Some("a")));
    }
}
