//! The table, row by row: given what it heard, when it hears this, then it wants that.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use schemas::order::{RejectReason, Shortage};
use schemas::payment::Operation;
use schemas::saga::Event;
use schemas::{Command, CommandId, Decider as _, OrderId, Quantity, Text};
use schemas::{inventory, order, payment, shipping};
use uuid::Uuid;

use super::super::{Order, Step};
use super::provider::euro;
use super::world::{address, lines};
use super::{Fulfilment, Input, dawn, firing, fold};
use crate::{Act, Heard, Name as _, Saga as _, What};

fn id() -> OrderId {
    OrderId::new(Uuid::from_u128(0xA11CE))
}

fn placed(price_cents: i64) -> Input {
    let total = euro(3 * price_cents);
    let method = Text::literal("pm_card_visa");
    Input::OrderPlaced(Arc::new(Order::new(
        id().uuid(),
        &lines(price_cents),
        total,
        &address(),
        &method,
    )))
}

fn short() -> Vec<Shortage> {
    let wanted = Quantity::new(2).unwrap();
    vec![Shortage { sku: "mug".parse().unwrap(), wanted, available: 1 }]
}

fn captured() -> Input {
    Input::Captured { amount: euro(3000) }
}

fn reversed() -> Input {
    Input::CaptureReversed { amount: euro(3000) }
}

fn refunded() -> Input {
    Input::Refunded { amount: euro(3000) }
}

fn handed_over() -> Input {
    Input::HandedOver { tracking_code: Text::literal("TRACK1") }
}

fn delivered() -> Input {
    Input::Delivered { at: dawn() }
}

fn replaced() -> Input {
    Input::MethodReplaced { method: Text::literal("pm_card_other") }
}

const DECLINED: Input = Input::Declined { retryable: false };
const CANCEL: Input = Input::CancellationRequested;

/// Any input at all.
pub(super) fn inputs() -> impl Strategy<Value = Input> {
    prop::sample::select(vec![
        placed(1000),
        CANCEL,
        Input::OrderConfirmed,
        Input::ConfirmRejected,
        Input::OrderRejected,
        Input::OrderCancelled,
        Input::OrderCompleted,
        Input::StockReserved,
        Input::StockPartiallyReserved { short: short() },
        Input::StockRejected { short: short() },
        Input::StockReleased,
        Input::StockExpired,
        Input::HoldEnding,
        Input::Authorised,
        Input::ActionRequired,
        replaced(),
        Input::ActionOverdue,
        Input::Declined { retryable: true },
        DECLINED,
        captured(),
        reversed(),
        Input::CaptureFailed { retryable: true },
        Input::CaptureFailed { retryable: false },
        Input::Voided,
        refunded(),
        Input::RefundFailed,
        Input::OutcomeUnknown { operation: Operation::Capture },
        Input::FulfilmentCreated,
        Input::Packed,
        Input::LabelRejected,
        handed_over(),
        delivered(),
        Input::FulfilmentCancelled,
        Input::CancelRejected,
        Input::ParcelLost,
        Input::ParcelReturned,
        Input::TransitOverdue,
    ])
}

/// What a saga has heard, and what it wrote the last time.
#[derive(Debug, Clone, Default)]
pub(super) struct Story {
    pub(super) events: Vec<Event>,
    heard: u32,
    last: Option<Input>,
    written: Vec<Event>,
    /// How late it is.
    later: Duration,
}

impl Story {
    pub(super) fn hear(&mut self, input: Input) {
        self.heard += 1;
        self.last = Some(input.clone());
        self.put(What::Input(input), Uuid::from_u128(u128::from(self.heard)));
    }

    /// 61
    pub(super) fn hear_last_again(&mut self) {
        let source = Uuid::from_u128(u128::from(self.heard));
        self.put(What::Input(self.last.clone().unwrap()), source);
        assert_eq!(self.written, [], "heard twice, written twice");
    }

    /// A person does something about it, if they may.
    pub(super) fn operate(&mut self, act: Act) {
        self.heard += 1;
        let (source, at) = (Uuid::from_u128(u128::from(self.heard)), dawn());
        let heard = Heard { key: id().uuid(), source, at, what: What::Act(act.clone()) };
        if fold(&self.events).decide(&heard).is_ok() {
            self.put(What::Act(act), source);
        }
    }

