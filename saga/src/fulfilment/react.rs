//! The table. Read it as state, input, guard, outputs, next; the numbers are the design's rows.
//! Here stand its beginning and what holds in several states; the rest is in a file for each part
//! of an order's way: `buying`, `sending` (with `funding` for its money), `undoing`.

use std::time::Duration;

use schemas::order::RejectReason;
use schemas::{Money, Timestamp};

use super::state::{End, Funds, Owed, Parcel, Phase, Stock};
use super::{Alert, Fulfilment, Input, Order, Step, Timer, ask};
use crate::{Output, Reaction};

mod buying;
mod funding;
mod sending;
mod undoing;

/// How long before the end of a hold it is extended.
const EXTEND_BEFORE: Duration = Duration::from_mins(1);
/// How long a hold is extended for.
const EXTEND_FOR: Duration = Duration::from_mins(15);
/// How long a hold is extended for once the order stands: it ends by somebody's decision.
const EXTEND_CONFIRMED: Duration = Duration::from_hours(12);
/// How long goods are held for somebody who has not paid.
const HOLD_MAX: Duration = Duration::from_hours(24);
/// How long the warehouse has to pack.
const PICKING: Duration = Duration::from_hours(24);
/// How long a parcel that may go waits for the carrier.
const HANDOVER: Duration = Duration::from_hours(24);
/// After how many declines the order is given up.
const DECLINES_MAX: u32 = 3;

/// What follows. Silence is not in here: see the patience with each step.
pub(super) fn react(
    saga: Fulfilment,
    version: u16,
    input: &Input,
    now: Timestamp,
) -> Reaction<Fulfilment> {
    use self::Phase::{
        Authorising, AwaitingAction, Cancelling, Confirming, Ended, Finalising, Fulfilling, New,
        Reserving, Unwinding,
    };

    let Some(order) = saga.order.clone() else {
        return begin(Fulfilment { version, ..saga }, input, now);
    };
    let order = &*order;
    match saga.phase {
        New | Reserving | Authorising | AwaitingAction | Confirming => {
            buying::react(saga, order, input, now)
        }
        Fulfilling(_) | Cancelling(_) => sending::react(saga, order, input, now),
        Unwinding(_) | Finalising(_) | Ended(_) => undoing::react(saga, order, input),
    }
}

fn begin(saga: Fulfilment, input: &Input, now: Timestamp) -> Reaction<Fulfilment> {
    match input {
        Input::OrderPlaced(order) => {
            let saga = Fulfilment { order: Some(order.clone()), ..saga };
            if order.units.is_empty() {
                // More of one sku than can be counted: there is never enough of it.
                finalise(saga.rejected(RejectReason::OutOfStock, &[]), order)
            } else {
                // 1
                next(saga.to(Phase::Reserving).holding(now, ask::HOLD))
                    .send(Step::Reserve, ask::reserve(order, now))
            }
        }
        // 4. (2 and 3 cannot occur: a cancellation follows the placing in the same stream.)
        _ => Reaction::Deferred,
    }
}

/// What holds wherever no other row does.
fn anywhere(saga: Fulfilment, order: &Order, input: &Input) -> Reaction<Fulfilment> {
    use self::Phase::{Authorising, Cancelling, Confirming, Fulfilling};

    match (saga.phase, input) {
        // 25, 34, F7: the journal sees to it that the question is put again.
        (_, Input::OutcomeUnknown { .. }) => next(saga),
        // Money that moved without our asking: by somebody's hand, or the provider let go.
        (_, Input::Captured { amount }) => next(saga.captured(*amount))
            .send(Step::RecordPayment, ask::record_payment(order, *amount)),
        // 39, wherever nobody is at work on it
        (_, Input::OrderHeld { reason }) => next(saga.on_hold(*reason)),
        (_, Input::OrderReleased { reason }) => next(saga.off_hold(*reason)),
        (_, Input::CaptureReversed { amount }) => lose(saga, order, *amount),
        (_, Input::DisputeOpened { amount }) => next(saga.disputed(*amount)),
        (_, Input::DisputeWon { amount }) => next(saga.judged(*amount)),
        (_, Input::DisputeLost { amount }) => lose(saga.judged(*amount), order, *amount),
        (_, Input::Refunded { amount }) => next(saga.refunded(*amount))
            .send(Step::RecordRefund, ask::record_refund(order, *amount)),
        (Authorising | Confirming | Fulfilling(_) | Cancelling(_), Input::Voided) => {
            next(saga.closed())
        }
        // 62
        _ => Reaction::Ignored,
    }
}

