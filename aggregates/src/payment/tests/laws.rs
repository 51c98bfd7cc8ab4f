//! What holds for every payment, whatever is asked of it and whatever the provider says.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::given::{check_snapshots, live};

fn any_ref() -> impl Strategy<Value = Text> {
    prop::sample::select(&["pi_1", "pi_1", "pi_1", "pi_2", "pi_3"][..]).prop_map(text)
}

fn any_refund() -> impl Strategy<Value = RefundId> {
    prop_oneof![3 => Just(undo()), 2 => Just(refund("a")), 1 => Just(refund("b"))]
}

fn any_money() -> impl Strategy<Value = Money> {
    prop_oneof![
        8 => prop::sample::select(&[1, 500, 1000, DUE - 1, DUE, DUE + 1][..]).prop_map(euro),
        1 => prop::sample::select(&[0, -1, i64::MIN, i64::MAX][..]).prop_map(euro),
        1 => Just(dollar(DUE)),
    ]
}

fn any_code() -> impl Strategy<Value = Text> {
    prop::sample::select(&["card_declined", "voided"][..]).prop_map(text)
}

fn any_status() -> impl Strategy<Value = ProviderStatus> {
    use ProviderStatus::{
        Cancelled, Expired, Processing, RequiresAction, RequiresCapture, RequiresMethod, Succeeded,
    };
    prop::sample::select(vec![
        Cancelled,
        Expired,
        Processing,
        RequiresAction,
        RequiresCapture,
        RequiresMethod,
        Succeeded,
    ])
}

fn any_dispute() -> impl Strategy<Value = Command> {
    use DisputeStatus::{Lost, Open, Won};
    let id = prop::sample::select(&["dp_1", "dp_2"][..]).prop_map(text);
    let status = prop::sample::select(&[Open, Won, Lost][..]);
    (id, status, any_money()).prop_map(|(dispute, status, amount)| {
        let reason = text("fraudulent");
        Command::RecordDispute { dispute, status, amount, reason, evidence_due: None }
    })
}

fn any_operation() -> impl Strategy<Value = Operation> {
    use Operation::{Authorise, Capture, Refund, Void};
    prop::sample::select(vec![Authorise, Capture, Void, Refund])
}

/// What is asked of us.
fn any_wish() -> impl Strategy<Value = Command> {
    let order = order();
    let method = || text("pm_card_visa");
    prop_oneof![
        1 => any_money().prop_map(move |amount| {
            Command::Create { order, amount, method: method() }
        }),
        6 => any_money().prop_map(move |amount| {
            Command::Authorise { order, amount, method: method() }
        }),
        3 => prop::sample::select(&["pm_card_visa", "pm_b"][..]).prop_map(replace),
        1 => Just(Command::Retry),
        5 => any_money().prop_map(|amount| Command::Capture { amount }),
        2 => Just(void()),
        4 => (any_refund(), any_money())
            .prop_map(|(refund, amount)| Command::Refund { refund, amount }),
    ]
}

