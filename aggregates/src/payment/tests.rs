//! Payments: every command in every state, the races, and the laws.

use schemas::Link;
use schemas::payment::{Decline, DisputeStatus, ProviderStatus};

use super::*;
use crate::given::{Given, Named, check_codes, check_table};
use crate::sample::{at, dollar, euro, order, refund, text};

mod cases;
mod laws;

const DUE: i64 = 3000;

fn given(history: impl IntoIterator<Item = Event>) -> Given<Payment> {
    crate::given::given(history)
}

fn undo() -> RefundId {
    order().payment().undoing_refund()
}

fn undo_again(times: u32) -> RefundId {
    RefundId::derive(order().payment().uuid(), &format!("refund/undo/{times}"))
}

fn authorise() -> Command {
    Command::Authorise { order: order(), amount: euro(DUE), method: text("pm_card_visa") }
}

fn capture(cents: i64) -> Command {
    Command::Capture { amount: euro(cents) }
}

fn void() -> Command {
    Command::Void { order: order() }
}

fn give_back(refund: RefundId, cents: i64) -> Command {
    Command::Refund { refund, amount: euro(cents) }
}

fn was_authorised(op: u32, provider_ref: &str) -> Command {
    let (provider_ref, amount, until) = (text(provider_ref), euro(DUE), at(7));
    Command::RecordAuthorised { op, provider_ref, amount, until }
}

fn was_declined(op: u32, provider_ref: Option<&str>) -> Command {
    let (provider_ref, code) = (provider_ref.map(text), text("card_declined"));
    Command::RecordDeclined { op, provider_ref, code, retryable: true }
}

fn is_unknown(operation: Operation) -> Command {
    Command::RecordUnknown { op: 1, operation }
}

fn was_captured(cents: i64) -> Command {
    Command::RecordCaptured { amount: euro(cents) }
}

fn was_not_captured() -> Command {
    Command::RecordCaptureFailed { code: text("processing_error"), retryable: true }
}

fn was_refunded(refund: RefundId, cents: i64) -> Command {
    Command::RecordRefunded { refund, amount: euro(cents) }
}

fn was_not_refunded(refund: RefundId) -> Command {
    Command::RecordRefundFailed { refund, code: text("insufficient_funds") }
}

fn notice(id: &str, provider_ref: &str, status: ProviderStatus) -> Command {
    let (notification, provider_ref) = (text(id), text(provider_ref));
    Command::RecordNotification { notification, provider_ref, status }
}

fn stands(provider_ref: &str, status: ProviderStatus, captured: i64) -> Command {
    Command::RecordProviderState {
        provider_ref: text(provider_ref),
        status,
        authorised: euro(DUE),
        captured: euro(captured),
        until: at(7),
        url: None,
        decline: None,
    }
}

fn wants_action(op: u32, provider_ref: &str) -> Command {
    let (provider_ref, url) = (text(provider_ref), bank());
    Command::RecordActionRequired { op, provider_ref, url }
}

fn replace(method: &str) -> Command {
    Command::ReplaceMethod { method: text(method) }
}

fn at_the_bank(provider_ref: &str) -> Command {
    Command::RecordProviderState {
        provider_ref: text(provider_ref),
        status: ProviderStatus::RequiresAction,
        authorised: euro(DUE),
        captured: euro(0),
        until: at(7),
        url: Some(bank()),
        decline: None,
    }
}

fn bank() -> Link {
    "https://bank.example/confirm".parse().unwrap()
}

fn created() -> Event {
    Event::Created { order: order(), amount: euro(DUE), method: text("pm_card_visa") }
}

fn asked(op: u32) -> Event {
    let (amount, method) = (euro(DUE), text("pm_card_visa"));
    Event::AuthorisationRequested { order: order(), op, amount, method }
}

fn authorised(op: u32, provider_ref: &str) -> Event {
    let (amount, until, provider_ref) = (euro(DUE), at(7), text(provider_ref));
    Event::Authorised { order: order(), op, amount, provider_ref, until }
}

fn declined(op: u32, provider_ref: Option<&str>) -> Event {
    let (provider_ref, code) = (provider_ref.map(text), text("card_declined"));
    Event::Declined { order: order(), op, provider_ref, code, retryable: true }
}

fn acting(op: u32, provider_ref: &str) -> Event {
    let (provider_ref, url) = (text(provider_ref), bank());
    Event::ActionRequired { order: order(), op, provider_ref, url }
}

