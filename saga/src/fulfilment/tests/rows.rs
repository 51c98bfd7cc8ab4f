//! The table, row by row: given what it heard, when it hears this, then it wants that. The rows
//! are in a file for each part of an order's way, as the table is.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use schemas::inventory::Units;
use schemas::order::{HoldReason, RejectReason, Shortage};
use schemas::payment::Operation;
use schemas::saga::{Event, Verb};
use schemas::{Command, CommandId, Decider as _, OrderId, Quantity, Text};
use schemas::{inventory, order, payment, shipping};
use uuid::Uuid;

use super::super::{Order, Step};
use super::provider::euro;
use super::world::{address, lines};
use super::{Fulfilment, Input, dawn, firing, fold};
use crate::{Act, Heard, Name as _, Saga as _, What};

mod buying;
mod sending;
mod undoing;

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

fn units(units: &[(&str, u32)]) -> Vec<Units> {
    let units = units.iter().map(|(sku, quantity)| Units {
        sku: sku.parse().unwrap(),
        quantity: Quantity::new(*quantity).unwrap(),
    });
    units.collect()
}

/// One mug of the two is not on the shelf.
fn short_picked() -> Input {
    Input::ShortPicked { short: units(&[("mug", 1)]), left: units(&[("mug", 1), ("tea", 1)]) }
}

/// The order says what is due without it.
fn lines_cancelled() -> Input {
    Input::LinesCancelled { left: units(&[("mug", 1), ("tea", 1)]), total: euro(2000) }
}

fn captured() -> Input {
    Input::Captured { amount: euro(3000) }
}

fn reversed() -> Input {
    Input::CaptureReversed { amount: euro(3000) }
}

fn disputed() -> Input {
    Input::DisputeOpened { amount: euro(3000) }
}

fn won() -> Input {
    Input::DisputeWon { amount: euro(3000) }
}

fn lost() -> Input {
    Input::DisputeLost { amount: euro(3000) }
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
        Input::OrderHeld { reason: HoldReason::Fraud },
        Input::OrderHeld { reason: HoldReason::Payment },
        Input::OrderReleased { reason: HoldReason::Fraud },
        Input::OrderReleased { reason: HoldReason::Payment },
        lines_cancelled(),
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
        Input::AuthorisationExpired,
        Input::RetryRequested,
        Input::DunningOver,
        Input::ActionRequired,
        replaced(),
        Input::ActionOverdue,
        Input::Declined { retryable: true },
        DECLINED,
        captured(),
        reversed(),
        disputed(),
        won(),
        lost(),
        Input::CaptureFailed { retryable: true },
        Input::CaptureFailed { retryable: false },
        Input::Voided,
        refunded(),
        Input::RefundFailed,
        Input::OutcomeUnknown { operation: Operation::Capture },
        Input::FulfilmentCreated,
        short_picked(),
        Input::ShortPicked { short: units(&[("mug", 2), ("tea", 1)]), left: vec![] },
        Input::WarehouseLate,
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

    /// A person has looked at it, and has it go on.
    fn resumed(mut self) -> Self {
        self.operate(super::verbs::does(Verb::Resume));
        self
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

    /// The same, and it is so much later.
    fn later(mut self, by: Duration) -> Self {
        self.later += by;
        self
    }

    /// What it wants now, timers left out, and the state it is in.
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
        Event::Alerted { reason, .. } => format!("alert: {reason}"),
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