    fn put(&mut self, what: What<Input>, source: Uuid) {
        let heard = Heard { key: id().uuid(), source, at: dawn() + self.later, what };
        self.written = fold(&self.events).decide(&heard).unwrap();
        self.events.extend(self.written.clone());
    }

    fn when(mut self, input: Input) -> Self {
        self.hear(input);
        self
    }

    fn when_fired(mut self, name: &str, epoch: u32) -> Self {
        let what = What::TimerFired { name: name.to_owned(), epoch };
        self.put(what, firing(id().saga(), name, epoch));
        self
    }

    /// Nobody answers `step`, until it is to be sent for the last time.
    fn when_silent(self, step: Step) -> Self {
        let sendings_max = Fulfilment::patience(step).unwrap().sendings_max;
        (1..sendings_max).fold(self, |story, epoch| {
            let story = story.when_fired(step.as_str(), epoch);
            let sending = format!("{} 1/{}", step.as_str(), epoch + 1);
            assert!(story.told()[0].ends_with(&sending), "{:?}", story.told());
            story
        })
    }

    /// What it wants now, timers left out, and the state it is in.
    /// The same, and it is so much later.
    fn later(mut self, by: Duration) -> Self {
        self.later += by;
        self
    }

    #[track_caller]
    fn then(self, state: &str, expected: &[&str]) -> Self {
        let told = self.told();
        let wanted = told.iter().filter(|told| !told.starts_with("wait ")).collect::<Vec<_>>();
        assert_eq!(wanted, expected);
        self.in_state(state)
    }

    /// The same with its timers.
    #[track_caller]
    fn then_waiting(self, state: &str, expected: &[&str]) -> Self {
        assert_eq!(self.told(), expected);
        self.in_state(state)
    }

    #[track_caller]
    fn in_state(self, state: &str) -> Self {
        assert_eq!(fold(&self.events).state().name(), state);
        self
    }

    fn told(&self) -> Vec<String> {
        self.written.iter().filter_map(tell).collect()
    }

    fn sent(&self, step: &str) -> &Command {
        let sent = self.written.iter().find_map(|event| match event {
            Event::CommandIssued { step: sent, command, .. } if sent == step => Some(command),
            _ => None,
        });
        sent.unwrap()
    }
}

pub(super) fn tell(event: &Event) -> Option<String> {
    Some(match event {
        Event::CommandIssued { step, attempt, sending, compensation, .. } => {
            let verb = if *compensation { "undo" } else { "send" };
            match (attempt, sending) {
                (1, 1) => format!("{verb} {step}"),
                (attempt, sending) => format!("{verb} {step} {attempt}/{sending}"),
            }
        }
        Event::TimerStarted { name, due, .. } => {
            format!("wait {name} {}s", (*due - dawn()).num_seconds())
        }
        Event::TimerStopped { name, .. } => format!("wait {name} no more"),
        Event::InputIgnored { .. } => "ignore".to_owned(),
        Event::InputDeferred { .. } => "defer".to_owned(),
        Event::CompensationStarted { reason } => format!("turn: {reason}"),
        Event::Parked { reason, .. } => format!("park: {reason}"),
        Event::OperatorActed { verb, .. } => format!("act: {}", verb.as_str()),
        Event::Resumed { .. } => "resume".to_owned(),
        Event::Finished { outcome } => format!("finish: {outcome}"),
        Event::Started { .. } | Event::InputReceived { .. } => return None,
    })
}

/// A saga that has heard all of this.
fn given(inputs: impl IntoIterator<Item = Input>) -> Story {
    let mut story = Story::default();
    for input in inputs {
        story.hear(input);
    }
    story
}

fn reserving() -> Story {
    given([placed(1000)])
}

fn authorising() -> Story {
    reserving().when(Input::StockReserved)
}

fn acting() -> Story {
    authorising().when(Input::ActionRequired)
}

fn confirming() -> Story {
    authorising().when(Input::Authorised)
}

fn picking() -> Story {
    confirming().when(Input::OrderConfirmed).when(Input::FulfilmentCreated)
}

fn capturing() -> Story {
    picking().when(Input::Packed)
}

fn released() -> Story {
    capturing().when(captured())
}

fn shipped() -> Story {
    released().when(handed_over())
}

fn completed() -> Story {
    shipped().when(delivered()).when(Input::OrderCompleted)
}

fn cancelling() -> Story {
    picking().when(CANCEL)
}

fn unwinding() -> Story {
    cancelling().when(Input::FulfilmentCancelled)
}

