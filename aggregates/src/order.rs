//! Orders: from placed to completed, rejected or cancelled.
//!
//! ```text
//! Absent ─▶ Pending ─▶ Confirmed ─▶ Completed
//!             │  ▲        │  ▲
//!             │  └────────┼──┴─ cancellation rejected: back to where it was
//!             ▼           ▼
//!           CancelPending ────▶ Cancelled          Pending, CancelPending ─▶ Rejected
//! ```
//!
//! While a cancellation is pending nothing else moves the order, but facts are still recorded:
//! money that was taken was taken.
//!
//! Beside that line an order may be on hold, for several reasons at once. A hold keeps people and
//! the warehouse from going on; what is on its way already is still recorded, and a cancellation
//! needs no release.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use schemas::inventory::Units;
use schemas::order::{
    CancelReason, CancelledLine, Command, Event, HoldReason, KeepReason, LINES_MAX, Line,
};
use schemas::{Decider, Money, MoneyError, Quantity, Sku};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// An order as far as its rules care; names and addresses live in the read model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    status: Status,
    /// What was due when it was placed.
    total: Option<Money>,
    /// What is still to be sent, in the order in which it was placed.
    lines: Vec<Left>,
    holds: BTreeSet<HoldReason>,
    /// Whether the customer has been told to do something before it is paid.
    asked: bool,
    captured: Option<Money>,
    refunded: Option<Money>,
    shipped: bool,
    delivered: bool,
}

/// What is left of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Left {
    sku: Sku,
    quantity: u32,
    unit_price: Money,
}

/// How far an order has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Status {
    #[default]
    Absent,
    Pending,
    Confirmed,
    CancelPending {
        /// Whether it was confirmed when the cancellation was asked for.
        confirmed: bool,
        reason: CancelReason,
        /// Whether a confirmation has been turned away since.
        confirm_rejected: bool,
    },
    Cancelled,
    Rejected,
    Completed,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::CancelPending { .. } => "cancel_pending",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Completed => "completed",
        }
    }
}

/// Why an order does not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody placed it.
    #[error("there is no such order")]
    NotFound,
    /// It was placed before.
    #[error("the order was placed before")]
    AlreadyPlaced,
    /// Nothing is ordered.
    #[error("an order has at least one line")]
    Empty,
    /// Too much is ordered at once.
    #[error("an order has at most {LINES_MAX} lines")]
    TooManyLines,
    /// A price below nothing.
    #[error("a unit price cannot be negative")]
    NegativePrice,
    /// Amounts of different currencies.
    #[error("all amounts of an order have one currency")]
    CurrencyMismatch,
    /// A sum that cannot be written.
    #[error("the amount is too large")]
    MoneyOverflow,
    /// A payment or refund of nothing, or less.
    #[error("the amount must be more than nothing")]
    InvalidAmount,
    /// More was taken than the order costs.
    #[error("more would be paid than the order costs")]
    PaymentExceedsTotal,
    /// More was given back than was taken.
    #[error("more would be refunded than was paid")]
    RefundExceedsCaptured,
    /// It would be an order of nothing.
    #[error("something has to be left: cancel the order instead")]
    NothingLeft,
    /// The goods have arrived.
    #[error("a completed order is not cancelled: it comes back as a return")]
    UseReturn,
    /// Not in this state.
    #[error("this is not possible while the order is {from}")]
    InvalidTransition {
        /// The state it is in.
        from: &'static str,
    },
}

impl schemas::Refusal for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyPlaced => "already_placed",
            Self::Empty => "empty_order",
            Self::TooManyLines => "too_many_lines",
            Self::NegativePrice => "negative_price",
            Self::CurrencyMismatch => "currency_mismatch",
            Self::MoneyOverflow => "money_overflow",
            Self::InvalidAmount => "invalid_amount",
            Self::PaymentExceedsTotal => "payment_exceeds_total",
            Self::RefundExceedsCaptured => "refund_exceeds_captured",
            Self::NothingLeft => "nothing_left",
            Self::UseReturn => "use_return",
            Self::InvalidTransition { .. } => "invalid_transition",
        }
    }
}

