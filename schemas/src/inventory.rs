//! Inventory: a stream for the stock of every sku, and one for every reservation.
//!
//! A reservation touches several streams at once: its own, and one for each sku. Stock events
//! say what a sku lost or gained; reservation events are what the saga hears.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::{Uuid, uuid};

pub use crate::order::Shortage;
use crate::{Category, OrderId, Quantity, ReservationId, Sku, StreamId, Text, Timestamp};

/// The most different skus that one reservation holds.
pub const SKUS_MAX: usize = crate::order::LINES_MAX;

/// The most references under which deliveries of one sku are announced at a time.
pub const ANNOUNCED_MAX: usize = 100;

/// So many units of a sku.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Units {
    /// What.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
}

/// What to do where there is not enough of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReserveMode {
    /// Hold nothing.
    AllOrNothing,
    /// Hold what there is.
    Partial,
}

/// What can be asked of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Command {
    /// Goods are announced. What is announced again under the same reference replaces what was.
    Expect {
        /// What.
        sku: Sku,
        /// How many are still to come; 0 where nothing is any more.
        #[schemars(range(max = Quantity::MAX))]
        quantity: u32,
        /// The delivery note or purchase order.
        reference: Text,
    },
    /// Goods came in. Under the reference of an announcement they are no longer to come.
    Receive {
        /// What.
        sku: Sku,
        /// How many.
        quantity: Quantity,
        /// The delivery note or purchase order.
        reference: Option<Text>,
    },
    /// Somebody counted again.
    Adjust {
        /// What.
        sku: Sku,
        /// How many more, or fewer.
        delta: i32,
        /// Why.
        reason: Text,
    },
    /// Hold stock for an order.
    Reserve {
        /// For which order.
        order: OrderId,
        /// Under which id.
        reservation: ReservationId,
        /// What, every sku once.
        units: Vec<Units>,
        /// What to do about a shortage.
        mode: ReserveMode,
        /// Until when.
        expires_at: Timestamp,
    },
    /// Give the stock back. Of a reservation not made yet: never make it.
    Release {
        /// For which order.
        order: OrderId,
        /// Which reservation.
        reservation: ReservationId,
        /// The skus it may hold.
        skus: Vec<Sku>,
    },
    /// Give some of the stock back: it will not be sent.
    Reduce {
        /// For which order.
        order: OrderId,
        /// Which reservation.
        reservation: ReservationId,
        /// What is given back, every sku once.
        units: Vec<Units>,
    },
    /// The goods are packed: they leave the stock.
    Commit {
        /// For which order.
        order: OrderId,
        /// Which reservation.
        reservation: ReservationId,
        /// The skus it may hold.
        skus: Vec<Sku>,
    },
    /// Somebody will still come for it: hold it longer. Asked too late, it has expired.
    Extend {
        /// For which order.
        order: OrderId,
        /// Which reservation.
        reservation: ReservationId,
        /// The skus it may hold.
        skus: Vec<Sku>,
        /// Until when.
        until: Timestamp,
        /// The time by which it is judged.
        at: Timestamp,
    },
    /// Nobody came for it in time.
    Expire {
        /// For which order.
        order: OrderId,
        /// Which reservation.
        reservation: ReservationId,
        /// The skus it may hold.
        skus: Vec<Sku>,
        /// The time by which it is judged.
        at: Timestamp,
    },
}

impl Command {
    /// The streams it touches, the one that answers first.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamId> {
        let reserved = |reservation: ReservationId, skus: &mut dyn Iterator<Item = &Sku>| {
            std::iter::once(reservation.stream()).chain(skus.map(stock_stream)).collect()
        };
        match self {
            Self::Expect { sku, .. } | Self::Receive { sku, .. } | Self::Adjust { sku, .. } => {
                vec![stock_stream(sku)]
            }
            Self::Reserve { reservation, units, .. } | Self::Reduce { reservation, units, .. } => {
                reserved(*reservation, &mut units.iter().map(|units| &units.sku))
            }
            Self::Release { reservation, skus, .. }
            | Self::Commit { reservation, skus, .. }
            | Self::Extend { reservation, skus, .. }
            | Self::Expire { reservation, skus, .. } => reserved(*reservation, &mut skus.iter()),
        }
    }
}

