//! A payment provider's books, as far as the saga's laws go.

use std::collections::BTreeMap;

use schemas::payment::{Command, Event, Operation, ProviderStatus};
use schemas::{Currency, Money, RefundId, Text};

use super::dawn;

/// How the provider takes a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Card {
    Good,
    Declined,
    /// Declined, and the customer might try another one.
    Retryable,
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
    Authorise { op: u32, amount: Money },
    Capture { op: u32, amount: Money },
    Void { op: u32 },
    Refund { refund: RefundId, amount: Money },
}

/// One payment in the provider's books.
#[derive(Debug, Clone, Copy)]
struct Intent {
    status: ProviderStatus,
    held: Money,
    captured: Money,
    captures_failed: u32,
}

/// All of them, of one customer.
#[derive(Debug, Clone)]
pub(super) struct Provider {
    pub(super) card: Card,
    intents: BTreeMap<u32, Intent>,
    refunds: BTreeMap<RefundId, Money>,
}

impl Provider {
    pub(super) fn new(card: Card) -> Self {
        Self { card, intents: BTreeMap::new(), refunds: BTreeMap::new() }
    }

    /// What the adapter hears in an event and has to ask.
    pub(super) fn call(event: &Event) -> Option<Call> {
        match event {
            Event::AuthorisationRequested { op, amount, .. } => {
                Some(Call::Authorise { op: *op, amount: *amount })
            }
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

    /// What was taken and not given back, in minor units.
    pub(super) fn keeps(&self) -> i64 {
        let captured: i64 = self.intents.values().map(|intent| intent.captured.amount).sum();
        captured - self.refunds.values().map(|refund| refund.amount).sum::<i64>()
    }

    /// Whether anything is held.
    pub(super) fn holds(&self) -> bool {
        self.intents.values().any(|intent| intent.status == ProviderStatus::RequiresCapture)
    }

    /// Does what was asked, once, and says what the adapter records.
    pub(super) fn answer(&mut self, call: &Call) -> Command {
        match call {
            Call::Authorise { op, amount } => self.authorise(*op, *amount),
            Call::Capture { op, amount } => self.capture(*op, *amount),
            Call::Void { op } => self.void(*op),
            Call::Refund { refund, amount } if self.card == Card::RefundFails => {
                let _ = amount;
                Command::RecordRefundFailed { refund: *refund, code: Text::literal("lost_card") }
            }
            Call::Refund { refund, amount } => {
                self.refunds.insert(*refund, *amount);
                Command::RecordRefunded { refund: *refund, amount: *amount }
            }
        }
    }

    /// What the adapter records where it got no answer.
    pub(super) fn unknown(call: &Call) -> Command {
        let (op, operation) = match call {
            Call::Authorise { op, .. } => (*op, Operation::Authorise),
            Call::Capture { op, .. } => (*op, Operation::Capture),
            Call::Void { op } => (*op, Operation::Void),
            Call::Refund { .. } => (1, Operation::Refund),
        };
        Command::RecordUnknown { op, operation }
    }

    /// What the adapter records when a webhook made it look.
    pub(super) fn state(&self) -> Option<Command> {
        let (op, intent) = self.intents.last_key_value()?;
        Some(Command::RecordProviderState {
            provider_ref: reference(*op),
            status: intent.status,
            authorised: intent.held,
            captured: intent.captured,
            until: dawn(),
        })
    }

    fn authorise(&mut self, op: u32, amount: Money) -> Command {
        let declined = matches!(self.card, Card::Declined | Card::Retryable);
        let fresh = Intent {
            status: if declined {
                ProviderStatus::RequiresMethod
            } else {
                ProviderStatus::RequiresCapture
            },
            held: amount,
            captured: Money::zero(amount.currency),
            captures_failed: 0,
        };
        // Asked before under the same key: the same answer.
        self.intents.entry(op).or_insert(fresh);
        if declined {
            let (code, retryable) = (Text::literal("card_declined"), self.card == Card::Retryable);
            return Command::RecordDeclined {
                op,
                provider_ref: Some(reference(op)),
                code,
                retryable,
            };
        }
        Command::RecordAuthorised { op, provider_ref: reference(op), amount, until: dawn() }
    }

    fn capture(&mut self, op: u32, amount: Money) -> Command {
        let card = self.card;
        let intent = self.intents.get_mut(&op).unwrap();
        let failed =
            |code, retryable| Command::RecordCaptureFailed { code: Text::literal(code), retryable };
        match (intent.status, card) {
            (ProviderStatus::Succeeded, _) => Command::RecordCaptured { amount: intent.captured },
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
            return self.state().unwrap();
        }
        intent.status = ProviderStatus::Cancelled;
        Command::RecordVoided
    }
}

fn reference(op: u32) -> Text {
    format!("pi_{op}").parse().unwrap()
}

/// So many cents.
pub(super) fn euro(cents: i64) -> Money {
    Money::new(cents, Currency::EUR)
}
