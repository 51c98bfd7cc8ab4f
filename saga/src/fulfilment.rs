//! The order-fulfilment saga: a placed order gets its stock, then its payment, then its
//! confirmation; it is packed, paid, handed over and delivered. Whatever fails before the parcel
//! leaves the house is undone; after that everything goes forward.
//!
//! The table is `react`; its numbers are the rows of the design. What it can hear and ask for is
//! listed here, what it keeps in mind in `state.rs`, how its commands are worded in `ask.rs`, and
//! what a person may do about it in `verbs.rs`.
//!
//! Of the design's timers these are in: the patience with every step (12, 24, 34, 38, 50, 55, 56,
//! F7), the customer's time to act (`T_action`, 31), the end of a hold (`T_resv`, 27), the
//! warehouse's time to pack and to hand over (`T_pick`, F4, and `T_handover`, F10), a parcel's time
//! on its way (`T_transit`, F12) and the time in which somebody has to pay (`T_dunning`, F6). Not
//! yet: rows 9, 10, 15 and 16 (backorders), 45's hold and 41 (some parcels of several). That an
//! authorisation ends is told by the provider (43), and no timer of ours.
//! Customers are not notified of anything yet.
//!
//! **Versions.** Version 1 has a table of its own. Version 3 is version 2 with the warehouse
//! watched and with somebody waited for where the money cannot be taken: two differences, each a
//! question to the state (`Fulfilment::is_watched`). What version 2 never heard of, such as a
//! short pick or a dispute, it hears like version 3.
//!
//! **Who lets a hold run out.** The saga itself: it knows whether somebody still waits for the
//! goods. It extends the hold in time; where it comes too late, since the process was away, the
//! inventory answers with the expiry instead, and it asks for the goods again (28). A parked saga
//! keeps its goods: a person looks at it, and would else find them sold.

mod ask;
mod react;
mod state;
mod v1;
mod verbs;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use schemas::inventory::Units;
use schemas::order::{HoldReason, Shortage};
use schemas::payment::Operation;
use schemas::{Fact, Money, Recorded, Text, Timestamp, inventory, order, payment, shipping};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use state::{Fulfilment, Order};

use crate::definition::names;
use crate::{Answer, Patience, Reaction, Saga};

/// What the saga can hear: each is the event of the same name, as `correlate` reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    OrderPlaced(Arc<Order>),
    CancellationRequested,
    OrderConfirmed,
    OrderHeld {
        reason: HoldReason,
    },
    OrderReleased {
        reason: HoldReason,
    },
    LinesCancelled {
        left: Vec<Units>,
        total: Money,
    },
    ConfirmRejected,
    OrderRejected,
    OrderCancelled,
    OrderCompleted,
    StockReserved,
    StockPartiallyReserved {
        short: Vec<Shortage>,
    },
    StockRejected {
        short: Vec<Shortage>,
    },
    StockReleased,
    StockExpired,
    /// The hold ends soon.
    HoldEnding,
    Authorised,
    AuthorisationExpired,
    ActionRequired,
    /// Somebody wants it tried once more.
    RetryRequested,
    /// Nobody paid in time.
    DunningOver,
    MethodReplaced {
        method: Text,
    },
    /// The customer did nothing in time.
    ActionOverdue,
    Declined {
        retryable: bool,
    },
    Captured {
        amount: Money,
    },
    CaptureReversed {
        amount: Money,
    },
    CaptureFailed {
        retryable: bool,
    },
    /// The bank has the money until it decides.
    DisputeOpened {
        amount: Money,
    },
    DisputeWon {
        amount: Money,
    },
    DisputeLost {
        amount: Money,
    },
    Voided,
    Refunded {
        amount: Money,
    },
    RefundFailed,
    OutcomeUnknown {
        operation: Operation,
    },
    FulfilmentCreated,
    ShortPicked {
        short: Vec<Units>,
        left: Vec<Units>,
    },
    /// It should have been packed, or handed over, long ago.
    WarehouseLate,
    Packed,
    LabelRejected,
    HandedOver {
        tracking_code: Text,
    },
    Delivered {
        at: Timestamp,
    },
    FulfilmentCancelled,
    CancelRejected,
    ParcelLost,
    ParcelReturned,
    /// It should have arrived long ago.
    TransitOverdue,
}