impl From<MoneyError> for Refusal {
    fn from(error: MoneyError) -> Self {
        match error {
            MoneyError::Overflow => Self::MoneyOverflow,
            MoneyError::CurrencyMismatch | MoneyError::UnknownCurrency => Self::CurrencyMismatch,
        }
    }
}

impl Decider for Order {
    const NAME: &'static str = "order";
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        if let Command::Place { customer, lines, shipping_address, payment_method, placed_at } =
            command
        {
            if self.status != Status::Absent {
                return Err(Refusal::AlreadyPlaced);
            }
            return Ok(vec![Event::Placed {
                customer: *customer,
                total: total(lines)?,
                lines: lines.clone(),
                shipping_address: shipping_address.clone(),
                payment_method: payment_method.clone(),
                placed_at: *placed_at,
            }]);
        }
        if self.status == Status::Absent {
            return Err(Refusal::NotFound);
        }
        match command {
            Command::RecordPayment { .. }
            | Command::RecordRefund { .. }
            | Command::RecordShipment { .. }
            | Command::RecordDelivery { .. } => self.record(command),
            Command::Hold { .. } | Command::Release { .. } => self.hold(command),
            Command::CancelLines { left, reason } => self.cancel_lines(left, *reason),
            Command::RequirePaymentAction => Ok(self.require_action()),
            _ => self.advance(command),
        }
    }

    fn evolve(mut self, event: &Event) -> Self {
        match event {
            Event::Placed { total, lines, .. } => {
                self.status = Status::Pending;
                self.total = Some(*total);
                self.lines = lines.iter().map(Left::of).collect();
            }
            Event::Confirmed => {
                self.status = Status::Confirmed;
                self.asked = false;
            }
            Event::ConfirmRejected => {
                if let Status::CancelPending { confirm_rejected, .. } = &mut self.status {
                    *confirm_rejected = true;
                }
            }
            Event::Rejected { .. } => self.status = Status::Rejected,
            Event::CancellationRequested { reason } => {
                let confirmed = self.status == Status::Confirmed;
                self.status =
                    Status::CancelPending { confirmed, reason: *reason, confirm_rejected: false };
            }
            Event::CancellationRejected { .. } => {
                if let Status::CancelPending { confirmed, .. } = self.status {
                    self.status = if confirmed { Status::Confirmed } else { Status::Pending };
                }
            }
            Event::Cancelled { .. } => self.status = Status::Cancelled,
            Event::Held { reason } => {
                self.holds.insert(*reason);
            }
            Event::Released { reason } => {
                self.holds.remove(reason);
            }
            Event::LinesCancelled { lines, .. } => {
                for CancelledLine { line, quantity } in lines {
                    if let Some(left) = self.lines.get_mut(usize::from(*line)) {
                        left.quantity = left.quantity.saturating_sub(quantity.get());
                    }
                }
            }
            Event::PaymentActionRequired => self.asked = true,
            Event::PaymentRecorded { captured } => {
                self.captured = Some(sum(self.captured, *captured));
            }
            Event::RefundRecorded { refunded } => {
                self.refunded = Some(sum(self.refunded, *refunded));
            }
            Event::ShipmentRecorded { .. } => self.shipped = true,
            Event::DeliveryRecorded { .. } => self.delivered = true,
            Event::Completed => self.status = Status::Completed,
        }
        self
    }
}

