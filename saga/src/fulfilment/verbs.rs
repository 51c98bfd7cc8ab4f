//! What a person's verbs mean to an order on its way: see `docs/sagas.md`.

use schemas::Money;
use schemas::order::CancelReason;

use super::react::{stop, unwind};
use super::state::{End, Parcel, Phase};
use super::{Fulfilment, Input, Step, ask};
use crate::Reaction;

/// What would have been heard if `step` had been done, or could not be.
///
/// A word is taken for what happens outside: at the provider, in the warehouse. What our own log
/// would know it is asked for again, and a step is given up only where giving back what may come
/// of it later is safe.
pub(super) fn said(saga: &Fulfilment, step: Step, done: bool) -> Option<Input> {
    let order = saga.order.as_deref()?;
    Some(match (step, done) {
        // Should some of it be reserved after all, that is released (row 8).
        (Step::Reserve, false) => Input::StockPartiallyReserved { short: Vec::new() },
        // Should it be held after all, that is let go (row 52).
        (Step::Authorise, false) => Input::Declined { retryable: false },
        (Step::Capture, true) => Input::Captured { amount: saga.due(order)? },
        (Step::Capture, false) => Input::CaptureFailed { retryable: false },
        (Step::CancelFulfilment, true) => Input::FulfilmentCancelled,
        (Step::ReturnMoney, true) => {
            kept(saga).map_or(Input::Voided, |amount| Input::Refunded { amount })
        }
        (Step::ReleaseStock, true) => Input::StockReleased,
        (Step::MarkCancelled, true) => Input::OrderCancelled,
        (Step::Reject, true) => Input::OrderRejected,
        (Step::Complete, true) => Input::OrderCompleted,
        (Step::Reserve | Step::Authorise, true)
        | (
            Step::CancelFulfilment
            | Step::ReturnMoney
            | Step::ReleaseStock
            | Step::MarkCancelled
            | Step::Reject
            | Step::Complete,
            false,
        )
        | (
            Step::Confirm
            | Step::CreateFulfilment
            | Step::RequestCancellation
            | Step::RejectCancellation
            | Step::CommitStock
            | Step::ReleaseForHandover
            | Step::ExtendStock
            | Step::ReduceStock
            | Step::CancelLines
            | Step::HoldOrder
            | Step::ReleaseOrder
            | Step::AskCustomer
            | Step::HoldFulfilment
            | Step::ResumeFulfilment
            | Step::RecordPayment
            | Step::RecordShipment
            | Step::RecordDelivery
            | Step::RecordRefund,
            _,
        ) => return None,
    })
}

/// Only what tells an order how it ended: everything else moves money or goods, or has somebody
/// wait for it.
pub(super) const fn may_skip(step: Step) -> bool {
    matches!(step, Step::MarkCancelled | Step::Reject | Step::Complete)
}

/// Turns round as for a cancellation that needs no answer to come first: what is on its way is
/// given back when it arrives (rows 52, 53).
pub(super) fn compensate(saga: Fulfilment) -> Reaction<Fulfilment> {
    let Some(order) = saga.order.clone() else { return Reaction::Ignored };
    let is_asked = saga.cancel;
    let reaction = match saga.phase {
        Phase::Reserving | Phase::Authorising | Phase::AwaitingAction | Phase::Confirming => {
            unwind(saga.cancelled(), &order, "operator")
        }
        // As row 40: the goods may be on their way.
        Phase::Fulfilling(parcel @ (Parcel::Picking | Parcel::Capturing | Parcel::Released)) => {
            stop(saga, &order, parcel)
        }
        // It is being undone already, or cannot be any more.
        Phase::New
        | Phase::Fulfilling(Parcel::Shipped)
        | Phase::Cancelling(_)
        | Phase::Unwinding(_)
        | Phase::Finalising(_)
        | Phase::Ended(_) => return Reaction::Ignored,
    };
    if is_asked {
        return reaction;
    }
    let why = CancelReason::Staff;
    reaction.send(Step::RequestCancellation, ask::request_cancellation(&order, why))
}

/// Whether money or goods may still be held: only an order that gave back everything, or never
/// took anything, holds nothing for sure.
pub(super) fn holds(saga: &Fulfilment) -> bool {
    match saga.phase {
        Phase::New => false,
        Phase::Finalising(End::Cancelled | End::Rejected) | Phase::Ended(_) => saga.keeps_money(),
        Phase::Reserving
        | Phase::Authorising
        | Phase::AwaitingAction
        | Phase::Confirming
        | Phase::Fulfilling(_)
        | Phase::Cancelling(_)
        | Phase::Unwinding(_)
        | Phase::Finalising(End::Completed) => true,
    }
}

/// What was taken, is not left to a bank to decide about, and was not given back.
fn kept(saga: &Fulfilment) -> Option<Money> {
    let captured = saga.captured?;
    let refunded = saga.refunded.map_or(0, |money| money.amount);
    let disputed = saga.disputed.map_or(0, |money| money.amount);
    let amount = captured.amount.saturating_sub(refunded).saturating_sub(disputed);
    (amount > 0).then(|| Money::new(amount, captured.currency))
}
