//! From the confirmation of an order to its delivery, or to the moment it turns round.

use super::*;

#[test]
fn row_36_a_confirmed_order_is_packed() {
    confirming().when(Input::OrderConfirmed).then_waiting(
        "fulfilling/picking",
        &["send create_fulfilment", "wait create_fulfilment 60s", "wait warehouse 86400s"],
    );
}

#[test]
fn row_40_the_warehouse_is_asked_first() {
    for story in [picking(), capturing(), released()] {
        story.when(CANCEL).then("cancelling", &["undo cancel_fulfilment"]);
    }
}

#[test]
fn row_42_what_has_left_is_not_cancelled() {
    shipped().when(CANCEL).then("fulfilling/shipped", &["send reject_cancellation"]);
}

#[test]
fn row_45_a_label_that_nobody_sells_cancels_the_order() {
    capturing()
        .when(Input::LabelRejected)
        .then("fulfilling/capturing", &["send request_cancellation"])
        .when(CANCEL)
        .then("cancelling", &["undo cancel_fulfilment"]);
}

#[test]
fn row_46_a_delivered_order_is_complete() {
    shipped()
        .when(delivered())
        .then("finalising", &["send record_delivery", "send complete"])
        .when(Input::OrderCompleted)
        .then("completed", &["finish: completed"]);
}

#[test]
fn row_46_and_f14_a_warehouse_that_gives_up_cancels_the_order() {
    picking().when(Input::FulfilmentCancelled).then(
        "unwinding",
        &[
            "turn: fulfilment_cancelled",
            "undo return_money",
            "undo release_stock",
            "send request_cancellation",
        ],
    );
}

#[test]
fn row_47_a_stopped_parcel_gives_everything_back() {
    cancelling().when(Input::FulfilmentCancelled).then("unwinding", &UNDO);
}

#[test]
fn row_48_a_parcel_that_left_meanwhile_stays_sold() {
    released()
        .when(CANCEL)
        .when(handed_over())
        .then("fulfilling/shipped", &["send reject_cancellation", "send record_shipment"]);
    released()
        .when(CANCEL)
        .when(Input::CancelRejected)
        .then("fulfilling/shipped", &["send reject_cancellation"])
        .when(handed_over())
        .then("fulfilling/shipped", &["send record_shipment"]);
}

#[test]
fn row_49_money_taken_meanwhile_goes_back_with_the_rest() {
    let story = capturing()
        .when(CANCEL)
        .when(captured())
        .then("cancelling", &["send record_payment"])
        .when(Input::FulfilmentCancelled)
        .then("unwinding", &UNDO)
        .when(Input::StockReleased)
        .then("unwinding", &[])
        .when(refunded())
        .then("finalising", &["send record_refund", "send mark_cancelled"]);
    let command = order::Command::MarkCancelled { refunded: Some(euro(3000)) };
    assert_eq!(*story.sent("mark_cancelled"), Command::Order { id: id(), command });
}

#[test]
fn row_50_a_silent_warehouse_is_parked() {
    let story = cancelling().when_silent(Step::CancelFulfilment);
    story.when_fired("cancel_fulfilment", 8).then("cancelling", &["park: cancel_unacked"]);
}

#[test]
fn row_f1_a_packed_parcel_is_paid_for() {
    let story = picking().when(Input::Packed).then("fulfilling/capturing", &["send capture"]);
    let command = payment::Command::Capture { amount: euro(3000) };
    assert_eq!(*story.sent("capture"), Command::Payment { id: id().payment(), command });
}

#[test]
fn row_f2_a_parcel_that_costs_nothing_may_go() {
    given([placed(0), Input::StockReserved, Input::OrderConfirmed])
        .when(Input::Packed)
        .then("fulfilling/released", &["send commit_stock", "send release_for_handover"]);
}

#[test]
fn row_f2_a_parcel_that_was_paid_by_hand_may_go() {
    picking()
        .when(captured())
        .then("fulfilling/picking", &["send record_payment"])
        .when(Input::Packed)
        .then("fulfilling/released", &["send commit_stock", "send release_for_handover"]);
}