/// Wakes the saga before the hold ends.
fn watch_hold(reaction: Reaction<Fulfilment>, wait: Duration) -> Reaction<Fulfilment> {
    reaction.and(Output::StartTimer(Timer::Hold, wait.saturating_sub(EXTEND_BEFORE)))
}

/// 27: holds the goods for so much longer, counted from now.
fn extend(
    saga: Fulfilment,
    order: &Order,
    now: Timestamp,
    longer: Duration,
) -> Reaction<Fulfilment> {
    let saga = saga.holding(now, longer);
    watch_hold(next(saga), longer).send(Step::ExtendStock, ask::extend(order, now, longer))
}

/// F2, F5: it is paid for, so it may go.
fn release(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    let reaction = next(saga.to(Phase::Fulfilling(Parcel::Released)))
        .and(Output::StopTimer(Timer::Hold))
        .send(Step::CommitStock, ask::commit_stock(order))
        .send(Step::ReleaseForHandover, ask::release_for_handover(order));
    watch_warehouse(reaction)
}

/// F4, F10: measures how long the warehouse takes from here on, unless the order is on hold.
fn watch_warehouse(reaction: Reaction<Fulfilment>) -> Reaction<Fulfilment> {
    let long = match &reaction {
        Reaction::Taken(saga, _) if saga.is_watched() && saga.holds.is_empty() => {
            match saga.phase {
                Phase::Fulfilling(Parcel::Picking) => PICKING,
                Phase::Fulfilling(Parcel::Released) => HANDOVER,
                _ => return reaction,
            }
        }
        _ => return reaction,
    };
    reaction.and(Output::StartTimer(Timer::Warehouse, long))
}

/// Gives back what is owed, the money first; the order ends when all of it is acknowledged.
pub(super) fn unwind(saga: Fulfilment, order: &Order, why: &'static str) -> Reaction<Fulfilment> {
    let owed = saga.owes(order);
    let mut reaction = next(saga.to(Phase::Unwinding(owed)))
        .and(Output::StartCompensation(why))
        .and(Output::StopTimer(Timer::Action))
        .and(Output::StopTimer(Timer::Hold))
        .and(Output::StopTimer(Timer::Warehouse))
        .and(Output::StopTimer(Timer::Dunning));
    if owed.money {
        reaction = reaction.undo(Step::ReturnMoney, ask::return_money(order));
    }
    if owed.stock {
        reaction = reaction.undo(Step::ReleaseStock, ask::release_stock(order));
    }
    reaction
}

/// 40: asks the warehouse to stop; the goods may be on their way.
pub(super) fn stop(saga: Fulfilment, order: &Order, parcel: Parcel) -> Reaction<Fulfilment> {
    next(saga.cancelled().to(Phase::Cancelling(parcel)))
        .and(Output::StopTimer(Timer::Warehouse))
        .and(Output::StopTimer(Timer::Dunning))
        .undo(Step::CancelFulfilment, ask::cancel_fulfilment(order))
}

/// F9, 59: the customer has the money again, and it was not us who gave it back.
fn lose(saga: Fulfilment, order: &Order, amount: Money) -> Reaction<Fulfilment> {
    next(saga.reversed(amount)).send(Step::RecordRefund, ask::record_refund(order, amount))
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

pub(super) fn next(saga: Fulfilment) -> Reaction<Fulfilment> {
    Reaction::next(saga)
}