fn expired(op: u32, provider_ref: &str) -> Event {
    Event::AuthorisationExpired { order: order(), op, provider_ref: text(provider_ref) }
}

fn replaced(method: &str) -> Event {
    Event::MethodReplaced { order: order(), method: text(method) }
}

fn closing(op: u32, provider_ref: &str) -> Event {
    Event::ClosingRequested { order: order(), op, provider_ref: text(provider_ref) }
}

fn asked_with(op: u32, method: &str) -> Event {
    let (amount, method) = (euro(DUE), text(method));
    Event::AuthorisationRequested { order: order(), op, amount, method }
}

fn turned_away(op: u32) -> Event {
    let code = text("voided");
    Event::Declined { order: order(), op, provider_ref: None, code, retryable: false }
}

fn unknown(operation: Operation) -> Event {
    Event::OutcomeUnknown { order: order(), op: 1, operation }
}

fn capturing(cents: i64) -> Event {
    let (amount, provider_ref) = (euro(cents), text("pi_1"));
    Event::CaptureRequested { order: order(), op: 1, attempt: 1, amount, provider_ref }
}

fn capturing_again(attempt: u32) -> Event {
    let (amount, provider_ref) = (euro(DUE), text("pi_1"));
    Event::CaptureRequested { order: order(), op: 1, attempt, amount, provider_ref }
}

fn captured(cents: i64) -> Event {
    Event::Captured { order: order(), op: 1, amount: euro(cents) }
}

fn not_captured(code: &str, retryable: bool) -> Event {
    Event::CaptureFailed { order: order(), code: text(code), retryable }
}

fn voiding(op: u32, provider_ref: Option<&str>) -> Event {
    Event::VoidRequested { order: order(), op, provider_ref: provider_ref.map(text) }
}

fn voided(never_authorised: bool) -> Event {
    Event::Voided { order: order(), never_authorised }
}

fn refunding(refund: RefundId, cents: i64) -> Event {
    let (amount, provider_ref) = (euro(cents), text("pi_1"));
    Event::RefundRequested { order: order(), refund, amount, provider_ref }
}

fn refunded(refund: RefundId, cents: i64) -> Event {
    Event::Refunded { order: order(), refund, amount: euro(cents) }
}

fn not_refunded(refund: RefundId) -> Event {
    Event::RefundFailed { order: order(), refund, code: text("insufficient_funds") }
}

fn notified(id: &str, provider_ref: &str) -> Event {
    let (notification, provider_ref) = (text(id), text(provider_ref));
    Event::ProviderNotified { order: order(), notification, provider_ref }
}

fn dispute_stands(id: &str, status: DisputeStatus, cents: i64) -> Command {
    let (dispute, amount, reason) = (text(id), euro(cents), text("fraudulent"));
    Command::RecordDispute { dispute, status, amount, reason, evidence_due: Some(at(9)) }
}

fn dispute_notice(id: &str) -> Command {
    let (notification, dispute, provider_ref) = (text(id), text("dp_1"), text("pi_1"));
    Command::RecordDisputeNotice { notification, dispute, provider_ref }
}

fn disputed(id: &str, cents: i64) -> Event {
    let (dispute, amount, reason) = (text(id), euro(cents), text("fraudulent"));
    Event::DisputeOpened { order: order(), dispute, amount, reason, evidence_due: Some(at(9)) }
}

fn dispute_won(id: &str, cents: i64) -> Event {
    Event::DisputeWon { order: order(), dispute: text(id), amount: euro(cents) }
}

fn dispute_lost(id: &str, cents: i64) -> Event {
    Event::DisputeLost { order: order(), dispute: text(id), amount: euro(cents) }
}

fn late(cents: i64) -> Event {
    Event::LateMoneyDetected { order: order(), amount: euro(cents) }
}

fn held() -> Vec<Event> {
    vec![created(), asked(1), authorised(1, "pi_1")]
}

fn paid() -> Vec<Event> {
    with(held(), vec![capturing(DUE), captured(DUE)])
}

fn with(mut history: Vec<Event>, more: Vec<Event>) -> Vec<Event> {
    history.extend(more);
    history
}

