//! What holds whatever happens, in whichever order.

use proptest::collection::vec;
use proptest::prelude::*;
use schemas::saga::Event;
use schemas::{Decider as _, Fact, order, shipping};

use super::provider::Card;
use super::world::{Scenario, World};
use super::{Fulfilment, fold, replay};
use crate::{Journal, Saga as _};

pub(super) fn scenarios() -> impl Strategy<Value = Scenario> {
    let card = prop_oneof![
        6 => Just(Card::Good),
        4 => Just(Card::Asks),
        1 => Just(Card::Declined),
        2 => Just(Card::Retryable),
        1 => Just(Card::CaptureFails),
        1 => Just(Card::CaptureFailsOnce),
        1 => Just(Card::RefundFails),
    ];
    let other = prop_oneof![
        2 => Just(Card::Good),
        1 => Just(Card::Asks),
        1 => Just(Card::Retryable),
        1 => Just(Card::Declined),
    ];
    let customer =
        (card, other, 0..4_u32, prop_oneof![6 => Just(3_u16), 2 => Just(2), 1 => Just(1)]);
    let stock = prop_oneof![1 => 0..2_u32, 6 => Just(5)];
    let price_cents = prop_oneof![1 => Just(0), 8 => Just(1000)];
    let mishaps = (0..3_u32, 0..3_u32, 0..3_u32, 0..3_u32, 0..3_u32);
    let house = (
        prop::bool::weighted(0.1),
        0..3_u32,
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    );
    let late = (0..3_u32, 0..2_u32, 0..3_u32, 0..2_u32);
    (customer, stock, price_cents, mishaps, house, late).prop_map(
        |(customer, stock, price_cents, mishaps, house, late)| {
            let (card, other, replacements, version) = customer;
            let (cancels, unknowns, webhooks, alarms, losses) = mishaps;
            let (label_rejected, naps, rival, clumsy, regretful, disputes) = house;
            let (shorts, holds, expiries, retries) = late;
            // Version 1 does not hear of them.
            let since = |count: u32| if version > 1 { count } else { 0 };
            Scenario {
                version,
                card,
                other,
                replacements,
                stock,
                price_cents,
                cancels,
                unknowns,
                webhooks,
                alarms,
                losses,
                naps,
                rival,
                label_rejected,
                // Version 1 does not hear of it.
                regretful: regretful && version > 1,
                disputes: disputes && version > 1,
                clumsy,
                shorts: since(shorts),
                holds: since(holds),
                expiries: since(expiries),
                retries: since(retries),
            }
        },
    )
}

/// Everything that must hold once nobody can do anything any more.
#[track_caller]
pub(super) fn check(world: &World, scenario: Scenario) {
    let journal = &world.folded;
    let story = &world.journal;
    // I6
    assert_eq!(&replay(story), story, "read back, it would have acted differently");
    // I5
    if journal.is_parked() {
        // Version 1 waits for an answer that its table does not know.
        let asked = scenario.version == 1 && scenario.card == Card::Asks;
        // A parcel is lost, or so late that somebody should ask for it.
        let reason = story.iter().rev().find_map(|event| match event {
            Event::Parked { reason, .. } => Some(reason.as_str()),
            _ => None,
        });
        let lost = reason == Some("lost") && scenario.version > 1;
        let gone = world.provider.reversed || world.provider.dispute.is_some();
        let money = scenario.card == Card::RefundFails || gone;
        let needed = money || asked || lost;
        assert!(needed, "parked without need: {:#?}", world.told);
        return;
    }
    let end = journal.state().name();
    assert_eq!(finished(story), [end], "{:#?}", world.told);
    let ends = world.facts().filter_map(|fact| match fact {
        Fact::Order(order::Event::Completed) => Some("completed"),
        Fact::Order(order::Event::Cancelled { .. }) => Some("cancelled"),
        Fact::Order(order::Event::Rejected { .. }) => Some("rejected"),
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [end], "the order and its saga end alike");

    let (reserved, on_hand) = world.stock();
    let (stocked, sent) = (2 * i64::from(scenario.stock), 3 - world.missing());
    assert!(!world.provider.holds(), "no authorisation stays open");
    assert_eq!(reserved, 0, "nothing stays reserved: {:#?}", world.told);
    if end == "completed" {
        // I2
        assert_eq!(world.provider.keeps(), sent * scenario.price_cents);
        assert_eq!(on_hand, stocked - sent);
        let delivered = Fact::Shipping(shipping::Event::Delivered {
            order: journal.state().order.as_ref().unwrap().id,
            at: super::dawn(),
        });
        assert!(world.facts().any(|fact| *fact == delivered));
    } else {
        // I1
        assert_eq!(world.provider.keeps(), 0, "no money is kept: {:#?}", world.told);
        assert_eq!(on_hand, stocked, "the goods are back");
    }
}

/// That a snapshot of the journal taken anywhere, written, read back and brought up to date, is
/// the full fold.
#[track_caller]
pub(super) fn check_snapshots(events: &[Event]) {
    let on = |journal, tail: &[Event]| tail.iter().fold(journal, Journal::<Fulfilment>::evolve);
    let whole = format!("{:?}", fold(events));
    for cut in 0..=events.len() {
        let (head, tail) = events.split_at(cut);
        let taken = serde_json::to_string(&fold(head)).unwrap();
        let read = serde_json::from_str(&taken).unwrap();
        assert_eq!(format!("{:?}", on(read, tail)), whole, "cut at {cut}: {taken}");
    }
}

pub(super) fn finished(journal: &[Event]) -> Vec<&str> {
    let outcomes = journal.iter().filter_map(|event| match event {
        Event::Finished { outcome } => Some(outcome.as_str()),
        _ => None,
    });
    outcomes.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_ends_right(scenario in scenarios(), choices in vec(any::<u8>(), 0..150)) {
        let mut world = World::new(scenario);
        world.run_chosen(&choices);
        check(&world, scenario);
        check_snapshots(&world.journal);
    }

    /// Whatever a saga hears, however absurd: it never panics, ends at most once, and its
    /// journal can be read back.
    #[test]
    fn nonsense_does_no_harm(inputs in vec(super::rows::inputs(), 0..40)) {
        let mut story = super::rows::Story::default();
        for input in inputs {
            story.hear(input.clone());
            story.hear_last_again();
        }
        prop_assert_eq!(&replay(&story.events), &story.events);
        check_snapshots(&story.events);
    }
}

#[test]
fn an_order_without_mishaps_takes_few_events() {
    let mut world = World::new(Scenario::FAIR);
    world.run();
    check(&world, Scenario::FAIR);
    assert_eq!(world.state(), "completed");
    assert_eq!(world.journal.len(), 35, "{:#?}", world.told);
}