fn cancelled() -> Story {
    unwinding().when(Input::Voided).when(Input::StockReleased).when(Input::OrderCancelled)
}

fn rejected() -> Story {
    reserving().when(Input::StockRejected { short: short() }).when(Input::OrderRejected)
}

const UNDO: [&str; 3] = ["turn: cancelled", "undo return_money", "undo release_stock"];

#[test]
fn row_1_a_placed_order_gets_its_stock_reserved() {
    let story =
        given([placed(1000)]).then_waiting("reserving", &["send reserve", "wait reserve 60s"]);
    let expires_at = dawn() + Duration::from_mins(15);
    let Command::Inventory { command: inventory::Command::Reserve { units, expires_at: at, .. } } =
        story.sent("reserve")
    else {
        panic!()
    };
    assert_eq!(*at, expires_at);
    let units = units.iter().map(|units| (units.sku.as_str(), units.quantity.get()));
    assert_eq!(units.collect::<Vec<_>>(), [("mug", 2), ("tea", 1)], "every sku once");
}

#[test]
fn row_4_what_comes_before_the_order_is_heard_after_it() {
    let story = given([Input::StockReserved]).then("new", &["defer"]);
    story.when(placed(1000)).then("authorising", &["send reserve", "send authorise"]);
}

#[test]
fn row_5_reserved_stock_is_paid_for() {
    reserving()
        .when(Input::StockReserved)
        .then_waiting("authorising", &["send authorise", "wait authorise 30s", "wait hold 840s"]);
}

#[test]
fn row_6_an_order_that_costs_nothing_is_confirmed_at_once() {
    given([placed(0)]).when(Input::StockReserved).then("confirming", &["send confirm"]);
}

#[test]
fn row_7_stock_reserved_for_a_cancelled_order_is_released() {
    reserving()
        .when(CANCEL)
        .when(Input::StockReserved)
        .then("unwinding", &["turn: cancelled", "undo release_stock"]);
}

#[test]
fn row_8_half_an_order_is_no_order() {
    let story = reserving()
        .when(Input::StockPartiallyReserved { short: short() })
        .then("unwinding", &["turn: out_of_stock", "undo release_stock"])
        .when(Input::StockReleased)
        .then("finalising", &["send reject"]);
    let (reason, short) = (RejectReason::OutOfStock, short());
    let command = order::Command::Reject { reason, short };
    assert_eq!(*story.sent("reject"), Command::Order { id: id(), command });
}

#[test]
fn row_11_an_order_without_stock_is_rejected() {
    let story = reserving().when(Input::StockRejected { short: short() });
    story.then("finalising", &["send reject"]);
    reserving()
        .when(CANCEL)
        .when(Input::StockRejected { short: short() })
        .then("finalising", &["send mark_cancelled"]);
}

#[test]
fn row_12_and_13_silence_is_answered_by_asking_again_and_then_by_a_person() {
    let mut story = reserving();
    for (epoch, wait) in [(1, "120s"), (2, "240s"), (3, "480s"), (4, "600s")] {
        let sending = format!("send reserve 1/{}", epoch + 1);
        let wait = format!("wait reserve {wait}");
        story = story.when_fired("reserve", epoch).then_waiting("reserving", &[&sending, &wait]);
    }
    reserving()
        .when_silent(Step::Reserve)
        .when_fired("reserve", 8)
        .then("reserving", &["park: inventory_silent"])
        .when(Input::StockReserved)
        .then("reserving", &["defer"]);
}

#[test]
fn row_14_a_cancellation_waits_for_the_stock() {
    reserving().when(CANCEL).then("reserving", &[]);
}

#[test]
fn row_17_an_authorised_order_is_confirmed() {
    authorising().when(Input::Authorised).then("confirming", &["send confirm"]);
}

#[test]
fn row_18_an_authorised_order_that_is_cancelled_is_undone() {
    authorising().when(CANCEL).when(Input::Authorised).then("unwinding", &UNDO);
}

#[test]
fn row_20_a_bank_that_asks_is_waited_for() {
    let story = authorising().when(Input::ActionRequired).then_waiting(
        "awaiting_action",
        &["wait hold 1140s", "send extend_stock", "wait action 900s"],
    );
    let Command::Inventory { command: inventory::Command::Extend { until, at, .. } } =
        story.sent("extend_stock")
    else {
        panic!()
    };
    assert_eq!((*until - *at).num_minutes(), 20, "longer than the customer has");
}