names! {
    /// What the saga asks of others: each is the command of the same name in `ask.rs`.
    pub enum Step {
        Reserve = "reserve",
        Authorise = "authorise",
        Confirm = "confirm",
        CreateFulfilment = "create_fulfilment",
        Capture = "capture",
        CommitStock = "commit_stock",
        ReleaseForHandover = "release_for_handover",
        CancelFulfilment = "cancel_fulfilment",
        ReturnMoney = "return_money",
        ReleaseStock = "release_stock",
        ExtendStock = "extend_stock",
        ReduceStock = "reduce_stock",
        CancelLines = "cancel_lines",
        HoldOrder = "hold_order",
        ReleaseOrder = "release_order",
        AskCustomer = "ask_customer",
        HoldFulfilment = "hold_fulfilment",
        ResumeFulfilment = "resume_fulfilment",
        RecordPayment = "record_payment",
        RecordShipment = "record_shipment",
        RecordDelivery = "record_delivery",
        RecordRefund = "record_refund",
        RequestCancellation = "request_cancellation",
        RejectCancellation = "reject_cancellation",
        MarkCancelled = "mark_cancelled",
        Reject = "reject",
        Complete = "complete",
    }
}

names! {
    /// What the saga waits for besides answers.
    pub enum Timer {
        Action = "action",
        Hold = "hold",
        Warehouse = "warehouse",
        Dunning = "dunning",
        Transit = "transit",
    }
}

names! {
    /// What somebody should know of.
    pub enum Alert {
        PickOverdue = "pick_overdue",
        HandoverOverdue = "handover_overdue",
        PaymentWanting = "payment_wanting",
    }
}

impl Saga for Fulfilment {
    const NAME: &'static str = "order-fulfilment";
    const VERSION: u16 = 3;
    const REVISION: u16 = 3;
    type Input = Input;
    type Step = Step;
    type Timer = Timer;
    type Alert = Alert;

    fn correlate(event: &Recorded) -> Option<(Uuid, Input)> {
        match &event.fact {
            Fact::Order(fact) => Some((event.stream.id, order(event.stream.id, fact)?)),
            Fact::Payment(fact) => Some((fact.order().uuid(), payment(fact)?)),
            Fact::Inventory(fact) => Some((fact.order()?.uuid(), inventory(fact)?)),
            Fact::Shipping(fact) => Some((fact.order().uuid(), shipping(fact)?)),
            Fact::Saga(_) | Fact::Unknown { .. } => None,
        }
    }

    fn react(self, version: u16, input: &Input, now: Timestamp) -> Reaction<Self> {
        match version {
            1 => v1::react(self, input, now),
            _ => react::react(self, version, input, now),
        }
    }

