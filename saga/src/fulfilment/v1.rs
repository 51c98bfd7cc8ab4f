//! Version 1 of the table, which knew neither what a bank asks of a customer nor a hold that runs
//! out. Sagas that began with it go on by it, so nothing in here changes any more; it goes when the
//! last of them has ended.

use schemas::Timestamp;
use schemas::order::{CancelReason, RejectReason};

use super::state::{End, Owed, Parcel, Phase};
use super::{Fulfilment, Input, Order, Step, ask};
use crate::{Output, Reaction};

/// How often a capture is tried again after the provider said "not now".
const CAPTURE_FAILURES_MAX: u32 = 3;

/// What follows. Silence is not in here: see the patience with each step.
#[expect(
    clippy::too_many_lines,
    clippy::match_same_arms,
    reason = "one table on one page, one arm for each row"
)]
pub(super) fn react(saga: Fulfilment, input: &Input, now: Timestamp) -> Reaction<Fulfilment> {
    use self::End::{Cancelled, Completed, Rejected};
    use self::Parcel::{Capturing, Picking, Released, Shipped};
    use self::Phase::{
        Authorising, AwaitingAction, Cancelling, Confirming, Ended, Finalising, Fulfilling, New,
        Reserving, Unwinding,
    };

    let Some(order) = saga.order.clone() else {
        return match input {
            Input::OrderPlaced(order) => {
                let saga = Fulfilment { order: Some(order.clone()), ..saga };
                if order.units.is_empty() {
                    // More of one sku than can be counted: there is never enough of it.
                    finalise(saga.rejected(RejectReason::OutOfStock, &[]), order)
                } else {
                    // 1
                    next(saga.to(Reserving)).send(Step::Reserve, ask::reserve(order, now))
                }
            }
            // 4. (2 and 3 cannot occur: a cancellation follows the placing in the same stream.)
            _ => Reaction::Deferred,
        };
    };
    let order = &*order;
    let (cancel, free) = (saga.cancel, order.total.is_zero());

    match (saga.phase, input) {
        // 14, 26: the answer on its way has to be heard first (a race never guessed at).
        (Reserving | Authorising, Input::CancellationRequested) => next(saga.cancelled()),
        // 7
        (Reserving, Input::StockReserved) if cancel => unwind(saga, order, "cancelled"),
        // 6
        (Reserving, Input::StockReserved) if free => {
            next(saga.to(Confirming)).send(Step::Confirm, ask::confirm(order))
        }
        // 5
        (Reserving, Input::StockReserved) => {
            next(saga.to(Authorising)).send(Step::Authorise, ask::authorise(order, &order.method))
        }
        // 8
        (Reserving, Input::StockPartiallyReserved { short }) => {
            let saga = saga.rejected(RejectReason::OutOfStock, short);
            unwind(saga, order, "out_of_stock")
        }
        // 11
        (Reserving, Input::StockRejected { short }) => {
            finalise(saga.rejected(RejectReason::OutOfStock, short), order)
        }

        // 18
        (Authorising, Input::Authorised) if cancel => unwind(saga, order, "cancelled"),
        // 17
        (Authorising, Input::Authorised) => {
            next(saga.to(Confirming)).send(Step::Confirm, ask::confirm(order))
        }
        // 22, 23: a customer cannot name another card yet, so that a decline which they could
        // mend ends like one which they could not. The void closes what they might still pay.
        (Authorising, Input::Declined { .. }) => {
            let saga = saga.rejected(RejectReason::PaymentDeclined, &[]);
            unwind(saga, order, "payment_declined")
        }

        // 36
        (Confirming, Input::OrderConfirmed) => next(saga.to(Fulfilling(Picking)))
            .send(Step::CreateFulfilment, ask::create_fulfilment(order)),
        // 37
        (Confirming, Input::ConfirmRejected | Input::CancellationRequested) => {
            unwind(saga.cancelled(), order, "cancelled")
        }

        (Fulfilling(_), Input::FulfilmentCreated) => next(saga),
        // F2
        (Fulfilling(Picking), Input::Packed) if free || saga.keeps_money() => release(saga, order),
        // F1
        (Fulfilling(Picking), Input::Packed) => next(saga.to(Fulfilling(Capturing)))
            .send(Step::Capture, ask::capture(order, order.total)),
        // F5
        (Fulfilling(Capturing), Input::Captured { amount }) => {
            release(saga.captured(*amount), order)
                .send(Step::RecordPayment, ask::record_payment(order, *amount))
        }
        // F6, what the provider may do later.
        (Fulfilling(Capturing), Input::CaptureFailed { retryable: true })
            if saga.capture_failures < CAPTURE_FAILURES_MAX =>
        {
            let capture_failures = saga.capture_failures + 1;
            next(Fulfilment { capture_failures, ..saga })
                .send(Step::Capture, ask::capture(order, order.total))
        }
        // F6, what it will not do, and 45: nothing can be put on hold yet, so the order is
        // cancelled on the customer's behalf. The request is heard like theirs, in row 40.
        (Fulfilling(Capturing), Input::CaptureFailed { .. })
        | (Fulfilling(Picking | Capturing | Released), Input::LabelRejected) => {
            let why = CancelReason::Other;
            next(saga).send(Step::RequestCancellation, ask::request_cancellation(order, why))
        }
        // F8: the pivot.
        (Fulfilling(Released), Input::HandedOver { tracking_code }) => {
            next(saga.to(Fulfilling(Shipped)))
                .send(Step::RecordShipment, ask::record_shipment(order, tracking_code))
        }
        (Fulfilling(Shipped), Input::HandedOver { tracking_code }) => {
            next(saga).send(Step::RecordShipment, ask::record_shipment(order, tracking_code))
        }
        // The gate was passed by: a carrier has what nobody paid for.
        (
            Fulfilling(Picking | Capturing) | Cancelling(Picking | Capturing),
            Input::HandedOver { .. } | Input::CancelRejected,
        ) => next(saga).and(Output::Park("goods_left_unpaid")),
        // F11, 46
        (Fulfilling(Shipped), Input::Delivered { at }) => next(saga.to(Finalising(Completed)))
            .send(Step::RecordDelivery, ask::record_delivery(order, *at))
            .send(Step::Complete, ask::complete(order)),
        // 42
        (Fulfilling(Shipped), Input::CancellationRequested) => {
            next(saga).send(Step::RejectCancellation, ask::reject_cancellation(order))
        }
        // 40
        (Fulfilling(parcel @ (Picking | Capturing | Released)), Input::CancellationRequested) => {
            next(saga.cancelled().to(Cancelling(parcel)))
                .undo(Step::CancelFulfilment, ask::cancel_fulfilment(order))
        }
        // F14, 46: the warehouse gave up by itself.
        (Fulfilling(Picking | Capturing | Released), Input::FulfilmentCancelled) => {
            let why = CancelReason::Inventory;
            unwind(saga.cancelled(), order, "fulfilment_cancelled")
                .send(Step::RequestCancellation, ask::request_cancellation(order, why))
        }

        // 47
        (Cancelling(_), Input::FulfilmentCancelled) => unwind(saga, order, "cancelled"),
        // 48: too late.
        (Cancelling(_), Input::HandedOver { tracking_code }) => {
            keep(saga, order).send(Step::RecordShipment, ask::record_shipment(order, tracking_code))
        }
        (Cancelling(_), Input::CancelRejected) => keep(saga, order),
        // 49: it comes back with the rest.
        (Cancelling(_), Input::Captured { amount }) => next(saga.captured(*amount))
            .send(Step::RecordPayment, ask::record_payment(order, *amount)),
        // 56b, and answers that change nothing any more.
        (
            Cancelling(_),
            Input::CancellationRequested | Input::FulfilmentCreated | Input::CaptureFailed { .. },
        ) => next(saga),

        // 51, 54
        (Unwinding(owed), Input::Voided) => settle(saga, order, Owed { money: false, ..owed }),
        (Unwinding(owed), Input::StockReleased) => {
            settle(saga, order, Owed { stock: false, ..owed })
        }
        (Unwinding(owed), Input::Refunded { amount }) => {
            let saga = saga.refunded(*amount);
            let money = saga.keeps_money();
            let told = ask::record_refund(order, *amount);
            first(Step::RecordRefund, told, settle(saga, order, Owed { money, ..owed }))
        }
        (Unwinding(_), Input::RefundFailed) => next(saga).and(Output::Park("refund_failed")),
        // 52: the payment gives it back by itself; wait for that.
        (Unwinding(owed), Input::Authorised) => {
            next(saga.to(Unwinding(Owed { money: true, ..owed })))
        }
        (Unwinding(owed), Input::Captured { amount }) => {
            next(saga.captured(*amount).to(Unwinding(Owed { money: true, ..owed })))
                .send(Step::RecordPayment, ask::record_payment(order, *amount))
        }
        // 53: the reservation was given up before it was made.
        (Unwinding(_), Input::StockReserved | Input::StockPartiallyReserved { .. }) => next(saga),
        (Unwinding(_), Input::ConfirmRejected | Input::CaptureFailed { .. }) => next(saga),
        // 56b: one more reason for the same undoing.
        (Unwinding(_), Input::CancellationRequested) => next(saga.cancelled()),

        // 56
        (Finalising(_), Input::OrderCompleted) => finish(saga, Completed),
        (Finalising(_), Input::OrderCancelled) => finish(saga, Cancelled),
        (Finalising(_), Input::OrderRejected) => finish(saga, Rejected),
        // 56b: the order takes the end that it is told of, and answers the cancellation with it.
        (Finalising(_), Input::CancellationRequested) => next(saga),

        // 57
        (Finalising(Cancelled | Rejected) | Ended(Cancelled | Rejected), Input::Authorised) => {
            next(saga).undo(Step::ReturnMoney, ask::return_money(order))
        }
        (
            Finalising(Cancelled | Rejected) | Ended(Cancelled | Rejected),
            Input::Captured { amount },
        ) => next(saga.captured(*amount))
            .send(Step::RecordPayment, ask::record_payment(order, *amount))
            .undo(Step::ReturnMoney, ask::return_money(order)),
        (
            Finalising(Cancelled | Rejected) | Ended(Cancelled | Rejected),
            Input::Voided | Input::StockReleased,
        ) => next(saga),
        (Finalising(Cancelled | Rejected) | Ended(Cancelled | Rejected), Input::RefundFailed) => {
            next(saga).and(Output::Park("refund_failed"))
        }
        // 58
        (
            Ended(Cancelled | Rejected),
            Input::StockReserved | Input::StockPartiallyReserved { .. },
        ) => next(saga).undo(Step::ReleaseStock, ask::release_stock(order)),
        (Ended(Cancelled | Rejected), Input::HandedOver { .. }) => {
            next(saga).and(Output::Park("goods_left"))
        }
        // 60
        (Ended(Completed), Input::CancellationRequested) => {
            next(saga).send(Step::RejectCancellation, ask::reject_cancellation(order))
        }

        // 25, 34, F7: the journal sees to it that the question is put again.
        (_, Input::OutcomeUnknown { .. }) => next(saga),
        // Money that moved without our asking: by somebody's hand, or the provider let go.
        (_, Input::Captured { amount }) => next(saga.captured(*amount))
            .send(Step::RecordPayment, ask::record_payment(order, *amount)),
        (_, Input::Refunded { amount }) => next(saga.refunded(*amount))
            .send(Step::RecordRefund, ask::record_refund(order, *amount)),
        (Confirming | Fulfilling(_) | Cancelling(_), Input::Voided) => next(saga.closed()),

        // 62
        (
            New | Reserving | Authorising | AwaitingAction | Confirming | Fulfilling(_)
            | Cancelling(_) | Unwinding(_) | Finalising(_) | Ended(_),
            _,
        ) => Reaction::Ignored,
    }
}

