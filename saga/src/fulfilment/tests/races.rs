//! The races of the design, each by its number.

use schemas::{Category, Fact, saga, shipping};

use super::laws::check;
use super::provider::Card;
use super::world::{Action, Scenario, Who, World};

/// A customer who may cancel, once or twice.
const FICKLE: Scenario = Scenario { cancels: 2, ..Scenario::FAIR };

#[track_caller]
fn ends(world: &mut World, scenario: Scenario, expected: &str) {
    world.run();
    check(world, scenario);
    assert_eq!(world.state(), expected);
}

fn steps(world: &World) -> Vec<String> {
    let issued = world.journal.iter().filter_map(|event| match event {
        saga::Event::CommandIssued { step, attempt, sending, .. } => {
            Some(format!("{step}/{attempt}/{sending}"))
        }
        _ => None,
    });
    issued.collect()
}

#[test]
fn r1_a_cancellation_waits_for_the_authorisation_in_flight() {
    let mut world = World::new(FICKLE);
    world.hold(Who::Provider).hold(Who::Clock).run();
    assert_eq!(world.state(), "authorising");
    world.act(Action::Cancel).run();
    assert_eq!(world.state(), "authorising", "nothing is guessed about the money");
    ends(world.let_go(Who::Provider).let_go(Who::Clock), FICKLE, "cancelled");
}

#[test]
fn r3_a_capture_that_succeeds_after_the_cancellation_is_given_back() {
    let mut world = World::new(FICKLE);
    world.hold(Who::Clock).hold(Who::Warehouse).run();
    world.let_go(Who::Warehouse).hold(Who::Provider).run();
    assert_eq!(world.state(), "fulfilling/capturing");
    world.act(Action::Cancel).run();
    assert_eq!(world.state(), "unwinding");
    ends(world.let_go(Who::Provider).let_go(Who::Clock), FICKLE, "cancelled");
    assert_eq!(world.provider.keeps(), 0);
}

#[test]
fn r5_the_hand_over_wins_against_a_cancellation_that_is_heard_first() {
    let mut world = World::new(FICKLE);
    world.hold(Who::Clock).hold(Who::Warehouse).run();
    world.let_go(Who::Warehouse).act(Action::Pack).hold(Who::Warehouse).run();
    assert_eq!(world.state(), "fulfilling/released");
    world.act(Action::Cancel).hold(Who::Inbox(Category::Shipping)).run();
    assert_eq!(world.state(), "cancelling");
    world.act(Action::HandOver).let_go(Who::Inbox(Category::Shipping));
    ends(world.let_go(Who::Warehouse).let_go(Who::Clock), FICKLE, "completed");
    assert!(steps(&world).contains(&"reject_cancellation/1/1".to_owned()));
}

#[test]
fn r5_a_cancellation_that_reaches_the_warehouse_first_wins() {
    let mut world = World::new(FICKLE);
    world.hold(Who::Clock).hold(Who::Warehouse).run();
    world.let_go(Who::Warehouse).act(Action::Pack).hold(Who::Warehouse).run();
    world.act(Action::Cancel).run();
    ends(world.let_go(Who::Warehouse).let_go(Who::Clock), FICKLE, "cancelled");
    let left = |fact: &Fact| matches!(fact, Fact::Shipping(shipping::Event::HandedOver { .. }));
    assert!(!world.facts().any(left));
}

#[test]
fn r6_every_message_twice_changes_nothing() {
    let mut once = World::new(Scenario::FAIR);
    once.hold(Who::Clock).run();
    let mut twice = World::new(Scenario::FAIR);
    // `HearAgain` is the last of the choices, and asserts that nothing is written.
    let choices = [0, 255].repeat(60);
    ends(twice.hold(Who::Clock).run_chosen(&choices), Scenario::FAIR, "completed");
    assert_eq!(steps(&once), steps(&twice));
}

