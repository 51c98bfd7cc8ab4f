//! Orders: every command in every state, and the laws.

use proptest::prelude::*;
use schemas::Quantity;
use schemas::order::{RejectReason, Shortage};

use super::*;
use crate::given::{Named, check_codes, check_snapshots, check_table, given, live};
use crate::sample::{address, at, customer, dollar, euro, quantity, sku, text, units};

fn line(units: u32, unit_price: Money) -> Line {
    Line { sku: sku("mug"), title: text("A mug"), quantity: quantity(units), unit_price }
}

fn place(lines: Vec<Line>) -> Command {
    Command::Place {
        customer: customer(),
        lines,
        shipping_address: address(),
        payment_method: text("pm_card_visa"),
        placed_at: at(0),
    }
}

fn placed(lines: Vec<Line>, total: Money) -> Event {
    Event::Placed {
        customer: customer(),
        lines,
        total,
        shipping_address: address(),
        payment_method: text("pm_card_visa"),
        placed_at: at(0),
    }
}

/// An order of 3000 cents.
fn pending() -> Event {
    placed(vec![line(2, euro(1500))], euro(3000))
}

fn cut(left: &[(&str, u32)]) -> Command {
    let left = left.iter().map(|(sku, count)| units(sku, *count)).collect();
    Command::CancelLines { left, reason: CancelReason::Inventory }
}

const ASKED: Event = Event::CancellationRequested { reason: CancelReason::Fraud };

fn states() -> Named<Vec<Event>> {
    let rejected = Event::Rejected { reason: RejectReason::OutOfStock, short: vec![] };
    let cancelled = Event::Cancelled { reason: CancelReason::Fraud, refunded: None };
    let paid = Event::PaymentRecorded { captured: euro(3000) };
    let shipped = Event::ShipmentRecorded { tracking_code: text("T1") };
    let delivered = Event::DeliveryRecorded { at: at(9) };
    vec![
        ("absent", vec![]),
        ("pending", vec![pending()]),
        ("pending/asked", vec![pending(), ASKED]),
        ("pending/told", vec![pending(), ASKED, Event::ConfirmRejected]),
        ("confirmed", vec![pending(), Event::Confirmed]),
        ("held", vec![pending(), Event::Confirmed, Event::Held { reason: HoldReason::Fraud }]),
        ("confirmed/asked", vec![pending(), Event::Confirmed, ASKED]),
        ("paid", vec![pending(), Event::Confirmed, paid.clone()]),
        ("paid/asked", vec![pending(), Event::Confirmed, paid.clone(), ASKED]),
        ("shipped", vec![pending(), Event::Confirmed, paid.clone(), shipped.clone()]),
        (
            "completed",
            vec![pending(), Event::Confirmed, paid, shipped, delivered, Event::Completed],
        ),
        ("rejected", vec![pending(), rejected]),
        ("cancelled", vec![pending(), ASKED, cancelled]),
    ]
}

fn commands() -> Named<Command> {
    vec![
        ("place", place(vec![line(2, euro(1500))])),
        ("confirm", Command::Confirm),
        ("reject", Command::Reject { reason: RejectReason::OutOfStock, short: vec![] }),
        ("request", Command::RequestCancellation { reason: CancelReason::Customer }),
        ("mark_cancelled", Command::MarkCancelled { refunded: None }),
        ("keep", Command::RejectCancellation { reason: KeepReason::UseReturn }),
        ("payment", Command::RecordPayment { captured: euro(3000) }),
        ("refund", Command::RecordRefund { refunded: euro(3000) }),
        ("shipment", Command::RecordShipment { tracking_code: text("T1") }),
        ("delivery", Command::RecordDelivery { at: at(9) }),
        ("complete", Command::Complete),
        ("hold", Command::Hold { reason: HoldReason::Fraud }),
        ("let_go", Command::Release { reason: None }),
        ("cut", cut(&[("mug", 1)])),
        ("cut_all", cut(&[])),
        ("ask", Command::RequirePaymentAction),
    ]
}

