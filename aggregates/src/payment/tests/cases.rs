//! The ways that a payment goes, and the races on them.

use super::*;

fn given_held() -> Given<Payment> {
    given(held())
}

#[test]
fn money_is_held_taken_and_given_back() {
    given([])
        .when(authorise())
        .then([created(), asked(1)])
        .when(was_authorised(1, "pi_1"))
        .then([authorised(1, "pi_1")])
        .when(capture(2500))
        .then([capturing(2500)])
        .when(was_captured(2500))
        .then([captured(2500)])
        .when(give_back(refund("a"), 1000))
        .then([refunding(refund("a"), 1000)])
        .when(was_refunded(refund("a"), 1000))
        .then([refunded(refund("a"), 1000)])
        .when(give_back(refund("b"), 1501))
        .then_refused(Refusal::RefundExceedsCaptured { left: euro(1500) });
}

#[test]
fn amounts_make_sense() {
    let nothing = |command| given_held().when(command).then_refused(Refusal::InvalidAmount);
    nothing(Command::Authorise { order: order(), amount: euro(0), method: text("pm") });
    nothing(capture(0));
    nothing(give_back(refund("a"), -1));
    let amount = dollar(1);
    given_held().when(Command::Capture { amount }).then_refused(Refusal::CurrencyMismatch);
    given(paid())
        .when(Command::Refund { refund: refund("a"), amount })
        .then_refused(Refusal::CurrencyMismatch);
    given_held().when(give_back(refund("a"), 1)).then_refused(Refusal::NothingCaptured);
    let create = Command::Create { order: order(), amount: euro(-1), method: text("pm") };
    given([]).when(create).then_refused(Refusal::InvalidAmount);
}

#[test]
fn an_authorisation_is_numbered_anew_only_after_a_definite_no() {
    given([created(), asked(1)])
        .when(authorise())
        .then([])
        .when(is_unknown(Operation::Authorise))
        .then([unknown(Operation::Authorise)])
        // The same question again: the provider knows it by its number.
        .when(Command::Authorise { order: order(), amount: euro(1), method: text("pm_other") })
        .then([asked(1)])
        .when(was_declined(1, Some("pi_1")))
        .then([declined(1, Some("pi_1"))])
        .when(authorise())
        .then([asked(2)])
        // Late answers to the old question.
        .when(was_declined(1, Some("pi_1")))
        .then([])
        .when(was_authorised(1, "pi_1"))
        .then([])
        .when(stands("pi_1", ProviderStatus::Cancelled, 0))
        .then([])
        .when(was_authorised(2, "pi_2"))
        .then([authorised(2, "pi_2")])
        .when(was_authorised(2, "pi_2"))
        .then([]);
}

#[test]
fn a_customer_confirms_the_payment_with_their_bank() {
    let asked_for = || given([created(), asked(1)]);
    asked_for()
        .when(wants_action(1, "pi_1"))
        .then([acting(1, "pi_1")])
        // The same question again has its answer; a notice that is late says nothing new.
        .when(authorise())
        .then([])
        .when(notice("n1", "pi_1", ProviderStatus::RequiresAction))
        .then([])
        .when(notice("n2", "pi_1", ProviderStatus::RequiresCapture))
        .then([notified("n2", "pi_1")])
        .when(stands("pi_1", ProviderStatus::RequiresCapture, 0))
        .then([authorised(1, "pi_1")])
        .when(at_the_bank("pi_1"))
        .then([])
        .when(capture(DUE))
        .then([capturing(DUE)]);
    let Command::RecordProviderState { provider_ref, authorised, captured, until, .. } =
        stands("pi_1", ProviderStatus::RequiresMethod, 0)
    else {
        panic!()
    };
    let code = text("payment_intent_authentication_failure");
    asked_for()
        .when(wants_action(1, "pi_1"))
        .then([acting(1, "pi_1")])
        .when(Command::RecordProviderState {
            provider_ref,
            status: ProviderStatus::RequiresMethod,
            authorised,
            captured,
            until,
            url: None,
            decline: Some(Decline { code: code.clone(), retryable: true }),
        })
        .then([Event::Declined {
            order: order(),
            op: 1,
            provider_ref: Some(text("pi_1")),
            code,
            retryable: true,
        }])
        .when(authorise())
        .then([asked(2)]);
}