    fn answers(input: &Input) -> Option<(Step, Answer)> {
        use Answer::{Done, Failed, Unknown};
        Some(match input {
            Input::StockReserved => (Step::Reserve, Done),
            Input::StockPartiallyReserved { .. } | Input::StockRejected { .. } => {
                (Step::Reserve, Failed)
            }
            // The provider has answered; the rest is between the customer and their bank.
            Input::Authorised | Input::ActionRequired => (Step::Authorise, Done),
            Input::Declined { .. } => (Step::Authorise, Failed),
            Input::OrderConfirmed => (Step::Confirm, Done),
            Input::LinesCancelled { .. } => (Step::CancelLines, Done),
            Input::ConfirmRejected => (Step::Confirm, Failed),
            Input::FulfilmentCreated => (Step::CreateFulfilment, Done),
            Input::Captured { .. } => (Step::Capture, Done),
            Input::CaptureFailed { .. } => (Step::Capture, Failed),
            Input::FulfilmentCancelled => (Step::CancelFulfilment, Done),
            Input::CancelRejected | Input::HandedOver { .. } => (Step::CancelFulfilment, Failed),
            Input::Voided | Input::Refunded { .. } => (Step::ReturnMoney, Done),
            Input::RefundFailed => (Step::ReturnMoney, Failed),
            Input::OutcomeUnknown { operation } => match operation {
                Operation::Authorise => (Step::Authorise, Unknown),
                Operation::Capture => (Step::Capture, Unknown),
                Operation::Void | Operation::Refund => (Step::ReturnMoney, Unknown),
            },
            Input::StockReleased => (Step::ReleaseStock, Done),
            Input::CancellationRequested => (Step::RequestCancellation, Done),
            Input::OrderCancelled => (Step::MarkCancelled, Done),
            Input::OrderRejected => (Step::Reject, Done),
            Input::OrderCompleted => (Step::Complete, Done),
            Input::OrderPlaced(_)
            | Input::OrderHeld { .. }
            | Input::OrderReleased { .. }
            | Input::AuthorisationExpired
            | Input::RetryRequested
            | Input::DunningOver
            | Input::ShortPicked { .. }
            | Input::WarehouseLate
            | Input::StockExpired
            | Input::HoldEnding
            | Input::CaptureReversed { .. }
            | Input::DisputeOpened { .. }
            | Input::DisputeWon { .. }
            | Input::DisputeLost { .. }
            | Input::MethodReplaced { .. }
            | Input::ActionOverdue
            | Input::Packed
            | Input::ParcelLost
            | Input::ParcelReturned
            | Input::TransitOverdue
            | Input::LabelRejected
            | Input::Delivered { .. } => return None,
        })
    }

    /// The timer rows of the table: 12, 13, 24, 25, 34, 38, 45, 50, 55, F7 and the one of 56.
    ///
    /// A command in the log is never lost, so our own contexts are silent only where the whole
    /// platform is behind. Asking again after a few seconds would make that worse, and giving up
    /// after a few minutes would park orders that are merely late: they get an hour.
    fn patience(step: Step) -> Option<Patience> {
        let patience = |wait_s, sendings_max, park| Patience {
            wait: Duration::from_secs(wait_s),
            wait_max: Duration::from_mins(10),
            sendings_max,
            park,
        };
        let ours = |park| patience(60, 8, park);
        Some(match step {
            Step::Reserve => ours("inventory_silent"),
            Step::Confirm
            | Step::CancelLines
            | Step::RequestCancellation
            | Step::MarkCancelled
            | Step::Reject
            | Step::Complete => ours("order_silent"),
            Step::CreateFulfilment => ours("shipping_silent"),
            Step::CancelFulfilment => ours("cancel_unacked"),
            // To ask again is to reconcile: the payment puts a question of unknown outcome to
            // the provider under the same key. So rows 24 and 34 are one, with their patience.
            Step::Authorise => patience(30, 9, "payment_unknown"),
            Step::Capture => patience(60, 9, "capture_unknown"),
            Step::ReturnMoney | Step::ReleaseStock => patience(30, 24, "undo_unacked"),
            // Facts told and gates opened: what comes of them is heard elsewhere, or by nobody.
            Step::CommitStock
            | Step::ExtendStock
            | Step::ReduceStock
            | Step::HoldOrder
            | Step::ReleaseOrder
            | Step::AskCustomer
            | Step::HoldFulfilment
            | Step::ResumeFulfilment
            | Step::ReleaseForHandover
            | Step::RecordPayment
            | Step::RecordShipment
            | Step::RecordDelivery
            | Step::RecordRefund
            | Step::RejectCancellation => return None,
        })
    }

    fn fired(timer: Timer) -> Input {
        match timer {
            Timer::Action => Input::ActionOverdue,
            Timer::Hold => Input::HoldEnding,
            Timer::Warehouse => Input::WarehouseLate,
            Timer::Dunning => Input::DunningOver,
            Timer::Transit => Input::TransitOverdue,
        }
    }

    fn name(&self) -> &'static str {
        self.phase.name()
    }

    fn said(&self, step: Step, done: bool) -> Option<Input> {
        verbs::said(self, step, done)
    }

    fn may_skip(step: Step) -> bool {
        verbs::may_skip(step)
    }

    fn compensate(self, _version: u16) -> Reaction<Self> {
        verbs::compensate(self)
    }

    fn holds(&self) -> bool {
        verbs::holds(self)
    }
}

