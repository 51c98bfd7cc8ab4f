//! From the confirmation of an order to its delivery, or to the moment it turns round.

use std::time::Duration;

use schemas::order::CancelReason;
use schemas::{Text, Timestamp};

use super::{
    EXTEND_FOR, End, Fulfilment, Input, Order, Output, Parcel, Phase, Reaction, Step, Timer,
    anywhere, ask, extend, lose, next, release, unwind,
};

/// How often a capture is tried again after the provider said "not now".
const CAPTURE_FAILURES_MAX: u32 = 3;
/// How long a parcel may be on its way.
const TRANSIT: Duration = Duration::from_hours(14 * 24);

#[expect(
    clippy::too_many_lines,
    clippy::match_same_arms,
    reason = "one table on one page, one arm for each row"
)]
pub(super) fn react(
    saga: Fulfilment,
    order: &Order,
    input: &Input,
    now: Timestamp,
) -> Reaction<Fulfilment> {
    use self::End::Completed;
    use self::Parcel::{Capturing, Picking, Released, Shipped};
    use self::Phase::{Cancelling, Finalising, Fulfilling};

    let free = order.total.is_zero();
    match (saga.phase, input) {
        // 27: without end, since the warehouse is at work.
        (Fulfilling(Picking | Capturing) | Cancelling(Picking | Capturing), Input::HoldEnding) => {
            extend(saga, order, now, EXTEND_FOR)
        }
        // The goods are in the warehouse's hands and leave all the same: see `Commit`.
        (Fulfilling(_) | Cancelling(_), Input::StockExpired) => {
            next(saga).and(Output::StopTimer(Timer::Hold))
        }

        (Fulfilling(_), Input::FulfilmentCreated) => next(saga),
        // F2
        (Fulfilling(Picking), Input::Packed) if free || saga.keeps_money() => release(saga, order),
        // F1
        (Fulfilling(Picking), Input::Packed) => {
            next(saga.to(Fulfilling(Capturing))).send(Step::Capture, ask::capture(order))
        }
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
            next(Fulfilment { capture_failures, ..saga }).send(Step::Capture, ask::capture(order))
        }
        // F6, what it will not do, and 45: nothing can be put on hold yet, so the order is
        // cancelled on the customer's behalf. The request is heard like theirs, in row 40.
        (Fulfilling(Capturing), Input::CaptureFailed { .. })
        | (Fulfilling(Picking | Capturing | Released), Input::LabelRejected) => {
            let why = CancelReason::Other;
            next(saga).send(Step::RequestCancellation, ask::request_cancellation(order, why))
        }
        // F9: it is not paid for any more, so that it stays here if it can.
        (Fulfilling(Released), Input::CaptureReversed { amount }) => {
            let why = CancelReason::Other;
            lose(saga, order, *amount)
                .send(Step::RequestCancellation, ask::request_cancellation(order, why))
        }
        // F9, too late.
        (Fulfilling(Released), Input::HandedOver { tracking_code }) if saga.is_unpaid() => {
            leave(saga, order, tracking_code).and(Output::Park("money_reversed"))
        }
        (Cancelling(_), Input::HandedOver { tracking_code }) if saga.is_unpaid() => {
            keep(saga, order)
                .send(Step::RecordShipment, ask::record_shipment(order, tracking_code))
                .and(Output::Park("money_reversed"))
        }
        (Cancelling(_), Input::CancelRejected) if saga.is_unpaid() => {
            keep(saga, order).and(Output::Park("money_reversed"))
        }
        (Fulfilling(Shipped), Input::CaptureReversed { amount }) => {
            lose(saga, order, *amount).and(Output::Park("money_reversed"))
        }
        // F8: the pivot.
        (Fulfilling(Released), Input::HandedOver { tracking_code }) => {
            leave(saga, order, tracking_code)
        }
        (Fulfilling(Shipped), Input::HandedOver { tracking_code }) => {
            next(saga).send(Step::RecordShipment, ask::record_shipment(order, tracking_code))
        }
        // The gate was passed by: a carrier has what nobody paid for.
        (
            Fulfilling(Picking | Capturing) | Cancelling(Picking | Capturing),
            Input::HandedOver { .. } | Input::CancelRejected,
        ) => next(saga).and(Output::Park("goods_left_unpaid")),
        // F12: a person decides whether it is sent again or paid back.
        (Fulfilling(Shipped), Input::ParcelLost | Input::TransitOverdue) => {
            next(saga).and(Output::Park("lost"))
        }
        // F13
        (Fulfilling(Shipped), Input::ParcelReturned) => next(saga).and(Output::Park("returned")),
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
        _ => anywhere(saga, order, input),
    }
}

/// F8: it leaves the house.
fn leave(saga: Fulfilment, order: &Order, tracking_code: &Text) -> Reaction<Fulfilment> {
    next(saga.to(Phase::Fulfilling(Parcel::Shipped)))
        .and(Output::StartTimer(Timer::Transit, TRANSIT))
        .send(Step::RecordShipment, ask::record_shipment(order, tracking_code))
}

/// 48: it has left the house, so it stays as it is.
fn keep(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    next(Fulfilment { cancel: false, ..saga }.to(Phase::Fulfilling(Parcel::Shipped)))
        .and(Output::StartTimer(Timer::Transit, TRANSIT))
        .send(Step::RejectCancellation, ask::reject_cancellation(order))
}