/// Race R10: the webhooks come the wrong way round, and before the answer.
#[test]
fn a_confirmation_that_overtakes_the_request_for_it_counts() {
    given([created(), asked(1)])
        .when(notice("n2", "pi_1", ProviderStatus::RequiresCapture))
        .then([notified("n2", "pi_1")])
        .when(stands("pi_1", ProviderStatus::RequiresCapture, 0))
        .then([authorised(1, "pi_1")])
        .when(notice("n1", "pi_1", ProviderStatus::RequiresAction))
        .then([])
        .when(wants_action(1, "pi_1"))
        .then([]);
}

#[test]
fn another_card_closes_what_the_last_one_left_open() {
    given([created(), asked(1), acting(1, "pi_1")])
        .when(replace("pm_b"))
        .then([replaced("pm_b"), closing(1, "pi_1")])
        .when(replace("pm_b"))
        .then([])
        // The customer confirmed the first one all the same: it is let go, and nobody counts on it.
        .when(notice("n1", "pi_1", ProviderStatus::RequiresCapture))
        .then([])
        .when(stands("pi_1", ProviderStatus::RequiresCapture, 0))
        .then([])
        .when(was_authorised(1, "pi_1"))
        .then([])
        // Whoever asks, it is the customer's last word that counts.
        .when(authorise())
        .then([asked_with(2, "pm_b")])
        .when(replace("pm_c"))
        .then_refused(Refusal::MethodNotWanted);
    given([created(), asked(1), turned_down()])
        .when(replace("pm_b"))
        .then_refused(Refusal::MethodNotWanted);
    given([created(), asked(1), acting(1, "pi_1"), voiding(1, Some("pi_1"))])
        .when(replace("pm_b"))
        .then_refused(Refusal::MethodNotWanted);
}

/// A decline that the customer cannot mend.
fn turned_down() -> Event {
    let code = text("stolen_card");
    Event::Declined { order: order(), op: 1, provider_ref: None, code, retryable: false }
}

/// Race R2: the customer confirms after we have given up waiting.
#[test]
fn a_confirmation_after_the_void_goes_back_by_itself() {
    let given_up = || {
        given([created(), asked(1), acting(1, "pi_1")])
            .when(void())
            .then([voiding(1, Some("pi_1"))])
    };
    given_up()
        .when(stands("pi_1", ProviderStatus::RequiresCapture, 0))
        .then([authorised(1, "pi_1")])
        .when(Command::RecordVoided)
        .then([voided(false)]);
    given_up().when(stands("pi_1", ProviderStatus::Cancelled, 0)).then([voided(true)]);
    given_up()
        .when(Command::RecordVoided)
        .then([voided(true)])
        .when(stands("pi_1", ProviderStatus::RequiresCapture, 0))
        .then([authorised(1, "pi_1"), voiding(1, Some("pi_1"))]);
}

#[test]
fn money_that_is_gone_again_is_missed_once() {
    let reversed = |cents| Event::CaptureReversed { order: order(), amount: euro(cents) };
    given(paid())
        .when(notice("n1", "pi_1", ProviderStatus::RequiresMethod))
        .then([notified("n1", "pi_1")])
        .when(stands("pi_1", ProviderStatus::RequiresMethod, 0))
        .then([reversed(DUE)])
        .when(stands("pi_1", ProviderStatus::RequiresMethod, 0))
        .then([])
        .when(give_back(refund("a"), 1))
        .then_refused(Refusal::RefundExceedsCaptured { left: euro(0) });
    given(paid())
        .when(give_back(refund("a"), 1000))
        .then([refunding(refund("a"), 1000)])
        .when(stands("pi_1", ProviderStatus::RequiresMethod, 0))
        .then([reversed(DUE - 1000)])
        .when(was_refunded(refund("a"), 1000))
        .then([refunded(refund("a"), 1000)])
        .when(void())
        .then([voided(false)]);
}