#[test]
fn every_command_in_every_state() {
    check_table::<Order>(
        &states(),
        &commands(),
        "
        place           absent                             placed
        place           *                                  !already_placed

        confirm         absent                             !not_found
        confirm         pending                            confirmed
        confirm         pending/asked                      confirm_rejected
        confirm         rejected,cancelled                 !invalid_transition
        confirm         *                                  -

        reject          absent                             !not_found
        reject          pending,pending/asked,pending/told rejected
        reject          confirmed/asked,paid/asked         rejected
        reject          rejected                           -
        reject          *                                  !invalid_transition

        request         absent                             !not_found
        request         pending,confirmed,paid,shipped     cancellation_requested
        request         held                               cancellation_requested
        request         completed                          !use_return
        request         rejected,cancelled                 !invalid_transition
        request         *                                  -

        mark_cancelled  absent                             !not_found
        mark_cancelled  pending/asked,pending/told         cancelled
        mark_cancelled  confirmed/asked,paid/asked         cancelled
        mark_cancelled  cancelled                          -
        mark_cancelled  *                                  !invalid_transition

        keep            absent                             !not_found
        keep            pending/asked,pending/told         cancellation_rejected
        keep            confirmed/asked,paid/asked         cancellation_rejected
        keep            rejected,cancelled                 !invalid_transition
        keep            *                                  -

        payment         absent                             !not_found
        payment         paid,paid/asked,shipped,completed  !payment_exceeds_total
        payment         *                                  payment_recorded

        refund          absent                             !not_found
        refund          paid,paid/asked,shipped,completed  refund_recorded
        refund          *                                  !refund_exceeds_captured

        shipment        absent                             !not_found
        shipment        pending,rejected,cancelled         !invalid_transition
        shipment        shipped,completed                  -
        shipment        *                                  shipment_recorded

        delivery        absent                             !not_found
        delivery        pending,rejected,cancelled         !invalid_transition
        delivery        completed                          -
        delivery        *                                  delivery_recorded

        complete        absent                             !not_found
        complete        confirmed,held,paid,shipped        completed
        complete        confirmed/asked,paid/asked         cancellation_rejected+completed
        complete        completed                          -
        complete        *                                  !invalid_transition

        hold            absent                             !not_found
        hold            held                               -
        hold            completed,rejected,cancelled       !invalid_transition
        hold            *                                  held

        let_go          absent                             !not_found
        let_go          held                               released
        let_go          *                                  -

        cut             absent                             !not_found
        cut             completed,rejected,cancelled       -
        cut             *                                  lines_cancelled

        cut_all         absent                             !not_found
        cut_all         completed,rejected,cancelled       -
        cut_all         *                                  !nothing_left

        ask             absent                             !not_found
        ask             pending,pending/asked,pending/told payment_action_required
        ask             confirmed,confirmed/asked,held     payment_action_required
        ask             *                                  -
        ",
    );
}

#[test]
fn a_placed_order_totals_its_lines() {
    let lines = vec![line(3, euro(333)), line(1, euro(0)), line(2, euro(50))];
    given::<Order>([]).when(place(lines.clone())).then([placed(lines, euro(1099))]);
}

#[test]
fn an_order_that_cannot_be_priced_is_refused() {
    let check = |lines: Vec<Line>, refusal| {
        given::<Order>([]).when(place(lines)).then_refused(refusal);
    };
    let free = line(1, euro(0));
    check(vec![], Refusal::Empty);
    check(vec![free.clone(); LINES_MAX + 1], Refusal::TooManyLines);
    check(vec![free.clone(), line(1, dollar(0))], Refusal::CurrencyMismatch);
    check(vec![free.clone(), line(1, euro(-1))], Refusal::NegativePrice);
    check(vec![line(2, euro(i64::MAX))], Refusal::MoneyOverflow);
    check(vec![line(1, euro(i64::MAX)), line(1, euro(1))], Refusal::MoneyOverflow);
    // A mixed order is mixed, however large its prices are.
    check(vec![line(2, euro(i64::MAX)), line(1, dollar(1))], Refusal::CurrencyMismatch);
    given::<Order>([])
        .when(place(vec![free.clone(); LINES_MAX]))
        .then([placed(vec![free; LINES_MAX], euro(0))]);
}

#[test]
fn a_rejection_says_what_was_short() {
    let short = vec![Shortage { sku: sku("mug"), wanted: Quantity::new(2).unwrap(), available: 1 }];
    let reason = RejectReason::OutOfStock;
    given::<Order>([pending()])
        .when(Command::Reject { reason, short: short.clone() })
        .then([Event::Rejected { reason, short }])
        .when(Command::Confirm)
        .then_refused(Refusal::InvalidTransition { from: "rejected" });
}

