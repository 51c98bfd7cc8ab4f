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

use schemars::JsonSchema;
use schemas::order::{CancelReason, Command, Event, KeepReason, LINES_MAX, Line};
use schemas::{Decider, Money, MoneyError};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// An order as far as its rules care; lines, names and addresses live in the read model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    status: Status,
    total: Option<Money>,
    captured: Option<Money>,
    refunded: Option<Money>,
    shipped: bool,
    delivered: bool,
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
            _ => self.advance(command),
        }
    }

    fn evolve(mut self, event: &Event) -> Self {
        match event {
            Event::Placed { total, .. } => {
                self.status = Status::Pending;
                self.total = Some(*total);
            }
            Event::Confirmed => self.status = Status::Confirmed,
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
