//! What a person does about a parked order: every verb wherever it is legal, and the laws.

use std::collections::BTreeSet;

use proptest::prelude::*;
use schemas::saga::{Event, Verb};
use schemas::{Category, Text};

use super::super::{Fulfilment, Step};
use super::laws::{check, check_snapshots, finished, scenarios};
use super::provider::Card;
use super::replay;
use super::rows::{Story, inputs};
use super::world::{Scenario, Who, World};
use crate::{Act, Name as _, Outcome, Refusal, Saga as _};

/// Everybody whose silence parks an order.
const SILENT: [Who; 5] = [
    Who::Inbox(Category::Order),
    Who::Inbox(Category::Payment),
    Who::Inbox(Category::Inventory),
    Who::Inbox(Category::Shipping),
    Who::Provider,
];

pub(super) fn does(verb: Verb) -> Act {
    Act {
        verb,
        step: None,
        outcome: None,
        force: false,
        actor: Text::literal("Ada"),
        reason: Text::literal("the bank called"),
        evidence: None,
    }
}

fn says(step: Step, outcome: Outcome) -> Act {
    let step = Some(step.as_str().to_owned());
    Act { step, outcome: Some(outcome), ..does(Verb::SetOutcome) }
}

fn is_said(act: &Act, step: Step, outcome: Outcome) -> bool {
    act.step.as_deref() == Some(step.as_str()) && act.outcome == Some(outcome)
}

/// The act that an event tells of.
pub(super) fn act_of(event: &Event) -> Option<Act> {
    let Event::OperatorActed { verb, step, succeeded, forced, actor, reason, evidence, .. } = event
    else {
        return None;
    };
    let said = succeeded.map(|done| if done { Outcome::Done } else { Outcome::Failed });
    Some(Act {
        verb: *verb,
        step: step.clone(),
        outcome: said.filter(|_| *verb == Verb::SetOutcome),
        force: *forced,
        actor: actor.clone(),
        reason: reason.clone(),
        evidence: evidence.clone(),
    })
}

/// Everything that a person may do now.
fn possible(world: &World) -> Vec<Act> {
    let acts = world.folded.verbs().into_iter().flat_map(|legal| {
        let one = Act { force: legal.force, ..does(legal.verb) };
        let about = legal.steps.iter().flat_map(|choice| {
            let said = choice.outcomes.iter().map(|outcome| Act {
                step: Some(choice.step.to_owned()),
                outcome: Some(*outcome).filter(|_| legal.verb == Verb::SetOutcome),
                ..does(legal.verb)
            });
            said.collect::<Vec<_>>()
        });
        let about: Vec<_> = about.collect();
        if legal.steps.is_empty() { vec![one] } else { about }
    });
    acts.collect()
}

/// An order that stands still since `who` says nothing from the `after`th thing on that happens.
fn parked(scenario: Scenario, after: usize, who: Who) -> Option<World> {
    let mut world = World::new(scenario);
    world.go(after).hold(who).run();
    world.folded.is_parked().then_some(world)
}

/// Does it, lets everybody go on, and sees how it ends.
#[track_caller]
fn end(mut world: World, who: Who, scenario: Scenario, act: Act) -> World {
    let verb = act.verb;
    world.told.push(format!("{act:?}"));
    if is_said(&act, Step::Capture, Outcome::Done) {
        world.provider_does();
    }
    world.operate(act).unwrap();
    assert_eq!(&replay(&world.journal), &world.journal, "read back, it would have acted otherwise");
    world.let_go(who).run();
    if verb == Verb::Abandon {
        assert_eq!(finished(&world.journal), ["abandoned"]);
        assert_eq!(world.folded.verbs(), []);
    } else {
        check(&world, scenario);
    }
    world
}