#[test]
fn row_21_a_bank_that_asks_for_a_cancelled_order_is_not_answered() {
    authorising().when(CANCEL).when(Input::ActionRequired).then("unwinding", &UNDO);
}

#[test]
fn row_22_a_declined_card_may_be_replaced() {
    let declined = || Input::Declined { retryable: true };
    let wait = ["send extend_stock"];
    authorising()
        .when(declined())
        .then("awaiting_action", &wait)
        .when(replaced())
        .then("authorising", &["send authorise 2/1"])
        .when(declined())
        .then("awaiting_action", &["send extend_stock 2/1"])
        .when(replaced())
        .when(declined())
        .then("unwinding", &["turn: payment_declined", "undo return_money", "undo release_stock"]);
}

#[test]
fn row_23_a_declined_order_is_undone() {
    let undo = ["turn: payment_declined", "undo return_money", "undo release_stock"];
    authorising().when(DECLINED).then("unwinding", &undo);
    let retryable = Input::Declined { retryable: true };
    authorising().when(CANCEL).when(retryable).then("unwinding", &undo);
    let cancelled = authorising().when(CANCEL).when(DECLINED).then("unwinding", &undo);
    cancelled
        .when(Input::Voided)
        .when(Input::StockReleased)
        .then("finalising", &["send mark_cancelled"]);
}

#[test]
fn row_24_a_silent_payment_is_asked_again_and_then_parked() {
    let story = authorising().when_silent(Step::Authorise);
    story.when_fired("authorise", 9).then("authorising", &["park: payment_unknown"]);
}

#[test]
fn row_25_an_unknown_outcome_is_asked_about_as_a_new_question() {
    authorising()
        .when(Input::OutcomeUnknown { operation: Operation::Authorise })
        .then_waiting("authorising", &[])
        .when_fired("authorise", 1)
        .then_waiting("authorising", &["send authorise 2/2", "wait authorise 60s"])
        .when(Input::Authorised)
        .then("confirming", &["send confirm"]);
}

#[test]
fn row_26_a_cancellation_waits_for_the_money() {
    authorising().when(CANCEL).then("authorising", &[]);
}

#[test]
fn row_27_a_hold_is_extended_for_as_long_as_it_is_needed() {
    for (story, state) in [
        (authorising(), "authorising"),
        (confirming(), "confirming"),
        (picking(), "fulfilling/picking"),
        (capturing(), "fulfilling/capturing"),
    ] {
        story
            .when_fired("hold", 1)
            .then_waiting(state, &["wait hold 840s", "send extend_stock"])
            .when_fired("hold", 2)
            .then(state, &["send extend_stock 2/1"]);
    }
    assert_eq!(released().when_fired("hold", 1).written, [], "what has left is not held");
}

#[test]
fn row_27_nobody_holds_goods_for_a_day_without_paying() {
    let day = Duration::from_hours(24);
    let undo = ["turn: held_too_long", "undo return_money", "undo release_stock"];
    authorising().later(day).when_fired("hold", 1).then("unwinding", &undo);
    authorising().later(day).when(Input::ActionRequired).then("unwinding", &undo);
    picking().later(day).when_fired("hold", 1).then("fulfilling/picking", &["send extend_stock"]);
}

#[test]
fn row_28_goods_that_were_lost_are_asked_for_again() {
    for story in [authorising(), acting(), confirming()] {
        let state = fold(&story.events).state().name();
        story
            .when(Input::StockExpired)
            .then(state, &["send reserve 2/1"])
            .when(Input::StockReserved)
            .then_waiting(state, &["wait hold 840s"]);
    }
}

#[test]
fn row_28_goods_that_are_gone_end_the_order() {
    let rejected = || Input::StockRejected { short: short() };
    let undo = ["turn: out_of_stock", "undo return_money", "undo release_stock"];
    for story in [authorising(), acting()] {
        story.when(Input::StockExpired).when(rejected()).then("unwinding", &undo);
    }
    // It may stand already, so that it can only be cancelled.
    let lost = confirming().when(Input::StockExpired).when(rejected());
    lost.then("unwinding", &[&undo[..], &["send request_cancellation"]].concat());
    picking().when(Input::StockExpired).then_waiting("fulfilling/picking", &["wait hold no more"]);
}