/// What the provider says, sensible or not.
fn any_answer() -> impl Strategy<Value = Command> {
    let state = (any_ref(), any_status(), any_money(), any_money());
    prop_oneof![
        6 => (0_u32..4, any_ref(), any_money()).prop_map(|(op, provider_ref, amount)| {
            Command::RecordAuthorised { op, provider_ref, amount, until: at(7) }
        }),
        4 => (0_u32..4, prop::option::of(any_ref()), any_code(), any::<bool>()).prop_map(
            |(op, provider_ref, code, retryable)| {
                Command::RecordDeclined { op, provider_ref, code, retryable }
            }
        ),
        3 => (0_u32..4, any_ref()).prop_map(|(op, provider_ref)| {
            Command::RecordActionRequired { op, provider_ref, url: bank() }
        }),
        2 => (0_u32..4, any_operation())
            .prop_map(|(op, operation)| Command::RecordUnknown { op, operation }),
        5 => any_money().prop_map(|amount| Command::RecordCaptured { amount }),
        2 => (any_code(), any::<bool>())
            .prop_map(|(code, retryable)| Command::RecordCaptureFailed { code, retryable }),
        2 => Just(Command::RecordVoided),
        4 => (any_refund(), any_money())
            .prop_map(|(refund, amount)| Command::RecordRefunded { refund, amount }),
        2 => (any_refund(), any_code())
            .prop_map(|(refund, code)| Command::RecordRefundFailed { refund, code }),
        1 => any_dispute(),
        2 => (0_u8..4, any_ref(), any_status()).prop_map(|(n, provider_ref, status)| {
            let notification = text(&format!("n{n}"));
            Command::RecordNotification { notification, provider_ref, status }
        }),
        4 => state.prop_map(|(provider_ref, status, authorised, captured)| {
            Command::RecordProviderState {
                provider_ref,
                status,
                authorised,
                captured,
                until: at(7),
                url: Some(bank()),
                decline: None,
            }
        }),
    ]
}

fn any_life() -> impl Strategy<Value = Vec<Command>> {
    prop::collection::vec(prop_oneof![any_wish(), any_answer()], 0..40)
}

/// The books as the history alone tells them, in one currency.
#[derive(Default)]
struct Books {
    authorised: Option<Money>,
    captured: Option<Money>,
    refunds: BTreeMap<RefundId, (Money, bool)>,
    lost: Vec<Money>,
    open: BTreeSet<&'static str>,
}

impl Books {
    /// Books the event, and checks what must hold after each.
    fn book(&mut self, event: &Event) {
        let enter = |open: &mut BTreeSet<_>, kind| {
            open.insert(kind);
        };
        match event {
            Event::AuthorisationRequested { .. } => enter(&mut self.open, "authorise"),
            Event::Authorised { amount, .. } => self.authorised = Some(*amount),
            Event::CaptureRequested { amount, .. } => {
                assert!(amount.amount > 0 && fits(*amount, self.authorised), "{event:?}");
                enter(&mut self.open, "capture");
            }
            Event::Captured { amount, .. } => {
                let captured = self.captured.map_or(*amount, |before| {
                    before.plus(*amount).expect("captures of one payment share a currency")
                });
                assert!(fits(captured, self.authorised), "captured beyond what was authorised");
                self.captured = Some(captured);
            }
            Event::CaptureReversed { amount, .. } => self.lost.push(*amount),
            Event::RefundRequested { refund, amount, .. } => {
                let pending = |(id, (_, done)): (&RefundId, &(Money, bool))| !done && id != refund;
                assert!(!self.refunds.iter().any(pending), "two refunds on their way");
                self.refunds.insert(*refund, (*amount, false));
            }
            Event::Refunded { refund, amount, .. } => {
                let before = self.refunds.insert(*refund, (*amount, true));
                assert!(before.is_none_or(|(_, done)| !done), "refunded twice");
            }
            Event::RefundFailed { refund, .. } => {
                assert!(self.refunds.remove(refund).is_some(), "a failure of nothing");
            }
            _ => {}
        }
        if let Some(captured) = self.captured {
            let refunds = self.refunds.values().map(|(amount, _)| amount);
            let gone = refunds.chain(&self.lost);
            let left = gone.fold(captured, |left, amount| left.minus(*amount).unwrap());
            assert!(left.amount >= 0, "refunded beyond what was captured");
        } else {
            assert!(self.refunds.is_empty(), "refunded what was never captured");
        }
    }
}

fn fits(amount: Money, limit: Option<Money>) -> bool {
    limit.is_some_and(|limit| limit.minus(amount).is_ok_and(|rest| rest.amount >= 0))
}

