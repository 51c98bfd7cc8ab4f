//! The money of an order on its way: it is taken when the parcel is packed. Where it cannot be
//! taken, or is not held any more, it is asked for anew, and where that fails, somebody is waited
//! for: the customer, who may name another card, or an operator, who may have it tried once more.

use std::time::Duration;

use schemas::order::{CancelReason, HoldReason};

use super::{
    Alert, DECLINES_MAX, Fulfilment, Funds, Input, Order, Output, Parcel, Phase, Reaction, Step,
    Timer, anywhere, ask, next, release,
};

/// How often a capture is tried again after the provider said "not now".
const CAPTURE_FAILURES_MAX: u32 = 3;
/// How long somebody has to pay before the order is cancelled.
const DUNNING: Duration = Duration::from_hours(72);

#[expect(
    clippy::too_many_lines,
    clippy::match_same_arms,
    reason = "one table on one page, one arm for each row"
)]
pub(super) fn react(saga: Fulfilment, order: &Order, input: &Input) -> Reaction<Fulfilment> {
    use self::Funds::{Held, Renewing, Wanting};
    use self::Parcel::{Capturing, Picking};
    use self::Phase::{Cancelling, Fulfilling};

    match (saga.phase, saga.funds, input) {
        // F5
        (Fulfilling(Capturing), _, Input::Captured { amount }) => {
            settled(release(saga.funded(Held).captured(*amount), order), order)
                .send(Step::RecordPayment, ask::record_payment(order, *amount))
        }
        // Taken by somebody's hand.
        (Fulfilling(Picking), _, Input::Captured { amount }) => {
            settled(next(saga.funded(Held).captured(*amount)), order)
                .send(Step::RecordPayment, ask::record_payment(order, *amount))
        }
        // F6, what the provider may do later.
        (Fulfilling(Capturing), Held, Input::CaptureFailed { retryable: true })
            if saga.capture_failures < CAPTURE_FAILURES_MAX =>
        {
            let capture_failures = saga.capture_failures + 1;
            collect(Fulfilment { capture_failures, ..saga }, order)
        }
        // F6, what it will not do.
        (Fulfilling(Capturing), Held, Input::CaptureFailed { .. }) if saga.is_watched() => {
            dun(saga.funded(Wanting { held: true }), order)
        }
        // Version 2 waits for nobody. The request is heard like the customer's, in row 40.
        (Fulfilling(Capturing), Held, Input::CaptureFailed { .. }) => give_up(saga, order),
        // It is being asked for anew already.
        (Fulfilling(Capturing), _, Input::CaptureFailed { .. }) => next(saga),

        // 43
        (Fulfilling(Picking | Capturing), Held, Input::AuthorisationExpired)
            if !saga.keeps_money() =>
        {
            renew(Fulfilment { declines: 0, ..saga }, order)
        }
        (Fulfilling(Picking | Capturing), Wanting { held: true }, Input::AuthorisationExpired) => {
            renew(saga, order)
        }
        (Fulfilling(Picking | Capturing), Renewing | Wanting { .. }, Input::Authorised) => {
            let saga = saga.funded(Held);
            let reaction = match saga.phase {
                Fulfilling(Capturing) => collect(saga, order),
                _ => next(saga),
            };
            settled(reaction, order)
        }
        // 43: a card that may be replaced is waited for, up to three times.
        (Fulfilling(Picking | Capturing), Renewing, Input::Declined { retryable: true })
            if saga.declines + 1 < DECLINES_MAX =>
        {
            let declines = saga.declines + 1;
            dun(Fulfilment { declines, ..saga }.funded(Wanting { held: false }), order)
        }
        (Fulfilling(Picking | Capturing), Renewing, Input::Declined { .. }) => {
            give_up(saga.funded(Wanting { held: false }), order)
        }
        (Fulfilling(Picking | Capturing), Renewing, Input::ActionRequired) => {
            dun(saga.funded(Wanting { held: false }), order)
        }
        // The customer did not confirm it with their bank; they may name another card.
        (
            Fulfilling(Picking | Capturing),
            Wanting { .. },
            Input::Declined { .. } | Input::ActionRequired,
        ) => next(saga),
        // F6: another card, or the same once more.
        (Fulfilling(Picking | Capturing), Wanting { .. }, Input::MethodReplaced { method }) => {
            renew(Fulfilment { method: Some(method.clone()), ..saga }, order)
        }
        (Fulfilling(Capturing), Wanting { held: true }, Input::RetryRequested) => {
            collect(saga.funded(Held), order)
        }
        (Fulfilling(Picking | Capturing), Wanting { .. }, Input::RetryRequested) => {
            renew(saga, order)
        }
        // F6: nobody paid.
        (Fulfilling(Picking | Capturing), _, Input::DunningOver) => give_up(saga, order),

        // All of it comes back.
        (
            Cancelling(_),
            _,
            Input::Authorised
            | Input::AuthorisationExpired
            | Input::ActionRequired
            | Input::Declined { .. }
            | Input::MethodReplaced { .. }
            | Input::RetryRequested,
        ) => next(saga),
        _ => anywhere(saga, order, input),
    }
}

/// F1, F2: takes the money, as soon as the order has said how much and somebody holds it; lets the
/// parcel go where nothing is to be taken.
pub(super) fn collect(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    let Some(due) = saga.due(order) else { return next(saga) };
    if saga.keeps_money() {
        let overpaid = saga.kept() > due.amount;
        let reaction = release(saga, order);
        return if overpaid { reaction.and(Output::Park("overpaid")) } else { reaction };
    }
    if due.is_zero() {
        let holds = !order.total.is_zero();
        let reaction = release(saga, order);
        // What is left costs nothing, and nobody takes what was held for the rest.
        return if holds {
            reaction.send(Step::ReturnMoney, ask::return_money(order))
        } else {
            reaction
        };
    }
    match saga.funds {
        Funds::Held => next(saga).send(Step::Capture, ask::capture(order, due)),
        Funds::Renewing | Funds::Wanting { .. } => next(saga),
    }
}

/// 43: has the money held anew.
fn renew(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    let asked = ask::authorise(order, saga.method(order));
    next(saga.funded(Funds::Renewing)).send(Step::Authorise, asked)
}

/// F6: somebody has to pay, and has so long for it from now on.
fn dun(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    next(Fulfilment { dunned: true, ..saga })
        .and(Output::Alert(Alert::PaymentWanting))
        .and(Output::StartTimer(Timer::Dunning, DUNNING))
        .send(Step::HoldOrder, ask::hold_order(order, HoldReason::Payment))
        .send(Step::AskCustomer, ask::ask_customer(order))
}

/// F6: somebody did.
fn settled(reaction: Reaction<Fulfilment>, order: &Order) -> Reaction<Fulfilment> {
    match reaction {
        Reaction::Taken(saga, outputs) if saga.dunned => {
            Reaction::Taken(Fulfilment { dunned: false, ..saga }, outputs)
                .and(Output::StopTimer(Timer::Dunning))
                .send(Step::ReleaseOrder, ask::release_order(order, HoldReason::Payment))
        }
        reaction => reaction,
    }
}

fn give_up(saga: Fulfilment, order: &Order) -> Reaction<Fulfilment> {
    let why = CancelReason::Other;
    next(saga).send(Step::RequestCancellation, ask::request_cancellation(order, why))
}