#[test]
fn a_capture_that_is_refused_is_answered_once() {
    let too_much = || not_captured("amount_exceeds_authorised", false);
    given_held()
        .when(capture(DUE + 1))
        .then([too_much()])
        .when(capture(DUE + 1))
        .then([])
        .when(capture(DUE))
        .then([capturing(DUE)]);
    given([created(), asked(1)])
        .when(capture(DUE))
        .then([not_captured("not_authorised", true)])
        .when(capture(DUE))
        .then([])
        .when(was_authorised(1, "pi_1"))
        .then([authorised(1, "pi_1")])
        .when(capture(DUE))
        .then([capturing(DUE)])
        .when(was_not_captured())
        .then([not_captured("processing_error", true)])
        .when(capture(DUE))
        .then([capturing_again(2)]);
}

/// Undo before do: the void overtakes the authorisation.
#[test]
fn a_payment_voided_before_it_was_asked_for_is_never_asked_for() {
    given([])
        .when(void())
        .then([voided(true)])
        .when(void())
        .then([])
        .when(authorise())
        .then([turned_away(0)])
        .when(authorise())
        .then([])
        .when(capture(DUE))
        .then([not_captured("voided", false)])
        .when(capture(DUE))
        .then([]);
}

/// Race R1: the customer cancels while the authorisation is on its way.
#[test]
fn a_void_waits_for_the_authorisation_on_its_way() {
    let wished = || given([created(), asked(1)]).when(void()).then([voiding(1, None)]);
    wished()
        .when(was_declined(1, None))
        .then([declined(1, None), voided(true)])
        .when(void())
        .then([]);
    // The intent that the decline leaves open is closed before the payment is.
    wished()
        .when(was_declined(1, Some("pi_1")))
        .then([declined(1, Some("pi_1")), voiding(1, Some("pi_1"))])
        .when(Command::RecordVoided)
        .then([voided(true)]);
    wished()
        .when(was_authorised(1, "pi_1"))
        .then([authorised(1, "pi_1"), voiding(1, Some("pi_1"))])
        .when(was_authorised(1, "pi_1"))
        .then([])
        .when(void())
        .then([])
        .when(Command::RecordVoided)
        .then([voided(false)])
        .when(Command::RecordVoided)
        .then([])
        // What we let go of once is not held again.
        .when(was_authorised(1, "pi_1"))
        .then([])
        .when(notice("n1", "pi_1", ProviderStatus::RequiresCapture))
        .then([]);
}

/// Race R2: a customer confirms after everything was given up.
#[test]
fn money_held_late_is_let_go() {
    given([created(), asked(1), declined(1, Some("pi_1")), voiding(1, Some("pi_1")), voided(true)])
        .when(notice("n1", "pi_1", ProviderStatus::RequiresCapture))
        .then([notified("n1", "pi_1")])
        .when(notice("n1", "pi_1", ProviderStatus::RequiresCapture))
        .then([])
        .when(stands("pi_1", ProviderStatus::RequiresCapture, 0))
        .then([authorised(1, "pi_1"), voiding(1, Some("pi_1"))])
        .when(Command::RecordVoided)
        .then([voided(false)]);
}

/// Race R3: the capture succeeds after the cancellation.
#[test]
fn money_taken_late_is_given_back() {
    given(with(held(), vec![capturing(DUE)]))
        .when(void())
        .then([voiding(1, None)])
        .when(was_captured(DUE))
        .then([captured(DUE), late(DUE), refunding(undo(), DUE)])
        .when(void())
        .then([])
        .when(was_refunded(undo(), DUE))
        .then([refunded(undo(), DUE)])
        .when(was_refunded(undo(), DUE))
        .then([])
        .when(void())
        .then([]);
    given(with(held(), vec![capturing(DUE)]))
        .when(void())
        .then([voiding(1, None)])
        .when(was_not_captured())
        .then([not_captured("processing_error", true), voiding(1, Some("pi_1"))]);
}

