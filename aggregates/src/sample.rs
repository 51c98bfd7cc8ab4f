//! Values that tests are made of.

use schemas::inventory::Units;
use schemas::{
    Address, Currency, CustomerId, Money, OrderId, Personal, Quantity, RefundId, Sku, Text,
    Timestamp,
};
use uuid::Uuid;

pub(crate) fn order() -> OrderId {
    OrderId::new(Uuid::from_u128(1))
}

pub(crate) fn customer() -> CustomerId {
    CustomerId::new(Uuid::from_u128(2))
}

pub(crate) fn refund(name: &str) -> RefundId {
    RefundId::derive(Uuid::nil(), name)
}

pub(crate) fn text(text: &str) -> Text {
    text.parse().unwrap()
}

pub(crate) fn sku(sku: &str) -> Sku {
    sku.parse().unwrap()
}

pub(crate) fn quantity(units: u32) -> Quantity {
    Quantity::new(units).unwrap()
}

pub(crate) fn units(sku: &str, units: u32) -> Units {
    Units { sku: self::sku(sku), quantity: quantity(units) }
}

pub(crate) fn euro(cents: i64) -> Money {
    Money::new(cents, Currency::EUR)
}

pub(crate) fn dollar(cents: i64) -> Money {
    Money::new(cents, Currency::USD)
}

/// So many minutes after the beginning of the test's time.
pub(crate) fn at(minutes: i64) -> Timestamp {
    Timestamp::from_timestamp(1_700_000_000 + 60 * minutes, 0).unwrap()
}

/// An address that no rule can read.
pub(crate) fn address() -> Personal<Address> {
    Personal::sealed(customer(), b"sealed")
}