/// Everything that can happen to stock and to reservations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Event {
    /// Goods are announced; this replaces what was announced under the same reference.
    #[serde(rename = "inventory.stock_expected.v1")]
    StockExpected {
        /// What.
        sku: Sku,
        /// How many are still to come; 0 where nothing is any more.
        #[schemars(range(max = Quantity::MAX))]
        quantity: u32,
        /// The delivery note or purchase order.
        reference: Text,
    },
    /// Goods came in.
    #[serde(rename = "inventory.stock_received.v1")]
    StockReceived {
        /// What.
        sku: Sku,
        /// How many.
        quantity: Quantity,
        /// The delivery note or purchase order.
        reference: Option<Text>,
    },
    /// Somebody counted again.
    #[serde(rename = "inventory.stock_adjusted.v1")]
    StockAdjusted {
        /// What.
        sku: Sku,
        /// How many more, or fewer.
        delta: i32,
        /// Why.
        reason: Text,
    },
    /// Units of a sku are held.
    #[serde(rename = "inventory.stock_reserved.v1")]
    StockReserved {
        /// What.
        sku: Sku,
        /// For which reservation.
        reservation: ReservationId,
        /// How many.
        quantity: Quantity,
    },
    /// Held units are free again.
    #[serde(rename = "inventory.stock_released.v1")]
    StockReleased {
        /// What.
        sku: Sku,
        /// From which reservation.
        reservation: ReservationId,
        /// How many.
        quantity: Quantity,
    },
    /// Held units left the house.
    #[serde(rename = "inventory.stock_committed.v1")]
    StockCommitted {
        /// What.
        sku: Sku,
        /// From which reservation.
        reservation: ReservationId,
        /// How many.
        quantity: Quantity,
    },
    /// Units that had left the stock came back before they left the house.
    #[serde(rename = "inventory.stock_returned.v1")]
    StockReturned {
        /// What.
        sku: Sku,
        /// From which reservation.
        reservation: ReservationId,
        /// How many.
        quantity: Quantity,
    },
    /// Units left the house that were not free: promised to others, or not in the books at all.
    /// A warning for people; it changes no number by itself.
    #[serde(rename = "inventory.oversell_recorded.v1")]
    OversellRecorded {
        /// What.
        sku: Sku,
        /// For which reservation they left.
        reservation: ReservationId,
        /// How many of them were not free.
        quantity: Quantity,
    },
    /// Everything that was asked for is held.
    #[serde(rename = "inventory.reserved.v1")]
    Reserved {
        /// For which order.
        order: OrderId,
        /// Under which id.
        reservation: ReservationId,
        /// What.
        units: Vec<Units>,
        /// Until when.
        expires_at: Timestamp,
    },
    /// Some of what was asked for is held.
    #[serde(rename = "inventory.partially_reserved.v1")]
    PartiallyReserved {
        /// For which order.
        order: OrderId,
        /// Under which id.
        reservation: ReservationId,
        /// What is held.
        units: Vec<Units>,
        /// What is missing.
        short: Vec<Shortage>,
        /// Until when.
        expires_at: Timestamp,
    },
    /// Nothing is held.
    #[serde(rename = "inventory.reservation_rejected.v1")]
    ReservationRejected {
        /// For which order.
        order: OrderId,
        /// Under which id.
        reservation: ReservationId,
        /// What was short; empty where the reservation had been given up before it was made.
        short: Vec<Shortage>,
    },
    /// Nothing is held any more, or ever will be.
    #[serde(rename = "inventory.reservation_released.v1")]
    ReservationReleased {
        /// For which order.
        order: OrderId,
        /// Which reservation.
        reservation: ReservationId,
        /// What was held.
        units: Vec<Units>,
    },
    /// Some of what was held is held no more.
    #[serde(rename = "inventory.reservation_reduced.v1")]
    ReservationReduced {
        /// For which order.
        order: OrderId,
        /// Which reservation.
        reservation: ReservationId,
        /// What was given back.
        units: Vec<Units>,
    },
    /// What was held left the house.
    #[serde(rename = "inventory.reservation_committed.v1")]
    ReservationCommitted {
        /// For which order.
        order: OrderId,
        /// Which reservation.
        reservation: ReservationId,
        /// What left.
        units: Vec<Units>,
    },
    /// What is held is held longer.
    #[serde(rename = "inventory.reservation_extended.v1")]
    ReservationExtended {
        /// For which order.
        order: OrderId,
        /// Which reservation.
        reservation: ReservationId,
        /// Until when.
        expires_at: Timestamp,
    },
    /// Nobody came for it in time; nothing is held any more.
    #[serde(rename = "inventory.reservation_expired.v1")]
    ReservationExpired {
        /// For which order.
        order: OrderId,
        /// Which reservation.
        reservation: ReservationId,
        /// What was held.
        units: Vec<Units>,
    },
}