/// The void loses the race against the capture, and the provider's record says so.
#[test]
fn a_void_that_comes_too_late_becomes_a_refund() {
    given(with(held(), vec![voiding(1, Some("pi_1"))]))
        .when(stands("pi_1", ProviderStatus::Succeeded, DUE))
        .then([captured(DUE), late(DUE), refunding(undo(), DUE)])
        .when(Command::RecordVoided)
        .then([]);
}

#[test]
fn a_void_gives_back_only_what_has_not_gone_back() {
    given(with(paid(), vec![refunding(refund("a"), 1000), refunded(refund("a"), 1000)]))
        .when(void())
        .then([refunding(undo(), 2000)]);
    // A refund is on its way: its outcome decides how much is left.
    let on_its_way = || {
        given(with(paid(), vec![refunding(refund("a"), 1000)]))
            .when(void())
            .then([voiding(1, None)])
    };
    on_its_way()
        .when(was_refunded(refund("a"), 1000))
        .then([refunded(refund("a"), 1000), refunding(undo(), 2000)]);
    on_its_way()
        .when(was_not_refunded(refund("a")))
        .then([not_refunded(refund("a"))])
        .when(void())
        .then([refunding(undo(), DUE)]);
}

/// A refund that failed is not counted as refunded, and is tried again when somebody asks.
#[test]
fn a_failed_refund_waits_to_be_asked_for_again() {
    given(paid())
        .when(void())
        .then([refunding(undo(), DUE)])
        .when(is_unknown(Operation::Refund))
        .then([unknown(Operation::Refund)])
        .when(void())
        .then([refunding(undo(), DUE)])
        .when(was_not_refunded(undo()))
        .then([not_refunded(undo())])
        .when(was_not_refunded(undo()))
        .then([])
        // Another refund: to the provider the same one has the same outcome for ever.
        .when(void())
        .then([refunding(undo_again(1), DUE)])
        .when(void())
        .then([])
        .when(was_not_refunded(undo_again(1)))
        .then([not_refunded(undo_again(1))])
        .when(void())
        .then([refunding(undo_again(2), DUE)])
        .when(was_refunded(undo_again(2), DUE))
        .then([refunded(undo_again(2), DUE)]);
    given(with(paid(), vec![refunding(refund("a"), 1000)]))
        .when(is_unknown(Operation::Refund))
        .then([unknown(Operation::Refund)])
        .when(give_back(refund("a"), 1000))
        .then([refunding(refund("a"), 1000)])
        .when(is_unknown(Operation::Refund))
        .then([unknown(Operation::Refund)])
        .when(void())
        .then([voiding(1, None), refunding(refund("a"), 1000)])
        .when(void())
        .then([])
        .when(was_not_refunded(refund("a")))
        .then([not_refunded(refund("a"))])
        .when(give_back(refund("a"), 1000))
        .then([])
        // A late success of what had failed.
        .when(was_refunded(refund("a"), 1000))
        .then([refunded(refund("a"), 1000), refunding(undo(), 2000)]);
}

#[test]
fn the_rest_goes_back_where_the_undoing_refund_was_a_part() {
    let rest = undo_again(1);
    given(paid())
        .when(give_back(undo(), 1000))
        .then([refunding(undo(), 1000)])
        .when(was_refunded(undo(), 1000))
        .then([refunded(undo(), 1000), refunding(rest, 2000)]);
    given(with(paid(), vec![refunded(undo(), 1000)]))
        .when(void())
        .then([refunding(rest, 2000)])
        .when(void())
        .then([]);
}

/// Race R9: the webhook is faster than the answer of the call.
#[test]
fn a_notice_before_the_answer_tells_it_and_the_answer_nothing_more() {
    given([created(), asked(1)])
        .when(notice("n1", "pi_1", ProviderStatus::RequiresCapture))
        .then([notified("n1", "pi_1")])
        .when(stands("pi_1", ProviderStatus::RequiresCapture, 0))
        .then([authorised(1, "pi_1")])
        .when(was_authorised(1, "pi_1"))
        .then([])
        .when(notice("n2", "pi_1", ProviderStatus::RequiresCapture))
        .then([]);
}