#[test]
fn a_kept_order_is_what_it_was() {
    let reason = KeepReason::UseReturn;
    let keep = || Command::RejectCancellation { reason };
    given::<Order>([pending(), ASKED])
        .when(keep())
        .then([Event::CancellationRejected { reason }])
        .when(Command::Confirm)
        .then([Event::Confirmed])
        .when(Command::RequestCancellation { reason: CancelReason::Staff })
        .then([Event::CancellationRequested { reason: CancelReason::Staff }])
        .when(keep())
        .then([Event::CancellationRejected { reason }])
        .when(Command::Complete)
        .then([Event::Completed]);
}

/// Race: the saga confirms what the customer is just cancelling.
#[test]
fn a_confirmation_that_meets_a_cancellation_is_turned_away_once() {
    given::<Order>([pending(), ASKED])
        .when(Command::Confirm)
        .then([Event::ConfirmRejected])
        .when(Command::Confirm)
        .then([])
        .when(Command::MarkCancelled { refunded: None })
        .then([Event::Cancelled { reason: CancelReason::Fraud, refunded: None }]);
}

/// Race: the customer cancels while the parcel arrives.
#[test]
fn what_has_arrived_is_not_cancelled_any_more() {
    let reason = KeepReason::UseReturn;
    given::<Order>([pending(), Event::Confirmed, ASKED])
        .when(Command::Complete)
        .then([Event::CancellationRejected { reason }, Event::Completed])
        .when(Command::RejectCancellation { reason })
        .then([]);
}

#[test]
fn money_is_counted_to_its_limits() {
    let pay = |captured| Command::RecordPayment { captured };
    let refund = |refunded| Command::RecordRefund { refunded };
    let paid = |captured| Event::PaymentRecorded { captured };
    let refunded = |refunded| Event::RefundRecorded { refunded };
    let state = || {
        given::<Order>([pending(), Event::Confirmed])
            .when(pay(euro(1000)))
            .then([paid(euro(1000))])
            .when(pay(euro(1000)))
            .then([paid(euro(1000))])
            .when(refund(euro(1500)))
            .then([refunded(euro(1500))])
    };
    state().when(pay(euro(1001))).then_refused(Refusal::PaymentExceedsTotal);
    state().when(pay(euro(1000))).then([paid(euro(1000))]);
    state().when(refund(euro(501))).then_refused(Refusal::RefundExceedsCaptured);
    state().when(refund(euro(500))).then([refunded(euro(500))]);
    state().when(refund(dollar(1))).then_refused(Refusal::CurrencyMismatch);
    state().when(pay(dollar(1))).then_refused(Refusal::CurrencyMismatch);
    state().when(pay(euro(0))).then_refused(Refusal::InvalidAmount);
    state().when(refund(euro(-1))).then_refused(Refusal::InvalidAmount);
    state().when(pay(euro(i64::MAX))).then_refused(Refusal::MoneyOverflow);
}

#[test]
fn what_is_missing_is_taken_from_the_last_line_first() {
    let tea = Line { sku: sku("tea"), ..line(1, euro(700)) };
    let lines = vec![line(2, euro(1000)), tea, line(3, euro(500))];
    let left = |mugs| vec![units("mug", mugs), units("tea", 1)];
    let gone = |line, units| CancelledLine { line, quantity: quantity(units) };
    let reason = CancelReason::Inventory;
    let cut = |left| Command::CancelLines { left, reason };
    given::<Order>([placed(lines, euro(4200)), Event::Confirmed])
        .when(cut(left(4)))
        .then([Event::LinesCancelled {
            lines: vec![gone(2, 1)],
            left: left(4),
            reason,
            total: euro(3700),
        }])
        .when(cut(left(4)))
        .then([])
        .when(cut(left(1)))
        .then([Event::LinesCancelled {
            lines: vec![gone(0, 1), gone(2, 2)],
            left: left(1),
            reason,
            total: euro(1700),
        }])
        .when(cut(left(9)))
        .then([]);
}

#[test]
fn an_order_waits_until_no_reason_is_left() {
    let hold = |reason| Command::Hold { reason };
    let waits = |reason| Event::Held { reason };
    let released = |reason| Event::Released { reason };
    given::<Order>([pending()])
        .when(hold(HoldReason::Payment))
        .then([waits(HoldReason::Payment)])
        .when(hold(HoldReason::Fraud))
        .then([waits(HoldReason::Fraud)])
        .when(Command::Release { reason: Some(HoldReason::Other) })
        .then([])
        .when(Command::Release { reason: Some(HoldReason::Fraud) })
        .then([released(HoldReason::Fraud)])
        .when(hold(HoldReason::Address))
        .then([waits(HoldReason::Address)])
        .when(Command::Release { reason: None })
        .then([released(HoldReason::Address), released(HoldReason::Payment)]);
}

