//! Payments: a ledger of what was asked of the provider and what became of it.
//!
//! ```text
//!               ┌──────── op + 1 ────────┐
//! Idle ─▶ Requested ─▶ Declined ─────────┘      Held ─void─▶ Closed
//!              └─────▶ Held ─capture─▶ captured ─refund─▶ refunded
//! ```
//!
//! Every question is written down before it is asked (`…Requested`), so every answer finds its
//! question. At most one question of a kind is open. An authorisation is numbered (`op`), and the
//! number grows only after a definite no: the same question asked again is the same to the
//! provider. Where nobody knows the outcome, asking again repeats the question, not the money.
//!
//! **Nothing wanted.** A void sets a mark that is never taken off, in every state, also before
//! anything was asked. From then on whatever the answers bring is given back: `Payment::unwind`
//! says what is still to be done, after every command. So money that arrives late goes back by
//! itself, whichever way it arrives.
//!
//! **Answers from outside are never refused** (except of a payment that nobody opened): they are
//! recorded where they say something new, and change nothing where they do not.

use std::collections::{BTreeMap, BTreeSet};

use schemas::payment::{Command, Event, Operation};
use schemas::{Decider, Money, OrderId, RefundId, Text, Timestamp};

mod answer;
#[cfg(test)]
mod tests;

/// What was asked of the provider for one order, and what it answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payment {
    /// For which order; none: nobody has heard of this payment.
    order: Option<OrderId>,
    /// Nothing is wanted any more: whatever is held or taken goes back.
    unwanted: bool,
    /// The last authorisation; 0: none was asked for.
    op: u32,
    /// What that authorisation asked for.
    asked: Option<(Money, Text)>,
    hold: Hold,
    capture: Capture,
    /// Whether the provider has been told to let go and has not answered.
    voiding: bool,
    /// The provider's id of the payment, as far as the current authorisation has one.
    provider_ref: Option<Text>,
    /// What the provider holds or held, and until when.
    authorised: Option<(Money, Timestamp)>,
    captured: Option<Money>,
    refunds: BTreeMap<RefundId, Refund>,
    /// Open questions of which nobody knows what became.
    unknown: Vec<Operation>,
    /// Whether an authorisation that came after the void has been turned away.
    refused: bool,
    /// The provider's ids that earlier, declined authorisations left behind.
    abandoned: BTreeSet<Text>,
    /// The provider's ids that held money a second time and were told to let go.
    strays: BTreeSet<Text>,
    notifications: BTreeSet<Text>,
}

/// How the authorisation stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Hold {
    /// Not asked for.
    #[default]
    Idle,
    Requested,
    Held,
    Declined,
    /// The provider let go, or there was never anything to let go of.
    Closed,
}

/// How the capture stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Capture {
    #[default]
    Idle,
    Requested(Money),
    /// With the code that was given.
    Failed(Text),
    Done,
}

/// A refund and how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refund {
    amount: Money,
    status: RefundStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

impl schemas::Refusal for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::InvalidAmount => "invalid_amount",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::RefundExceedsCaptured { .. } | Self::NothingCaptured => "refund_exceeds_captured",
            Self::RefundPending => "refund_pending",
        }
    }
}

