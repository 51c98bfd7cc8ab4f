//! How an event is stored, read back, and told apart from others.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use crate::{CommandId, EventId, Timestamp, inventory, order, payment, saga, shipping};

/// A place in the log, counted from 1 without gaps, in commit order; 0 is before the first.
pub type Position = i64;

/// A place in a stream, counted from 1 without gaps; 0 is a stream that does not exist yet.
pub type Version = i64;

/// The context that a stream belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Orders.
    Order,
    /// Payments.
    Payment,
    /// Stock and reservations.
    Inventory,
    /// Fulfilment orders and their parcels.
    Shipping,
    /// Journals of sagas.
    Saga,
}

impl Category {
    /// Every category.
    pub const ALL: [Self; 5] =
        [Self::Order, Self::Payment, Self::Inventory, Self::Shipping, Self::Saga];

    /// The name that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Payment => "payment",
            Self::Inventory => "inventory",
            Self::Shipping => "shipping",
            Self::Saga => "saga",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Category {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let found = Self::ALL.into_iter().find(|category| category.as_str() == text);
        found.ok_or_else(|| DecodeError::UnknownType(text.to_owned()))
    }
}

/// The stream of one thing's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The context.
    pub category: Category,
    /// The thing.
    pub id: Uuid,
}

impl StreamId {
    /// Names a stream.
    #[must_use]
    pub const fn new(category: Category, id: Uuid) -> Self {
        Self { category, id }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.category, self.id.simple())
    }
}

/// An event as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Name and version, as `order.placed.v1`.
    pub event_type: String,
    /// JSON.
    pub payload: String,
}

/// Rewrites the data of an old type, and names the type that it now has.
pub type Upcast = fn(Value) -> (&'static str, Value);

/// Why stored bytes are not an event we know.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer release, or by a stranger.
    #[error("unknown type `{0}`")]
    UnknownType(String),
    /// The type is known and the data does not fit it.
    #[error("the data of `{event_type}` does not fit its type")]
    Data {
        /// The stored type.
        event_type: String,
        /// What serde said.
        #[source]
        source: serde_json::Error,
    },
}

/// The events of one context: an enum whose variants are renamed to `context.event.vN`.
///
/// The written form is serde's externally tagged one, cut into its tag and its content. A
/// variant is never edited: a changed shape is a new variant with the next version, and
/// [`Event::upcast`] rewrites the old one when it is read.
pub trait Event: Sized + Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static {
    /// The context.
    const CATEGORY: Category;

    /// How to rewrite a type that is no longer written, if `event_type` is one.
    #[must_use]
    fn upcast(event_type: &str) -> Option<Upcast> {
        let _ = event_type;
        None
    }

    /// The stored form.
    ///
    /// # Errors
    /// Where a value cannot be written as JSON.
    fn encode(&self) -> Result<Encoded, serde_json::Error> {
        let json = serde_json::to_string(self)?;
        // Either `"type"` or `{"type":content}`; our type names contain nothing to escape.
        Ok(match json.strip_prefix("{\"").and_then(|rest| rest.split_once("\":")) {
            Some((event_type, content)) => Encoded {
                event_type: event_type.to_owned(),
                payload: content[..content.len() - 1].to_owned(),
            },
            None => Encoded {
                event_type: json.trim_matches('"').to_owned(),
                payload: "null".to_owned(),
            },
        })
    }

    /// Reads the stored form back.
    ///
    /// # Errors
    /// [`DecodeError`] where the type is unknown or the data does not fit.
    fn decode(event_type: &str, payload: &str) -> Result<Self, DecodeError> {
        let data = |source| DecodeError::Data { event_type: event_type.to_owned(), source };
        let tagged = match Self::upcast(event_type) {
            None => format!("{{\"{event_type}\":{payload}}}"),
            Some(upcast) => {
                let (current, value) = upcast(serde_json::from_str(payload).map_err(data)?);
                format!("{{\"{current}\":{value}}}")
            }
        };
        serde_json::from_str(&tagged).map_err(|source| {
            if source.to_string().starts_with("unknown variant") {
                DecodeError::UnknownType(event_type.to_owned())
            } else {
                data(source)
            }
        })
    }
}