impl Event {
    /// The stream it belongs to.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        match self {
            Self::StockExpected { sku, .. }
            | Self::StockReceived { sku, .. }
            | Self::StockAdjusted { sku, .. }
            | Self::StockReserved { sku, .. }
            | Self::StockReleased { sku, .. }
            | Self::StockCommitted { sku, .. }
            | Self::StockReturned { sku, .. }
            | Self::OversellRecorded { sku, .. } => stock_stream(sku),
            Self::Reserved { reservation, .. }
            | Self::PartiallyReserved { reservation, .. }
            | Self::ReservationRejected { reservation, .. }
            | Self::ReservationReleased { reservation, .. }
            | Self::ReservationReduced { reservation, .. }
            | Self::ReservationCommitted { reservation, .. }
            | Self::ReservationExtended { reservation, .. }
            | Self::ReservationExpired { reservation, .. } => reservation.stream(),
        }
    }

    /// The order that a reservation event is about; none for stock events.
    #[must_use]
    pub const fn order(&self) -> Option<OrderId> {
        match self {
            Self::StockExpected { .. }
            | Self::StockReceived { .. }
            | Self::StockAdjusted { .. }
            | Self::StockReserved { .. }
            | Self::StockReleased { .. }
            | Self::StockCommitted { .. }
            | Self::StockReturned { .. }
            | Self::OversellRecorded { .. } => None,
            Self::Reserved { order, .. }
            | Self::PartiallyReserved { order, .. }
            | Self::ReservationRejected { order, .. }
            | Self::ReservationReleased { order, .. }
            | Self::ReservationReduced { order, .. }
            | Self::ReservationCommitted { order, .. }
            | Self::ReservationExtended { order, .. }
            | Self::ReservationExpired { order, .. } => Some(*order),
        }
    }
}

impl crate::Event for Event {
    const CATEGORY: Category = Category::Inventory;
}

/// The stream of a sku's stock. Its id follows from the sku (UUID version 5).
#[must_use]
pub fn stock_stream(sku: &Sku) -> StreamId {
    const STOCK: Uuid = uuid!("6f1c7f3e-5f0b-4c0e-9a53-6b1f0d9f2b11");
    StreamId::new(Category::Inventory, Uuid::new_v5(&STOCK, sku.as_str().as_bytes()))
}

impl ReservationId {
    /// The reservation's stream.
    #[must_use]
    pub const fn stream(self) -> StreamId {
        StreamId::new(Category::Inventory, self.uuid())
    }
}