impl Decider for Payment {
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        let mut events = match self.order {
            Some(order) => self.ask(order, command)?,
            None => open(command)?,
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
            Event::AuthorisationRequested { op, amount, method, .. } => {
                self.abandoned.extend(self.provider_ref.take());
                self.op = *op;
                self.asked = Some((*amount, method.clone()));
                self.hold = Hold::Requested;
                self.known(Operation::Authorise);
            }
            Event::Authorised { op, amount, provider_ref, until, .. } => {
                self.op = *op;
                self.hold = Hold::Held;
                self.provider_ref = Some(provider_ref.clone());
                self.authorised = Some((*amount, *until));
                self.known(Operation::Authorise);
            }
            Event::Declined { provider_ref, .. } if self.hold == Hold::Requested => {
                self.hold = Hold::Declined;
                if provider_ref.is_some() {
                    self.provider_ref.clone_from(provider_ref);
                }
                self.known(Operation::Authorise);
            }
            // Nobody was asked: it came after the void.
            Event::Declined { .. } => self.refused = true,
            Event::OutcomeUnknown { operation, .. } => self.unknown.push(*operation),
            Event::CaptureRequested { amount, .. } => {
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
            Event::CaptureFailed { code, .. } => {
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
            Event::ProviderNotified { notification, .. } => {
                self.notifications.insert(notification.clone());
            }
            Event::Created { .. } | Event::LateMoneyDetected { .. } => {}
        }
        self
    }
}

/// The first command that a payment hears.
fn open(command: &Command) -> Result<Vec<Event>, Refusal> {
    match command {
        Command::Create { amount, .. } | Command::Authorise { amount, .. }
            if amount.amount <= 0 =>
        {
            Err(Refusal::InvalidAmount)
        }
        Command::Create { order, amount, method } => {
            Ok(vec![Event::Created { order: *order, amount: *amount, method: method.clone() }])
        }
        Command::Authorise { order, amount, method } => Ok(vec![
            Event::Created { order: *order, amount: *amount, method: method.clone() },
            requested(*order, 1, *amount, method),
        ]),
        Command::Void { order } => {
            Ok(vec![Event::Voided { order: *order, never_authorised: true }])
        }
        _ => Err(Refusal::NotFound),
    }
}

fn requested(order: OrderId, op: u32, amount: Money, method: &Text) -> Event {
    Event::AuthorisationRequested { order, op, amount, method: method.clone() }
}

/// What is asked of a payment that exists.
impl Payment {
    fn ask(&self, order: OrderId, command: &Command) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Create { .. } => Ok(vec![]),
            Command::Authorise { amount, method, .. } => self.authorise(order, *amount, method),
            Command::Capture { amount } => self.capture(order, *amount),
            Command::Void { .. } => Ok(self.void(order)),
            Command::Refund { refund, amount } => self.refund(order, *refund, *amount),
            _ => Ok(self.answer(order, command)),
        }
    }

    fn authorise(
        &self,
        order: OrderId,
        amount: Money,
        method: &Text,
    ) -> Result<Vec<Event>, Refusal> {
        if amount.amount <= 0 {
            return Err(Refusal::InvalidAmount);
        }
        Ok(match self.hold {
            // Nobody knows whether the first question arrived: the same one again.
            Hold::Requested if self.is_unknown(Operation::Authorise) => {
                let (amount, method) = self
                    .asked
                    .as_ref()
                    .map_or((amount, method), |(amount, method)| (*amount, method));
                vec![requested(order, self.op, amount, method)]
            }
            Hold::Requested => vec![],
            _ if self.unwanted && self.refused => vec![],
            _ if self.unwanted => vec![Event::Declined {
                order,
                op: self.op,
                provider_ref: None,
                code: Text::literal("voided"),
                retryable: false,
            }],
            Hold::Held | Hold::Closed => vec![],
            Hold::Idle | Hold::Declined => {
                vec![requested(order, self.op.saturating_add(1), amount, method)]
            }
        })
    }

    fn capture(&self, order: OrderId, amount: Money) -> Result<Vec<Event>, Refusal> {
        if amount.amount <= 0 {
            return Err(Refusal::InvalidAmount);
        }
        let again = self.is_unknown(Operation::Capture);
        let refused = |code: &'static str, retryable| {
            let code = Text::literal(code);
            // Whoever asks has been told.
            if self.capture == Capture::Failed(code.clone()) {
                return Ok(vec![]);
            }
            Ok(vec![Event::CaptureFailed { order, code, retryable }])
        };
        match (&self.capture, self.hold, &self.authorised, &self.provider_ref) {
            (Capture::Done, ..) => Ok(vec![]),
            (Capture::Requested(_), ..) if !again => Ok(vec![]),
            (Capture::Requested(asked), .., Some(provider_ref)) => {
                Ok(vec![self.capture_requested(order, *asked, provider_ref)])
            }
            _ if self.unwanted => refused("voided", false),
            (_, Hold::Held, Some((held, _)), Some(provider_ref)) => {
                let rest = held.minus(amount).map_err(|_| Refusal::CurrencyMismatch)?;
                if rest.amount < 0 {
                    return refused("amount_exceeds_authorised", false);
                }
                Ok(vec![self.capture_requested(order, amount, provider_ref)])
            }
            (_, hold, ..) => refused("not_authorised", hold == Hold::Requested),
        }
    }

    fn capture_requested(&self, order: OrderId, amount: Money, provider_ref: &Text) -> Event {
        Event::CaptureRequested { order, op: self.op, amount, provider_ref: provider_ref.clone() }
    }

    /// Nothing is wanted any more. What there is to give back is started at once; where nothing
    /// can be done before an answer arrives, the wish is noted and waits for it. Asked again, it
    /// repeats what failed or what nobody knows the outcome of.
    fn void(&self, order: OrderId) -> Vec<Event> {
        let adrift = self.pending_refund().filter(|_| self.is_unknown(Operation::Refund));
        let again = adrift.and_then(|(refund, Refund { amount, .. })| {
            self.refund_requested(order, refund, amount)
        });
        if self.unwanted {
            return match again {
                Some(again) => vec![again],
                None if self.voiding && self.is_unknown(Operation::Void) => {
                    vec![self.let_go(order, self.provider_ref.clone())]
                }
                None if self.has_failed_refund() => self.undo(order),
                None => vec![],
            };
        }
        let mut events = self.undo(order);
        if events.is_empty() {
            let settled = self.capture == Capture::Done && self.pending_refund().is_none();
            events.push(if settled { self.voided(order) } else { self.let_go(order, None) });
            events.extend(again);
        }
        events
    }

    fn refund(
        &self,
        order: OrderId,
        refund: RefundId,
        amount: Money,
    ) -> Result<Vec<Event>, Refusal> {
        if amount.amount <= 0 {
            return Err(Refusal::InvalidAmount);
        }
        let requested = |amount| {
            let event = self.refund_requested(order, refund, amount);
            event.map(|event| vec![event]).ok_or(Refusal::NothingCaptured)
        };
        match self.refunds.get(&refund).copied() {
            Some(Refund { status: RefundStatus::Pending, amount })
                if self.is_unknown(Operation::Refund) =>
            {
                requested(amount)
            }
            Some(Refund { status: RefundStatus::Pending | RefundStatus::Succeeded, .. }) => {
                Ok(vec![])
            }
            _ if self.pending_refund().is_some() => Err(Refusal::RefundPending),
            _ => {
                let left = self.left(None).ok_or(Refusal::NothingCaptured)?;
                let rest = left.minus(amount).map_err(|_| Refusal::CurrencyMismatch)?;
                if rest.amount < 0 {
                    return Err(Refusal::RefundExceedsCaptured { left });
                }
                requested(amount)
            }
        }
    }
}

