//! Any command that one context may send to another through the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Category, FulfilmentId, OrderId, PaymentId, StreamId};
use crate::{inventory, order, payment, shipping};

/// A command and whom it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "context", rename_all = "snake_case")]
pub enum Command {
    /// For an order.
    Order {
        /// Which one.
        id: OrderId,
        /// What is asked.
        command: order::Command,
    },
    /// For a payment.
    Payment {
        /// Which one.
        id: PaymentId,
        /// What is asked.
        command: payment::Command,
    },
    /// For stock and reservations; the command names them itself.
    Inventory {
        /// What is asked.
        command: inventory::Command,
    },
    /// For a fulfilment order.
    Shipping {
        /// Which one.
        id: FulfilmentId,
        /// What is asked.
        command: shipping::Command,
    },
}

impl Command {
    /// The streams it touches, the one that answers first.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamId> {
        match self {
            Self::Order { id, .. } => vec![StreamId::new(Category::Order, id.uuid())],
            Self::Payment { id, .. } => vec![StreamId::new(Category::Payment, id.uuid())],
            Self::Inventory { command } => command.streams(),
            Self::Shipping { id, .. } => vec![StreamId::new(Category::Shipping, id.uuid())],
        }
    }
}
