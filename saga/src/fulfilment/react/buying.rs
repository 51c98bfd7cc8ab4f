//! From the placing of an order to its confirmation.

use std::time::Duration;

use schemas::Timestamp;
use schemas::order::{CancelReason, RejectReason};

use super::{
    DECLINES_MAX, EXTEND_FOR, Fulfilment, HOLD_MAX, Input, Order, Output, Parcel, Phase, Reaction,
    Step, Stock, Timer, anywhere, ask, extend, finalise, next, unwind, watch_hold, watch_warehouse,
};

/// How long a customer has to confirm the payment with their bank, or to name another card.
const ACTION: Duration = Duration::from_mins(15);
/// How long the goods are held for them meanwhile: longer than they have.
const ACTION_HOLD: Duration = Duration::from_mins(20);

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
    use self::Phase::{Authorising, AwaitingAction, Confirming, Reserving};
    use self::Stock::{Again, Held};

    let (cancel, free) = (saga.cancel, order.total.is_zero());
    match (saga.phase, input) {
        // Paid for, and only the goods are missing: the money's answer has been heard.
        (Authorising, Input::CancellationRequested) if saga.is_ready() => {
            unwind(saga.cancelled(), order, "cancelled")
        }
        // 14, 26, 35: the answer on its way has to be heard first (a race never guessed at).
        (Reserving | Authorising, Input::CancellationRequested) => next(saga.cancelled()),
        // 7
        (Reserving, Input::StockReserved) if cancel => unwind(saga, order, "cancelled"),
        // 6
        (Reserving, Input::StockReserved) if free => hold(confirm(saga, order), now),
        // 5
        (Reserving, Input::StockReserved) => hold(authorise(saga, order), now),
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
        (Authorising | AwaitingAction, Input::Authorised) if cancel => {
            unwind(saga, order, "cancelled")
        }
        // 19, 29
        (Authorising | AwaitingAction, Input::Authorised) if saga.stock != Held => {
            next(saga.with(Again { ready: true }).to(Authorising))
                .and(Output::StopTimer(Timer::Action))
        }
        // 17, 29
        (Authorising | AwaitingAction, Input::Authorised) => confirm(saga, order),
        // 21
        (Authorising, Input::ActionRequired) if cancel => unwind(saga, order, "cancelled"),
        // 20
        (Authorising | AwaitingAction, Input::ActionRequired) => wait(saga, order, now),
        // 22, 29
        (Authorising | AwaitingAction, Input::Declined { retryable: true })
            if !cancel && saga.declines + 1 < DECLINES_MAX =>
        {
            wait(Fulfilment { declines: saga.declines + 1, ..saga }, order, now)
        }
        // 23, 29: the void closes what the customer might still pay.
        (Authorising | AwaitingAction, Input::Declined { .. }) => {
            give_up(saga, order, "payment_declined")
        }
        // 30
        (AwaitingAction, Input::MethodReplaced { method }) => {
            let saga = Fulfilment { method: Some(method.clone()), ..saga };
            authorise(saga, order).and(Output::StopTimer(Timer::Action))
        }
        // The same card, once more.
        (AwaitingAction, Input::RetryRequested) => {
            authorise(saga, order).and(Output::StopTimer(Timer::Action))
        }
        // 31
        (AwaitingAction, Input::ActionOverdue) => give_up(saga, order, "action_overdue"),
        // 32
        (AwaitingAction, Input::CancellationRequested) => {
            unwind(saga.cancelled(), order, "cancelled")
        }

        // 27, for as long as goods are held for somebody who has not paid.
        (Authorising | AwaitingAction, Input::HoldEnding) if saga.held_for(now) >= HOLD_MAX => {
            give_up(saga, order, "held_too_long")
        }
        // 27
        (Authorising | AwaitingAction | Confirming, Input::HoldEnding) if saga.stock == Held => {
            extend(saga, order, now, EXTEND_FOR)
        }
        // 28
        (Authorising | AwaitingAction | Confirming, Input::StockExpired) => {
            next(saga.with(Again { ready: false }).holding(now, ask::HOLD))
                .and(Output::StopTimer(Timer::Hold))
                .send(Step::Reserve, ask::reserve(order, now))
        }
        // 28, 19
        (Authorising, Input::StockReserved) if saga.is_ready() => {
            hold(confirm(saga.with(Held), order), now)
        }
        (Confirming, Input::StockReserved) if saga.is_ready() => {
            hold(send(saga.with(Held), order), now)
        }
        (Authorising | AwaitingAction | Confirming, Input::StockReserved) => {
            hold(next(saga.with(Held)), now)
        }
        // 28, refused
        (
            Authorising | AwaitingAction,
            Input::StockRejected { short } | Input::StockPartiallyReserved { short },
        ) => unwind(saga.rejected(RejectReason::OutOfStock, short), order, "out_of_stock"),
        // The order may stand already, so that it can only be cancelled.
        (Confirming, Input::StockRejected { .. } | Input::StockPartiallyReserved { .. }) => {
            let why = CancelReason::Inventory;
            unwind(saga.cancelled(), order, "out_of_stock")
                .send(Step::RequestCancellation, ask::request_cancellation(order, why))
        }

        // 36, as soon as the goods are held again
        (Confirming, Input::OrderConfirmed) if saga.stock != Held => {
            next(saga.with(Again { ready: true }))
        }
        // 36
        (Confirming, Input::OrderConfirmed) => send(saga, order),
        // 37
        (Confirming, Input::ConfirmRejected | Input::CancellationRequested) => {
            unwind(saga.cancelled(), order, "cancelled")
        }
        _ => anywhere(saga, order, input),
    }
}

