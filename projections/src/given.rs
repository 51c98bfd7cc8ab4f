//! Given these facts, then those rows: how folds are tested without a database.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta};
use schemas::{
    Category, CommandId, Currency, CustomerId, EventId, Fact, Money, OrderId, Recorded, StreamId,
    order, saga,
};
use uuid::Uuid;

use crate::projection::Projection;

/// The order that all facts are about.
pub(crate) fn order_id() -> OrderId {
    OrderId::new(Uuid::from_u128(1))
}

/// Rows after some facts.
pub(crate) struct Given<P: Projection> {
    rows: BTreeMap<Uuid, P::Row>,
}

impl<P: Projection> Given<P> {
    /// All rows.
    pub(crate) fn rows(self) -> Vec<P::Row> {
        self.rows.into_values().collect()
    }

    /// The only row.
    #[track_caller]
    pub(crate) fn one(self) -> P::Row {
        let mut rows = self.rows();
        assert_eq!(rows.len(), 1, "not one row");
        rows.pop().unwrap()
    }
}

/// Folds facts about one order, in this order, a second apart.
pub(crate) fn given<P: Projection>(facts: impl IntoIterator<Item = Fact>) -> Given<P> {
    let mut rows = BTreeMap::new();
    for event in record(facts) {
        for key in P::keys(&event).as_slice() {
            if let Some(row) = P::evolve(rows.remove(key), *key, &event) {
                rows.insert(*key, row);
            }
        }
    }
    Given { rows }
}

/// The facts as the log would hold them.
pub(crate) fn record(facts: impl IntoIterator<Item = Fact>) -> Vec<Recorded> {
    let mut versions = BTreeMap::new();
    let mut events = Vec::new();
    for (position, fact) in (1..).zip(facts) {
        let stream = stream(&fact);
        let version = versions.entry(stream).or_insert(0);
        *version += 1;
        let at = DateTime::UNIX_EPOCH + TimeDelta::seconds(position);
        events.push(Recorded {
            position,
            stream,
            version: *version,
            event_type: event_type(&fact),
            event_id: EventId::derive(Uuid::nil(), &position.to_string()),
            command_id: CommandId::derive(Uuid::nil(), &position.to_string()),
            correlation_id: order_id().uuid(),
            causation_id: Uuid::nil(),
            occurred_at: at,
            recorded_at: at,
            traceparent: None,
            actor: "customer".to_owned(),
            fact,
        });
    }
    events
}

fn stream(fact: &Fact) -> StreamId {
    match fact {
        Fact::Order(_) => order_id().stream(),
        Fact::Payment(_) => order_id().payment().stream(),
        Fact::Inventory(event) => event.stream(),
        Fact::Shipping(_) => order_id().fulfilment().stream(),
        Fact::Saga(_) => order_id().saga().stream(),
        Fact::Unknown { .. } => StreamId::new(Category::Order, Uuid::from_u128(9)),
    }
}

fn event_type(fact: &Fact) -> String {
    use schemas::Event as _;
    match fact {
        Fact::Order(event) => event.encode().unwrap().event_type,
        Fact::Payment(event) => event.encode().unwrap().event_type,
        Fact::Inventory(event) => event.encode().unwrap().event_type,
        Fact::Shipping(event) => event.encode().unwrap().event_type,
        Fact::Saga(event) => event.encode().unwrap().event_type,
        Fact::Unknown { .. } => "order.unknown.v1".to_owned(),
    }
}

/// An amount in cents.
pub(crate) fn euro(amount: i64) -> Money {
    Money::new(amount, Currency::EUR)
}

/// Where everything goes.
pub(crate) fn address() -> schemas::Personal<schemas::Address> {
    schemas::Personal::sealed(CustomerId::new(Uuid::from_u128(2)), b"sealed")
}

/// An order of one line was placed.
pub(crate) fn placed(total: i64) -> Fact {
    Fact::Order(order::Event::Placed {
        customer: CustomerId::new(Uuid::from_u128(2)),
        lines: vec![order::Line {
            sku: "mug".parse().unwrap(),
            title: "A mug".parse().unwrap(),
            quantity: schemas::Quantity::new(1).unwrap(),
            unit_price: euro(total),
        }],
        total: euro(total),
        shipping_address: address(),
        payment_method: "pm_card_visa".parse().unwrap(),
        placed_at: DateTime::UNIX_EPOCH,
    })
}

/// The saga of the order began.
pub(crate) fn saga_started() -> Fact {
    Fact::Saga(saga::Event::Started {
        definition: "order-fulfilment".to_owned(),
        definition_version: 1,
        business_key: order_id().uuid(),
    })
}
