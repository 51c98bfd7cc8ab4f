//! Giving back, and what is heard after the end.

use super::{
    End, Fulfilment, Input, Order, Output, Owed, Phase, Reaction, Step, anywhere, ask, finalise,
    lose, next,
};

#[expect(clippy::match_same_arms, reason = "one arm for each row")]
pub(super) fn react(saga: Fulfilment, order: &Order, input: &Input) -> Reaction<Fulfilment> {
    use self::End::{Cancelled, Completed, Rejected};
    use self::Phase::{Ended, Finalising, Unwinding};

    match (saga.phase, input) {
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
        // 52: it is back, and so it has to go back.
        (Unwinding(owed), Input::DisputeWon { amount }) => {
            next(saga.judged(*amount).to(Unwinding(Owed { money: true, ..owed })))
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
        // 59
        (Finalising(Completed) | Ended(Completed), Input::CaptureReversed { amount }) => {
            lose(saga, order, *amount).and(Output::Park("money_reversed"))
        }
        // 59: the bank may take twice what the customer has had back.
        (Finalising(_) | Ended(_), Input::DisputeOpened { amount }) => {
            next(saga.disputed(*amount)).and(Output::Park("money_reversed"))
        }
        // 57
        (
            Finalising(Cancelled | Rejected) | Ended(Cancelled | Rejected),
            Input::DisputeWon { amount },
        ) => next(saga.judged(*amount)).undo(Step::ReturnMoney, ask::return_money(order)),
        // 60
        (Ended(Completed), Input::CancellationRequested) => {
            next(saga).send(Step::RejectCancellation, ask::reject_cancellation(order))
        }
        _ => anywhere(saga, order, input),
    }
}

/// 51: once nothing is owed any more, the order may end.
fn settle(saga: Fulfilment, order: &Order, owed: Owed) -> Reaction<Fulfilment> {
    match owed {
        Owed { money: false, stock: false } => finalise(saga, order),
        _ => next(saga.to(Phase::Unwinding(owed))),
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

fn finish(saga: Fulfilment, end: End) -> Reaction<Fulfilment> {
    next(saga.to(Phase::Ended(end))).and(Output::Finish(end.name()))
}