#[test]
fn row_f5_a_paid_parcel_may_go() {
    let story = capturing().when(captured()).then(
        "fulfilling/released",
        &["send commit_stock", "send release_for_handover", "send record_payment"],
    );
    let command = shipping::Command::ReleaseForHandover;
    let release = Command::Shipping { id: id().fulfilment(), command };
    assert_eq!(*story.sent("release_for_handover"), release);
}

/// What nobody can take, or not any more, is waited for.
const DUN: [&str; 3] = ["alert: payment_wanting", "send hold_order", "send ask_customer"];

const PAYMENT: HoldReason = HoldReason::Payment;

fn held(reason: HoldReason) -> Input {
    Input::OrderHeld { reason }
}

fn let_go(reason: HoldReason) -> Input {
    Input::OrderReleased { reason }
}

fn wanting() -> Story {
    capturing().when(Input::CaptureFailed { retryable: false })
}

#[test]
fn row_39_an_order_on_hold_has_its_goods_wait() {
    picking()
        .when(held(HoldReason::Fraud))
        .then_waiting("fulfilling/picking", &["wait warehouse no more", "send hold_fulfilment"])
        .when(held(HoldReason::Other))
        .then_waiting("fulfilling/picking", &[])
        .when(let_go(HoldReason::Fraud))
        .then_waiting("fulfilling/picking", &[])
        .when(let_go(HoldReason::Other))
        .then_waiting("fulfilling/picking", &["send resume_fulfilment", "wait warehouse 86400s"]);
    for story in [capturing(), released()] {
        let state = fold(&story.events).state().name();
        let story = story.when(held(HoldReason::Fraud)).then(state, &["send hold_fulfilment"]);
        story.when(let_go(HoldReason::Fraud)).then(state, &["send resume_fulfilment"]);
    }
    shipped().when(held(HoldReason::Fraud)).then("fulfilling/shipped", &[]);
}

#[test]
fn row_39_an_order_that_was_held_before_it_stood_waits_from_the_beginning() {
    authorising()
        .when(held(HoldReason::Fraud))
        .then("authorising", &[])
        .when(Input::Authorised)
        .when(Input::OrderConfirmed)
        .then_waiting(
            "fulfilling/picking",
            &["send create_fulfilment", "wait create_fulfilment 60s", "send hold_fulfilment"],
        )
        .when(let_go(HoldReason::Fraud))
        .then("fulfilling/picking", &["send resume_fulfilment"]);
}

#[test]
fn row_43_money_that_is_held_no_longer_is_asked_for_anew() {
    picking()
        .when(Input::AuthorisationExpired)
        .then("fulfilling/picking", &["send authorise 2/1"])
        .when(Input::Packed)
        .then("fulfilling/capturing", &[])
        .when(Input::Authorised)
        .then("fulfilling/capturing", &["send capture"]);
    capturing()
        .when(Input::AuthorisationExpired)
        .then("fulfilling/capturing", &["send authorise 2/1"])
        .when(Input::CaptureFailed { retryable: false })
        .then("fulfilling/capturing", &[])
        .when(Input::Authorised)
        .then("fulfilling/capturing", &["send capture 2/1"]);
    released().when(Input::AuthorisationExpired).then("fulfilling/released", &["ignore"]);
}

#[test]
fn row_43_three_declines_are_the_end_of_it() {
    let declined = || Input::Declined { retryable: true };
    picking()
        .when(Input::AuthorisationExpired)
        .when(declined())
        .then("fulfilling/picking", &DUN)
        .when(replaced())
        .then("fulfilling/picking", &["send authorise 3/1"])
        .when(declined())
        .when(replaced())
        .when(declined())
        .then("fulfilling/picking", &["send request_cancellation"])
        .when(CANCEL)
        .then("cancelling", &["undo cancel_fulfilment"]);
    picking()
        .when(Input::AuthorisationExpired)
        .when(DECLINED)
        .then("fulfilling/picking", &["send request_cancellation"]);
    // The bank asks, and the customer confirms.
    picking()
        .when(Input::AuthorisationExpired)
        .when(Input::ActionRequired)
        .then("fulfilling/picking", &DUN)
        .when(Input::Authorised)
        .then_waiting("fulfilling/picking", &["wait dunning no more", "send release_order"]);
}