#[test]
fn money_taken_under_another_id_goes_back_there() {
    let other = || text("pi_2");
    given(with(held(), vec![voiding(1, Some("pi_1")), voided(false)]))
        .when(stands("pi_2", ProviderStatus::Succeeded, DUE))
        .then([
            authorised(1, "pi_2"),
            captured(DUE),
            late(DUE),
            Event::RefundRequested {
                order: order(),
                refund: undo(),
                amount: euro(DUE),
                provider_ref: other(),
            },
        ])
        .when(stands("pi_2", ProviderStatus::Succeeded, DUE))
        .then([]);
}

/// The customer confirms the declined intent while another authorisation runs: what is held
/// first counts, what is held twice is let go.
#[test]
fn money_held_twice_is_let_go_once() {
    let adopted = || {
        given([created(), asked(1), declined(1, Some("pi_1")), asked(2)])
            .when(stands("pi_1", ProviderStatus::RequiresCapture, 0))
            .then([authorised(2, "pi_1")])
    };
    adopted()
        .when(was_authorised(2, "pi_2"))
        .then([voiding(2, Some("pi_2"))])
        .when(was_authorised(2, "pi_2"))
        .then([])
        // The answer to that is not taken for an answer about the money that is wanted.
        .when(Command::RecordVoided)
        .then([])
        .when(capture(DUE))
        .then([Event::CaptureRequested {
            order: order(),
            op: 2,
            attempt: 1,
            amount: euro(DUE),
            provider_ref: text("pi_1"),
        }]);
    // Taken by hand: a person has to look.
    adopted()
        .when(stands("pi_2", ProviderStatus::Succeeded, 700))
        .then([voiding(2, Some("pi_2")), late(700)])
        .when(stands("pi_2", ProviderStatus::Succeeded, 700))
        .then([]);
}

#[test]
fn what_the_provider_took_beyond_our_knowledge_had_been_held() {
    let more = |cents| Event::Authorised {
        order: order(),
        op: 1,
        amount: euro(cents),
        provider_ref: text("pi_1"),
        until: at(7),
    };
    given(with(held(), vec![capturing(DUE)]))
        .when(was_captured(3500))
        .then([more(3500), captured(3500)])
        .when(stands("pi_1", ProviderStatus::Succeeded, 4000))
        .then([more(4000), captured(500)])
        .when(stands("pi_1", ProviderStatus::Succeeded, 4000))
        .then([]);
}

#[test]
fn a_refund_made_behind_our_back_is_booked_as_far_as_there_was_money() {
    given(paid())
        .when(was_refunded(refund("x"), DUE + 1))
        .then([])
        .when(was_refunded(refund("x"), 1000))
        .then([refunded(refund("x"), 1000)])
        .when(give_back(refund("b"), 2001))
        .then_refused(Refusal::RefundExceedsCaptured { left: euro(2000) });
    // An answer about another amount than was asked for, and more than there is.
    given(with(paid(), vec![refunding(refund("a"), 1000)]))
        .when(was_refunded(refund("a"), DUE + 1))
        .then([refunded(refund("a"), 1000)]);
}

#[test]
fn a_hold_that_the_provider_closed_ends_the_payment() {
    given(with(held(), vec![capturing(DUE)]))
        .when(stands("pi_1", ProviderStatus::Cancelled, 0))
        .then([not_captured("voided", false), voided(false)])
        .when(capture(DUE))
        .then([]);
    let gone = Event::Declined {
        order: order(),
        op: 1,
        provider_ref: None,
        code: text("cancelled"),
        retryable: false,
    };
    given([created(), asked(1), unknown(Operation::Authorise), voiding(1, None)])
        .when(stands("pi_1", ProviderStatus::Cancelled, 0))
        .then([gone, voided(true)]);
}

#[test]
fn a_capture_that_failed_is_another_one_the_next_time() {
    let again = capturing_again(2);
    given(with(held(), vec![capturing(DUE)]))
        .when(was_not_captured())
        .then([not_captured("processing_error", true)])
        .when(Command::Retry)
        .then([Event::RetryRequested { order: order() }])
        .when(capture(DUE))
        .then([again.clone()])
        // Nobody knows: that is the same one.
        .when(is_unknown(Operation::Capture))
        .then([unknown(Operation::Capture)])
        .when(capture(DUE))
        .then([again]);
}