/// Watches over the hold that has just come about.
fn hold(reaction: Reaction<Fulfilment>, now: Timestamp) -> Reaction<Fulfilment> {
    let wait = match &reaction {
        Reaction::Taken(saga, _) => saga.hold_left(now),
        Reaction::Ignored | Reaction::Deferred => return reaction,
    };
    watch_hold(reaction, wait)
}

fn authorise(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    let asked = ask::authorise(order, saga.method(order));
    next(saga.to(Phase::Authorising)).send(Step::Authorise, asked)
}

fn confirm(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    next(saga.to(Phase::Confirming))
        .and(Output::StopTimer(Timer::Action))
        .send(Step::Confirm, ask::confirm(order))
}

fn send(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    let waits = !saga.holds.is_empty();
    let reaction = next(saga.to(Phase::Fulfilling(Parcel::Picking)))
        .send(Step::CreateFulfilment, ask::create_fulfilment(order));
    if waits {
        // 39
        reaction.send(Step::HoldFulfilment, ask::hold_fulfilment(order))
    } else {
        watch_warehouse(reaction)
    }
}

/// 20, 22: waits for the customer, and keeps the goods for them.
fn wait(saga: Fulfilment, order: &Order, now: Timestamp) -> Reaction<Fulfilment> {
    if saga.held_for(now) >= HOLD_MAX {
        return give_up(saga, order, "held_too_long");
    }
    let saga = saga.to(Phase::AwaitingAction);
    let is_told = saga.is_watched();
    let reaction = match saga.stock {
        Stock::Held => extend(saga, order, now, ACTION_HOLD),
        Stock::Again { .. } => next(saga),
    };
    let reaction = reaction.and(Output::StartTimer(Timer::Action, ACTION));
    if is_told { reaction.send(Step::AskCustomer, ask::ask_customer(order)) } else { reaction }
}

/// Nobody pays for it.
fn give_up(saga: Fulfilment, order: &Order, why: &'static str) -> Reaction<Fulfilment> {
    unwind(saga.rejected(RejectReason::PaymentDeclined, &[]), order, why)
}