const HELD_BACK: [&str; 3] = ["send hold_fulfilment", "send hold_order", "park: dispute"];

#[test]
fn row_44_what_is_disputed_stays_here_and_a_person_looks() {
    let dispute = HoldReason::Dispute;
    let story = released().when(disputed()).then("fulfilling/released", &HELD_BACK);
    let command = order::Command::Hold { reason: dispute };
    assert_eq!(*story.sent("hold_order"), Command::Order { id: id(), command });
    story
        .clone()
        .when(held(dispute))
        .then("fulfilling/released", &["defer"])
        .resumed()
        .then("fulfilling/released", &["act: resume", "resume"])
        .when(won())
        .then("fulfilling/released", &["send release_order"])
        .when(let_go(dispute))
        .then("fulfilling/released", &["send resume_fulfilment"])
        .when(handed_over())
        .then("fulfilling/shipped", &["send record_shipment"]);
    // The bank decides for the customer.
    story
        .clone()
        .resumed()
        .when(lost())
        .then("fulfilling/released", &["send record_refund", "send request_cancellation"])
        .when(CANCEL)
        .then("cancelling", &["undo cancel_fulfilment"])
        .when(handed_over())
        .then(
            "fulfilling/shipped",
            &["send reject_cancellation", "send record_shipment", "park: money_reversed"],
        );
    // Somebody takes the risk.
    story
        .resumed()
        .when(let_go(dispute))
        .then("fulfilling/released", &["send resume_fulfilment"])
        .when(handed_over())
        .then("fulfilling/shipped", &["send record_shipment"]);
    // It waited already.
    released()
        .when(held(HoldReason::Fraud))
        .when(disputed())
        .then("fulfilling/released", &["send hold_order", "park: dispute"]);
    // As long as anything is disputed it waits.
    released()
        .when(disputed())
        .when(disputed())
        .resumed()
        .resumed()
        .when(won())
        .then("fulfilling/released", &[]);
}

#[test]
fn row_59_what_is_disputed_and_has_left_calls_a_person() {
    for story in [shipped(), completed()] {
        let state = fold(&story.events).state().name();
        let story = story.when(disputed()).then(state, &["park: money_reversed"]).resumed();
        story.clone().when(won()).then(state, &[]);
        story.when(lost()).then(state, &["send record_refund"]);
    }
}

#[test]
fn row_f3_what_is_not_on_the_shelf_is_neither_held_nor_paid_for() {
    let story = picking()
        .when(short_picked())
        .then("fulfilling/picking", &["send cancel_lines", "send reduce_stock"]);
    let command = inventory::Command::Reduce {
        order: id(),
        reservation: id().reservation(),
        units: units(&[("mug", 1)]),
    };
    assert_eq!(*story.sent("reduce_stock"), Command::Inventory { command });
    let story = story
        .when(lines_cancelled())
        .then("fulfilling/picking", &[])
        .when(Input::Packed)
        .then("fulfilling/capturing", &["send capture"]);
    let command = payment::Command::Capture { amount: euro(2000) };
    assert_eq!(*story.sent("capture"), Command::Payment { id: id().payment(), command });
}

#[test]
fn row_f3_the_money_waits_until_the_order_has_counted() {
    let less = units(&[("tea", 1)]);
    let story = picking()
        .when(short_picked())
        .when(Input::ShortPicked { short: units(&[("mug", 1)]), left: less.clone() })
        .then("fulfilling/picking", &["send cancel_lines 2/1", "send reduce_stock 2/1"])
        .when(Input::Packed)
        .then("fulfilling/capturing", &[])
        .when(lines_cancelled())
        .then("fulfilling/capturing", &[])
        .when(Input::LinesCancelled { left: less, total: euro(1000) })
        .then("fulfilling/capturing", &["send capture"]);
    let command = payment::Command::Capture { amount: euro(1000) };
    assert_eq!(*story.sent("capture"), Command::Payment { id: id().payment(), command });
    let silent = picking().when(short_picked()).when_silent(Step::CancelLines);
    silent.when_fired("cancel_lines", 8).then("fulfilling/picking", &["park: order_silent"]);
}

