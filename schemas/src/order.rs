//! Orders: what a customer wants, and how far it has come.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inventory::Units;
use crate::{
    Address, Category, CustomerId, Money, Personal, Quantity, Sku, StreamId, Text, Timestamp,
};

/// The most lines that one order has.
pub const LINES_MAX: usize = 250;

/// One thing that was ordered. Price and title are copies: the catalog may change later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// What.
    pub sku: Sku,
    /// As the customer saw it.
    pub title: Text,
    /// How many.
    pub quantity: Quantity,
    /// For each unit.
    pub unit_price: Money,
}

/// A sku of which there was not enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shortage {
    /// What.
    pub sku: Sku,
    /// How many were wanted.
    pub wanted: Quantity,
    /// How many there were.
    pub available: u32,
}

/// Why an order was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// There was not enough of something.
    OutOfStock,
    /// The payment was declined for good.
    PaymentDeclined,
}

/// Why an order was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// The customer changed their mind.
    Customer,
    /// It looks like fraud.
    Fraud,
    /// It cannot be supplied after all.
    Inventory,
    /// A colleague decided.
    Staff,
    /// Anything else.
    Other,
}

/// Why an order cannot be cancelled any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeepReason {
    /// It is on its way: it has to come back as a return.
    UseReturn,
}

/// Why an order waits. It goes on when none of its reasons is left.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// It looks like fraud.
    Fraud,
    /// Nobody knows where it goes.
    Address,
    /// The money that was promised is not there.
    Payment,
    /// The warehouse is late.
    Warehouse,
    /// Some of it is missing, and the customer has to say what to do.
    Stock,
    /// The customer's bank asks for the money back.
    Dispute,
    /// Anything else.
    Other,
}

/// Units of a line that will not be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelledLine {
    /// Which line, in the order in which they were placed, from 0.
    pub line: u16,
    /// How many of its units.
    pub quantity: Quantity,
}

/// What can be asked of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Command {
    /// A customer orders.
    Place {
        /// Who orders.
        customer: CustomerId,
        /// What is ordered, 1 to [`LINES_MAX`] lines of one currency.
        lines: Vec<Line>,
        /// Where it goes.
        shipping_address: Personal<Address>,
        /// The payment provider's token, as `pm_card_visa`.
        payment_method: Text,
        /// When it was placed.
        placed_at: Timestamp,
    },
    /// Stock and payment are there: the order stands.
    Confirm,
    /// It cannot be had.
    Reject {
        /// Why.
        reason: RejectReason,
        /// What was short, where that is why.
        short: Vec<Shortage>,
    },
    /// Somebody wants it undone.
    RequestCancellation {
        /// Why.
        reason: CancelReason,
    },
    /// Everything has been given back.
    MarkCancelled {
        /// What the customer got back, where something had been charged.
        refunded: Option<Money>,
    },
    /// It is too late to cancel.
    RejectCancellation {
        /// Why.
        reason: KeepReason,
    },
    /// It has to wait.
    Hold {
        /// Why.
        reason: HoldReason,
    },
    /// It need not wait any more.
    Release {
        /// For this reason; none: for any.
        reason: Option<HoldReason>,
    },
    /// Only this is left of it: the rest cannot be supplied.
    CancelLines {
        /// What is left, every sku once.
        left: Vec<Units>,
        /// Why.
        reason: CancelReason,
    },
    /// The customer has to do something before it is paid.
    RequirePaymentAction,
    /// Money was taken.
    RecordPayment {
        /// How much, in this capture.
        captured: Money,
    },
    /// Money was given back.
    RecordRefund {
        /// How much, in this refund.
        refunded: Money,
    },
    /// The goods left the house.
    RecordShipment {
        /// With which number to follow them.
        tracking_code: Text,
    },
    /// The goods arrived.
    RecordDelivery {
        /// When, by the carrier's word.
        at: Timestamp,
    },
    /// Nothing is left to do.
    Complete,
}

/// Everything that can happen to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Event {
    /// A customer ordered.
    #[serde(rename = "order.placed.v1")]
    Placed {
        /// Who.
        customer: CustomerId,
        /// What.
        lines: Vec<Line>,
        /// The sum of the lines.
        total: Money,
        /// Where it goes.
        shipping_address: Personal<Address>,
        /// The payment provider's token.
        payment_method: Text,
        /// When.
        placed_at: Timestamp,
    },
    /// Stock is held and the payment authorised.
    #[serde(rename = "order.confirmed.v1")]
    Confirmed,
    /// It could not be confirmed, since somebody is cancelling it.
    #[serde(rename = "order.confirm_rejected.v1")]
    ConfirmRejected,
    /// It will not be supplied.
    #[serde(rename = "order.rejected.v1")]
    Rejected {
        /// Why.
        reason: RejectReason,
        /// What was short.
        short: Vec<Shortage>,
    },
    /// Somebody wants it undone; until that is settled nothing else may change it.
    #[serde(rename = "order.cancellation_requested.v1")]
    CancellationRequested {
        /// Why.
        reason: CancelReason,
    },
    /// It stays as it is.
    #[serde(rename = "order.cancellation_rejected.v1")]
    CancellationRejected {
        /// Why.
        reason: KeepReason,
    },
    /// Undone: stock and money are back.
    #[serde(rename = "order.cancelled.v1")]
    Cancelled {
        /// Why it was asked for.
        reason: CancelReason,
        /// What the customer got back, where something had been charged.
        refunded: Option<Money>,
    },
    /// It has to wait.
    #[serde(rename = "order.held.v1")]
    Held {
        /// Why.
        reason: HoldReason,
    },
    /// It need not wait for this reason any more.
    #[serde(rename = "order.released.v1")]
    Released {
        /// Which one.
        reason: HoldReason,
    },
    /// Some of it will not be sent, and need not be paid.
    #[serde(rename = "order.lines_cancelled.v1")]
    LinesCancelled {
        /// What is gone.
        lines: Vec<CancelledLine>,
        /// What is left, every sku once, as it was asked for.
        left: Vec<Units>,
        /// Why.
        reason: CancelReason,
        /// What is due now.
        total: Money,
    },
    /// The customer has to do something before it is paid: confirm the payment with their bank, or
    /// name another card.
    #[serde(rename = "order.payment_action_required.v1")]
    PaymentActionRequired,
    /// Money was taken.
    #[serde(rename = "order.payment_recorded.v1")]
    PaymentRecorded {
        /// How much.
        captured: Money,
    },
    /// Money was given back.
    #[serde(rename = "order.refund_recorded.v1")]
    RefundRecorded {
        /// How much.
        refunded: Money,
    },
    /// The goods left the house.
    #[serde(rename = "order.shipment_recorded.v1")]
    ShipmentRecorded {
        /// The number to follow them with.
        tracking_code: Text,
    },
    /// The goods arrived.
    #[serde(rename = "order.delivery_recorded.v1")]
    DeliveryRecorded {
        /// When.
        at: Timestamp,
    },
    /// Nothing is left to do.
    #[serde(rename = "order.completed.v1")]
    Completed,
}

impl crate::Event for Event {
    const CATEGORY: Category = Category::Order;
}

impl crate::OrderId {
    /// The order's stream.
    #[must_use]
    pub const fn stream(self) -> StreamId {
        StreamId::new(Category::Order, self.uuid())
    }
}
