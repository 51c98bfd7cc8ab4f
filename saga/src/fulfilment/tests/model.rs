//! An order with everybody it depends on, explored breadth-first: not some orders of what may
//! happen, as in `laws`, but all of them.
//!
//! The participants are the real rules of the four contexts, with a provider, a warehouse and a
//! carrier that do what they may whenever they may. Messages wait in a queue for each receiver, so
//! that every interleaving between receivers occurs; commands may be lost, answers of the provider
//! too, and timers go off early, as far as a scenario says. One input is one append, so a crash
//! before it leaves the input to be heard, and a crash behind it has the input heard again: every
//! state is tried with that. Time stands still but where somebody waits for it, so that two orders
//! of the same events come to the same state and are explored once.
//!
//! An exploration of our own and not the `stateright` crate: the world stands here already, as the
//! laws use it, and what is missing of a model checker is the loop below.

use std::collections::HashSet;

use super::laws::check;
use super::provider::Card;
use super::world::{Action, Scenario, Who, World};

/// How an exploration went.
#[derive(Debug)]
struct Explored {
    /// How many states were seen.
    states: usize,
    /// How many of them were ends.
    ends: usize,
    /// Whether nothing was left to be seen.
    whole: bool,
}

/// Explores everything that may happen from `world` on, `depth` steps far. Whatever is not over by
/// then goes on as if nothing more went wrong.
fn explore(world: World, scenario: Scenario, depth: usize) -> Explored {
    let mut seen = HashSet::from([world.fingerprint()]);
    let (mut level, mut ends) = (vec![world], 0);
    for _ in 0..depth {
        if level.is_empty() {
            break;
        }
        let mut next = Vec::new();
        for world in level {
            look(&world);
            if world.is_over() {
                check(&world, scenario);
                ends += 1;
            }
            for action in world.choices() {
                let mut after = world.clone();
                after.act(action);
                if seen.insert(after.fingerprint()) {
                    next.push(after);
                }
            }
        }
        level = next;
    }
    let whole = level.is_empty();
    for mut world in level {
        world.run();
        check(&world, scenario);
    }
    Explored { states: seen.len(), ends, whole }
}

/// What holds wherever one looks.
#[track_caller]
fn look(world: &World) {
    let (reserved, on_hand) = world.stock();
    // I4
    assert!(0 <= reserved && reserved <= on_hand, "{reserved} of {on_hand}: {:#?}", world.told);
    // A crash behind the append: what was heard is heard again.
    if world.has_heard() {
        world.clone().act(Action::HearAgain);
    }
}

/// Explores all of it, to every end.
#[track_caller]
fn whole(world: World, scenario: Scenario) {
    let explored = explore(world, scenario, usize::MAX);
    assert!(explored.whole && explored.ends > 0 && explored.states > 20, "{explored:?}");
}

/// The same, from the placing of the order on.
#[track_caller]
fn all(scenario: Scenario) {
    let mut world = World::new(scenario);
    world.stand_still();
    whole(world, scenario);
}

#[test]
fn an_order_without_mishaps_in_every_order_of_its_messages() {
    all(Scenario::FAIR);
}

#[test]
fn a_cancellation_at_every_moment() {
    all(Scenario { cancels: 1, ..Scenario::FAIR });
}

#[test]
fn an_answer_of_the_provider_that_is_lost_at_every_moment() {
    all(Scenario { unknowns: 1, ..Scenario::FAIR });
}

#[test]
fn a_command_that_is_lost_at_every_moment() {
    all(Scenario { losses: 1, ..Scenario::FAIR });
}

#[test]
fn a_timer_that_goes_off_early_at_every_moment() {
    all(Scenario { alarms: 1, ..Scenario::FAIR });
}

#[test]
fn a_bank_that_asks_and_a_customer_who_does_what_they_may() {
    all(Scenario { card: Card::Asks, replacements: 1, ..Scenario::FAIR });
}

#[test]
fn goods_that_are_not_all_there_and_a_cancellation() {
    all(Scenario { cancels: 1, stock: 1, ..Scenario::FAIR });
}

/// What is disputed was taken before, so it begins with a parcel that is paid for.
#[test]
fn a_dispute_at_every_moment() {
    let scenario = Scenario { disputes: true, ..Scenario::FAIR };
    let mut world = World::new(scenario);
    world.stand_still().hold(Who::Warehouse).hold(Who::Clock).run();
    world.let_go(Who::Warehouse).act(Action::Pack).hold(Who::Warehouse).run();
    assert_eq!(world.state(), "fulfilling/released");
    world.let_go(Who::Warehouse).let_go(Who::Clock);
    whole(world, scenario);
}

/// Two mishaps at once are too many orders of events to see all of them: so far, and then it goes
/// on by itself.
const PAIR_DEPTH: usize = 28;

#[track_caller]
fn pair(scenario: Scenario) {
    let mut world = World::new(scenario);
    let explored = explore(world.stand_still().clone(), scenario, PAIR_DEPTH);
    assert!(explored.states > 500, "{explored:?}");
}

#[test]
fn a_cancellation_and_a_lost_answer_as_far_as_the_warehouse() {
    pair(Scenario { cancels: 1, unknowns: 1, ..Scenario::FAIR });
}

#[test]
fn a_cancellation_and_a_lost_command_as_far_as_the_warehouse() {
    pair(Scenario { cancels: 1, losses: 1, ..Scenario::FAIR });
}

#[test]
fn a_declined_card_and_a_cancellation() {
    pair(Scenario { cancels: 1, replacements: 1, card: Card::Retryable, ..Scenario::FAIR });
}
