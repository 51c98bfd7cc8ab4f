//! From the placing of an order to its confirmation.

use super::*;

#[test]
fn row_1_a_placed_order_gets_its_stock_reserved() {
    let story =
        given([placed(1000)]).then_waiting("reserving", &["send reserve", "wait reserve 60s"]);
    let expires_at = dawn() + Duration::from_mins(15);
    let Command::Inventory { command: inventory::Command::Reserve { units, expires_at: at, .. } } =
        story.sent("reserve")
    else {
        panic!()
    };
    assert_eq!(*at, expires_at);
    let units = units.iter().map(|units| (units.sku.as_str(), units.quantity.get()));
    assert_eq!(units.collect::<Vec<_>>(), [("mug", 2), ("tea", 1)], "every sku once");
}

#[test]
fn row_4_what_comes_before_the_order_is_heard_after_it() {
    let story = given([Input::StockReserved]).then("new", &["defer"]);
    story.when(placed(1000)).then("authorising", &["send reserve", "send authorise"]);
}

#[test]
fn row_5_reserved_stock_is_paid_for() {
    reserving()
        .when(Input::StockReserved)
        .then_waiting("authorising", &["send authorise", "wait authorise 30s", "wait hold 840s"]);
}

#[test]
fn row_6_an_order_that_costs_nothing_is_confirmed_at_once() {
    given([placed(0)]).when(Input::StockReserved).then("confirming", &["send confirm"]);
}

#[test]
fn row_7_stock_reserved_for_a_cancelled_order_is_released() {
    reserving()
        .when(CANCEL)
        .when(Input::StockReserved)
        .then("unwinding", &["turn: cancelled", "undo release_stock"]);
}

#[test]
fn row_8_half_an_order_is_no_order() {
    let story = reserving()
        .when(Input::StockPartiallyReserved { short: short() })
        .then("unwinding", &["turn: out_of_stock", "undo release_stock"])
        .when(Input::StockReleased)
        .then("finalising", &["send reject"]);
    let (reason, short) = (RejectReason::OutOfStock, short());
    let command = order::Command::Reject { reason, short };
    assert_eq!(*story.sent("reject"), Command::Order { id: id(), command });
}

#[test]
fn row_11_an_order_without_stock_is_rejected() {
    let story = reserving().when(Input::StockRejected { short: short() });
    story.then("finalising", &["send reject"]);
    reserving()
        .when(CANCEL)
        .when(Input::StockRejected { short: short() })
        .then("finalising", &["send mark_cancelled"]);
}

#[test]
fn row_12_and_13_silence_is_answered_by_asking_again_and_then_by_a_person() {
    let mut story = reserving();
    for (epoch, wait) in [(1, "120s"), (2, "240s"), (3, "480s"), (4, "600s")] {
        let sending = format!("send reserve 1/{}", epoch + 1);
        let wait = format!("wait reserve {wait}");
        story = story.when_fired("reserve", epoch).then_waiting("reserving", &[&sending, &wait]);
    }
    reserving()
        .when_silent(Step::Reserve)
        .when_fired("reserve", 8)
        .then("reserving", &["park: inventory_silent"])
        .when(Input::StockReserved)
        .then("reserving", &["defer"]);
}

#[test]
fn row_14_a_cancellation_waits_for_the_stock() {
    reserving().when(CANCEL).then("reserving", &[]);
}

#[test]
fn row_17_an_authorised_order_is_confirmed() {
    authorising().when(Input::Authorised).then("confirming", &["send confirm"]);
}

#[test]
fn row_18_an_authorised_order_that_is_cancelled_is_undone() {
    authorising().when(CANCEL).when(Input::Authorised).then("unwinding", &UNDO);
}

#[test]
fn row_20_a_bank_that_asks_is_waited_for() {
    let story = authorising().when(Input::ActionRequired).then_waiting(
        "awaiting_action",
        &["wait hold 1140s", "send extend_stock", "wait action 900s", "send ask_customer"],
    );
    let Command::Inventory { command: inventory::Command::Extend { until, at, .. } } =
        story.sent("extend_stock")
    else {
        panic!()
    };
    assert_eq!((*until - *at).num_minutes(), 20, "longer than the customer has");
}