#[test]
fn a_customer_is_asked_once_until_the_order_stands() {
    given::<Order>([pending()])
        .when(Command::RequirePaymentAction)
        .then([Event::PaymentActionRequired])
        .when(Command::RequirePaymentAction)
        .then([])
        .when(Command::Confirm)
        .then([Event::Confirmed])
        .when(Command::RequirePaymentAction)
        .then([Event::PaymentActionRequired]);
}

#[test]
fn codes_are_stable_names() {
    check_codes(&[
        Refusal::NotFound,
        Refusal::AlreadyPlaced,
        Refusal::Empty,
        Refusal::TooManyLines,
        Refusal::NegativePrice,
        Refusal::CurrencyMismatch,
        Refusal::MoneyOverflow,
        Refusal::InvalidAmount,
        Refusal::PaymentExceedsTotal,
        Refusal::RefundExceedsCaptured,
        Refusal::NothingLeft,
        Refusal::UseReturn,
        Refusal::InvalidTransition { from: "pending" },
    ]);
}

fn any_money() -> impl Strategy<Value = Money> {
    prop_oneof![
        8 => (0_i64..2000).prop_map(euro),
        1 => (-5_i64..5).prop_map(dollar),
        1 => prop_oneof![Just(i64::MIN), Just(-1), Just(i64::MAX)].prop_map(euro),
    ]
}

fn any_command() -> impl Strategy<Value = Command> {
    let cancel = prop_oneof![Just(CancelReason::Customer), Just(CancelReason::Staff)];
    let lines = prop::collection::vec((1_u32..5, any_money()), 0..3)
        .prop_map(|lines| lines.into_iter().map(|(units, price)| line(units, price)).collect());
    prop_oneof![
        2 => Just(place(vec![line(2, euro(1500))])),
        1 => lines.prop_map(place),
        2 => Just(Command::Confirm),
        1 => Just(Command::Reject { reason: RejectReason::PaymentDeclined, short: vec![] }),
        2 => cancel.prop_map(|reason| Command::RequestCancellation { reason }),
        1 => prop::option::of(any_money())
            .prop_map(|refunded| Command::MarkCancelled { refunded }),
        2 => Just(Command::RejectCancellation { reason: KeepReason::UseReturn }),
        3 => any_money().prop_map(|captured| Command::RecordPayment { captured }),
        3 => any_money().prop_map(|refunded| Command::RecordRefund { refunded }),
        1 => Just(Command::RecordShipment { tracking_code: text("T1") }),
        1 => (0_i64..5).prop_map(|minutes| Command::RecordDelivery { at: at(minutes) }),
        1 => Just(Command::Complete),
        1 => Just(Command::Hold { reason: HoldReason::Fraud }),
        1 => Just(Command::Release { reason: None }),
        1 => (1_u32..3).prop_map(|left| cut(&[("mug", left)])),
        1 => Just(Command::RequirePaymentAction),
    ]
}

/// Two payments of one amount are two facts.
const fn repeatable(command: &Command) -> bool {
    !matches!(command, Command::RecordPayment { .. } | Command::RecordRefund { .. })
}

proptest! {
    #[test]
    fn any_life_keeps_the_books(commands in prop::collection::vec(any_command(), 0..40)) {
        let history = live::<Order>(&commands, repeatable, |order, _| {
            let amount = |money: Option<Money>| money.map_or(0, |money| money.amount);
            assert!(amount(order.refunded) <= amount(order.captured));
            assert!(amount(order.captured) <= amount(order.total));
        });
        let count = |is: fn(&Event) -> bool| history.iter().filter(|event| is(event)).count();
        let ends = |event: &Event| matches!(
            event,
            Event::Cancelled { .. } | Event::Rejected { .. } | Event::Completed
        );
        prop_assert!(count(ends) <= 1, "an order ends once");
        let confirmed = count(|event| matches!(event, Event::Confirmed));
        prop_assert!(confirmed <= 1);
        let shipped = count(|event| matches!(event, Event::ShipmentRecorded { .. }));
        prop_assert!(shipped <= 1);
        let asked = count(|event| matches!(event, Event::CancellationRequested { .. }));
        let kept = count(|event| matches!(event, Event::CancellationRejected { .. }));
        prop_assert!(kept <= asked);
    }

    #[test]
    fn a_snapshot_at_any_cut_folds_on_to_the_same(commands in prop::collection::vec(any_command(), 0..40)) {
        check_snapshots::<Order>(&live::<Order>(&commands, repeatable, |_, _| {}));
    }
}
