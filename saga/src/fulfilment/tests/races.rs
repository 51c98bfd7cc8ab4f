//! The races of the design, each by its number.

use schemas::{Category, Fact, payment, saga, shipping};

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

/// A customer whose bank asks.
const ASKED: Scenario = Scenario { card: Card::Asks, replacements: 1, ..Scenario::FAIR };

#[test]
fn r2_a_confirmation_after_time_is_up_goes_back() {
    let mut world = World::new(ASKED);
    world.hold(Who::Customer).hold(Who::Clock).run();
    assert_eq!(world.state(), "awaiting_action");
    // The void is on its way when the customer confirms after all.
    world.fire("action", 1).hold(Who::Provider).run();
    assert_eq!(world.state(), "unwinding");
    world.let_go(Who::Customer).act(Action::Confirm);
    ends(world.let_go(Who::Provider).let_go(Who::Clock), ASKED, "rejected");
    assert!(steps(&world).contains(&"return_money/1/1".to_owned()));
}

#[test]
fn r10_a_confirmation_that_is_told_before_the_request_for_it() {
    let scenario = Scenario { unknowns: 1, webhooks: 2, ..ASKED };
    let mut world = World::new(scenario);
    world.hold(Who::Provider).hold(Who::Clock).hold(Who::Customer).hold(Who::Warehouse).run();
    // Nobody heard that the bank asks; the customer confirmed, and that is told first.
    world.act(Action::Forget).act(Action::Confirm).act(Action::Webhook).run();
    assert_eq!(world.state(), "fulfilling/picking");
    world.act(Action::Webhook);
    world.let_go(Who::Provider).let_go(Who::Clock).let_go(Who::Customer);
    ends(world.let_go(Who::Warehouse), scenario, "completed");
    let asked = |fact: &Fact| matches!(fact, Fact::Payment(payment::Event::ActionRequired { .. }));
    assert!(!world.facts().any(asked), "what is over is not asked for any more");
}

#[test]
fn r12_a_hold_that_runs_out_while_the_customer_is_at_the_bank() {
    let scenario = Scenario { naps: 1, rival: true, ..ASKED };
    for (rival, end) in [(false, "completed"), (true, "rejected")] {
        let mut world = World::new(scenario);
        world.hold(Who::Customer).hold(Who::Clock).hold(Who::Rival).run();
        // The process was away for an hour, and the timers fire late.
        world.act(Action::Nap).fire("hold", 2).hold(Who::Saga).run();
        if rival {
            world.act(Action::Rival);
        }
        world.let_go(Who::Saga).run();
        assert!(steps(&world).contains(&"reserve/2/1".to_owned()), "{:?}", steps(&world));
        world.let_go(Who::Customer).let_go(Who::Clock);
        ends(&mut world, scenario, end);
    }
}

#[test]
fn another_card_leaves_nothing_open_at_the_first() {
    for (other, end) in [(Card::Good, "completed"), (Card::Declined, "rejected")] {
        let scenario = Scenario { other, ..ASKED };
        let mut world = World::new(scenario);
        world.hold(Who::Customer).hold(Who::Clock).run();
        world.act(Action::Replace).hold(Who::Provider).run();
        assert_eq!(world.state(), "authorising");
        // They confirm the first one all the same, before it is closed.
        world.act(Action::Confirm);
        world.let_go(Who::Provider).let_go(Who::Customer).let_go(Who::Clock);
        ends(&mut world, scenario, end);
    }
}

/// R22: the release that runs knows version 2, the saga began with version 1.
#[test]
fn r22_a_saga_goes_on_by_the_version_that_it_began_with() {
    let scenario = Scenario { version: 1, card: Card::Retryable, ..Scenario::FAIR };
    ends(&mut World::new(scenario), scenario, "rejected");
    let scenario = Scenario { card: Card::Good, ..scenario };
    let mut world = World::new(scenario);
    ends(&mut world, scenario, "completed");
    let timers = world.journal.iter().filter_map(|event| match event {
        saga::Event::TimerStarted { name, .. } => Some(name.as_str()),
        _ => None,
    });
    assert!(!timers.collect::<Vec<_>>().contains(&"hold"));
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
    world.act(Action::Drop(Category::Inventory));
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
fn a_parcel_that_is_lost_is_somebodys_business() {
    let scenario = Scenario { clumsy: true, ..Scenario::FAIR };
    let mut world = World::new(scenario);
    world.hold(Who::Carrier).hold(Who::Clock).run();
    world.let_go(Who::Carrier).act(Action::Label).hold(Who::Carrier).run();
    world.act(Action::LoseParcel).run();
    assert!(world.folded.is_parked());
    assert_eq!(world.state(), "fulfilling/shipped");
    check(&world, scenario);
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

/// A customer who asks their bank for the money back.
const DISPUTED: Scenario = Scenario { disputes: true, ..Scenario::FAIR };

/// An order whose goods are paid for and still here, and whose money the bank has.
fn disputed() -> World {
    let mut world = World::new(DISPUTED);
    world.hold(Who::Clock).hold(Who::Warehouse).run();
    world.let_go(Who::Warehouse).act(Action::Pack).hold(Who::Warehouse).run();
    world.act(Action::Dispute).run();
    assert_eq!((world.state(), world.folded.is_parked()), ("fulfilling/released", true));
    world.let_go(Who::Warehouse).run();
    let left = |fact: &Fact| matches!(fact, Fact::Shipping(shipping::Event::HandedOver { .. }));
    assert!(!world.facts().any(left), "what is disputed stays in the house");
    world
}

#[test]
fn a_dispute_keeps_the_goods_here_until_the_bank_has_decided() {
    for (judgement, end) in [(Action::Win, "completed"), (Action::Lose, "cancelled")] {
        // The bank decides, and then a person looks; or the other way round.
        let mut world = disputed();
        world.act(judgement).run();
        assert!(world.folded.is_parked());
        world.resume();
        world.run();
        assert_eq!(world.state(), end, "{:#?}", world.told);
        let mut world = disputed();
        world.resume();
        world.run();
        assert_eq!(world.state(), "fulfilling/released");
        world.act(judgement).run();
        assert_eq!(world.state(), end, "{:#?}", world.told);
        check(&world, DISPUTED);
    }
}

#[test]
fn r20_a_dispute_after_the_end_calls_a_person_once() {
    let mut world = World::new(DISPUTED);
    world.run();
    assert_eq!(world.state(), "completed");
    world.act(Action::Dispute).run();
    assert!(world.folded.is_parked());
    world.resume();
    let before = world.journal.len();
    world.act(Action::Win).act(Action::Answer).run();
    assert_eq!((world.state(), world.folded.is_parked()), ("completed", false));
    assert!(world.journal.len() > before, "what the bank decided is on record");
    assert_eq!(world.provider.keeps(), 3000);
}
