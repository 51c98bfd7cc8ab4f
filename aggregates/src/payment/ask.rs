//! What is asked of a payment, and what it does by itself once nothing is wanted of it.

use schemas::payment::{Command, Event, Operation};
use schemas::{Money, OrderId, RefundId, Text};

use super::{Capture, Hold, Payment, Refund, RefundStatus, Refusal};

/// The first command that a payment hears.
pub(super) fn open(command: &Command) -> Result<Vec<Event>, Refusal> {
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
    pub(super) fn ask(&self, order: OrderId, command: &Command) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Create { .. } => Ok(vec![]),
            Command::Authorise { amount, method, .. } => self.authorise(order, *amount, method),
            Command::ReplaceMethod { method } => self.replace_method(order, method),
            Command::Retry => self.retry(order),
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
            // It is on its way, or with the customer.
            Hold::Requested | Hold::Action => vec![],
            _ if self.unwanted && self.refused => vec![],
            _ if self.unwanted => vec![Event::Declined {
                order,
                op: self.op,
                provider_ref: None,
                code: Text::literal("voided"),
                retryable: false,
            }],
            Hold::Held | Hold::Closed => vec![],
            Hold::Idle | Hold::Declined { .. } => {
                let method = self.replacement.as_ref().unwrap_or(method);
                vec![requested(order, self.op.saturating_add(1), amount, method)]
            }
        })
    }

    fn replace_method(&self, order: OrderId, method: &Text) -> Result<Vec<Event>, Refusal> {
        let wanted = matches!(self.hold, Hold::Action | Hold::Declined { mendable: true });
        if self.unwanted || !(wanted || self.is_uncaptured()) {
            return Err(Refusal::MethodNotWanted);
        }
        if self.replacement.as_ref() == Some(method) {
            return Ok(vec![]);
        }
        let mut events = vec![Event::MethodReplaced { order, method: method.clone() }];
        // The customer could still confirm it, and would have paid twice.
        events.extend(self.provider_ref.clone().map(|provider_ref| Event::ClosingRequested {
            order,
            op: self.op,
            provider_ref,
        }));
        Ok(events)
    }

    fn retry(&self, order: OrderId) -> Result<Vec<Event>, Refusal> {
        let declined = matches!(self.hold, Hold::Declined { mendable: true });
        if self.unwanted || !(declined || self.is_uncaptured()) {
            return Err(Refusal::RetryNotWanted);
        }
        Ok(if self.retrying { vec![] } else { vec![Event::RetryRequested { order }] })
    }

    /// Whether money is held that could not be taken.
    fn is_uncaptured(&self) -> bool {
        self.hold == Hold::Held && matches!(self.capture, Capture::Failed(_))
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
            (_, hold, ..) => {
                refused("not_authorised", matches!(hold, Hold::Requested | Hold::Action))
            }
        }
    }

    fn capture_requested(&self, order: OrderId, amount: Money, provider_ref: &Text) -> Event {
        let (op, attempt) = (self.op, self.captures_failed.saturating_add(1));
        Event::CaptureRequested { order, op, attempt, amount, provider_ref: provider_ref.clone() }
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
                None if self.has_failed_refund() => self.undo_or_say(order),
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
            // It has its answer, or will have; after a failure another refund is asked for.
            Some(_) => Ok(vec![]),
            None if self.pending_refund().is_some() => Err(Refusal::RefundPending),
            None => {
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
    pub(super) fn unwind(&self) -> Vec<Event> {
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
            (Hold::Held | Hold::Action | Hold::Declined { .. }, Some(provider_ref)) => {
                vec![self.let_go(order, Some(provider_ref.clone()))]
            }
            _ => vec![self.voided(order)],
        }
    }

    /// The refund that undoes the payment. Where that has failed, or gave back a part only, it is
    /// another one: to the provider the same refund has the same outcome for ever.
    pub(super) fn undoing_refund(&self, order: OrderId) -> RefundId {
        let (payment, undoing) = (order.payment(), order.payment().undoing_refund());
        match self.refunds.get(&undoing) {
            Some(Refund { status: RefundStatus::Succeeded | RefundStatus::Failed, .. }) => {
                RefundId::derive(payment.uuid(), &format!("refund/undo/{}", self.refunds.len()))
            }
            Some(Refund { status: RefundStatus::Pending, .. }) | None => undoing,
        }
    }

    /// The same; where a bank gave back meanwhile what could not be refunded, that it is settled.
    fn undo_or_say(&self, order: OrderId) -> Vec<Event> {
        let gone = self.left(None).is_some_and(|left| left.amount <= 0);
        let waiting = self.pending_refund().is_some() || self.voiding;
        // Whoever asks has been told.
        let told = self.hold == Hold::Closed;
        if gone && !waiting && !told { vec![self.voided(order)] } else { self.undo(order) }
    }

    pub(super) fn let_go(&self, order: OrderId, provider_ref: Option<Text>) -> Event {
        Event::VoidRequested { order, op: self.op, provider_ref }
    }

    pub(super) fn voided(&self, order: OrderId) -> Event {
        Event::Voided { order, never_authorised: self.authorised.is_none() }
    }

    fn refund_requested(&self, order: OrderId, refund: RefundId, amount: Money) -> Option<Event> {
        let provider_ref = self.provider_ref.clone()?;
        Some(Event::RefundRequested { order, refund, amount, provider_ref })
    }
}