#[test]
fn row_21_a_bank_that_asks_for_a_cancelled_order_is_not_answered() {
    authorising().when(CANCEL).when(Input::ActionRequired).then("unwinding", &UNDO);
}

#[test]
fn row_22_a_declined_card_may_be_replaced() {
    let declined = || Input::Declined { retryable: true };
    let wait = ["send extend_stock", "send ask_customer"];
    authorising()
        .when(declined())
        .then("awaiting_action", &wait)
        .when(replaced())
        .then("authorising", &["send authorise 2/1"])
        .when(declined())
        .then("awaiting_action", &["send extend_stock 2/1", "send ask_customer 2/1"])
        .when(replaced())
        .when(declined())
        .then("unwinding", &["turn: payment_declined", "undo return_money", "undo release_stock"]);
}

#[test]
fn row_23_a_declined_order_is_undone() {
    let undo = ["turn: payment_declined", "undo return_money", "undo release_stock"];
    authorising().when(DECLINED).then("unwinding", &undo);
    let retryable = Input::Declined { retryable: true };
    authorising().when(CANCEL).when(retryable).then("unwinding", &undo);
    let cancelled = authorising().when(CANCEL).when(DECLINED).then("unwinding", &undo);
    cancelled
        .when(Input::Voided)
        .when(Input::StockReleased)
        .then("finalising", &["send mark_cancelled"]);
}

#[test]
fn row_24_a_silent_payment_is_asked_again_and_then_parked() {
    let story = authorising().when_silent(Step::Authorise);
    story.when_fired("authorise", 9).then("authorising", &["park: payment_unknown"]);
}

#[test]
fn row_25_an_unknown_outcome_is_asked_about_as_a_new_question() {
    authorising()
        .when(Input::OutcomeUnknown { operation: Operation::Authorise })
        .then_waiting("authorising", &[])
        .when_fired("authorise", 1)
        .then_waiting("authorising", &["send authorise 2/2", "wait authorise 60s"])
        .when(Input::Authorised)
        .then("confirming", &["send confirm"]);
}

#[test]
fn row_26_a_cancellation_waits_for_the_money() {
    authorising().when(CANCEL).then("authorising", &[]);
}

#[test]
fn row_27_a_hold_is_extended_for_as_long_as_it_is_needed() {
    for (story, state, wait) in [
        (authorising(), "authorising", "wait hold 840s"),
        (confirming(), "confirming", "wait hold 840s"),
        (picking(), "fulfilling/picking", "wait hold 43140s"),
        (capturing(), "fulfilling/capturing", "wait hold 43140s"),
    ] {
        story
            .when_fired("hold", 1)
            .then_waiting(state, &[wait, "send extend_stock"])
            .when_fired("hold", 2)
            .then(state, &["send extend_stock 2/1"]);
    }
    assert_eq!(released().when_fired("hold", 1).written, [], "what has left is not held");
}

#[test]
fn row_27_nobody_holds_goods_for_a_day_without_paying() {
    let day = Duration::from_hours(24);
    let undo = ["turn: held_too_long", "undo return_money", "undo release_stock"];
    authorising().later(day).when_fired("hold", 1).then("unwinding", &undo);
    authorising().later(day).when(Input::ActionRequired).then("unwinding", &undo);
    picking().later(day).when_fired("hold", 1).then("fulfilling/picking", &["send extend_stock"]);
}

#[test]
fn row_28_goods_that_were_lost_are_asked_for_again() {
    for story in [authorising(), acting(), confirming()] {
        let state = fold(&story.events).state().name();
        story
            .when(Input::StockExpired)
            .then(state, &["send reserve 2/1"])
            .when(Input::StockReserved)
            .then_waiting(state, &["wait hold 840s"]);
    }
}