#[test]
fn row_19_an_order_is_confirmed_when_money_and_goods_are_there() {
    for story in [authorising(), acting()] {
        let paid = story.when(Input::StockExpired).when(Input::Authorised).then("authorising", &[]);
        paid.clone().when(Input::StockReserved).then("confirming", &["send confirm"]);
        paid.when(CANCEL).then("unwinding", &UNDO);
    }
    confirming()
        .when(Input::StockExpired)
        .when(Input::OrderConfirmed)
        .then("confirming", &[])
        .when(Input::StockReserved)
        .then("fulfilling/picking", &["send create_fulfilment"]);
}

#[test]
fn row_29_a_confirmed_payment_confirms_the_order() {
    acting()
        .when(Input::Authorised)
        .then_waiting("confirming", &["wait action no more", "send confirm", "wait confirm 60s"]);
    let declined = acting().when(Input::Declined { retryable: true });
    declined.then("awaiting_action", &["send extend_stock 2/1"]);
    acting()
        .when(DECLINED)
        .then("unwinding", &["turn: payment_declined", "undo return_money", "undo release_stock"]);
}

#[test]
fn row_30_another_card_is_asked_with_its_own_question() {
    let story = acting().when(replaced()).then_waiting(
        "authorising",
        &["send authorise 2/1", "wait authorise 30s", "wait action no more"],
    );
    let Command::Payment { command: payment::Command::Authorise { method, .. }, .. } =
        story.sent("authorise")
    else {
        panic!()
    };
    assert_eq!(method.as_str(), "pm_card_other");
}

#[test]
fn row_31_a_customer_who_does_nothing_loses_the_goods() {
    acting()
        .when_fired("action", 1)
        .then("unwinding", &["turn: action_overdue", "undo return_money", "undo release_stock"])
        .when(Input::Voided)
        .when(Input::StockReleased)
        .then("finalising", &["send reject"]);
}

#[test]
fn row_32_a_cancellation_does_not_wait_for_the_customer() {
    acting().when(CANCEL).then("unwinding", &UNDO);
}

#[test]
fn row_33_a_payment_of_unknown_outcome_turns_out_to_need_the_customer() {
    authorising()
        .when(Input::OutcomeUnknown { operation: Operation::Authorise })
        .when(Input::ActionRequired)
        .then("awaiting_action", &["send extend_stock"]);
}

#[test]
fn row_36_a_confirmed_order_is_packed() {
    confirming().when(Input::OrderConfirmed).then_waiting(
        "fulfilling/picking",
        &["send create_fulfilment", "wait create_fulfilment 60s"],
    );
}

#[test]
fn row_37_an_order_that_is_cancelled_while_it_is_confirmed_is_undone() {
    for input in [CANCEL, Input::ConfirmRejected] {
        confirming()
            .when(input)
            .then("unwinding", &["turn: cancelled", "undo return_money", "undo release_stock"]);
    }
    let told = confirming().when(CANCEL).told();
    assert_eq!(told[0], "wait confirm no more", "nothing that went forward is sent again");
}

#[test]
fn row_38_a_silent_order_is_parked() {
    let story = confirming().when_silent(Step::Confirm);
    story.when_fired("confirm", 8).then("confirming", &["park: order_silent"]);
}

#[test]
fn row_40_the_warehouse_is_asked_first() {
    for story in [picking(), capturing(), released()] {
        story.when(CANCEL).then("cancelling", &["undo cancel_fulfilment"]);
    }
}

#[test]
fn row_42_what_has_left_is_not_cancelled() {
    shipped().when(CANCEL).then("fulfilling/shipped", &["send reject_cancellation"]);
}

#[test]
fn row_45_a_label_that_nobody_sells_cancels_the_order() {
    capturing()
        .when(Input::LabelRejected)
        .then("fulfilling/capturing", &["send request_cancellation"])
        .when(CANCEL)
        .then("cancelling", &["undo cancel_fulfilment"]);
}

#[test]
fn row_46_a_delivered_order_is_complete() {
    shipped()
        .when(delivered())
        .then("finalising", &["send record_delivery", "send complete"])
        .when(Input::OrderCompleted)
        .then("completed", &["finish: completed"]);
}

#[test]
fn row_46_and_f14_a_warehouse_that_gives_up_cancels_the_order() {
    picking().when(Input::FulfilmentCancelled).then(
        "unwinding",
        &[
            "turn: fulfilment_cancelled",
            "undo return_money",
            "undo release_stock",
            "send request_cancellation",
        ],
    );
}

