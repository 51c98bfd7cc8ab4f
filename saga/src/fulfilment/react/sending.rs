//! From the confirmation of an order to its delivery, or to the moment it turns round. What is not
//! in here is in `funding`: the money.

use std::time::Duration;

use schemas::order::{CancelReason, HoldReason};
use schemas::{Text, Timestamp};

use super::{
    Alert, EXTEND_CONFIRMED, EXTEND_FOR, End, Fulfilment, Input, Order, Output, Parcel, Phase,
    Reaction, Step, Timer, ask, extend, funding, lose, next, stop, unwind, watch_warehouse,
};

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

    match (saga.phase, input) {
        // 27: without end, since the warehouse is at work.
        (Fulfilling(Picking | Capturing) | Cancelling(Picking | Capturing), Input::HoldEnding) => {
            let longer = if saga.is_watched() { EXTEND_CONFIRMED } else { EXTEND_FOR };
            extend(saga, order, now, longer)
        }
        // The goods are in the warehouse's hands and leave all the same: see `Commit`.
        (Fulfilling(_) | Cancelling(_), Input::StockExpired) => {
            next(saga).and(Output::StopTimer(Timer::Hold))
        }

        (Fulfilling(_), Input::FulfilmentCreated) => next(saga),
        // F1, F2
        (Fulfilling(Picking), Input::Packed) => {
            funding::collect(saga.to(Fulfilling(Capturing)), order)
        }
        // F3. Where nothing is left, the fulfilment order is cancelled (F14).
        (Fulfilling(Picking), Input::ShortPicked { left, .. }) if left.is_empty() => next(saga),
        (Fulfilling(Picking), Input::ShortPicked { short, left }) => next(saga.left(left))
            .send(Step::CancelLines, ask::cancel_lines(order, left))
            .send(Step::ReduceStock, ask::reduce_stock(order, short)),
        // F3: what the order says about it.
        (Fulfilling(Capturing), Input::LinesCancelled { left, total })
            if saga.due(order).is_none() =>
        {
            funding::collect(saga.due_for(left, *total), order)
        }
        (_, Input::LinesCancelled { left, total }) => next(saga.due_for(left, *total)),
        // F4: the order waits until somebody has looked.
        (Fulfilling(Picking), Input::WarehouseLate) => next(saga)
            .and(Output::Alert(Alert::PickOverdue))
            .send(Step::HoldOrder, ask::hold_order(order, HoldReason::Warehouse)),
        // F10
        (Fulfilling(Released), Input::WarehouseLate) => {
            next(saga).and(Output::Alert(Alert::HandoverOverdue))
        }
        // It is packed, and the money is not there yet.
        (_, Input::WarehouseLate) => next(saga),
        // 39
        (Fulfilling(Picking | Capturing | Released), Input::OrderHeld { reason }) => {
            hold(saga, order, *reason)
        }
        (Fulfilling(Picking | Capturing | Released), Input::OrderReleased { reason }) => {
            resume(saga, order, *reason)
        }
        // 45: the order is cancelled on the customer's behalf. The request is heard like theirs, in
        // row 40.
        (Fulfilling(Picking | Capturing | Released), Input::LabelRejected) => {
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
        // 44: a person looks, and what is still here stays here meanwhile.
        (Fulfilling(Picking | Capturing | Released), Input::DisputeOpened { amount }) => {
            hold(saga.disputed(*amount), order, HoldReason::Dispute)
                .send(Step::HoldOrder, ask::hold_order(order, HoldReason::Dispute))
                .and(Output::Park("dispute"))
        }
        // 44: it is paid for after all, as soon as nothing else is disputed.
        (Fulfilling(Picking | Capturing | Released), Input::DisputeWon { amount }) => {
            let saga = saga.judged(*amount);
            match saga.disputed {
                Some(_) => next(saga),
                None => next(saga)
                    .send(Step::ReleaseOrder, ask::release_order(order, HoldReason::Dispute)),
            }
        }
        // 44: it is not paid for any more, so that it stays here if it can.
        (Fulfilling(Picking | Capturing | Released), Input::DisputeLost { amount }) => {
            let why = CancelReason::Other;
            lose(saga.judged(*amount), order, *amount)
                .send(Step::RequestCancellation, ask::request_cancellation(order, why))
        }
        // Gone already, as in 59.
        (Fulfilling(Shipped), Input::DisputeOpened { amount }) => {
            next(saga.disputed(*amount)).and(Output::Park("money_reversed"))
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
            stop(saga, order, parcel)
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
            Input::CancellationRequested
            | Input::FulfilmentCreated
            | Input::ShortPicked { .. }
            | Input::CaptureFailed { .. },
        ) => next(saga),
        _ => funding::react(saga, order, input),
    }
}

/// 39: nobody touches the goods until the order goes on.
fn hold(saga: Fulfilment, order: &Order, reason: HoldReason) -> Reaction<Fulfilment> {
    let waits = !saga.holds.is_empty();
    let reaction = next(saga.on_hold(reason));
    if waits {
        return reaction;
    }
    reaction
        .and(Output::StopTimer(Timer::Warehouse))
        .send(Step::HoldFulfilment, ask::hold_fulfilment(order))
}

/// 39: it goes on when the last reason to wait is gone; the warehouse has its time anew.
fn resume(saga: Fulfilment, order: &Order, reason: HoldReason) -> Reaction<Fulfilment> {
    let waited = !saga.holds.is_empty();
    let saga = saga.off_hold(reason);
    if !waited || !saga.holds.is_empty() {
        return next(saga);
    }
    watch_warehouse(next(saga).send(Step::ResumeFulfilment, ask::resume_fulfilment(order)))
}

/// F8: it leaves the house.
fn leave(saga: Fulfilment, order: &Order, tracking_code: &Text) -> Reaction<Fulfilment> {
    next(saga.to(Phase::Fulfilling(Parcel::Shipped)))
        .and(Output::StopTimer(Timer::Warehouse))
        .and(Output::StartTimer(Timer::Transit, TRANSIT))
        .send(Step::RecordShipment, ask::record_shipment(order, tracking_code))
}

/// 48: it has left the house, so it stays as it is.
fn keep(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    next(Fulfilment { cancel: false, ..saga }.to(Phase::Fulfilling(Parcel::Shipped)))
        .and(Output::StartTimer(Timer::Transit, TRANSIT))
        .send(Step::RejectCancellation, ask::reject_cancellation(order))
}
