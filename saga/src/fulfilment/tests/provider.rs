//! A payment provider's books, as far as the saga's laws go.

use std::collections::BTreeMap;

use schemas::payment::{Command, DisputeStatus, Event, Operation, ProviderStatus};
use schemas::{Currency, Link, Money, RefundId, Text};

use super::dawn;

/// The card that a customer names instead of the first.
pub(super) const OTHER_CARD: &str = "pm_card_other";

/// How the provider takes a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Card {
    Good,
    Declined,
    /// Declined, and the customer might try another one.
    Retryable,
    /// Held once the customer has confirmed the payment with their bank.
    Asks,
    /// Held, and never taken.
    CaptureFails,
    /// Held, and taken at the second try.
    CaptureFailsOnce,
    /// Taken, and never given back.
    RefundFails,
}

/// What the provider was asked and has not answered.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Authorise {
        op: u32,
        amount: Money,
        card: Card,
    },
    Capture {
        op: u32,
        amount: Money,
    },
    Void {
        op: u32,
    },
    /// Closes what an earlier authorisation left open.
    Close {
        op: u32,
    },
    /// Looks at the provider's record, since a webhook came.
    Look {
        op: u32,
    },
    Refund {
        refund: RefundId,
        amount: Money,
    },
    /// Looks at the provider's record of the dispute, since a webhook came.
    LookAtDispute,
}

/// One payment in the provider's books.
#[derive(Debug, Clone, Copy)]
struct Intent {
    card: Card,
    status: ProviderStatus,
    held: Money,
    captured: Money,
    captures_failed: u32,
}

/// All of them, of one customer.
#[derive(Debug, Clone)]
pub(super) struct Provider {
    card: Card,
    /// How the card behaves that the customer names instead.
    other: Card,
    intents: BTreeMap<u32, Intent>,
    refunds: BTreeMap<RefundId, Money>,
    /// Whether money that was taken is gone again.
    pub(super) reversed: bool,
    /// How much the customer asked their bank for, and what the bank says.
    pub(super) dispute: Option<(Money, DisputeStatus)>,
}

impl Provider {
    pub(super) fn new(card: Card, other: Card) -> Self {
        Self {
            card,
            other,
            intents: BTreeMap::new(),
            refunds: BTreeMap::new(),
            reversed: false,
            dispute: None,
        }
    }

    /// From now on the card does what is asked of it.
    pub(super) fn mend(&mut self) {
        self.card = Card::Good;
        self.intents.values_mut().for_each(|intent| intent.card = Card::Good);
    }

    /// What the adapter hears in an event and has to ask.
    pub(super) fn call(&self, event: &Event) -> Option<Call> {
        match event {
            Event::AuthorisationRequested { op, amount, method, .. } => {
                let card = if method.as_str() == OTHER_CARD { self.other } else { self.card };
                Some(Call::Authorise { op: *op, amount: *amount, card })
            }
            Event::ClosingRequested { op, .. } => Some(Call::Close { op: *op }),
            Event::CaptureRequested { op, amount, .. } => {
                Some(Call::Capture { op: *op, amount: *amount })
            }
            Event::VoidRequested { op, provider_ref: Some(_), .. } => Some(Call::Void { op: *op }),
            Event::RefundRequested { refund, amount, .. } => {
                Some(Call::Refund { refund: *refund, amount: *amount })
            }
            _ => None,
        }
    }

    /// What was taken, not given back, and not left to the bank, in minor units.
    pub(super) fn keeps(&self) -> i64 {
        let captured: i64 = self.intents.values().map(|intent| intent.captured.amount).sum();
        let refunded: i64 = self.refunds.values().map(|refund| refund.amount).sum();
        captured - refunded - self.withdrawn()
    }

    /// What the bank has, or gave to the customer.
    fn withdrawn(&self) -> i64 {
        let withdrawn = self.dispute.filter(|(_, status)| *status != DisputeStatus::Won);
        withdrawn.map_or(0, |(amount, _)| amount.amount)
    }