fn states() -> Named<Vec<Event>> {
    let refused = vec![created(), asked(1), declined(1, Some("pi_1"))];
    vec![
        ("absent", vec![]),
        ("created", vec![created()]),
        ("asked", vec![created(), asked(1)]),
        ("adrift", vec![created(), asked(1), unknown(Operation::Authorise)]),
        ("declined", refused.clone()),
        ("refused", vec![created(), asked(1), declined(1, None)]),
        ("acting", vec![created(), asked(1), acting(1, "pi_1")]),
        (
            "replaced",
            vec![created(), asked(1), acting(1, "pi_1"), replaced("pm_b"), closing(1, "pi_1")],
        ),
        ("held", held()),
        ("expired", with(held(), vec![expired(1, "pi_1")])),
        ("capturing", with(held(), vec![capturing(DUE)])),
        ("capture?", with(held(), vec![capturing(DUE), unknown(Operation::Capture)])),
        ("uncaptured", with(held(), vec![capturing(DUE), not_captured("processing_error", true)])),
        ("paid", paid()),
        ("refunding", with(paid(), vec![refunding(refund("a"), 1000)])),
        ("refunded", with(paid(), vec![refunding(refund("a"), DUE), refunded(refund("a"), DUE)])),
        ("unrefunded", with(paid(), vec![refunding(refund("a"), DUE), not_refunded(refund("a"))])),
        ("tombstone", vec![voided(true)]),
        ("told", vec![voided(true), turned_away(0)]),
        ("asked/void", vec![created(), asked(1), voiding(1, None)]),
        ("declined/void", with(refused, vec![voiding(1, Some("pi_1"))])),
        ("held/void", with(held(), vec![voiding(1, Some("pi_1"))])),
        ("void?", with(held(), vec![voiding(1, Some("pi_1")), unknown(Operation::Void)])),
        ("voided", with(held(), vec![voiding(1, Some("pi_1")), voided(false)])),
        ("capturing/void", with(held(), vec![capturing(DUE), voiding(1, None)])),
        ("undoing", with(paid(), vec![refunding(undo(), DUE)])),
        ("undone", with(paid(), vec![refunding(undo(), DUE), refunded(undo(), DUE)])),
        ("not_undone", with(paid(), vec![refunding(undo(), DUE), not_refunded(undo())])),
    ]
}

fn wishes() -> Named<Command> {
    let create =
        Command::Create { order: order(), amount: euro(DUE), method: text("pm_card_visa") };
    vec![
        ("create", create),
        ("authorise", authorise()),
        ("replace", replace("pm_b")),
        ("retry", Command::Retry),
        ("capture", capture(DUE)),
        ("capture_more", capture(DUE + 1)),
        ("void", void()),
        ("refund", give_back(refund("a"), 1000)),
        ("refund_b", give_back(refund("b"), 2000)),
    ]
}

fn answers() -> Named<Command> {
    vec![
        ("authorised", was_authorised(1, "pi_1")),
        ("action", wants_action(1, "pi_1")),
        ("declined", was_declined(1, Some("pi_1"))),
        ("authorise?", is_unknown(Operation::Authorise)),
        ("capture?", is_unknown(Operation::Capture)),
        ("void?", is_unknown(Operation::Void)),
        ("refund?", is_unknown(Operation::Refund)),
        ("captured", was_captured(DUE)),
        ("not_captured", was_not_captured()),
        ("voided", Command::RecordVoided),
        ("refunded", was_refunded(refund("a"), 1000)),
        ("not_refunded", was_not_refunded(refund("a"))),
    ]
}