#[test]
fn row_47_a_stopped_parcel_gives_everything_back() {
    cancelling().when(Input::FulfilmentCancelled).then("unwinding", &UNDO);
}

#[test]
fn row_48_a_parcel_that_left_meanwhile_stays_sold() {
    released()
        .when(CANCEL)
        .when(handed_over())
        .then("fulfilling/shipped", &["send reject_cancellation", "send record_shipment"]);
    released()
        .when(CANCEL)
        .when(Input::CancelRejected)
        .then("fulfilling/shipped", &["send reject_cancellation"])
        .when(handed_over())
        .then("fulfilling/shipped", &["send record_shipment"]);
}

#[test]
fn row_49_money_taken_meanwhile_goes_back_with_the_rest() {
    let story = capturing()
        .when(CANCEL)
        .when(captured())
        .then("cancelling", &["send record_payment"])
        .when(Input::FulfilmentCancelled)
        .then("unwinding", &UNDO)
        .when(Input::StockReleased)
        .then("unwinding", &[])
        .when(refunded())
        .then("finalising", &["send record_refund", "send mark_cancelled"]);
    let command = order::Command::MarkCancelled { refunded: Some(euro(3000)) };
    assert_eq!(*story.sent("mark_cancelled"), Command::Order { id: id(), command });
}

#[test]
fn row_50_a_silent_warehouse_is_parked() {
    let story = cancelling().when_silent(Step::CancelFulfilment);
    story.when_fired("cancel_fulfilment", 8).then("cancelling", &["park: cancel_unacked"]);
}

#[test]
fn row_51_an_order_ends_when_all_is_acknowledged() {
    let acknowledged = [Input::Voided, Input::StockReleased];
    for [first, second] in [acknowledged.clone(), {
        let [a, b] = acknowledged;
        [b, a]
    }] {
        unwinding()
            .when(first)
            .then("unwinding", &[])
            .when(second)
            .then("finalising", &["send mark_cancelled"]);
    }
    authorising()
        .when(DECLINED)
        .when(Input::Voided)
        .when(Input::StockReleased)
        .then("finalising", &["send reject"]);
}

#[test]
fn row_52_late_money_is_waited_for() {
    unwinding()
        .when(Input::Voided)
        .when(captured())
        .then("unwinding", &["send record_payment"])
        .when(Input::StockReleased)
        .then("unwinding", &[])
        .when(refunded())
        .then("finalising", &["send record_refund", "send mark_cancelled"]);
    unwinding().when(Input::Authorised).then("unwinding", &[]);
}

#[test]
fn row_53_late_stock_changes_nothing() {
    unwinding().when(Input::StockReserved).then("unwinding", &[]);
}

#[test]
fn row_54_a_refund_that_fails_is_parked() {
    unwinding().when(Input::RefundFailed).then("unwinding", &["park: refund_failed"]);
}

#[test]
fn row_55_an_undoing_is_asked_for_24_times() {
    let story = unwinding().when_silent(Step::ReleaseStock);
    story.clone().when_fired("release_stock", 24).then("unwinding", &["park: undo_unacked"]);
    assert_eq!(story.told(), ["undo release_stock 1/24", "wait release_stock 600s"]);
}

#[test]
fn row_56_a_saga_is_finished_when_the_order_has_heard() {
    cancelled().then("cancelled", &["finish: cancelled"]);
    rejected().then("rejected", &["finish: rejected"]);
}

#[test]
fn row_56_an_order_that_does_not_hear_its_end_is_parked() {
    let story = shipped().when(delivered());
    let story = story.when_silent(Step::Complete);
    story.when_fired("complete", 8).then("finalising", &["park: order_silent"]);
}

#[test]
fn row_56b_a_second_cancellation_joins_the_first() {
    cancelling().when(CANCEL).then("cancelling", &[]);
    unwinding().when(CANCEL).then("unwinding", &[]);
    let finalising = unwinding().when(Input::Voided).when(Input::StockReleased);
    finalising.when(CANCEL).then("finalising", &[]);
}

#[test]
fn row_56b_the_order_answers_a_late_cancellation_with_its_end() {
    authorising()
        .when(DECLINED)
        .when(CANCEL)
        .when(Input::Voided)
        .when(Input::StockReleased)
        .then("finalising", &["send mark_cancelled"]);
    reserving().when(Input::StockRejected { short: short() }).when(CANCEL).then("finalising", &[]);
    shipped().when(delivered()).when(CANCEL).then("finalising", &[]);
}