#[test]
fn row_f3_where_nothing_is_left_everything_is_given_back() {
    let all = units(&[("mug", 2), ("tea", 1)]);
    picking()
        .when(Input::ShortPicked { short: all, left: vec![] })
        .then("fulfilling/picking", &[])
        .when(Input::FulfilmentCancelled)
        .then(
            "unwinding",
            &[
                "turn: fulfilment_cancelled",
                "undo return_money",
                "undo release_stock",
                "send request_cancellation",
            ],
        );
    cancelling().when(short_picked()).then("cancelling", &[]);
}

#[test]
fn row_f3_what_was_taken_too_much_calls_a_person() {
    picking()
        .when(captured())
        .when(short_picked())
        .when(lines_cancelled())
        .when(Input::Packed)
        .then(
            "fulfilling/released",
            &["send commit_stock", "send release_for_handover", "park: overpaid"],
        );
}

#[test]
fn row_f3_what_is_left_may_cost_nothing() {
    let left = units(&[("mug", 1), ("tea", 1)]);
    picking()
        .when(short_picked())
        .when(Input::LinesCancelled { left, total: euro(0) })
        .when(Input::Packed)
        .then(
            "fulfilling/released",
            &["send commit_stock", "send release_for_handover", "send return_money"],
        )
        .when(Input::Voided)
        .then("fulfilling/released", &[]);
}

#[test]
fn row_f4_an_order_that_nobody_packs_waits_for_somebody_who_looks() {
    picking()
        .when_fired("warehouse", 1)
        .then("fulfilling/picking", &["alert: pick_overdue", "send hold_order"])
        .when(held(HoldReason::Warehouse))
        .then("fulfilling/picking", &["send hold_fulfilment"])
        .when(let_go(HoldReason::Warehouse))
        .then_waiting("fulfilling/picking", &["send resume_fulfilment", "wait warehouse 86400s"]);
    capturing().when_fired("warehouse", 1).then("fulfilling/capturing", &[]);
}

#[test]
fn row_f10_a_parcel_that_nobody_hands_over_is_told_of() {
    let story = released();
    assert!(story.told().contains(&"wait warehouse 86400s".to_owned()), "{:?}", story.told());
    story.when_fired("warehouse", 2).then("fulfilling/released", &["alert: handover_overdue"]);
    let left = released().when(handed_over());
    assert!(left.told().contains(&"wait warehouse no more".to_owned()), "{:?}", left.told());
}

#[test]
fn row_f6_a_capture_that_fails_is_tried_again_and_then_waits_for_somebody() {
    let later = Input::CaptureFailed { retryable: true };
    capturing()
        .when(later.clone())
        .then("fulfilling/capturing", &["send capture 2/1"])
        .when(later.clone())
        .then("fulfilling/capturing", &["send capture 3/1"])
        .when(later.clone())
        .then("fulfilling/capturing", &["send capture 4/1"])
        .when(later)
        .then("fulfilling/capturing", &DUN);
    let story = wanting().then("fulfilling/capturing", &DUN);
    assert!(story.told().contains(&"wait dunning 259200s".to_owned()), "{:?}", story.told());
    story
        .when_fired("dunning", 1)
        .then("fulfilling/capturing", &["send request_cancellation"])
        .when(CANCEL)
        .then("cancelling", &["undo cancel_fulfilment"]);
}