/// F2, F5: it is paid for, so it may go.
fn release(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    next(saga.to(Phase::Fulfilling(Parcel::Released)))
        .send(Step::CommitStock, ask::commit_stock(order))
        .send(Step::ReleaseForHandover, ask::release_for_handover(order))
}

/// 48: it has left the house, so it stays as it is.
fn keep(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    next(Fulfilment { cancel: false, ..saga }.to(Phase::Fulfilling(Parcel::Shipped)))
        .send(Step::RejectCancellation, ask::reject_cancellation(order))
}

/// Gives back what is owed, the money first; the order ends when all of it is acknowledged.
fn unwind(saga: Fulfilment, order: &Order, why: &'static str) -> Reaction<Fulfilment> {
    let owed = saga.owes(order);
    let mut reaction = next(saga.to(Phase::Unwinding(owed))).and(Output::StartCompensation(why));
    if owed.money {
        reaction = reaction.undo(Step::ReturnMoney, ask::return_money(order));
    }
    if owed.stock {
        reaction = reaction.undo(Step::ReleaseStock, ask::release_stock(order));
    }
    reaction
}

/// 51: once nothing is owed any more, the order may end.
fn settle(saga: Fulfilment, order: &Order, owed: Owed) -> Reaction<Fulfilment> {
    match owed {
        Owed { money: false, stock: false } => finalise(saga, order),
        _ => next(saga.to(Phase::Unwinding(owed))),
    }
}

/// Tells the order how it ends: an order that is being cancelled can only be cancelled.
fn finalise(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    let refunded = saga.refunded;
    if let Some((reason, short)) = saga.rejection.clone().filter(|_| !saga.cancel) {
        next(saga.to(Phase::Finalising(End::Rejected)))
            .send(Step::Reject, ask::reject(order, reason, short))
    } else {
        next(saga.to(Phase::Finalising(End::Cancelled)))
            .send(Step::MarkCancelled, ask::mark_cancelled(order, refunded))
    }
}

/// Asks for `command` before everything else that `reaction` wants: who ends the order names the
/// sum of the refunds, so each of them is told before.
fn first(
    step: Step,
    command: schemas::Command,
    mut reaction: Reaction<Fulfilment>,
) -> Reaction<Fulfilment> {
    if let Reaction::Taken(_, outputs) = &mut reaction {
        outputs.insert(0, Output::Send { step, command, compensation: false });
    }
    reaction
}

fn next(saga: Fulfilment) -> Reaction<Fulfilment> {
    Reaction::next(saga)
}

fn finish(saga: Fulfilment, end: End) -> Reaction<Fulfilment> {
    next(saga.to(Phase::Ended(end))).and(Output::Finish(end.name()))
}
