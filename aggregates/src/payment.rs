//! Payments: a ledger of what was asked of the provider and what became of it.
//!
//! ```text
//!               ┌──────── op + 1 ────────┐
//! Idle ─▶ Requested ─▶ Declined ─────────┘      Held ─void─▶ Closed
//!            │ │          ▲
//!            │ └▶ Action ─┤ another card, or no
//!            │       ▼
//!            └─────▶ Held ─capture─▶ captured ─refund─▶ refunded
//! ```
//!
//! Every question is written down before it is asked (`…Requested`), so every answer finds its
//! question. At most one question of a kind is open. An authorisation is numbered (`op`), and the
//! number grows only after a definite no: the same question asked again is the same to the
//! provider. Where nobody knows the outcome, asking again repeats the question, not the money.
//!
//! **Another card.** Where the customer has something to do, or their card was declined and another
//! one may not be, or what is held could not be taken, they may name another. What the last authorisation left open at the provider is
//! closed first, and whatever still comes of it is let go: it is nobody's payment any more.
//!
//! **A hold that ends.** The provider holds money for some days only. When it lets go by itself,
//! that is no void: the payment is still wanted, and another authorisation may be asked for.
//!
//! **Nothing wanted.** A void sets a mark that is never taken off, in every state, also before
//! anything was asked. From then on whatever the answers bring is given back: `Payment::unwind`
//! says what is still to be done, after every command. So money that arrives late goes back by
//! itself, whichever way it arrives.
//!
//! **Answers from outside are never refused** (except of a payment that nobody opened): they are
//! recorded where they say something new, and change nothing where they do not.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use schemas::payment::{Command, Event, Operation};
use schemas::{Decider, Money, OrderId, RefundId, Text, Timestamp};
use serde::{Deserialize, Serialize};

use dispute::Dispute;

mod answer;
mod ask;
mod dispute;
#[cfg(test)]
mod tests;

/// What was asked of the provider for one order, and what it answered.
#[expect(clippy::struct_excessive_bools, reason = "wishes and questions apart from each other")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Payment {
    /// For which order; none: nobody has heard of this payment.
    order: Option<OrderId>,
    /// Nothing is wanted any more: whatever is held or taken goes back.
    unwanted: bool,
    /// The last authorisation; 0: none was asked for.
    op: u32,
    /// What that authorisation asked for.
    asked: Option<(Money, Text)>,
    /// The means that they named, until it is asked for.
    replacement: Option<Text>,
    hold: Hold,
    capture: Capture,
    /// How often the provider said no to a capture.
    captures_failed: u32,
    /// Whether somebody wants it tried again, and it has not been yet.
    retrying: bool,
    /// Whether the provider has been told to let go and has not answered.
    voiding: bool,
    /// The provider's id of the payment, as far as the current authorisation has one.
    provider_ref: Option<Text>,
    /// What the provider holds or held, and until when.
    authorised: Option<(Money, Timestamp)>,
    captured: Option<Money>,
    /// What of it is gone again, without our giving it back.
    reversed: Option<Money>,
    refunds: BTreeMap<RefundId, Refund>,
    /// What the customer asked their bank for, by the provider's ids.
    disputes: BTreeMap<Text, Dispute>,
    /// Open questions of which nobody knows what became.
    unknown: Vec<Operation>,
    /// Whether an authorisation that came after the void has been turned away.
    refused: bool,
    /// The provider's ids that earlier, declined authorisations left behind.
    abandoned: BTreeSet<Text>,
    /// The provider's ids that held money a second time, or might have come to, and were told to
    /// let go.
    strays: BTreeSet<Text>,
    notifications: BTreeSet<Text>,
}

/// How the authorisation stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Hold {
    /// Not asked for.
    #[default]
    Idle,
    Requested,
    /// The customer has something to do first.
    Action,
    Held,
    Declined {
        /// Whether the customer may name another means of payment.
        mendable: bool,
    },
    /// The provider let go, or there was never anything to let go of.
    Closed,
}

/// How the capture stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Capture {
    #[default]
    Idle,
    Requested(Money),
    /// With the code that was given.
    Failed(Text),
    Done,
}

/// A refund and how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Refund {
    amount: Money,
    status: RefundStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum RefundStatus {
    Pending,
    Succeeded,
    Failed,
}