fn order(id: Uuid, fact: &order::Event) -> Option<Input> {
    use order::Event;
    Some(match fact {
        Event::Placed { lines, total, shipping_address, payment_method, .. } => {
            let order = Order::new(id, lines, *total, shipping_address, payment_method);
            Input::OrderPlaced(Arc::new(order))
        }
        Event::Confirmed => Input::OrderConfirmed,
        Event::ConfirmRejected => Input::ConfirmRejected,
        Event::Rejected { .. } => Input::OrderRejected,
        Event::CancellationRequested { .. } => Input::CancellationRequested,
        Event::Cancelled { .. } => Input::OrderCancelled,
        Event::Completed => Input::OrderCompleted,
        Event::Held { reason } => Input::OrderHeld { reason: *reason },
        Event::Released { reason } => Input::OrderReleased { reason: *reason },
        Event::LinesCancelled { left, total, .. } => {
            Input::LinesCancelled { left: left.clone(), total: *total }
        }
        _ => return None,
    })
}

fn payment(fact: &payment::Event) -> Option<Input> {
    use payment::Event;
    Some(match fact {
        Event::Authorised { .. } => Input::Authorised,
        Event::AuthorisationExpired { .. } => Input::AuthorisationExpired,
        Event::RetryRequested { .. } => Input::RetryRequested,
        Event::ActionRequired { .. } => Input::ActionRequired,
        Event::MethodReplaced { method, .. } => Input::MethodReplaced { method: method.clone() },
        Event::Declined { retryable, .. } => Input::Declined { retryable: *retryable },
        Event::Captured { amount, .. } => Input::Captured { amount: *amount },
        Event::CaptureReversed { amount, .. } => Input::CaptureReversed { amount: *amount },
        Event::DisputeOpened { amount, .. } => Input::DisputeOpened { amount: *amount },
        Event::DisputeWon { amount, .. } => Input::DisputeWon { amount: *amount },
        Event::DisputeLost { amount, .. } => Input::DisputeLost { amount: *amount },
        Event::CaptureFailed { retryable, .. } => Input::CaptureFailed { retryable: *retryable },
        Event::Voided { .. } => Input::Voided,
        Event::Refunded { amount, .. } => Input::Refunded { amount: *amount },
        Event::RefundFailed { .. } => Input::RefundFailed,
        Event::OutcomeUnknown { operation, .. } => Input::OutcomeUnknown { operation: *operation },
        _ => return None,
    })
}

fn inventory(fact: &inventory::Event) -> Option<Input> {
    use inventory::Event;
    Some(match fact {
        Event::Reserved { .. } => Input::StockReserved,
        Event::PartiallyReserved { short, .. } => {
            Input::StockPartiallyReserved { short: short.clone() }
        }
        Event::ReservationRejected { short, .. } => Input::StockRejected { short: short.clone() },
        Event::ReservationReleased { .. } => Input::StockReleased,
        Event::ReservationExpired { .. } => Input::StockExpired,
        _ => return None,
    })
}

fn shipping(fact: &shipping::Event) -> Option<Input> {
    use shipping::{Event, Trouble};
    Some(match fact {
        Event::Created { .. } => Input::FulfilmentCreated,
        Event::ShortPicked { short, left, .. } => {
            Input::ShortPicked { short: short.clone(), left: left.clone() }
        }
        Event::Packed { .. } => Input::Packed,
        Event::LabelRejected { .. } => Input::LabelRejected,
        Event::HandedOver { tracking_code, .. } => {
            Input::HandedOver { tracking_code: tracking_code.clone() }
        }
        Event::Delivered { at, .. } => Input::Delivered { at: *at },
        Event::TroubleReported { trouble: Trouble::Lost, .. } => Input::ParcelLost,
        Event::TroubleReported { trouble: Trouble::Returned, .. } => Input::ParcelReturned,
        Event::Cancelled { .. } => Input::FulfilmentCancelled,
        Event::CancelRejected { .. } => Input::CancelRejected,
        _ => return None,
    })
}