#[test]
fn row_57_money_that_arrives_after_the_end_goes_back() {
    cancelled().when(Input::Authorised).then("cancelled", &["undo return_money 2/1"]);
    rejected()
        .when(captured())
        .then("rejected", &["send record_payment", "undo return_money"])
        .when(refunded())
        .then_waiting("rejected", &["send record_refund"]);
}

#[test]
fn row_58_goods_that_appear_after_the_end_go_back() {
    rejected().when(Input::StockReserved).then("rejected", &["undo release_stock"]);
    cancelled().when(handed_over()).then("cancelled", &["park: goods_left"]);
}

#[test]
fn row_59_money_that_is_gone_after_the_end_calls_a_person() {
    completed().when(reversed()).then("completed", &["send record_refund", "park: money_reversed"]);
    shipped()
        .when(reversed())
        .then("fulfilling/shipped", &["send record_refund", "park: money_reversed"]);
    cancelled().when(reversed()).then("cancelled", &["send record_refund"]);
}

#[test]
fn row_60_a_completed_order_is_not_cancelled() {
    completed().when(CANCEL).then("completed", &["send reject_cancellation"]);
}

#[test]
fn row_61_the_same_message_again_is_not_heard() {
    let mut story = authorising();
    story.hear_last_again();
}

#[test]
fn row_62_what_is_not_listed_is_ignored() {
    reserving().when(Input::Packed).then("reserving", &["ignore"]);
    completed().when(Input::StockReleased).then("completed", &["ignore"]);
}

#[test]
fn row_f1_a_packed_parcel_is_paid_for() {
    let story = picking().when(Input::Packed).then("fulfilling/capturing", &["send capture"]);
    let command = payment::Command::Capture { amount: euro(3000) };
    assert_eq!(*story.sent("capture"), Command::Payment { id: id().payment(), command });
}

#[test]
fn row_f2_a_parcel_that_costs_nothing_may_go() {
    given([placed(0), Input::StockReserved, Input::OrderConfirmed])
        .when(Input::Packed)
        .then("fulfilling/released", &["send commit_stock", "send release_for_handover"]);
}

#[test]
fn row_f2_a_parcel_that_was_paid_by_hand_may_go() {
    picking()
        .when(captured())
        .then("fulfilling/picking", &["send record_payment"])
        .when(Input::Packed)
        .then("fulfilling/released", &["send commit_stock", "send release_for_handover"]);
}

#[test]
fn row_f5_a_paid_parcel_may_go() {
    let story = capturing().when(captured()).then(
        "fulfilling/released",
        &["send commit_stock", "send release_for_handover", "send record_payment"],
    );
    let command = shipping::Command::ReleaseForHandover;
    let release = Command::Shipping { id: id().fulfilment(), command };
    assert_eq!(*story.sent("release_for_handover"), release);
}

#[test]
fn row_f6_a_capture_that_fails_is_tried_again_and_then_cancels_the_order() {
    let later = Input::CaptureFailed { retryable: true };
    capturing()
        .when(later.clone())
        .then("fulfilling/capturing", &["send capture 2/1"])
        .when(later.clone())
        .then("fulfilling/capturing", &["send capture 3/1"])
        .when(later.clone())
        .then("fulfilling/capturing", &["send capture 4/1"])
        .when(later)
        .then("fulfilling/capturing", &["send request_cancellation"]);
    capturing()
        .when(Input::CaptureFailed { retryable: false })
        .then("fulfilling/capturing", &["send request_cancellation"])
        .when(CANCEL)
        .then("cancelling", &["undo cancel_fulfilment"]);
}

#[test]
fn row_f7_a_silent_capture_is_parked() {
    let story = capturing().when_silent(Step::Capture);
    story.when_fired("capture", 9).then("fulfilling/capturing", &["park: capture_unknown"]);
}

#[test]
fn row_f7_a_capture_of_unknown_outcome_is_cleared_up_while_undoing() {
    capturing()
        .when(CANCEL)
        .when(Input::FulfilmentCancelled)
        .when(Input::OutcomeUnknown { operation: Operation::Capture })
        .then_waiting("unwinding", &["wait capture 60s"])
        .when_fired("capture", 2)
        .then("unwinding", &["send capture 2/2"]);
}