/// Why a payment does not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody opened it.
    #[error("there is no such payment")]
    NotFound,
    /// Nothing, or less, is to be moved.
    #[error("the amount must be more than nothing")]
    InvalidAmount,
    /// The payment is in another currency.
    #[error("the payment is in another currency")]
    CurrencyMismatch,
    /// More is to go back than was taken and has not gone back yet.
    #[error("only {left} can still be refunded")]
    RefundExceedsCaptured {
        /// What can still be given back.
        left: Money,
    },
    /// Nothing was taken.
    #[error("nothing was captured that could be refunded")]
    NothingCaptured,
    /// Another refund is on its way.
    #[error("another refund is on its way")]
    RefundPending,
    /// Nothing failed, or it is settled or given up.
    #[error("nothing has failed that could be tried again")]
    RetryNotWanted,
    /// The payment is under way, settled or given up.
    #[error("no other means of payment is wanted now")]
    MethodNotWanted,
}

impl schemas::Refusal for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::InvalidAmount => "invalid_amount",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::RefundExceedsCaptured { .. } | Self::NothingCaptured => "refund_exceeds_captured",
            Self::RefundPending => "refund_pending",
            Self::RetryNotWanted => "retry_not_wanted",
            Self::MethodNotWanted => "method_not_wanted",
        }
    }
}

impl Decider for Payment {
    const NAME: &'static str = "payment";
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        let mut events = match self.order {
            Some(order) => self.ask(order, command)?,
            None => ask::open(command)?,
        };
        // Whatever happened: an unwanted payment gives back what it has come to hold by it.
        let after = events.iter().fold(self.clone(), Self::evolve);
        if after.unwanted && !events.is_empty() {
            events.extend(after.unwind());
        }
        Ok(events)
    }

    fn evolve(mut self, event: &Event) -> Self {
        self.order = self.order.or_else(|| Some(event.order()));
        match event {
            Event::AuthorisationRequested { .. }
            | Event::ActionRequired { .. }
            | Event::MethodReplaced { .. }
            | Event::ClosingRequested { .. }
            | Event::Authorised { .. }
            | Event::AuthorisationExpired { .. }
            | Event::Declined { .. } => self.hold_moves(event),
            Event::OutcomeUnknown { operation, .. } => self.unknown.push(*operation),
            Event::CaptureRequested { amount, .. } => {
                self.retrying = false;
                self.capture = Capture::Requested(*amount);
                self.known(Operation::Capture);
            }
            Event::Captured { amount, .. } => {
                self.capture = Capture::Done;
                self.voiding = false;
                self.captured = Some(match self.captured {
                    Some(captured) => captured.plus(*amount).unwrap_or(captured),
                    None => *amount,
                });
                self.known(Operation::Capture);
                self.known(Operation::Void);
            }
            Event::CaptureReversed { amount, .. } => {
                self.reversed = Some(match self.reversed {
                    Some(reversed) => reversed.plus(*amount).unwrap_or(reversed),
                    None => *amount,
                });
            }
            Event::CaptureFailed { code, .. } => {
                let asked = matches!(self.capture, Capture::Requested(_));
                self.captures_failed = self.captures_failed.saturating_add(asked.into());
                self.capture = Capture::Failed(code.clone());
                self.known(Operation::Capture);
            }
            Event::VoidRequested { provider_ref, .. } => self.void_requested(provider_ref.as_ref()),
            Event::Voided { .. } => {
                self.unwanted = true;
                self.voiding = false;
                self.hold = Hold::Closed;
                self.known(Operation::Void);
            }
            Event::RefundRequested { order, refund, amount, .. } => {
                self.unwanted |= *refund == self.undoing_refund(*order);
                self.set_refund(*refund, *amount, RefundStatus::Pending);
            }
            Event::Refunded { refund, amount, .. } => {
                self.set_refund(*refund, *amount, RefundStatus::Succeeded);
            }
            Event::RefundFailed { refund, .. } => {
                if let Some(refund) = self.refunds.get_mut(refund) {
                    refund.status = RefundStatus::Failed;
                }
                self.known(Operation::Refund);
            }
            Event::DisputeOpened { .. } | Event::DisputeWon { .. } | Event::DisputeLost { .. } => {
                self.dispute_moves(event);
            }
            Event::ProviderNotified { notification, .. }
            | Event::DisputeNotified { notification, .. } => {
                self.notifications.insert(notification.clone());
            }
            Event::RetryRequested { .. } => self.retrying = true,
            Event::Created { .. } | Event::LateMoneyDetected { .. } => {}
        }
        self
    }
}