/// Any event of the platform.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// Of an order.
    Order(order::Event),
    /// Of a payment.
    Payment(payment::Event),
    /// Of stock or a reservation.
    Inventory(inventory::Event),
    /// Of a fulfilment order.
    Shipping(shipping::Event),
    /// Of a saga's journal.
    Saga(saga::Event),
    /// Of a type that this release does not know: whoever needs its category parks its stream.
    Unknown {
        /// The JSON as stored.
        payload: String,
        /// Why it could not be read.
        why: String,
    },
}

impl Fact {
    /// Reads a stored event. What cannot be read is kept as [`Fact::Unknown`].
    #[must_use]
    pub fn decode(category: Category, event_type: &str, payload: &str) -> Self {
        let fact = match category {
            Category::Order => order::Event::decode(event_type, payload).map(Self::Order),
            Category::Payment => payment::Event::decode(event_type, payload).map(Self::Payment),
            Category::Inventory => {
                inventory::Event::decode(event_type, payload).map(Self::Inventory)
            }
            Category::Shipping => shipping::Event::decode(event_type, payload).map(Self::Shipping),
            Category::Saga => saga::Event::decode(event_type, payload).map(Self::Saga),
        };
        fact.unwrap_or_else(|error| {
            let why = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            Self::Unknown { payload: payload.to_owned(), why }
        })
    }
}

/// An event as it stands in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Its place in the log.
    pub position: Position,
    /// Whose event it is.
    pub stream: StreamId,
    /// Its place in the stream.
    pub version: Version,
    /// Name and version of its type, as stored.
    pub event_type: String,
    /// Its own id.
    pub event_id: EventId,
    /// The command that it answers.
    pub command_id: CommandId,
    /// The whole conversation: for everything about an order, the order's id.
    pub correlation_id: Uuid,
    /// The event or command that led to the command.
    pub causation_id: Uuid,
    /// When it happened, as far as whoever told us knows.
    pub occurred_at: Timestamp,
    /// When it was written to the log.
    pub recorded_at: Timestamp,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// Who asked, as `customer`, `saga`, `payment-adapter`.
    pub actor: String,
    /// What happened.
    pub fact: Fact,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    enum Sample {
        #[serde(rename = "order.opened.v2")]
        Opened { total: u32 },
        #[serde(rename = "order.closed.v1")]
        Closed,
    }

    impl Event for Sample {
        const CATEGORY: Category = Category::Order;

        fn upcast(event_type: &str) -> Option<Upcast> {
            match event_type {
                "order.opened.v1" => {
                    Some(|data| ("order.opened.v2", serde_json::json!({ "total": data["cents"] })))
                }
                _ => None,
            }
        }
    }

    #[test]
    fn an_event_is_read_back_as_it_was_stored() {
        for event in [Sample::Opened { total: 3 }, Sample::Closed] {
            let Encoded { event_type, payload } = event.encode().unwrap();
            assert_eq!(Sample::decode(&event_type, &payload).unwrap(), event);
        }
        assert_eq!(Sample::Closed.encode().unwrap().event_type, "order.closed.v1");
        assert_eq!(Sample::Opened { total: 3 }.encode().unwrap().payload, r#"{"total":3}"#);
    }

    #[test]
    fn an_old_event_is_rewritten_when_it_is_read() {
        let event = Sample::decode("order.opened.v1", r#"{"cents":7}"#).unwrap();
        assert_eq!(event, Sample::Opened { total: 7 });
    }

    #[test]
    fn an_unknown_type_is_told_from_bad_data() {
        let unknown = Sample::decode("order.opened.v9", "{}").unwrap_err();
        assert!(matches!(unknown, DecodeError::UnknownType(_)), "{unknown:?}");
        let bad = Sample::decode("order.opened.v2", "{}").unwrap_err();
        assert!(matches!(bad, DecodeError::Data { .. }), "{bad:?}");
    }
}