    /// Whether the customer may ask their bank for what was taken.
    pub(super) fn may_dispute(&self) -> bool {
        self.may_reverse().is_some() && self.dispute.is_none()
    }

    /// They do.
    pub(super) fn open_dispute(&mut self) -> Call {
        let taken = self.may_reverse().and_then(|op| self.intents.get(&op));
        self.dispute = taken.map(|intent| (intent.captured, DisputeStatus::Open));
        Call::LookAtDispute
    }

    /// Whether the bank has to decide.
    pub(super) fn may_judge(&self) -> bool {
        self.dispute.is_some_and(|(_, status)| status == DisputeStatus::Open)
    }

    /// It does.
    pub(super) fn judge(&mut self, status: DisputeStatus) -> Call {
        self.dispute = self.dispute.map(|(amount, _)| (amount, status));
        Call::LookAtDispute
    }

    /// Whether anything is held, or may still come to be.
    pub(super) fn holds(&self) -> bool {
        use ProviderStatus::{RequiresAction, RequiresCapture};
        let open = |intent: &Intent| matches!(intent.status, RequiresAction | RequiresCapture);
        self.intents.values().any(open)
    }

    /// The payment that waits for the customer.
    pub(super) fn asks(&self) -> Option<u32> {
        let mut asking = self.intents.iter().rev();
        asking
            .find(|(_, intent)| intent.status == ProviderStatus::RequiresAction)
            .map(|(op, _)| *op)
    }

    /// The customer confirms the payment with their bank, or does not.
    pub(super) fn confirm(&mut self, op: u32, confirmed: bool) -> Call {
        let intent = self.intents.get_mut(&op).unwrap();
        intent.status = if confirmed {
            ProviderStatus::RequiresCapture
        } else {
            ProviderStatus::RequiresMethod
        };
        Call::Look { op }
    }

    /// The payment whose money is held, and may be no longer.
    pub(super) fn may_expire(&self) -> Option<u32> {
        let mut held = self.intents.iter();
        let held = held.find(|(_, intent)| intent.status == ProviderStatus::RequiresCapture);
        held.map(|(op, _)| *op)
    }

    /// Nobody took it in time.
    pub(super) fn expire(&mut self, op: u32) -> Call {
        self.intents.get_mut(&op).unwrap().status = ProviderStatus::Expired;
        Call::Look { op }
    }

    /// The payment whose money may be gone again.
    pub(super) fn may_reverse(&self) -> Option<u32> {
        let mut taken = self.intents.iter();
        let taken = taken.find(|(_, intent)| intent.status == ProviderStatus::Succeeded);
        taken.filter(|_| self.refunds.is_empty()).map(|(op, _)| *op)
    }

    /// The bank takes back what it gave.
    pub(super) fn reverse(&mut self, op: u32) -> Call {
        self.reversed = true;
        let intent = self.intents.get_mut(&op).unwrap();
        intent.status = ProviderStatus::RequiresMethod;
        intent.captured = Money::zero(intent.captured.currency);
        Call::Look { op }
    }

    /// Does what was asked, once, and says what the adapter records.
    pub(super) fn answer(&mut self, call: &Call) -> Option<Command> {
        Some(match call {
            Call::Authorise { op, amount, card } => self.authorise(*op, *amount, *card),
            Call::Capture { op, amount } => self.capture(*op, *amount),
            Call::Void { op } => self.void(*op),
            Call::Close { op } => {
                return Some(self.void(*op)).filter(|command| *command != Command::RecordVoided);
            }
            Call::Look { op } => self.state(*op),
            Call::LookAtDispute => {
                let (amount, status) = self.dispute?;
                let (dispute, reason) = (Text::literal("dp_1"), Text::literal("fraudulent"));
                Command::RecordDispute { dispute, status, amount, reason, evidence_due: None }
            }
            Call::Refund { refund, .. }
                if self.card == Card::RefundFails || self.reversed || self.withdrawn() > 0 =>
            {
                Command::RecordRefundFailed { refund: *refund, code: Text::literal("lost_card") }
            }
            Call::Refund { refund, amount } => {
                self.refunds.insert(*refund, *amount);
                Command::RecordRefunded { refund: *refund, amount: *amount }
            }
        })
    }

