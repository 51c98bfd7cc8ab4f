//! One row per customer: how often they ordered, and when last.

use schemas::order::Event;
use schemas::{Category, CustomerId, Fact, Recorded, Timestamp};
use sqlx::PgPool;
use uuid::Uuid;

use crate::projection::{Keys, Projection};

crate::table! {
    /// A customer.
    pub struct Row {
        /// Who.
        customer: Uuid,
        /// How many orders they placed.
        orders: i64,
        /// When they placed the last.
        last_placed_at: Timestamp,
    }
}

/// Who orders.
#[derive(Debug)]
pub struct CustomerSummary;

impl Projection for CustomerSummary {
    const NAME: &'static str = "customer_summary";
    const VERSION: u16 = 1;
    const CATEGORIES: &'static [Category] = &[Category::Order];
    const SHARED_ROWS: bool = true;
    type Row = Row;

    fn keys(event: &Recorded) -> Keys {
        match &event.fact {
            Fact::Order(Event::Placed { customer, .. }) => Keys::One(customer.uuid()),
            _ => Keys::None,
        }
    }

    fn evolve(row: Option<Row>, customer: Uuid, event: &Recorded) -> Option<Row> {
        let Fact::Order(Event::Placed { placed_at, .. }) = event.fact else { return row };
        let row = row.unwrap_or(Row { customer, orders: 0, last_placed_at: placed_at });
        let last_placed_at = row.last_placed_at.max(placed_at);
        Some(Row { orders: row.orders + 1, last_placed_at, ..row })
    }
}

/// One customer.
///
/// # Errors
/// Where the database is away.
pub async fn get(pool: &PgPool, customer: CustomerId) -> Result<Option<Row>, sqlx::Error> {
    crate::row::get(pool, CustomerSummary::NAME, customer.uuid()).await
}

#[test]
fn every_order_counts() {
    let row = crate::given::given::<CustomerSummary>([1, 2].map(crate::given::placed)).one();
    assert_eq!((row.orders, row.last_placed_at), (2, Timestamp::UNIX_EPOCH));
}