/// What the ledger says.
impl Payment {
    /// What `event` says of the authorisation.
    fn hold_moves(&mut self, event: &Event) {
        match event {
            Event::AuthorisationRequested { op, amount, method, .. } => {
                self.abandoned.extend(self.provider_ref.take());
                self.op = *op;
                self.asked = Some((*amount, method.clone()));
                self.replacement = None;
                self.retrying = false;
                self.hold = Hold::Requested;
                if matches!(self.capture, Capture::Failed(_)) {
                    self.capture = Capture::Idle;
                }
                self.known(Operation::Authorise);
            }
            Event::ActionRequired { provider_ref, .. } => {
                self.hold = Hold::Action;
                self.provider_ref = Some(provider_ref.clone());
                self.known(Operation::Authorise);
            }
            Event::MethodReplaced { method, .. } => {
                self.hold = Hold::Declined { mendable: true };
                self.replacement = Some(method.clone());
            }
            Event::ClosingRequested { provider_ref, .. } => {
                self.abandoned.extend(self.provider_ref.take());
                self.strays.insert(provider_ref.clone());
            }
            Event::Authorised { op, amount, provider_ref, until, .. } => {
                self.op = *op;
                self.hold = Hold::Held;
                self.provider_ref = Some(provider_ref.clone());
                self.authorised = Some((*amount, *until));
                self.known(Operation::Authorise);
            }
            Event::AuthorisationExpired { .. } => {
                self.hold = Hold::Declined { mendable: true };
                self.abandoned.extend(self.provider_ref.take());
            }
            Event::Declined { provider_ref, retryable, .. }
                if matches!(self.hold, Hold::Requested | Hold::Action) =>
            {
                self.hold = Hold::Declined { mendable: *retryable };
                if provider_ref.is_some() {
                    self.provider_ref.clone_from(provider_ref);
                }
                self.known(Operation::Authorise);
            }
            // Nobody was asked: it came after the void.
            Event::Declined { .. } => self.refused = true,
            _ => {}
        }
    }

    /// What was taken, is neither lost nor with the bank, and has neither gone back nor is on its
    /// way back, leaving `except` out of account; none: nothing was taken. Less than nothing where
    /// a bank took what had gone back already.
    fn left(&self, except: Option<RefundId>) -> Option<Money> {
        let gone = |(id, refund): &(&RefundId, &Refund)| {
            Some(**id) != except && refund.status != RefundStatus::Failed
        };
        let refunds = self.refunds.iter().filter(gone).map(|(_, refund)| refund.amount);
        let gone = refunds.chain(self.reversed).chain(self.withdrawn());
        self.captured
            .map(|captured| gone.fold(captured, |left, amount| left.minus(amount).unwrap_or(left)))
    }

    fn pending_refund(&self) -> Option<(RefundId, Refund)> {
        let mut refunds = self.refunds.iter().map(|(id, refund)| (*id, *refund));
        refunds.find(|(_, refund)| refund.status == RefundStatus::Pending)
    }

    fn has_failed_refund(&self) -> bool {
        self.refunds.values().any(|refund| refund.status == RefundStatus::Failed)
    }

    fn is_unknown(&self, operation: Operation) -> bool {
        self.unknown.contains(&operation)
    }

    /// A question was answered, or asked anew.
    fn known(&mut self, operation: Operation) {
        self.unknown.retain(|unknown| *unknown != operation);
    }

    fn void_requested(&mut self, provider_ref: Option<&Text>) {
        match (provider_ref, &self.provider_ref) {
            (Some(stray), Some(ours)) if stray != ours => {
                self.strays.insert(stray.clone());
            }
            (to_close, _) => {
                self.unwanted = true;
                self.voiding = to_close.is_some();
                self.known(Operation::Void);
            }
        }
    }

    fn set_refund(&mut self, refund: RefundId, amount: Money, status: RefundStatus) {
        self.refunds.insert(refund, Refund { amount, status });
        self.known(Operation::Refund);
    }
}
