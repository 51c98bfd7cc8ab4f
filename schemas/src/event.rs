//! How an event is stored, read back, and told apart from others.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::category::{CATEGORY_LENGTH_MAX, OTHERS_MAX};
use crate::upcast::{self, UPCASTS_MAX, Upcast};
use crate::{Category, CommandId, EventId, StreamId, Timestamp, tagged};
use crate::{inventory, order, payment, saga, shipping};

/// A place in the log, counted from 1 without gaps, in commit order; 0 is before the first.
pub type Position = i64;

/// A place in a stream, counted from 1 without gaps; 0 is a stream that does not exist yet.
pub type Version = i64;

/// An event as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Name and version, as `order.placed.v1`.
    pub event_type: String,
    /// JSON.
    pub payload: String,
}

/// Why stored bytes are not an event we know.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer release, or by a stranger.
    #[error("unknown type `{0}`")]
    UnknownType(String),
    /// Not the name of a category, or one too many.
    #[error(
        "a category is named by 1 to {CATEGORY_LENGTH_MAX} of a-z 0-9 _, and a log has at most \
         {OTHERS_MAX} of others; not `{0}`"
    )]
    Category(String),
    /// The type is known and the data does not fit it.
    #[error("the data of `{event_type}` does not fit its type")]
    Data {
        /// The stored type.
        event_type: String,
        /// What serde said.
        #[source]
        source: serde_json::Error,
    },
    /// The steps up from an old type lead round in a circle: a slip of whoever wrote them.
    #[error("the upcasts of `{0}` do not end within {UPCASTS_MAX} steps")]
    Endless(String),
}

/// The events of one context: an enum whose variants are renamed to `context.event.vN`.
///
/// The written form is serde's externally tagged one, cut into its tag and its content. A
/// variant is never edited: a changed shape takes its place under the next version, and
/// [`Event::UPCASTS`] gets a step that rewrites the old one when it is read. A type that is
/// neither a variant nor the beginning of a step is unknown: whoever needs it parks its stream.
pub trait Event: Sized + Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static {
    /// The context.
    const CATEGORY: Category;

    /// The steps up from types that are no longer written. [`Upcast`] shows how to add one.
    const UPCASTS: &'static [Upcast] = &[];

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
        let read = match upcast::from(Self::UPCASTS, event_type) {
            None => tagged::read(event_type, payload),
            Some(step) => {
                let old = serde_json::from_str(payload).map_err(data)?;
                let (current, value) = upcast::climb(Self::UPCASTS, step, old)
                    .ok_or_else(|| DecodeError::Endless(event_type.to_owned()))?;
                tagged::read(current, &value.to_string())
            }
        };
        read.map_err(|fault| match fault {
            tagged::Fault::UnknownName => DecodeError::UnknownType(event_type.to_owned()),
            tagged::Fault::Data(source) => data(source),
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
    /// Of another's category all are: [`Recorded::decode`] reads them.
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
            Category::Other(_) => Err(DecodeError::UnknownType(event_type.to_owned())),
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

impl Recorded {
    /// What happened, for whoever brings a category and events of their own; none where the
    /// event is not of that category.
    ///
    /// # Errors
    /// [`DecodeError`] where the type is unknown or the data does not fit.
    #[must_use]
    pub fn decode<E: Event>(&self) -> Option<Result<E, DecodeError>> {
        match &self.fact {
            Fact::Unknown { payload, .. } if self.stream.category == E::CATEGORY => {
                Some(E::decode(&self.event_type, payload))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::{Value, json};

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    enum Sample {
        #[serde(rename = "order.opened.v3")]
        Opened { total: u32, currency: String },
        #[serde(rename = "order.closed.v1")]
        Closed,
    }

    impl Event for Sample {
        const CATEGORY: Category = Category::Order;
        const UPCASTS: &'static [Upcast] = &[
            Upcast { from: "order.opened.v2", to: "order.opened.v3", data: WITH_CURRENCY },
            Upcast { from: "order.opened.v1", to: "order.opened.v2", data: TOTAL_OF_CENTS },
            Upcast { from: "order.began.v1", to: "order.opened.v1", data: |old| old },
            Upcast { from: "order.hen.v1", to: "order.egg.v1", data: |old| old },
            Upcast { from: "order.egg.v1", to: "order.hen.v1", data: |old| old },
            Upcast { from: "order.lost.v1", to: "order.lost.v2", data: |old| old },
        ];
    }

    const TOTAL_OF_CENTS: fn(Value) -> Value = |old| json!({ "total": old["cents"] });
    const WITH_CURRENCY: fn(Value) -> Value =
        |old| json!({ "total": old["total"], "currency": "EUR" });

    fn opened(total: u32) -> Sample {
        Sample::Opened { total, currency: "EUR".to_owned() }
    }

    #[test]
    fn an_event_is_read_back_as_it_was_stored() {
        for event in [opened(3), Sample::Closed] {
            let Encoded { event_type, payload } = event.encode().unwrap();
            assert_eq!(Sample::decode(&event_type, &payload).unwrap(), event);
        }
        assert_eq!(Sample::Closed.encode().unwrap().event_type, "order.closed.v1");
        assert_eq!(opened(3).encode().unwrap().payload, r#"{"total":3,"currency":"EUR"}"#);
    }

    #[test]
    fn an_event_of_any_older_version_is_rewritten_step_by_step_when_it_is_read() {
        for (event_type, payload) in [
            ("order.began.v1", r#"{"cents":7}"#),
            ("order.opened.v1", r#"{"cents":7}"#),
            ("order.opened.v2", r#"{"total":7}"#),
            ("order.opened.v3", r#"{"total":7,"currency":"EUR"}"#),
        ] {
            assert_eq!(Sample::decode(event_type, payload).unwrap(), opened(7), "{event_type}");
        }
    }

    #[test]
    fn steps_that_lead_round_in_a_circle_are_noticed() {
        let error = Sample::decode("order.egg.v1", "{}").unwrap_err();
        assert!(matches!(&error, DecodeError::Endless(from) if from == "order.egg.v1"), "{error}");
    }

    #[test]
    fn what_no_step_makes_sense_of_is_kept_as_unknown() {
        // A version from the future, steps that end beside every variant, data that does not fit.
        for (event_type, payload) in [
            ("order.placed.v99", r#"{"a":1}"#),
            ("order.placed.v1", r#"{"a":1}"#),
            ("nobody.knows.v1", r#"{"a":1}"#),
        ] {
            let fact = Fact::decode(Category::Order, event_type, payload);
            let kept = matches!(&fact, Fact::Unknown { payload: kept, .. } if kept == payload);
            assert!(kept, "{event_type}: {fact:?}");
        }
    }

    #[test]
    fn an_unknown_type_is_told_from_bad_data() {
        let unknown = Sample::decode("order.opened.v9", "{}").unwrap_err();
        assert!(matches!(unknown, DecodeError::UnknownType(_)), "{unknown:?}");
        let nowhere = Sample::decode("order.lost.v1", "{}").unwrap_err();
        assert!(matches!(nowhere, DecodeError::UnknownType(_)), "{nowhere:?}");
        for event_type in ["order.opened.v1", "order.opened.v3"] {
            let bad = Sample::decode(event_type, "{}").unwrap_err();
            assert!(matches!(bad, DecodeError::Data { .. }), "{bad:?}");
        }
    }
}