    /// What the adapter records where it got no answer; none where it goes on asking.
    pub(super) fn unknown(call: &Call) -> Option<Command> {
        let (op, operation) = match call {
            Call::Close { .. } | Call::Look { .. } | Call::LookAtDispute => return None,
            Call::Authorise { op, .. } => (*op, Operation::Authorise),
            Call::Capture { op, .. } => (*op, Operation::Capture),
            Call::Void { op } => (*op, Operation::Void),
            Call::Refund { .. } => (1, Operation::Refund),
        };
        Some(Command::RecordUnknown { op, operation })
    }

    /// What a webhook may be about: the oldest payment, and the latest.
    pub(super) fn known(&self) -> Option<[u32; 2]> {
        Some([*self.intents.first_key_value()?.0, *self.intents.last_key_value()?.0])
    }

    /// What the adapter records when a webhook made it look.
    pub(super) fn state(&self, op: u32) -> Command {
        let intent = &self.intents[&op];
        Command::RecordProviderState {
            provider_ref: reference(op),
            status: intent.status,
            authorised: intent.held,
            captured: intent.captured,
            until: dawn(),
            url: Some(bank()),
            decline: None,
        }
    }

    fn authorise(&mut self, op: u32, amount: Money, card: Card) -> Command {
        let declined = matches!(card, Card::Declined | Card::Retryable);
        let fresh = Intent {
            card,
            status: match card {
                Card::Declined | Card::Retryable => ProviderStatus::RequiresMethod,
                Card::Asks => ProviderStatus::RequiresAction,
                _ => ProviderStatus::RequiresCapture,
            },
            held: amount,
            captured: Money::zero(amount.currency),
            captures_failed: 0,
        };
        // Asked before under the same key: the same answer.
        self.intents.entry(op).or_insert(fresh);
        if declined {
            let (code, retryable) = (Text::literal("card_declined"), card == Card::Retryable);
            return Command::RecordDeclined {
                op,
                provider_ref: Some(reference(op)),
                code,
                retryable,
            };
        }
        if card == Card::Asks {
            return Command::RecordActionRequired { op, provider_ref: reference(op), url: bank() };
        }
        Command::RecordAuthorised { op, provider_ref: reference(op), amount, until: dawn() }
    }

    fn capture(&mut self, op: u32, amount: Money) -> Command {
        let intent = self.intents.get_mut(&op).unwrap();
        let card = intent.card;
        let failed =
            |code, retryable| Command::RecordCaptureFailed { code: Text::literal(code), retryable };
        match (intent.status, card) {
            (ProviderStatus::Succeeded, _) => Command::RecordCaptured { amount: intent.captured },
            (ProviderStatus::Expired, _) => self.state(op),
            (ProviderStatus::RequiresCapture, Card::CaptureFails) => failed("expired", false),
            (ProviderStatus::RequiresCapture, Card::CaptureFailsOnce)
                if intent.captures_failed == 0 =>
            {
                intent.captures_failed = 1;
                failed("try_again", true)
            }
            (ProviderStatus::RequiresCapture, _) => {
                intent.status = ProviderStatus::Succeeded;
                intent.captured = amount;
                Command::RecordCaptured { amount }
            }
            _ => failed("cancelled", false),
        }
    }

    fn void(&mut self, op: u32) -> Command {
        let intent = self.intents.get_mut(&op).unwrap();
        if intent.status == ProviderStatus::Succeeded {
            // Too late to let go: this is how it stands.
            return self.state(op);
        }
        intent.status = ProviderStatus::Cancelled;
        Command::RecordVoided
    }
}

fn bank() -> Link {
    "https://bank.example/confirm".parse().unwrap()
}

fn reference(op: u32) -> Text {
    format!("pi_{op}").parse().unwrap()
}

/// So many cents.
pub(super) fn euro(cents: i64) -> Money {
    Money::new(cents, Currency::EUR)
}