/// What an unwanted payment gives back.
impl Payment {
    /// The next step by which an unwanted payment comes to hold nothing. A refund that failed is
    /// not repeated by itself: the provider said no, so somebody has to ask again.
    fn unwind(&self) -> Vec<Event> {
        match self.order {
            Some(order) if !self.has_failed_refund() => self.undo(order),
            _ => vec![],
        }
    }

    /// The same, whatever has failed before. Nothing while an answer is on its way.
    fn undo(&self, order: OrderId) -> Vec<Event> {
        let waiting = self.hold == Hold::Requested
            || matches!(self.capture, Capture::Requested(_))
            || self.voiding
            || self.pending_refund().is_some();
        if waiting {
            return vec![];
        }
        if let Some(left) = self.left(None) {
            let refund = self.undoing_refund(order);
            let requested = self.refund_requested(order, refund, left);
            return Vec::from_iter(requested.filter(|_| left.amount > 0));
        }
        match (self.hold, &self.provider_ref) {
            (Hold::Closed | Hold::Requested, _) => vec![],
            // A declined authorisation leaves an intent that the customer could still confirm.
            (Hold::Held | Hold::Declined, Some(provider_ref)) => {
                vec![self.let_go(order, Some(provider_ref.clone()))]
            }
            _ => vec![self.voided(order)],
        }
    }

    /// The refund that undoes the payment, or another one where that has been used for a part.
    fn undoing_refund(&self, order: OrderId) -> RefundId {
        let payment = order.payment();
        match self.refunds.get(&payment.undoing_refund()) {
            Some(Refund { status: RefundStatus::Succeeded, .. }) => {
                RefundId::derive(payment.uuid(), &format!("refund/undo/{}", self.refunds.len()))
            }
            _ => payment.undoing_refund(),
        }
    }

    fn let_go(&self, order: OrderId, provider_ref: Option<Text>) -> Event {
        Event::VoidRequested { order, op: self.op, provider_ref }
    }

    fn voided(&self, order: OrderId) -> Event {
        Event::Voided { order, never_authorised: self.authorised.is_none() }
    }

    fn refund_requested(&self, order: OrderId, refund: RefundId, amount: Money) -> Option<Event> {
        let provider_ref = self.provider_ref.clone()?;
        Some(Event::RefundRequested { order, refund, amount, provider_ref })
    }
}

/// What the ledger says.
impl Payment {
    /// What was taken and has neither gone back nor is on its way back, leaving `except` out of
    /// account; none: nothing was taken.
    fn left(&self, except: Option<RefundId>) -> Option<Money> {
        let gone = |(id, refund): &(&RefundId, &Refund)| {
            Some(**id) != except && refund.status != RefundStatus::Failed
        };
        let refunds = self.refunds.iter().filter(gone).map(|(_, refund)| refund.amount);
        self.captured.map(|captured| {
            refunds.fold(captured, |left, amount| left.minus(amount).unwrap_or(left))
        })
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