#[test]
fn every_wish_in_every_state() {
    check_table::<Payment>(
        &states(),
        &wishes(),
        "
        create       absent                      created
        create       *                           -

        authorise    absent                      created+authorisation_requested
        authorise    created,declined,refused    authorisation_requested
        authorise    replaced,expired            authorisation_requested
        authorise    adrift                      authorisation_requested
        authorise    tombstone,declined/void     declined
        authorise    held/void,void?,voided      declined
        authorise    capturing/void              declined
        authorise    undoing,undone,not_undone   declined
        authorise    *                           -

        replace      absent                      !not_found
        replace      acting,declined,uncaptured  method_replaced+closing_requested
        replace      refused,expired             method_replaced
        replace      replaced                    -
        replace      *                           !method_not_wanted

        retry        absent                      !not_found
        retry        declined,refused,replaced   retry_requested
        retry        expired,uncaptured          retry_requested
        retry        *                           !retry_not_wanted

        capture      absent                      !not_found
        capture      held,uncaptured,capture?    capture_requested
        capture      created,asked,adrift        capture_failed
        capture      declined,refused            capture_failed
        capture      acting,replaced,expired     capture_failed
        capture      tombstone,told,asked/void   capture_failed
        capture      declined/void,held/void     capture_failed
        capture      void?,voided                capture_failed
        capture      *                           -

        capture_more absent                      !not_found
        capture_more capture?                    capture_requested
        capture_more held,uncaptured             capture_failed
        capture_more created,asked,adrift        capture_failed
        capture_more declined,refused            capture_failed
        capture_more acting,replaced,expired     capture_failed
        capture_more tombstone,told,asked/void   capture_failed
        capture_more declined/void,held/void     capture_failed
        capture_more void?,voided                capture_failed
        capture_more *                           -

        void         absent,created,refused      voided
        void         replaced,expired            voided
        void         acting                      void_requested
        void         asked,adrift                void_requested
        void         declined,held,uncaptured    void_requested
        void         capturing,capture?          void_requested
        void         refunding                   void_requested
        void         void?                       void_requested
        void         paid,unrefunded,not_undone  refund_requested
        void         refunded                    voided
        void         *                           -

        refund       absent                      !not_found
        refund       paid                        refund_requested
        refund       refunding,refunded          -
        refund       unrefunded                  -
        refund       undoing                     !refund_pending
        refund       not_undone                  refund_requested
        refund       *                           !refund_exceeds_captured

        refund_b     absent                      !not_found
        refund_b     paid,unrefunded             refund_requested
        refund_b     refunding,undoing           !refund_pending
        refund_b     not_undone                  refund_requested
        refund_b     *                           !refund_exceeds_captured
        ",
    );
}

#[test]
fn every_answer_in_every_state() {
    check_table::<Payment>(
        &states(),
        &answers(),
        "
        authorised   absent                      !not_found
        authorised   created,asked,adrift        authorised
        authorised   declined,refused,acting     authorised
        authorised   expired                     authorised
        authorised   tombstone,told,asked/void   authorised+void_requested
        authorised   declined/void               authorised
        authorised   *                           -

        action       absent                      !not_found
        action       asked,adrift                action_required
        action       asked/void                  action_required+void_requested
        action       *                           -

        declined     absent                      !not_found
        declined     asked,adrift                declined
        declined     asked/void                  declined+void_requested
        declined     *                           -

        authorise?   absent                      !not_found
        authorise?   asked,asked/void            outcome_unknown
        authorise?   *                           -

        capture?     absent                      !not_found
        capture?     capturing,capturing/void    outcome_unknown
        capture?     *                           -

        void?        absent                      !not_found
        void?        declined/void,held/void     outcome_unknown
        void?        *                           -

        refund?      absent                      !not_found
        refund?      refunding,undoing           outcome_unknown
        refund?      *                           -

        captured     absent                      !not_found
        captured     held,capturing,capture?     captured
        captured     uncaptured                  captured
        captured     held/void,void?,voided      captured+late_money_detected+refund_requested
        captured     capturing/void              captured+late_money_detected+refund_requested
        captured     *                           -

        not_captured absent                      !not_found
        not_captured capturing,capture?          capture_failed
        not_captured capturing/void              capture_failed+void_requested
        not_captured *                           -

        voided       absent                      !not_found
        voided       declined/void               voided
        voided       held/void,void?             voided
        voided       *                           -

        refunded     absent                      !not_found
        refunded     paid,refunding,unrefunded   refunded
        refunded     not_undone                  refunded
        refunded     *                           -

        not_refunded absent                      !not_found
        not_refunded refunding                   refund_failed
        not_refunded *                           -
        ",
    );
}

