//! The vocabulary of Waybill: ids, money, and for every context its commands and events.
//!
//! Nothing in here does I/O or knows a rule. What a context may do with a command is decided in
//! `aggregates`; this crate only says what can be asked, what can happen, and how both are stored.
//!
//! What is stored is kept for decades. An event is never edited: a changed shape is a new version,
//! and [`Upcast`] says how the old one is read. [`catalogue`] describes them all as JSON Schemas,
//! which stand in `schemas/json` and are checked against the code.
//!
//! To add one more context: 1. a module with its `Command` and `Event`; 2. a variant of
//! [`Category`], [`Fact`] and [`Command`]; 3. golden events in `schemas/golden`, and
//! `make schemas`.

#![deny(missing_docs)]

mod address;
mod category;
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
mod tagged;
mod upcast;
mod value;

pub mod actor;
pub mod catalogue;
pub mod inventory;
pub mod order;
pub mod payment;
pub mod saga;
pub mod shipping;

pub use address::{Address, AddressError};
pub use category::{CATEGORY_LENGTH_MAX, Category, CategoryName, StreamId};
pub use clock::{Chance, Clock, Ids, Timestamp};
pub use command::Command;
pub use decider::{Decider, Refusal};
pub use event::{DecodeError, Encoded, Event, Fact, Position, Recorded, Version};
pub use id::{
    CommandId, CustomerId, EventId, FulfilmentId, IdError, OrderId, PaymentId, RefundId,
    ReservationId, SagaId, ShipmentId,
};
pub use money::{Currency, Money, MoneyError};
pub use personal::{Personal, PersonalData, SealedError};
pub use stream::StreamIdError;
pub use upcast::{UPCASTS_MAX, Upcast};
pub use value::{Link, Quantity, Sku, Text, ValueError};