#[test]
fn every_verb_at_every_state_leads_to_an_end_at_which_nothing_is_held() {
    let cancelled = Scenario { label_rejected: true, ..Scenario::FAIR };
    let (mut tried, mut states, mut seen) = (0, BTreeSet::new(), BTreeSet::new());
    for scenario in [Scenario::FAIR, cancelled, Scenario { price_cents: 0, ..Scenario::FAIR }] {
        for (after, who) in (0..56).flat_map(|after| SILENT.map(|who| (after, who))) {
            let Some(world) = parked(scenario, after, who) else { continue };
            states.insert(world.state());
            // The same standstill comes of many a moment.
            let verbs = world.folded.verbs();
            if !seen.insert(format!("{} {who:?} {verbs:?} {scenario:?}", world.state())) {
                continue;
            }
            for act in possible(&world) {
                end(world.clone(), who, scenario, act);
                tried += 1;
            }
        }
    }
    assert!(tried > 60, "{tried}");
    for state in [
        "reserving",
        "authorising",
        "confirming",
        "fulfilling/picking",
        "fulfilling/capturing",
        "cancelling",
        "unwinding",
        "finalising",
    ] {
        assert!(states.contains(state), "{state} of {states:?}");
    }
}

/// A saga that waits for `step` in vain; meanwhile it goes on to hold the goods.
#[track_caller]
fn stuck(step: Step, who: Who) -> World {
    let world = (0..56).filter_map(|after| parked(Scenario::FAIR, after, who));
    let mut stuck = world.filter(|world| {
        let issued = world.journal.iter().rev().filter_map(|event| match event {
            Event::CommandIssued { step, .. } => Some(step.as_str()),
            _ => None,
        });
        let mut issued = issued.filter(|issued| *issued != "extend_stock");
        issued.next() == Some(step.as_str())
    });
    stuck.next().unwrap_or_else(|| panic!("{step:?}"))
}

fn ended(world: World, who: Who, act: Act) -> &'static str {
    end(world, who, Scenario::FAIR, act).state()
}

#[test]
fn an_order_that_nobody_answers_can_be_asked_about_waited_for_or_undone() {
    for (step, who) in [
        (Step::Reserve, Who::Inbox(Category::Inventory)),
        (Step::Authorise, Who::Inbox(Category::Payment)),
        (Step::Authorise, Who::Provider),
        (Step::Confirm, Who::Inbox(Category::Order)),
        (Step::CreateFulfilment, Who::Inbox(Category::Shipping)),
        (Step::Capture, Who::Provider),
    ] {
        let world = || stuck(step, who);
        assert_eq!(ended(world(), who, does(Verb::Retry)), "completed", "{step:?}");
        assert_eq!(ended(world(), who, does(Verb::Resume)), "completed", "{step:?}");
        assert_eq!(ended(world(), who, does(Verb::Compensate)), "cancelled", "{step:?}");
    }
}

#[test]
fn who_says_that_it_cannot_be_done_has_the_rest_given_back() {
    for (step, who, expected) in [
        (Step::Reserve, Who::Inbox(Category::Inventory), "rejected"),
        (Step::Authorise, Who::Provider, "rejected"),
        // Somebody is waited for, and the provider took it after all.
        (Step::Capture, Who::Provider, "completed"),
    ] {
        assert_eq!(ended(stuck(step, who), who, says(step, Outcome::Failed)), expected);
    }
}

/// What was said comes true: it is heard and is no news.
#[test]
fn a_capture_that_was_seen_at_the_provider_lets_the_goods_go() {
    let who = Who::Provider;
    let world = stuck(Step::Capture, who);
    let world = end(world, who, Scenario::FAIR, says(Step::Capture, Outcome::Done));
    assert_eq!(world.state(), "completed");
    assert_eq!(world.provider.keeps(), 3000);
    let paid = world.journal.iter().filter(
        |event| matches!(event, Event::CommandIssued { step, .. } if step == "record_payment"),
    );
    assert_eq!(paid.count(), 1, "{:#?}", world.told);
}

#[test]
fn the_end_need_not_be_told() {
    let who = Who::Inbox(Category::Order);
    let world = stuck(Step::Complete, who);
    let skip = Act { step: Some("complete".to_owned()), ..does(Verb::Skip) };
    assert_eq!(ended(world, who, skip), "completed");
    let world = stuck(Step::Reserve, Who::Inbox(Category::Inventory));
    assert!(world.folded.verbs().iter().all(|legal| legal.verb != Verb::Skip));
}

