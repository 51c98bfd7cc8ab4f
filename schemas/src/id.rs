//! Ids: a UUID inside, a prefix outside (`ord_0197…`), so that no id is taken for another.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// Why a text is not the id that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `{prefix}_` and 32 hexadecimal digits")]
pub struct IdError {
    /// What the id must start with, without the underscore.
    pub prefix: &'static str,
}

macro_rules! ids {
    ($($(#[doc = $doc:literal])* $name:ident = $prefix:literal;)+) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What the written form starts with, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Wraps an id.
            #[must_use]
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// The id that always follows from `parent` and `name` (UUID version 5).
            #[must_use]
            pub fn derive(parent: Uuid, name: &str) -> Self {
                Self(Uuid::new_v5(&parent, name.as_bytes()))
            }

            /// The bare UUID.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let error = IdError { prefix: $prefix };
                let digits = text.strip_prefix(concat!($prefix, "_")).ok_or(error.clone())?;
                if digits.len() != 32 {
                    return Err(error);
                }
                Uuid::try_parse(digits).map(Self).map_err(|_| error)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $prefix, "_[0-9a-f]{32}$"),
                    "description": concat!($($doc),*).trim_ascii(),
                })
            }
        }
    )+};
}

ids! {
    /// An order, and the stream of its events.
    OrderId = "ord";
    /// A payment: everything charged and given back for one order.
    PaymentId = "pay";
    /// One refund of a payment.
    RefundId = "ref";
    /// The stock that is held for one order.
    ReservationId = "rsv";
    /// A fulfilment order: what a warehouse is asked to send.
    FulfilmentId = "ful";
    /// A parcel.
    ShipmentId = "shp";
    /// A saga, and the stream of its journal.
    SagaId = "sag";
    /// A customer.
    CustomerId = "usr";
    /// A command: the same id is the same request, however often it arrives.
    CommandId = "cmd";
    /// An event.
    EventId = "evt";
}

impl OrderId {
    /// The payment of this order.
    #[must_use]
    pub fn payment(self) -> PaymentId {
        PaymentId::derive(self.0, "payment")
    }

    /// The reservation of this order.
    #[must_use]
    pub fn reservation(self) -> ReservationId {
        ReservationId::derive(self.0, "reservation")
    }

    /// The fulfilment order of this order.
    #[must_use]
    pub fn fulfilment(self) -> FulfilmentId {
        FulfilmentId::derive(self.0, "fulfilment/1")
    }

    /// The saga that sees this order through.
    #[must_use]
    pub fn saga(self) -> SagaId {
        SagaId::derive(self.0, "order-fulfilment")
    }
}

impl PaymentId {
    /// The refund that gives everything back when the order is undone.
    #[must_use]
    pub fn undoing_refund(self) -> RefundId {
        RefundId::derive(self.0, "refund/undo")
    }
}

impl FulfilmentId {
    /// The one parcel of this fulfilment order.
    #[must_use]
    pub fn shipment(self) -> ShipmentId {
        ShipmentId::derive(self.0, "shipment/1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_as_it_was_written() {
        let id = OrderId::new(Uuid::from_u128(7));
        assert_eq!(id.to_string(), "ord_00000000000000000000000000000007");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let text = PaymentId::new(Uuid::from_u128(7)).to_string();
        assert_eq!(text.parse::<OrderId>(), Err(IdError { prefix: "ord" }));
        assert!("ord_7".parse::<OrderId>().is_err());
    }
}
