use chrono::DateTime;
use schemas::{Currency, Link, OrderId, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

const fn eur(amount: i64) -> Money {
    Money::new(amount, Currency::EUR)
}

fn until() -> Timestamp {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn payment() -> PaymentId {
    OrderId::new(Uuid::from_u128(7)).payment()
}

fn json(status: &str, capturable: i64, received: i64) -> Value {
    json!({
        "id": "pi_1", "status": status, "amount": 1000, "amount_capturable": capturable,
        "amount_received": received, "currency": "eur", "created": 1_799_000_000,
        "metadata": { "payment_id": payment().to_string() },
        "latest_charge": { "payment_method_details": { "card": {
            "capture_before": 1_800_000_000,
        } } },
    })
}

fn intent(status: &str, capturable: i64, received: i64) -> Outcome<Intent> {
    Outcome::Ok(Intent::read(&json(status, capturable, received)).unwrap())
}

fn rejected<T>(status: u16, error: Value) -> Outcome<T> {
    Outcome::Rejected(Rejection { status, error })
}

fn unexpected<T>(state: &str, received: i64) -> Outcome<T> {
    let code = "payment_intent_unexpected_state";
    rejected(400, json!({ "code": code, "payment_intent": json(state, 0, received) }))
}

fn mismatch<T>() -> Outcome<T> {
    rejected(400, json!({ "type": "idempotency_error" }))
}

fn transient<T>() -> Outcome<T> {
    Outcome::Transient("busy".to_owned())
}

fn unknown<T>() -> Outcome<T> {
    Outcome::Unknown("timed out".to_owned())
}

fn stands(status: ProviderStatus, authorised: i64, captured: i64) -> Next {
    Next::record(Command::RecordProviderState {
        provider_ref: text("pi_1"),
        status,
        authorised: eur(authorised),
        captured: eur(captured),
        until: until(),
        url: None,
        decline: None,
    })
}

/// The bank wants to hear from the customer, as the provider tells it.
fn asking() -> Value {
    let mut intent = json("requires_action", 0, 0);
    let redirect = json!({ "url": bank().as_str(), "return_url": null });
    intent["next_action"] = json!({ "type": "redirect_to_url", "redirect_to_url": redirect });
    intent
}

fn bank() -> Link {
    "https://bank.example/confirm".parse().unwrap()
}

fn waits(next: &Next) -> bool {
    matches!(next, Next::Wait(_))
}

fn parks(next: &Next) -> bool {
    matches!(next, Next::Park(_))
}

#[test]
fn a_hold_is_recorded_as_the_provider_tells_it() {
    let held = Command::RecordAuthorised {
        op: 2,
        provider_ref: text("pi_1"),
        amount: eur(1000),
        until: until(),
    };
    assert_eq!(authorised(2, intent("requires_capture", 1000, 0)), Next::record(held));
    let unclear = Command::RecordUnknown { op: 2, operation: Operation::Authorise };
    assert_eq!(authorised(2, unknown()), Next::record(unclear.clone()));
    assert_eq!(authorised(2, intent("processing", 0, 0)), Next::record(unclear));
    assert_eq!(
        authorised(2, intent("succeeded", 0, 900)),
        stands(ProviderStatus::Succeeded, 1000, 900)
    );
    assert!(waits(&authorised(2, transient())));
    assert!(parks(&authorised(2, mismatch())));
}

#[test]
fn a_bank_that_asks_is_where_the_customer_is_sent() {
    let asked = Intent::read(&asking()).unwrap();
    let wanted = Command::RecordActionRequired { op: 2, provider_ref: text("pi_1"), url: bank() };
    assert_eq!(authorised(2, Outcome::Ok(asked.clone())), Next::record(wanted));
    let Next::Record(command) = state(payment(), Outcome::Ok(asked)) else { panic!() };
    let Command::RecordProviderState { status, url, .. } = *command else { panic!() };
    assert_eq!((status, url), (ProviderStatus::RequiresAction, Some(bank())));
    // An action that needs more than a link is not one that we can ask for.
    let unclear = Command::RecordUnknown { op: 2, operation: Operation::Authorise };
    assert_eq!(authorised(2, intent("requires_action", 0, 0)), Next::record(unclear));
}

#[test]
fn the_record_tells_of_the_last_decline() {
    for (error, code, retryable) in [
        (
            json!({ "code": "payment_intent_authentication_failure" }),
            "payment_intent_authentication_failure",
            true,
        ),
        (json!({ "code": "card_declined", "decline_code": "stolen_card" }), "stolen_card", false),
    ] {
        let mut failed = json("requires_payment_method", 0, 0);
        failed["last_payment_error"] = error;
        let looked = state(payment(), Outcome::Ok(Intent::read(&failed).unwrap()));
        let Next::Record(command) = looked else { panic!() };
        let Command::RecordProviderState { decline, .. } = *command else { panic!() };
        assert_eq!(decline, Some(Decline { code: text(code), retryable }));
    }
}

#[test]
fn what_was_closed_needs_no_word() {
    assert_eq!(closed(intent("canceled", 0, 0)), Next::Nothing);
    assert_eq!(closed(unexpected("canceled", 0)), Next::Nothing);
    assert_eq!(closed(unexpected("succeeded", 900)), stands(ProviderStatus::Succeeded, 1000, 900));
    assert!(waits(&closed(unknown())));
}

#[test]
fn a_decline_says_whether_another_try_is_wanted() {
    for (status, error, code, retryable) in [
        (
            402,
            json!({ "code": "card_declined", "decline_code": "generic_decline" }),
            "generic_decline",
            true,
        ),
        (
            402,
            json!({ "code": "card_declined", "decline_code": "insufficient_funds" }),
            "insufficient_funds",
            true,
        ),
        (
            402,
            json!({ "code": "expired_card", "decline_code": "expired_card" }),
            "expired_card",
            true,
        ),
        (
            402,
            json!({ "code": "card_declined", "decline_code": "stolen_card" }),
            "stolen_card",
            false,
        ),
        (
            402,
            json!({ "code": "card_declined", "decline_code": "fraudulent" }),
            "fraudulent",
            false,
        ),
        (402, json!({ "code": "card_declined" }), "card_declined", true),
        (400, json!({ "code": "parameter_invalid_integer" }), "parameter_invalid_integer", false),
        (404, json!({ "type": "invalid_request_error" }), "invalid_request_error", false),
    ] {
        let (provider_ref, code) = (None, text(code));
        let declined = Command::RecordDeclined { op: 1, provider_ref, code, retryable };
        assert_eq!(
            authorised(1, rejected(status, error.clone())),
            Next::record(declined),
            "{error}"
        );
    }
}

#[test]
fn a_decline_keeps_the_intent_that_it_left_behind() {
    let error = json!({
        "code": "card_declined", "payment_intent": json("requires_payment_method", 0, 0),
    });
    let declined = Command::RecordDeclined {
        op: 1,
        provider_ref: Some(text("pi_1")),
        code: text("card_declined"),
        retryable: true,
    };
    assert_eq!(authorised(1, rejected(402, error)), Next::record(declined));
}

#[test]
fn a_capture_is_recorded_as_the_provider_tells_it() {
    let taken = Next::record(Command::RecordCaptured { amount: eur(900) });
    assert_eq!(captured(1, intent("succeeded", 0, 900)), taken);
    assert_eq!(captured(1, unexpected("succeeded", 900)), taken);
    let released = stands(ProviderStatus::Cancelled, 1000, 0);
    assert_eq!(captured(1, unexpected("canceled", 0)), released);
    let failed = Command::RecordCaptureFailed { code: text("amount_too_large"), retryable: false };
    let too_much = rejected(400, json!({ "code": "amount_too_large" }));
    assert_eq!(captured(1, too_much), Next::record(failed));
    let unclear = Command::RecordUnknown { op: 1, operation: Operation::Capture };
    assert_eq!(captured(1, unknown()), Next::record(unclear));
    assert!(waits(&captured(1, transient())));
    assert!(parks(&captured(1, mismatch())));
}

#[test]
fn a_hold_is_let_go_of_until_that_is_done() {
    let done = Next::record(Command::RecordVoided);
    assert_eq!(voided(intent("canceled", 0, 0)), done);
    assert_eq!(voided(unexpected("canceled", 0)), done);
    // The capture was faster: the aggregate hears of the money, and gives it back.
    assert_eq!(
        voided(unexpected("succeeded", 1000)),
        stands(ProviderStatus::Succeeded, 1000, 1000)
    );
    assert!(waits(&voided(unknown())));
    assert!(waits(&voided(transient())));
    assert!(parks(&voided(rejected(404, json!({ "code": "resource_missing" })))));
}

#[test]
fn money_is_given_back_until_that_is_answered() {
    let refund = payment().undoing_refund();
    let done = Next::record(Command::RecordRefunded { refund, amount: eur(5) });
    assert_eq!(refunded(refund, Outcome::Ok(eur(5))), done);
    let code = text("charge_already_refunded");
    let failed = Next::record(Command::RecordRefundFailed { refund, code });
    let already = rejected(400, json!({ "code": "charge_already_refunded" }));
    assert_eq!(refunded(refund, already), failed);
    assert!(waits(&refunded(refund, unknown())));
    assert!(waits(&refunded(refund, transient())));
    assert!(parks(&refunded(refund, mismatch())));
}

#[test]
fn the_providers_record_is_taken_as_it_stands() {
    for (name, capturable, received, expected) in [
        ("requires_payment_method", 0, 0, stands(ProviderStatus::RequiresMethod, 1000, 0)),
        ("requires_capture", 800, 0, stands(ProviderStatus::RequiresCapture, 800, 0)),
        ("succeeded", 0, 700, stands(ProviderStatus::Succeeded, 1000, 700)),
        ("canceled", 0, 0, stands(ProviderStatus::Cancelled, 1000, 0)),
        ("requires_action", 0, 0, stands(ProviderStatus::Processing, 1000, 0)),
    ] {
        assert_eq!(state(payment(), intent(name, capturable, received)), expected, "{name}");
    }
    let another = OrderId::new(Uuid::from_u128(8)).payment();
    assert!(parks(&state(another, intent("succeeded", 0, 1))));
    assert!(waits(&state(payment(), unknown())));
}

#[test]
fn what_stays_unknown_is_not_recorded_twice() {
    assert!(waits(&or_wait(authorised(1, unknown()))));
    assert!(waits(&or_wait(captured(1, unknown()))));
    assert_eq!(or_wait(voided(intent("canceled", 0, 0))), Next::record(Command::RecordVoided));
}

#[test]
fn what_the_provider_let_go_by_itself_has_expired() {
    let mut gone = json("canceled", 0, 0);
    gone["cancellation_reason"] = "automatic".into();
    let state = stands(ProviderStatus::Expired, 1000, 0);
    let read = || Outcome::Ok(Intent::read(&gone).unwrap());
    assert_eq!(super::state(payment(), read()), state);
    let late = || {
        let code = "payment_intent_unexpected_state";
        rejected(400, json!({ "code": code, "payment_intent": gone }))
    };
    assert_eq!(captured(1, late()), state);
    assert_eq!(voided(late()), Next::record(Command::RecordVoided));
    assert_eq!(closed(late()), Next::Nothing);
}

fn dispute(status: &str, provider_ref: &str) -> Outcome<Dispute> {
    let json = json!({
        "id": "dp_1", "status": status, "amount": 1999, "currency": "eur", "reason": "fraudulent",
        "payment_intent": provider_ref, "evidence_details": { "due_by": 1_700_000_000 },
    });
    Outcome::Ok(Dispute::read(&json).unwrap())
}

#[test]
fn a_dispute_is_taken_as_the_provider_has_it() {
    use schemas::payment::DisputeStatus::{Lost, Open, Won};
    let pi_1 = text("pi_1");
    for (word, status) in
        [("needs_response", Open), ("under_review", Open), ("won", Won), ("lost", Lost)]
    {
        let expected = Next::record(Command::RecordDispute {
            dispute: text("dp_1"),
            status,
            amount: eur(1999),
            reason: text("fraudulent"),
            evidence_due: DateTime::from_timestamp(1_700_000_000, 0),
        });
        assert_eq!(disputed(&pi_1, dispute(word, "pi_1")), expected, "{word}");
    }
    // A bank that only asks has taken nothing.
    for word in ["warning_needs_response", "warning_under_review", "warning_closed"] {
        assert_eq!(disputed(&pi_1, dispute(word, "pi_1")), Next::Nothing, "{word}");
    }
    assert!(parks(&disputed(&pi_1, dispute("won", "pi_2"))));
    assert!(waits(&disputed(&pi_1, transient())));
    assert!(waits(&disputed(&pi_1, unknown())));
}
