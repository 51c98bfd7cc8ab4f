//! Giving back, and what is heard after the end.

use super::*;

#[test]
fn row_51_an_order_ends_when_all_is_acknowledged() {
    let acknowledged = [Input::Voided, Input::StockReleased];
    for [first, second] in [acknowledged.clone(), {
        let [a, b] = acknowledged;
        [b, a]
    }] {
        unwinding()
            .when(first)
            .then("unwinding", &[])
            .when(second)
            .then("finalising", &["send mark_cancelled"]);
    }
    authorising()
        .when(DECLINED)
        .when(Input::Voided)
        .when(Input::StockReleased)
        .then("finalising", &["send reject"]);
}

#[test]
fn row_52_late_money_is_waited_for() {
    unwinding()
        .when(Input::Voided)
        .when(captured())
        .then("unwinding", &["send record_payment"])
        .when(Input::StockReleased)
        .then("unwinding", &[])
        .when(refunded())
        .then("finalising", &["send record_refund", "send mark_cancelled"]);
    unwinding().when(Input::Authorised).then("unwinding", &[]);
}

#[test]
fn row_53_late_stock_changes_nothing() {
    unwinding().when(Input::StockReserved).then("unwinding", &[]);
}

#[test]
fn row_54_a_refund_that_fails_is_parked() {
    unwinding().when(Input::RefundFailed).then("unwinding", &["park: refund_failed"]);
}

#[test]
fn row_55_an_undoing_is_asked_for_24_times() {
    let story = unwinding().when_silent(Step::ReleaseStock);
    story.clone().when_fired("release_stock", 24).then("unwinding", &["park: undo_unacked"]);
    assert_eq!(story.told(), ["undo release_stock 1/24", "wait release_stock 600s"]);
}

#[test]
fn row_56_a_saga_is_finished_when_the_order_has_heard() {
    cancelled().then("cancelled", &["finish: cancelled"]);
    rejected().then("rejected", &["finish: rejected"]);
}

#[test]
fn row_56_an_order_that_does_not_hear_its_end_is_parked() {
    let story = shipped().when(delivered());
    let story = story.when_silent(Step::Complete);
    story.when_fired("complete", 8).then("finalising", &["park: order_silent"]);
}

#[test]
fn row_56b_a_second_cancellation_joins_the_first() {
    cancelling().when(CANCEL).then("cancelling", &[]);
    unwinding().when(CANCEL).then("unwinding", &[]);
    let finalising = unwinding().when(Input::Voided).when(Input::StockReleased);
    finalising.when(CANCEL).then("finalising", &[]);
}

#[test]
fn row_56b_the_order_answers_a_late_cancellation_with_its_end() {
    authorising()
        .when(DECLINED)
        .when(CANCEL)
        .when(Input::Voided)
        .when(Input::StockReleased)
        .then("finalising", &["send mark_cancelled"]);
    reserving().when(Input::StockRejected { short: short() }).when(CANCEL).then("finalising", &[]);
    shipped().when(delivered()).when(CANCEL).then("finalising", &[]);
}

#[test]
fn row_57_money_that_arrives_after_the_end_goes_back() {
    cancelled().when(Input::Authorised).then("cancelled", &["undo return_money 2/1"]);
    rejected()
        .when(captured())
        .then("rejected", &["send record_payment", "undo return_money"])
        .when(refunded())
        .then_waiting("rejected", &["send record_refund"]);
}

#[test]
fn row_58_goods_that_appear_after_the_end_go_back() {
    rejected().when(Input::StockReserved).then("rejected", &["undo release_stock"]);
    cancelled().when(handed_over()).then("cancelled", &["park: goods_left"]);
}

#[test]
fn row_59_money_that_is_gone_after_the_end_calls_a_person() {
    completed().when(reversed()).then("completed", &["send record_refund", "park: money_reversed"]);
    shipped()
        .when(reversed())
        .then("fulfilling/shipped", &["send record_refund", "park: money_reversed"]);
    cancelled().when(reversed()).then("cancelled", &["send record_refund"]);
}

#[test]
fn row_60_a_completed_order_is_not_cancelled() {
    completed().when(CANCEL).then("completed", &["send reject_cancellation"]);
}

#[test]
fn row_52_money_that_a_bank_has_is_neither_ours_nor_given_back_until_it_decides() {
    let story = released().when(CANCEL).when(disputed()).then("cancelling", &[]);
    let story = story.when(Input::FulfilmentCancelled).then("unwinding", &UNDO);
    // The payment has nothing to give back.
    let settled = story.clone().when(Input::Voided).when(Input::StockReleased);
    settled
        .then("finalising", &["send mark_cancelled"])
        .when(Input::OrderCancelled)
        .when(won())
        .then("cancelled", &["undo return_money 2/1"])
        .when(refunded())
        .then("cancelled", &["send record_refund"]);
    // The bank decides for us meanwhile: that goes back.
    story
        .when(Input::StockReleased)
        .when(won())
        .then("unwinding", &[])
        .when(refunded())
        .then("finalising", &["send record_refund", "send mark_cancelled"]);
}

#[test]
fn row_59_a_dispute_of_what_was_given_back_calls_a_person() {
    cancelled().when(disputed()).then("cancelled", &["park: money_reversed"]);
}
