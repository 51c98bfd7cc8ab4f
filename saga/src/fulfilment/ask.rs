//! How the saga words what it asks for. Every id follows from the order's.

use std::time::Duration;

use schemas::inventory::{ReserveMode, Units};
use schemas::order::{CancelReason, HoldReason, KeepReason, RejectReason, Shortage};
use schemas::{Command, Money, Text, Timestamp, inventory, order, payment, shipping};

use super::Order;

/// How long stock is held for an order that is not paid yet.
pub(super) const HOLD: Duration = Duration::from_mins(15);

pub(super) fn reserve(order: &Order, now: Timestamp) -> Command {
    Command::Inventory {
        command: inventory::Command::Reserve {
            order: order.id,
            reservation: order.id.reservation(),
            units: order.units.clone(),
            mode: ReserveMode::AllOrNothing,
            expires_at: now + HOLD,
        },
    }
}

pub(super) fn extend(order: &Order, now: Timestamp, longer: Duration) -> Command {
    let (reservation, skus) = (order.id.reservation(), order.skus());
    let (until, at) = (now + longer, now);
    let command = inventory::Command::Extend { order: order.id, reservation, skus, until, at };
    Command::Inventory { command }
}

pub(super) fn release_stock(order: &Order) -> Command {
    let (reservation, skus) = (order.id.reservation(), order.skus());
    let command = inventory::Command::Release { order: order.id, reservation, skus };
    Command::Inventory { command }
}

pub(super) fn reduce_stock(order: &Order, units: &[Units]) -> Command {
    let (reservation, units) = (order.id.reservation(), units.to_vec());
    let command = inventory::Command::Reduce { order: order.id, reservation, units };
    Command::Inventory { command }
}

pub(super) fn commit_stock(order: &Order) -> Command {
    let (reservation, skus) = (order.id.reservation(), order.skus());
    let command = inventory::Command::Commit { order: order.id, reservation, skus };
    Command::Inventory { command }
}

pub(super) fn authorise(order: &Order, method: &Text) -> Command {
    let (amount, method) = (order.total, method.clone());
    payment(order, payment::Command::Authorise { order: order.id, amount, method })
}

pub(super) fn capture(order: &Order, amount: Money) -> Command {
    payment(order, payment::Command::Capture { amount })
}

/// Voids what is held and refunds what was taken: the payment alone knows which, since a
/// capture may be on its way. It also learns that whatever comes in later has to go back.
pub(super) fn return_money(order: &Order) -> Command {
    payment(order, payment::Command::Void { order: order.id })
}

pub(super) fn create_fulfilment(order: &Order) -> Command {
    let (units, address) = (order.units.clone(), order.address.clone());
    shipping(order, shipping::Command::Create { order: order.id, units, address })
}

pub(super) fn hold_fulfilment(order: &Order) -> Command {
    shipping(order, shipping::Command::Hold { order: order.id })
}

pub(super) fn resume_fulfilment(order: &Order) -> Command {
    shipping(order, shipping::Command::Resume)
}

pub(super) fn release_for_handover(order: &Order) -> Command {
    shipping(order, shipping::Command::ReleaseForHandover)
}

pub(super) fn cancel_fulfilment(order: &Order) -> Command {
    shipping(order, shipping::Command::Cancel { order: order.id })
}

pub(super) fn confirm(order: &Order) -> Command {
    self::order(order, order::Command::Confirm)
}

pub(super) fn hold_order(order: &Order, reason: HoldReason) -> Command {
    self::order(order, order::Command::Hold { reason })
}

pub(super) fn release_order(order: &Order, reason: HoldReason) -> Command {
    self::order(order, order::Command::Release { reason: Some(reason) })
}

pub(super) fn cancel_lines(order: &Order, left: &[Units]) -> Command {
    let (left, reason) = (left.to_vec(), CancelReason::Inventory);
    self::order(order, order::Command::CancelLines { left, reason })
}

pub(super) fn ask_customer(order: &Order) -> Command {
    self::order(order, order::Command::RequirePaymentAction)
}

pub(super) fn reject(order: &Order, reason: RejectReason, short: Vec<Shortage>) -> Command {
    self::order(order, order::Command::Reject { reason, short })
}

pub(super) fn request_cancellation(order: &Order, reason: CancelReason) -> Command {
    self::order(order, order::Command::RequestCancellation { reason })
}

pub(super) fn reject_cancellation(order: &Order) -> Command {
    self::order(order, order::Command::RejectCancellation { reason: KeepReason::UseReturn })
}

pub(super) fn mark_cancelled(order: &Order, refunded: Option<Money>) -> Command {
    self::order(order, order::Command::MarkCancelled { refunded })
}

pub(super) fn complete(order: &Order) -> Command {
    self::order(order, order::Command::Complete)
}

pub(super) fn record_payment(order: &Order, captured: Money) -> Command {
    self::order(order, order::Command::RecordPayment { captured })
}

pub(super) fn record_refund(order: &Order, refunded: Money) -> Command {
    self::order(order, order::Command::RecordRefund { refunded })
}

pub(super) fn record_shipment(order: &Order, tracking_code: &Text) -> Command {
    let tracking_code = tracking_code.clone();
    self::order(order, order::Command::RecordShipment { tracking_code })
}

pub(super) fn record_delivery(order: &Order, at: Timestamp) -> Command {
    self::order(order, order::Command::RecordDelivery { at })
}

fn order(order: &Order, command: order::Command) -> Command {
    Command::Order { id: order.id, command }
}

fn payment(order: &Order, command: payment::Command) -> Command {
    Command::Payment { id: order.id.payment(), command }
}

fn shipping(order: &Order, command: shipping::Command) -> Command {
    Command::Shipping { id: order.id.fulfilment(), command }
}