#[test]
fn row_28_goods_that_are_gone_end_the_order() {
    let rejected = || Input::StockRejected { short: short() };
    let undo = ["turn: out_of_stock", "undo return_money", "undo release_stock"];
    for story in [authorising(), acting()] {
        story.when(Input::StockExpired).when(rejected()).then("unwinding", &undo);
    }
    // It may stand already, so that it can only be cancelled.
    let lost = confirming().when(Input::StockExpired).when(rejected());
    lost.then("unwinding", &[&undo[..], &["send request_cancellation"]].concat());
    picking().when(Input::StockExpired).then_waiting("fulfilling/picking", &["wait hold no more"]);
}

#[test]
fn row_19_an_order_is_confirmed_when_money_and_goods_are_there() {
    for story in [authorising(), acting()] {
        let paid = story.when(Input::StockExpired).when(Input::Authorised).then("authorising", &[]);
        paid.clone().when(Input::StockReserved).then("confirming", &["send confirm"]);
        paid.when(CANCEL).then("unwinding", &UNDO);
    }
    confirming()
        .when(Input::StockExpired)
        .when(Input::OrderConfirmed)
        .then("confirming", &[])
        .when(Input::StockReserved)
        .then("fulfilling/picking", &["send create_fulfilment"]);
}

#[test]
fn row_29_a_confirmed_payment_confirms_the_order() {
    acting()
        .when(Input::Authorised)
        .then_waiting("confirming", &["wait action no more", "send confirm", "wait confirm 60s"]);
    let declined = acting().when(Input::Declined { retryable: true });
    declined.then("awaiting_action", &["send extend_stock 2/1", "send ask_customer 2/1"]);
    acting()
        .when(DECLINED)
        .then("unwinding", &["turn: payment_declined", "undo return_money", "undo release_stock"]);
}

#[test]
fn row_30_another_card_is_asked_with_its_own_question() {
    let story = acting().when(replaced()).then_waiting(
        "authorising",
        &["send authorise 2/1", "wait authorise 30s", "wait action no more"],
    );
    let Command::Payment { command: payment::Command::Authorise { method, .. }, .. } =
        story.sent("authorise")
    else {
        panic!()
    };
    assert_eq!(method.as_str(), "pm_card_other");
}

#[test]
fn row_30_the_same_card_may_be_tried_once_more() {
    acting().when(Input::RetryRequested).then("authorising", &["send authorise 2/1"]);
}

#[test]
fn row_31_a_customer_who_does_nothing_loses_the_goods() {
    acting()
        .when_fired("action", 1)
        .then("unwinding", &["turn: action_overdue", "undo return_money", "undo release_stock"])
        .when(Input::Voided)
        .when(Input::StockReleased)
        .then("finalising", &["send reject"]);
}

#[test]
fn row_32_a_cancellation_does_not_wait_for_the_customer() {
    acting().when(CANCEL).then("unwinding", &UNDO);
}

#[test]
fn row_33_a_payment_of_unknown_outcome_turns_out_to_need_the_customer() {
    authorising()
        .when(Input::OutcomeUnknown { operation: Operation::Authorise })
        .when(Input::ActionRequired)
        .then("awaiting_action", &["send extend_stock", "send ask_customer"]);
}

#[test]
fn row_37_an_order_that_is_cancelled_while_it_is_confirmed_is_undone() {
    for input in [CANCEL, Input::ConfirmRejected] {
        confirming()
            .when(input)
            .then("unwinding", &["turn: cancelled", "undo return_money", "undo release_stock"]);
    }
    let told = confirming().when(CANCEL).told();
    assert_eq!(told[0], "wait confirm no more", "nothing that went forward is sent again");
}

#[test]
fn row_38_a_silent_order_is_parked() {
    let story = confirming().when_silent(Step::Confirm);
    story.when_fired("confirm", 8).then("confirming", &["park: order_silent"]);
}

#[test]
fn an_order_of_more_than_can_be_counted_is_rejected() {
    let Input::OrderPlaced(order) = placed(1000) else { panic!() };
    let order = Order { units: vec![], ..Order::clone(&order) };
    given([Input::OrderPlaced(Arc::new(order))]).then("finalising", &["send reject"]);
}