#[test]
fn row_f6_another_card_or_another_try_pays_for_it() {
    let paid = [
        "send commit_stock",
        "send release_for_handover",
        "send release_order",
        "send record_payment",
    ];
    wanting()
        .when(held(PAYMENT))
        .then("fulfilling/capturing", &["send hold_fulfilment"])
        .when(replaced())
        .then("fulfilling/capturing", &["send authorise 2/1"])
        .when(Input::Authorised)
        .then("fulfilling/capturing", &["send capture 2/1", "send release_order"])
        .when(let_go(PAYMENT))
        .then("fulfilling/capturing", &["send resume_fulfilment"])
        .when(captured())
        .then(
            "fulfilling/released",
            &["send commit_stock", "send release_for_handover", "send record_payment"],
        );
    wanting()
        .when(Input::RetryRequested)
        .then("fulfilling/capturing", &["send capture 2/1"])
        .when(captured())
        .then("fulfilling/released", &paid);
    // Whoever releases it has not paid.
    wanting()
        .when(held(PAYMENT))
        .when(let_go(PAYMENT))
        .then("fulfilling/capturing", &["send resume_fulfilment"]);
    // What could not be taken is not even held any more.
    wanting()
        .when(Input::AuthorisationExpired)
        .then("fulfilling/capturing", &["send authorise 2/1"])
        .when(Input::Declined { retryable: true })
        .when(Input::RetryRequested)
        .then("fulfilling/capturing", &["send authorise 3/1"]);
}

#[test]
fn row_f7_a_silent_capture_is_parked() {
    let story = capturing().when_silent(Step::Capture);
    story.when_fired("capture", 9).then("fulfilling/capturing", &["park: capture_unknown"]);
}

#[test]
fn row_f7_a_capture_of_unknown_outcome_is_cleared_up_while_undoing() {
    capturing()
        .when(CANCEL)
        .when(Input::FulfilmentCancelled)
        .when(Input::OutcomeUnknown { operation: Operation::Capture })
        .then_waiting("unwinding", &["wait capture 60s"])
        .when_fired("capture", 2)
        .then("unwinding", &["send capture 2/2"]);
}

#[test]
fn row_f8_the_parcel_leaves() {
    released().when(handed_over()).then("fulfilling/shipped", &["send record_shipment"]);
}

#[test]
fn row_f12_a_parcel_that_is_lost_calls_a_person() {
    shipped().when(Input::ParcelLost).then("fulfilling/shipped", &["park: lost"]);
    shipped().when_fired("transit", 1).then("fulfilling/shipped", &["park: lost"]);
    let left = released().when(handed_over());
    assert!(left.told().contains(&"wait transit 1209600s".to_owned()), "{:?}", left.told());
    let kept = released().when(CANCEL).when(Input::CancelRejected);
    assert!(kept.told().contains(&"wait transit 1209600s".to_owned()), "{:?}", kept.told());
}

#[test]
fn row_f13_a_parcel_that_comes_back_calls_a_person() {
    shipped().when(Input::ParcelReturned).then("fulfilling/shipped", &["park: returned"]);
    completed().when(Input::ParcelReturned).then("completed", &["ignore"]);
}

#[test]
fn row_f9_a_parcel_that_is_not_paid_for_any_more_stays_here() {
    let stopping = || {
        released()
            .when(reversed())
            .then("fulfilling/released", &["send record_refund", "send request_cancellation"])
            .when(CANCEL)
            .then("cancelling", &["undo cancel_fulfilment"])
    };
    stopping()
        .when(Input::FulfilmentCancelled)
        .then("unwinding", &UNDO)
        .when(Input::Voided)
        .when(Input::StockReleased)
        .then("finalising", &["send mark_cancelled"]);
    let park = "park: money_reversed";
    stopping()
        .when(Input::CancelRejected)
        .then("fulfilling/shipped", &["send reject_cancellation", park]);
    stopping()
        .when(handed_over())
        .then("fulfilling/shipped", &["send reject_cancellation", "send record_shipment", park]);
    released()
        .when(reversed())
        .when(handed_over())
        .then("fulfilling/shipped", &["send record_shipment", park]);
}

#[test]
fn row_f11_the_parcel_arrives() {
    shipped().when(delivered()).then("finalising", &["send record_delivery", "send complete"]);
}

#[test]
fn a_parcel_that_leaves_unpaid_calls_a_person() {
    for story in [picking(), capturing(), cancelling()] {
        let state = fold(&story.events).state().name();
        story.when(handed_over()).then(state, &["park: goods_left_unpaid"]);
    }
}

#[test]
fn a_payment_that_closes_by_itself_is_not_waited_for() {
    picking()
        .when(Input::Voided)
        .when(CANCEL)
        .when(Input::FulfilmentCancelled)
        .then("unwinding", &["turn: cancelled", "undo release_stock"]);
}