#[test]
fn what_could_not_be_taken_is_let_go_for_another_card() {
    given(with(held(), vec![capturing(DUE), not_captured("processing_error", false)]))
        .when(replace("pm_b"))
        .then([replaced("pm_b"), closing(1, "pi_1")])
        .when(authorise())
        .then([asked_with(2, "pm_b")])
        .when(was_authorised(2, "pi_2"))
        .then([authorised(2, "pi_2")])
        .when(capture(DUE))
        .then([Event::CaptureRequested {
            order: order(),
            op: 2,
            attempt: 2,
            amount: euro(DUE),
            provider_ref: text("pi_2"),
        }]);
}

#[test]
fn money_that_is_held_no_longer_is_asked_for_anew() {
    given(held())
        .when(stands("pi_1", ProviderStatus::Expired, 0))
        .then([expired(1, "pi_1")])
        .when(stands("pi_1", ProviderStatus::Expired, 0))
        .then([])
        .when(authorise())
        .then([asked(2)])
        .when(was_authorised(2, "pi_2"))
        .then([authorised(2, "pi_2")])
        .when(void())
        .then([voiding(2, Some("pi_2"))]);
}

#[test]
fn a_dispute_is_opened_once_and_decided_once() {
    use DisputeStatus::{Lost, Open, Won};
    let notified = Event::DisputeNotified {
        order: order(),
        notification: text("n1"),
        dispute: text("dp_1"),
        provider_ref: text("pi_1"),
    };
    given(paid())
        .when(dispute_notice("n1"))
        .then([notified])
        .when(dispute_notice("n1"))
        .then([])
        .when(dispute_stands("dp_1", Open, DUE))
        .then([disputed("dp_1", DUE)])
        .when(dispute_stands("dp_1", Open, DUE))
        .then([])
        .when(give_back(refund("a"), 1))
        .then_refused(Refusal::RefundExceedsCaptured { left: euro(0) });
    let open = || given(with(paid(), vec![disputed("dp_1", DUE)]));
    open()
        .when(dispute_stands("dp_1", Won, DUE))
        .then([dispute_won("dp_1", DUE)])
        .when(dispute_stands("dp_1", Open, DUE))
        .then([])
        .when(dispute_stands("dp_1", Lost, DUE))
        .then([])
        .when(give_back(refund("a"), DUE))
        .then([refunding(refund("a"), DUE)]);
    open()
        .when(dispute_stands("dp_1", Lost, DUE))
        .then([dispute_lost("dp_1", DUE)])
        .when(dispute_stands("dp_1", Won, DUE))
        .then([])
        .when(void())
        .then([voided(false)]);
    // Word of its end comes first, and of its beginning never.
    given(paid())
        .when(dispute_stands("dp_1", Lost, 1000))
        .then([disputed("dp_1", 1000), dispute_lost("dp_1", 1000)])
        .when(void())
        .then([refunding(undo(), DUE - 1000)]);
    // Of another currency, or of nothing.
    let nothing = dispute_stands("dp_2", Open, 0);
    given(paid()).when(nothing).then([]);
    given([]).when(dispute_stands("dp_1", Open, DUE)).then_refused(Refusal::NotFound);
}

#[test]
fn what_is_disputed_is_given_back_only_if_it_comes_back() {
    let unwanted = || given(with(paid(), vec![disputed("dp_1", DUE)])).when(void());
    unwanted()
        .then([voided(false)])
        .when(dispute_stands("dp_1", DisputeStatus::Won, DUE))
        .then([dispute_won("dp_1", DUE), refunding(undo(), DUE)]);
    // The provider refuses to give back what is disputed; asked again, it is settled.
    given(with(paid(), vec![refunding(undo(), DUE)]))
        .when(dispute_stands("dp_1", DisputeStatus::Open, DUE))
        .then([disputed("dp_1", DUE)])
        .when(was_not_refunded(undo()))
        .then([not_refunded(undo())])
        .when(void())
        .then([voided(false)]);
}