#[test]
fn r8_a_lost_command_is_sent_again_under_its_id() {
    let scenario = Scenario { losses: 1, ..Scenario::FAIR };
    let mut world = World::new(scenario);
    world.act(Action::Hear).act(Action::Hear).act(Action::Hear);
    assert_eq!(world.state(), "reserving");
    world.act(Action::Lose(Category::Inventory));
    ends(&mut world, scenario, "completed");
    let ids = world.journal.iter().filter_map(|event| match event {
        saga::Event::CommandIssued { step, command_id, .. } if step == "reserve" => {
            Some(*command_id)
        }
        _ => None,
    });
    let ids = ids.collect::<Vec<_>>();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn r4_an_unknown_outcome_is_cleared_up_and_not_guessed_at() {
    for card in [Card::Good, Card::Declined] {
        let scenario = Scenario { unknowns: 1, card, ..Scenario::FAIR };
        let mut world = World::new(scenario);
        world.hold(Who::Provider).hold(Who::Clock).run();
        world.act(Action::Forget).let_go(Who::Provider).run();
        assert_eq!(world.state(), "authorising");
        let end = if card == Card::Good { "completed" } else { "rejected" };
        ends(world.let_go(Who::Clock), scenario, end);
        assert!(steps(&world).contains(&"authorise/2/2".to_owned()), "a new question");
    }
}

#[test]
fn r14_a_timer_and_the_reply_in_the_same_instant() {
    // The reply first: the timer was stopped by it, and nothing is written.
    let mut world = World::new(Scenario::FAIR);
    world.hold(Who::Clock).hold(Who::Provider).run();
    let (before, mut late) = (world.journal.len(), world.clone());
    world.fire("reserve", 1);
    assert_eq!(world.journal.len(), before);
    // The timer first: the question is put again under the same id, and answered once.
    late.fire("authorise", 1);
    assert!(steps(&late).contains(&"authorise/1/2".to_owned()));
    for mut world in [world, late] {
        let world = world.let_go(Who::Provider).let_go(Who::Clock);
        ends(world, Scenario::FAIR, "completed");
    }
}

#[test]
fn r16_two_cancellations_are_one() {
    let mut world = World::new(FICKLE);
    world.hold(Who::Clock).hold(Who::Warehouse).run();
    assert_eq!(world.state(), "fulfilling/picking");
    // The order keeps the second one from being heard; a saga that hears it joins it.
    world.act(Action::Cancel);
    ends(world.let_go(Who::Warehouse).let_go(Who::Clock), FICKLE, "cancelled");
    let cancels = steps(&world).iter().filter(|step| step.starts_with("cancel_")).count();
    assert_eq!(cancels, 1);
}

/// The laws found this one: the capture's timer was stopped when the saga turned round.
#[test]
fn r4_a_capture_of_unknown_outcome_is_cleared_up_although_the_order_is_undone() {
    let scenario = Scenario { unknowns: 1, cancels: 1, ..Scenario::FAIR };
    let mut world = World::new(scenario);
    world.hold(Who::Clock).hold(Who::Warehouse).run();
    world.let_go(Who::Warehouse).hold(Who::Provider).run();
    assert_eq!(world.state(), "fulfilling/capturing");
    world.act(Action::Forget).run();
    world.act(Action::Cancel);
    ends(world.let_go(Who::Provider).let_go(Who::Clock), scenario, "cancelled");
}

/// The laws found this one: a webhook answers while the question is being put again. The payment
/// takes that for a new question, and nobody cared for its outcome.
#[test]
fn r9_a_webhook_that_answers_before_the_question_is_put_again() {
    let scenario = Scenario { card: Card::Declined, unknowns: 2, ..Scenario::FAIR };
    let mut world = World::new(scenario);
    world.hold(Who::Provider).hold(Who::Clock).run();
    world.act(Action::Forget).run();
    world.hold(Who::Saga).act(Action::Webhook).act(Action::Alarm).run();
    world.act(Action::Forget).let_go(Who::Saga);
    ends(world.let_go(Who::Provider).let_go(Who::Clock), scenario, "rejected");
}