/// R19, R21
#[test]
fn a_refund_that_fails_is_tried_again_or_made_by_hand() {
    let scenario = Scenario { card: Card::RefundFails, label_rejected: true, ..Scenario::FAIR };
    let mut world = World::new(scenario);
    world.run();
    assert!(world.folded.is_parked());
    let verbs = world.folded.verbs();
    let verbs = verbs.iter().map(|legal| (legal.verb.as_str(), legal.force));
    let expected = [("retry", false), ("set-outcome", false), ("abandon", true)];
    assert_eq!(verbs.collect::<Vec<_>>(), expected);
    assert_eq!(world.operate(does(Verb::Abandon)), Err(Refusal::StillHeld));

    let mut again = world.clone();
    again.operate(does(Verb::Retry)).unwrap();
    assert!(!again.folded.is_parked());
    again.run();
    assert!(again.folded.is_parked(), "the card still does not take it");
    again.provider.mend();
    again.operate(does(Verb::Retry)).unwrap();
    again.run();
    assert_eq!(again.state(), "cancelled");
    check(&again, scenario);

    world.operate(says(Step::ReturnMoney, Outcome::Done)).unwrap();
    world.run();
    assert_eq!(world.state(), "cancelled");
    assert_eq!(finished(&world.journal), ["cancelled"]);
}

#[test]
fn what_holds_nothing_is_left_alone_without_force() {
    let who = Who::Inbox(Category::Order);
    let mut world = World::new(Scenario { stock: 1, ..Scenario::FAIR });
    world.hold(who).run();
    assert_eq!((world.folded.is_parked(), world.state()), (true, "finalising"));
    world.operate(does(Verb::Abandon)).unwrap();
    assert_eq!(finished(&world.journal), ["abandoned"]);
}

fn acts() -> impl Strategy<Value = Act> {
    let verb = prop::sample::select(Verb::ALL.to_vec());
    let step = prop::option::of(prop::sample::select(Step::ALL.to_vec()));
    let outcome = prop::option::of(prop::sample::select(Outcome::ALL.to_vec()));
    (verb, step, outcome, any::<bool>()).prop_map(|(verb, step, outcome, force)| {
        let step = step.map(|step| step.as_str().to_owned());
        Act { step, outcome, force, ..does(verb) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]

    /// Whoever is silent, whenever, and whatever the person does about it.
    #[test]
    fn a_person_leaves_nothing_held(
        scenario in scenarios(),
        after in 0..60_usize,
        silent in 0..SILENT.len(),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let who = SILENT[silent];
        let Some(mut world) = parked(scenario, after, who) else { return Ok(()) };
        for choice in choices {
            let acts = possible(&world);
            if acts.is_empty() {
                break;
            }
            let act = choice.get(&acts).clone();
            // Of a card that takes nothing back, whoever says that it did says what is not so.
            let lies = scenario.card == Card::RefundFails && act.step.is_some();
            // Nobody lets goods go on a word that is not so.
            let is_taken = world.provider.keeps() > 0;
            let lies = lies || (is_said(&act, Step::Capture, Outcome::Done) && !is_taken);
            if act.verb == Verb::Abandon || lies {
                continue;
            }
            world.told.push(format!("{act:?}"));
            world.operate(act).unwrap();
            world.run();
        }
        world.let_go(who).run();
        if world.folded.is_parked() && !possible(&world).is_empty() {
            let retry = possible(&world).remove(0);
            world.operate(retry).unwrap();
            world.run();
        }
        check(&world, scenario);
        check_snapshots(&world.journal);
    }

    /// Whatever is heard and whatever is done, however absurd: it never panics, and its journal
    /// can be read back.
    #[test]
    fn nonsense_and_acts_do_no_harm(
        story in prop::collection::vec(prop_oneof![
            3 => inputs().prop_map(Ok),
            1 => acts().prop_map(Err),
        ], 0..60),
    ) {
        let mut told = Story::default();
        for heard in story {
            match heard {
                Ok(input) => told.hear(input),
                Err(act) => told.operate(act),
            }
        }
        prop_assert_eq!(&replay(&told.events), &told.events);
        check_snapshots(&told.events);
    }
}

#[test]
fn nobody_says_what_a_new_order_has_heard() {
    let new = Fulfilment::default();
    assert!(Step::ALL.iter().all(|step| new.said(*step, true).is_none()));
    assert!(!new.holds());
}
