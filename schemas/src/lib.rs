//! The vocabulary of Waybill: ids, money, and for every context its commands and events.
//!
//! Nothing in here does I/O or knows a rule. What a context may do with a command is decided in
//! `aggregates`; this crate only says what can be asked, what can happen, and how both are stored.
//!
//! To add one more context: 1. a module with its `Command` and `Event`; 2. a variant of
//! [`Category`], [`Fact`] and [`Command`]; 3. golden events in `schemas/golden`.

#![deny(missing_docs)]

mod address;
mod clock;
mod command;
mod decider;
mod event;
#[cfg(test)]
mod golden;
mod id;
mod money;
mod personal;
mod stream;
mod value;

pub mod inventory;
pub mod order;
pub mod payment;
pub mod saga;
pub mod shipping;

pub use address::{Address, AddressError};
pub use clock::{Chance, Clock, Ids, Timestamp};
pub use command::Command;
pub use decider::{Decider, Refusal};
pub use event::{
    Category, DecodeError, Encoded, Event, Fact, Position, Recorded, StreamId, Upcast, Version,
};
pub use id::{
    CommandId, CustomerId, EventId, FulfilmentId, IdError, OrderId, PaymentId, RefundId,
    ReservationId, SagaId, ShipmentId,
};
pub use money::{Currency, Money, MoneyError};
pub use personal::{Personal, PersonalData, SealedError};
pub use stream::StreamIdError;
pub use value::{Quantity, Sku, Text, ValueError};