/// The provider's own record, first as a notice that it changed, then as it was read.
fn records() -> Named<Command> {
    use ProviderStatus::{
        Cancelled, Expired, Processing, RequiresAction, RequiresCapture, RequiresMethod, Succeeded,
    };
    vec![
        ("method!", notice("n1", "pi_1", RequiresMethod)),
        ("method", stands("pi_1", RequiresMethod, 0)),
        ("action!", notice("n1", "pi_1", RequiresAction)),
        ("action", at_the_bank("pi_1")),
        ("processing!", notice("n1", "pi_1", Processing)),
        ("processing", stands("pi_1", Processing, 0)),
        ("held!", notice("n1", "pi_1", RequiresCapture)),
        ("held", stands("pi_1", RequiresCapture, 0)),
        ("taken!", notice("n1", "pi_1", Succeeded)),
        ("taken", stands("pi_1", Succeeded, DUE)),
        ("closed!", notice("n1", "pi_1", Cancelled)),
        ("closed", stands("pi_1", Cancelled, 0)),
        ("expired!", notice("n1", "pi_1", Expired)),
        ("expired", stands("pi_1", Expired, 0)),
    ]
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table on one page")]
fn every_record_of_the_provider_in_every_state() {
    check_table::<Payment>(
        &states(),
        &records(),
        "
        method!      absent                      !not_found
        method!      adrift,acting               provider_notified
        method!      paid,refunding,refunded     provider_notified
        method!      unrefunded,undoing          provider_notified
        method!      undone,not_undone           provider_notified
        method!      *                           -
        method       absent                      !not_found
        method       adrift,acting               declined
        method       paid,refunding,unrefunded   capture_reversed
        method       not_undone                  capture_reversed
        method       *                           -

        action!      absent                      !not_found
        action!      asked,adrift,asked/void     provider_notified
        action!      *                           -
        action       absent                      !not_found
        action       asked,adrift                action_required
        action       asked/void                  action_required+void_requested
        action       *                           -

        processing!  absent                      !not_found
        processing!  *                           -
        processing   absent                      !not_found
        processing   *                           -

        held!        absent                      !not_found
        held!        created,asked,adrift        provider_notified
        held!        declined,refused,acting     provider_notified
        held!        expired                     provider_notified
        held!        tombstone,told,asked/void   provider_notified
        held!        declined/void               provider_notified
        held!        *                           -

        held         absent                      !not_found
        held         created,asked,adrift        authorised
        held         declined,refused,acting     authorised
        held         expired                     authorised
        held         tombstone,told,asked/void   authorised+void_requested
        held         declined/void               authorised
        held         *                           -

        taken!       absent                      !not_found
        taken!       paid,refunding,refunded     -
        taken!       unrefunded,undoing          -
        taken!       undone,not_undone           -
        taken!       *                           provider_notified

        taken        absent                      !not_found
        taken        created,asked,adrift        authorised+captured
        taken        declined,refused            authorised+captured
        taken        acting,replaced,expired     authorised+captured
        taken        held,capturing,capture?     captured
        taken        uncaptured                  captured
        taken        tombstone,told,asked/void   authorised+captured+late_money_detected+refund_requested
        taken        declined/void               authorised+captured+late_money_detected+refund_requested
        taken        held/void,void?,voided      captured+late_money_detected+refund_requested
        taken        capturing/void              captured+late_money_detected+refund_requested
        taken        *                           -

        closed!      absent                      !not_found
        closed!      asked,adrift,asked/void     provider_notified
        closed!      acting                      provider_notified
        closed!      declined/void               provider_notified
        closed!      held,capturing,capture?     provider_notified
        closed!      uncaptured,held/void,void?  provider_notified
        closed!      capturing/void              provider_notified
        closed!      *                           -

        closed       absent                      !not_found
        closed       asked,adrift,acting         declined
        closed       asked/void                  declined+voided
        closed       held,uncaptured             voided
        closed       capturing,capture?          capture_failed+voided
        closed       capturing/void              capture_failed+voided
        closed       declined/void               voided
        closed       held/void,void?             voided
        closed       *                           -

        expired!     absent                      !not_found
        expired!     asked,adrift,asked/void     provider_notified
        expired!     acting                      provider_notified
        expired!     declined/void               provider_notified
        expired!     held,capturing,capture?     provider_notified
        expired!     uncaptured,held/void,void?  provider_notified
        expired!     capturing/void              provider_notified
        expired!     *                           -

        expired      absent                      !not_found
        expired      asked,adrift,acting         declined
        expired      asked/void                  declined+voided
        expired      held,uncaptured             authorisation_expired
        expired      capturing,capture?          authorisation_expired+capture_failed
        expired      capturing/void              capture_failed+voided
        expired      declined/void               voided
        expired      held/void,void?             voided
        expired      *                           -
        ",
    );
}

#[test]
fn codes_are_stable_names() {
    check_codes(&[
        Refusal::NotFound,
        Refusal::InvalidAmount,
        Refusal::CurrencyMismatch,
        Refusal::RefundExceedsCaptured { left: euro(0) },
        Refusal::RefundPending,
        Refusal::RetryNotWanted,
        Refusal::MethodNotWanted,
    ]);
}