impl Order {
    /// What moves the order along.
    fn advance(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        let invalid = Refusal::InvalidTransition { from: self.status.name() };
        match (command, self.status) {
            (Command::Confirm, Status::Pending) => Ok(vec![Event::Confirmed]),
            (
                Command::Confirm,
                Status::CancelPending { confirmed: false, confirm_rejected: false, .. },
            ) => Ok(vec![Event::ConfirmRejected]),
            (Command::Reject { reason, short }, Status::Pending | Status::CancelPending { .. }) => {
                Ok(vec![Event::Rejected { reason: *reason, short: short.clone() }])
            }
            (Command::RequestCancellation { reason }, Status::Pending | Status::Confirmed) => {
                Ok(vec![Event::CancellationRequested { reason: *reason }])
            }
            (Command::RequestCancellation { .. }, Status::Completed) => Err(Refusal::UseReturn),
            (Command::MarkCancelled { refunded }, Status::CancelPending { reason, .. }) => {
                Ok(vec![Event::Cancelled { reason, refunded: *refunded }])
            }
            (Command::RejectCancellation { reason }, Status::CancelPending { .. }) => {
                Ok(vec![Event::CancellationRejected { reason: *reason }])
            }
            (Command::Complete, Status::Confirmed) => Ok(vec![Event::Completed]),
            // The goods arrived while somebody asked for the order to be undone: too late.
            (Command::Complete, Status::CancelPending { confirmed: true, .. }) => Ok(vec![
                Event::CancellationRejected { reason: KeepReason::UseReturn },
                Event::Completed,
            ]),
            // Asked twice: nothing new happens, so a retry hears what the first call heard.
            (
                Command::Confirm,
                Status::Confirmed | Status::CancelPending { .. } | Status::Completed,
            )
            | (Command::Reject { .. }, Status::Rejected)
            | (Command::RequestCancellation { .. }, Status::CancelPending { .. })
            | (Command::MarkCancelled { .. }, Status::Cancelled)
            | (
                Command::RejectCancellation { .. },
                Status::Pending | Status::Confirmed | Status::Completed,
            )
            | (Command::Complete, Status::Completed) => Ok(vec![]),
            _ => Err(invalid),
        }
    }

    /// Whether nothing can be changed about it any more.
    const fn is_closed(&self) -> bool {
        matches!(self.status, Status::Cancelled | Status::Rejected | Status::Completed)
    }

    /// What has it wait, and what has it go on. What has ended waits for nothing.
    fn hold(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Hold { reason } if self.holds.contains(reason) => Ok(vec![]),
            Command::Hold { .. } if self.is_closed() => {
                Err(Refusal::InvalidTransition { from: self.status.name() })
            }
            Command::Hold { reason } => Ok(vec![Event::Held { reason: *reason }]),
            Command::Release { reason } => {
                let ends = |held: &&HoldReason| reason.is_none_or(|reason| reason == **held);
                let ended = self.holds.iter().filter(ends);
                Ok(ended.map(|reason| Event::Released { reason: *reason }).collect())
            }
            _ => Ok(vec![]),
        }
    }

    fn require_action(&self) -> Vec<Event> {
        let asks = !self.asked && !self.is_closed() && self.captured.is_none();
        if asks { vec![Event::PaymentActionRequired] } else { vec![] }
    }

    /// Takes from the lines what is not in `wanted`, from the last of a sku first. Asked again,
    /// there is nothing to take; of an order that has ended there is nothing left to say.
    fn cancel_lines(&self, wanted: &[Units], reason: CancelReason) -> Result<Vec<Event>, Refusal> {
        if self.is_closed() {
            return Ok(vec![]);
        }
        if wanted.is_empty() {
            return Err(Refusal::NothingLeft);
        }
        let mut gone = BTreeMap::<&Sku, u32>::new();
        for line in &self.lines {
            *gone.entry(&line.sku).or_default() += line.quantity;
        }
        for Units { sku, quantity } in wanted {
            if let Some(gone) = gone.get_mut(sku) {
                *gone = gone.saturating_sub(quantity.get());
            }
        }
        let (mut lines, mut after) = (Vec::new(), self.lines.clone());
        for (index, left) in after.iter_mut().enumerate().rev() {
            let Ok(line) = u16::try_from(index) else { continue };
            let gone = gone.get_mut(&left.sku).map_or(0, |gone| {
                let part = (*gone).min(left.quantity);
                *gone -= part;
                part
            });
            left.quantity -= gone;
            lines.extend(Quantity::new(gone).ok().map(|quantity| CancelledLine { line, quantity }));
        }
        if lines.is_empty() {
            return Ok(vec![]);
        }
        lines.reverse();
        let total = due(&after)?;
        Ok(vec![Event::LinesCancelled { lines, left: wanted.to_vec(), reason, total }])
    }

    /// What happened elsewhere. Money is recorded in every state: it may move after the end.
    ///
    /// Two equal payments or refunds are two facts; that the same one is not told twice is the
    /// business of the command's id. A parcel leaves and arrives once.
    fn record(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::RecordPayment { captured } => {
                within(self.captured, *captured, self.total, Refusal::PaymentExceedsTotal)?;
                Ok(vec![Event::PaymentRecorded { captured: *captured }])
            }
            Command::RecordRefund { refunded } => {
                within(self.refunded, *refunded, self.captured, Refusal::RefundExceedsCaptured)?;
                Ok(vec![Event::RefundRecorded { refunded: *refunded }])
            }
            Command::RecordShipment { .. } if self.shipped => Ok(vec![]),
            Command::RecordDelivery { .. } if self.delivered => Ok(vec![]),
            _ if matches!(self.status, Status::Pending | Status::Cancelled | Status::Rejected) => {
                Err(Refusal::InvalidTransition { from: self.status.name() })
            }
            Command::RecordShipment { tracking_code } => {
                Ok(vec![Event::ShipmentRecorded { tracking_code: tracking_code.clone() }])
            }
            Command::RecordDelivery { at } => Ok(vec![Event::DeliveryRecorded { at: *at }]),
            _ => self.advance(command),
        }
    }
}