#[test]
fn row_f8_the_parcel_leaves() {
    released().when(handed_over()).then("fulfilling/shipped", &["send record_shipment"]);
}

#[test]
fn row_f12_a_parcel_that_is_lost_calls_a_person() {
    shipped().when(Input::ParcelLost).then("fulfilling/shipped", &["park: lost"]);
    shipped().when_fired("transit", 1).then("fulfilling/shipped", &["park: lost"]);
    let left = released().when(handed_over());
    assert!(left.told().contains(&"wait transit 1209600s".to_owned()), "{:?}", left.told());
    let kept = released().when(CANCEL).when(Input::CancelRejected);
    assert!(kept.told().contains(&"wait transit 1209600s".to_owned()), "{:?}", kept.told());
}

#[test]
fn row_f13_a_parcel_that_comes_back_calls_a_person() {
    shipped().when(Input::ParcelReturned).then("fulfilling/shipped", &["park: returned"]);
    completed().when(Input::ParcelReturned).then("completed", &["ignore"]);
}

#[test]
fn row_f9_a_parcel_that_is_not_paid_for_any_more_stays_here() {
    let stopping = || {
        released()
            .when(reversed())
            .then("fulfilling/released", &["send record_refund", "send request_cancellation"])
            .when(CANCEL)
            .then("cancelling", &["undo cancel_fulfilment"])
    };
    stopping()
        .when(Input::FulfilmentCancelled)
        .then("unwinding", &UNDO)
        .when(Input::Voided)
        .when(Input::StockReleased)
        .then("finalising", &["send mark_cancelled"]);
    let park = "park: money_reversed";
    stopping()
        .when(Input::CancelRejected)
        .then("fulfilling/shipped", &["send reject_cancellation", park]);
    stopping()
        .when(handed_over())
        .then("fulfilling/shipped", &["send reject_cancellation", "send record_shipment", park]);
    released()
        .when(reversed())
        .when(handed_over())
        .then("fulfilling/shipped", &["send record_shipment", park]);
}

#[test]
fn row_f11_the_parcel_arrives() {
    shipped().when(delivered()).then("finalising", &["send record_delivery", "send complete"]);
}

#[test]
fn a_parcel_that_leaves_unpaid_calls_a_person() {
    for story in [picking(), capturing(), cancelling()] {
        let state = fold(&story.events).state().name();
        story.when(handed_over()).then(state, &["park: goods_left_unpaid"]);
    }
}

#[test]
fn a_payment_that_closes_by_itself_is_not_waited_for() {
    picking()
        .when(Input::Voided)
        .when(CANCEL)
        .when(Input::FulfilmentCancelled)
        .then("unwinding", &["turn: cancelled", "undo release_stock"]);
}

#[test]
fn an_order_of_more_than_can_be_counted_is_rejected() {
    let Input::OrderPlaced(order) = placed(1000) else { panic!() };
    let order = Order { units: vec![], ..Order::clone(&order) };
    given([Input::OrderPlaced(Arc::new(order))]).then("finalising", &["send reject"]);
}

#[test]
fn a_parked_saga_keeps_what_it_hears() {
    let parked = unwinding().when(Input::RefundFailed);
    parked.when(Input::StockReleased).then("unwinding", &["defer"]).when_fired("return_money", 1);
}

#[test]
fn a_stale_timer_is_not_even_written_down() {
    let story = reserving().when_fired("reserve", 1);
    assert_eq!(story.clone().when_fired("reserve", 1).written, []);
    assert_eq!(story.when(Input::StockReserved).when_fired("reserve", 2).written, []);
}

#[test]
fn commands_have_the_ids_that_follow_from_the_saga_and_the_step() {
    let (saga, story) = (id().saga(), authorising());
    let issued = story.events.iter().filter_map(|event| match event {
        Event::CommandIssued { command_id, step, .. } => Some((step.as_str(), *command_id)),
        _ => None,
    });
    let ids = ["reserve", "authorise"]
        .map(|step| (step, CommandId::derive(saga.uuid(), &format!("{step}/1"))));
    assert_eq!(issued.collect::<Vec<_>>(), ids);
}

#[test]
fn the_names_of_steps_are_told_apart_and_read_back() {
    for step in Step::ALL {
        assert_eq!(Step::parse(step.as_str()), Some(*step));
    }
    assert_eq!(Fulfilment::NAME, "order-fulfilment");
}