proptest! {
    #[test]
    fn any_life_keeps_the_books(commands in any_life()) {
        let mut books = Books::default();
        let mut booked = 0;
        live::<Payment>(&commands, |_| true, |_, history| {
            for event in &history[booked..] {
                books.book(event);
            }
            booked = history.len();
        });
    }

    /// The number of an authorisation only grows, and only after a definite no.
    #[test]
    fn authorisations_are_numbered_in_order(commands in any_life()) {
        let history = live::<Payment>(&commands, |_| true, |_, _| {});
        let (mut last, mut open) = (0, false);
        for event in &history {
            match event {
                Event::AuthorisationRequested { op, .. } => {
                    prop_assert!(*op == last + u32::from(!open), "{history:?}");
                    (last, open) = (*op, true);
                }
                Event::Authorised { op, .. } => {
                    prop_assert!(*op >= last);
                    (last, open) = (*op, false);
                }
                Event::Declined { .. } | Event::MethodReplaced { .. } => open = false,
                _ => {}
            }
        }
    }

    /// What was told to close is not this payment's hold any more, unless money was taken.
    #[test]
    fn what_was_given_up_does_not_come_back(commands in any_life()) {
        let history = live::<Payment>(&commands, |_| true, |_, _| {});
        let mut closed = BTreeSet::new();
        for (at, event) in history.iter().enumerate() {
            match event {
                Event::ClosingRequested { provider_ref, .. } => {
                    closed.insert(provider_ref);
                }
                Event::Authorised { provider_ref, .. } if closed.contains(provider_ref) => {
                    let taken = matches!(history.get(at + 1), Some(Event::Captured { .. }));
                    prop_assert!(taken, "{history:?}");
                }
                Event::ActionRequired { provider_ref, .. } => {
                    prop_assert!(!closed.contains(provider_ref), "{history:?}");
                }
                _ => {}
            }
        }
    }

    /// Once nothing is wanted, nothing is asked for any more, and when the provider has answered
    /// what is open, nothing is held and nothing is kept.
    #[test]
    fn an_unwanted_payment_gives_everything_back(commands in any_life()) {
        let mut state = Payment::default();
        let take = |state: Payment, command: &Command| {
            let events = state.decide(command).unwrap_or_default();
            (events.iter().fold(state, Payment::evolve), events)
        };
        for command in commands.iter().chain([&void()]) {
            let unwanted = state.unwanted;
            let adrift = state.is_unknown(Operation::Authorise)
                || state.is_unknown(Operation::Capture);
            let (after, events) = take(state, command);
            let wants = |event: &Event| matches!(
                event,
                Event::AuthorisationRequested { .. } | Event::CaptureRequested { .. }
            );
            prop_assert!(!unwanted || adrift || !events.iter().any(wants), "{events:?}");
            state = after;
        }
        // The provider answers, as often as it is asked.
        for _ in 0..8 {
            let op = state.op;
            let answers = [
                Command::RecordDeclined {
                    op,
                    provider_ref: None,
                    code: text("card_declined"),
                    retryable: false,
                },
                was_not_captured(),
                Command::RecordVoided,
            ];
            for answer in &answers {
                state = take(state, answer).0;
            }
            if let Some((refund, Refund { amount, .. })) = state.pending_refund() {
                state = take(state, &Command::RecordRefunded { refund, amount }).0;
            }
            state = take(state, &void()).0;
        }
        prop_assert!(state.unwanted);
        let kept = state.left(None).map_or(0, |left| left.amount);
        // A bank may take what has gone back already.
        let disputed = state.withdrawn().next().is_some();
        prop_assert!(kept == 0 || (disputed && kept < 0), "{:?}", state);
        let holds = state.captured.is_none() && state.hold != Hold::Closed;
        prop_assert!(!holds, "{:?}", state);
    }

    #[test]
    fn a_snapshot_at_any_cut_folds_on_to_the_same(commands in any_life()) {
        check_snapshots::<Payment>(&live::<Payment>(&commands, |_| true, |_, _| {}));
    }
}