impl Left {
    fn of(line: &Line) -> Self {
        let Line { sku, quantity, unit_price, .. } = line;
        Self { sku: sku.clone(), quantity: quantity.get(), unit_price: *unit_price }
    }
}

/// The sum of what is left.
fn due(lines: &[Left]) -> Result<Money, Refusal> {
    let currency = lines.first().ok_or(Refusal::Empty)?.unit_price.currency;
    let mut due = Money::zero(currency);
    for line in lines {
        due = due.plus(line.unit_price.times(line.quantity)?)?;
    }
    Ok(due)
}

/// The sum of the lines, checked.
fn total(lines: &[Line]) -> Result<Money, Refusal> {
    let first = lines.first().ok_or(Refusal::Empty)?;
    if lines.len() > LINES_MAX {
        return Err(Refusal::TooManyLines);
    }
    if lines.iter().any(|line| line.unit_price.amount < 0) {
        return Err(Refusal::NegativePrice);
    }
    let currency = first.unit_price.currency;
    if lines.iter().any(|line| line.unit_price.currency != currency) {
        return Err(Refusal::CurrencyMismatch);
    }
    let mut total = Money::zero(currency);
    for line in lines {
        total = total.plus(line.unit_price.times(line.quantity.get())?)?;
    }
    Ok(total)
}

/// Adds to what is there; what cannot be added is not, since the log has the last word.
fn sum(so_far: Option<Money>, more: Money) -> Money {
    so_far.map_or(more, |so_far| so_far.plus(more).unwrap_or(so_far))
}

/// Checks that `so_far` and `more` together stay within `limit`.
fn within(
    so_far: Option<Money>,
    more: Money,
    limit: Option<Money>,
    exceeded: Refusal,
) -> Result<(), Refusal> {
    if more.amount <= 0 {
        return Err(Refusal::InvalidAmount);
    }
    let nothing = Money::zero(more.currency);
    let limit = limit.unwrap_or(nothing);
    let after = so_far.unwrap_or(nothing).plus(more)?;
    if limit.minus(after)?.amount < 0 { Err(exceeded) } else { Ok(()) }
}
