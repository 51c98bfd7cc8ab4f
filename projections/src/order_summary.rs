//! One row per order, as lists of orders show it.

use std::collections::BTreeSet;

use schemas::order::HoldReason;
use schemas::{Category, Currency, CustomerId, Fact, Money, OrderId, Recorded, Timestamp, order};
use sqlx::types::Json;
use sqlx::{PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::order_progress::{FulfilmentStatus, PaymentStatus, Progress, Status};
use crate::projection::{Keys, Projection};
use crate::row::AsText;
use crate::walk::{self, List, Only, Part, Place, Placed};

crate::table! {
    /// An order in a list.
    pub struct Row {
        /// The order.
        order_id: Uuid,
        /// Who ordered.
        customer: Uuid,
        /// The order as a whole.
        status: AsText<Status>,
        /// The money.
        payment_status: AsText<PaymentStatus>,
        /// The goods.
        fulfilment_status: AsText<FulfilmentStatus>,
        /// How many lines it has.
        line_count: i32,
        /// The currency of all its amounts.
        currency: AsText<Currency>,
        /// What is due, in minor units.
        total: i64,
        /// What was taken, in minor units.
        captured: i64,
        /// What was given back, in minor units.
        refunded: i64,
        /// Whether it was ever confirmed.
        confirmed: bool,
        /// Why it waits.
        holds: Json<BTreeSet<HoldReason>>,
        /// When it was placed.
        placed_at: Timestamp,
        /// When its last event was recorded.
        updated_at: Timestamp,
        /// The version of its stream.
        version: i64,
    }
}

impl Row {
    /// The order's id.
    #[must_use]
    pub const fn id(&self) -> OrderId {
        OrderId::new(self.order_id)
    }

    /// An amount in the order's currency.
    #[must_use]
    pub const fn money(&self, amount: i64) -> Money {
        Money::new(amount, self.currency.0)
    }

    fn progress(&self) -> Progress {
        Progress {
            status: self.status.0,
            payment_status: self.payment_status.0,
            fulfilment_status: self.fulfilment_status.0,
            total: self.total,
            captured: self.captured,
            refunded: self.refunded,
            confirmed: self.confirmed,
            holds: self.holds.0.clone(),
        }
    }

    fn with(self, progress: Progress) -> Self {
        Self {
            status: AsText(progress.status),
            payment_status: AsText(progress.payment_status),
            fulfilment_status: AsText(progress.fulfilment_status),
            total: progress.total,
            captured: progress.captured,
            refunded: progress.refunded,
            confirmed: progress.confirmed,
            holds: Json(progress.holds),
            ..self
        }
    }
}

/// The list of orders.
#[derive(Debug)]
pub struct OrderSummary;

impl Projection for OrderSummary {
    const NAME: &'static str = "order_summary";
    const VERSION: u16 = 2;
    const CATEGORIES: &'static [Category] = &[Category::Order];
    type Row = Row;

    fn keys(event: &Recorded) -> Keys {
        match event.fact {
            Fact::Order(_) => Keys::One(event.stream.id),
            _ => Keys::None,
        }
    }

    fn evolve(row: Option<Row>, key: Uuid, event: &Recorded) -> Option<Row> {
        let Fact::Order(fact) = &event.fact else { return row };
        let row = match (row, fact) {
            (None, order::Event::Placed { customer, lines, total, placed_at, .. }) => {
                let progress = Progress::placed(total.amount);
                Some(Row {
                    order_id: key,
                    customer: customer.uuid(),
                    status: AsText(progress.status),
                    payment_status: AsText(progress.payment_status),
                    fulfilment_status: AsText(progress.fulfilment_status),
                    line_count: i32::try_from(lines.len()).unwrap_or(i32::MAX),
                    currency: AsText(total.currency),
                    total: total.amount,
                    captured: 0,
                    refunded: 0,
                    confirmed: false,
                    holds: Json(BTreeSet::new()),
                    placed_at: *placed_at,
                    updated_at: event.recorded_at,
                    version: event.version,
                })
            }
            (row, fact) => row.map(|row| {
                let progress = row.progress().evolve(fact);
                row.with(progress)
            }),
        };
        row.map(|row| Row { version: event.version, updated_at: event.recorded_at, ..row })
    }
}

/// Which orders are wanted. What is absent does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this customer.
    pub customer: Option<CustomerId>,
    /// In one of these statuses.
    pub statuses: Vec<Status>,
}

impl Placed for Row {
    fn place(&self) -> Place {
        (self.placed_at, self.order_id)
    }
}

/// The orders of `part` that `filter` lets through, by the time at which they were placed.
///
/// # Errors
/// Where the database is away.
pub async fn list(pool: &PgPool, filter: &Filter, part: &Part) -> Result<Vec<Row>, sqlx::Error> {
    walk::read(pool, list_query(filter, part)).await
}

/// What [`list`] asks, for whoever looks at how it is planned.
#[must_use]
pub fn list_query(filter: &Filter, part: &Part) -> QueryBuilder<Postgres> {
    const ORDERS: List =
        List { prefix: "", from: "read_models.order_summary", time: "placed_at", id: "order_id" };
    let customer = filter.customer.map(|customer| Only::Id("customer", customer.uuid()));
    let always: Vec<_> = customer.into_iter().collect();
    ORDERS.query::<Row>(&always, &Only::any("status", &filter.statuses), part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given::{given, placed};

    #[test]
    fn a_placed_order_is_listed() {
        let row = given::<OrderSummary>([placed(300)]).one();
        assert_eq!(row.status.0, Status::Pending);
        assert_eq!((row.total, row.line_count, row.version), (300, 1, 1));
        assert_eq!(row.money(row.total).to_string(), "3.00 EUR");
    }

    #[test]
    fn later_events_move_status_and_version() {
        let row = given::<OrderSummary>([placed(300), Fact::Order(order::Event::Confirmed)]).one();
        assert_eq!(row.status.0, Status::Confirmed);
        assert_eq!(row.payment_status.0, PaymentStatus::Authorised);
        assert_eq!(row.version, 2);
        assert!(row.updated_at > row.placed_at);
    }

    #[test]
    fn other_contexts_are_not_heard() {
        let voided = schemas::payment::Event::Voided {
            order: crate::given::order_id(),
            never_authorised: true,
        };
        assert!(given::<OrderSummary>([Fact::Payment(voided)]).rows().is_empty());
    }

    #[test]
    fn a_list_asks_for_what_the_filter_says() {
        let statuses = vec![Status::Pending, Status::Rejected];
        let customer = Some(CustomerId::new(Uuid::nil()));
        let part =
            Part { sort: walk::Sort::NewestFirst, after: None, from: None, before: None, limit: 3 };
        let query = list_query(&Filter { customer, statuses }, &part).into_string();
        assert_eq!(query.matches("customer = $").count(), 2, "{query}");
        assert_eq!(query.matches("status = $").count(), 2, "{query}");
    }
}
