//! One row per sku: how many there are, and how many of them are spoken for.

use schemas::inventory::{Event, stock_stream};
use schemas::{Category, Fact, Recorded, Sku, Timestamp};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::projection::{Keys, Projection};
use crate::row::{AsText, Row as _};

crate::table! {
    /// The stock of one sku.
    pub struct Row {
        /// Follows from the sku.
        stock_id: Uuid,
        /// What.
        sku: AsText<Sku>,
        /// How many are in the house.
        on_hand: i64,
        /// How many of them are held for orders.
        reserved: i64,
        /// How many can still be ordered.
        available: i64,
        /// When its last event was recorded.
        updated_at: Timestamp,
        /// The version of its stream.
        version: i64,
    }
}

/// Stock, sku by sku.
#[derive(Debug)]
pub struct StockLevel;

impl Projection for StockLevel {
    const NAME: &'static str = "stock_level";
    const VERSION: u16 = 1;
    const CATEGORIES: &'static [Category] = &[Category::Inventory];
    type Row = Row;

    fn keys(event: &Recorded) -> Keys {
        match change(event) {
            Some(_) => Keys::One(event.stream.id),
            None => Keys::None,
        }
    }

    fn evolve(row: Option<Row>, key: Uuid, event: &Recorded) -> Option<Row> {
        let (sku, on_hand, reserved) = change(event)?;
        let row = row.unwrap_or_else(|| Row {
            stock_id: key,
            sku: AsText(sku.clone()),
            on_hand: 0,
            reserved: 0,
            available: 0,
            updated_at: event.recorded_at,
            version: 0,
        });
        let (on_hand, reserved) = (row.on_hand + on_hand, row.reserved + reserved);
        Some(Row {
            on_hand,
            reserved,
            available: on_hand - reserved,
            updated_at: event.recorded_at,
            version: event.version,
            ..row
        })
    }
}

/// Of which sku, how many more are in the house, and how many more are held.
fn change(event: &Recorded) -> Option<(&Sku, i64, i64)> {
    let Fact::Inventory(fact) = &event.fact else { return None };
    match fact {
        Event::StockReceived { sku, quantity, .. } | Event::StockReturned { sku, quantity, .. } => {
            Some((sku, quantity.get().into(), 0))
        }
        Event::StockAdjusted { sku, delta, .. } => Some((sku, i64::from(*delta), 0)),
        Event::StockReserved { sku, quantity, .. } => Some((sku, 0, quantity.get().into())),
        Event::StockReleased { sku, quantity, .. } => Some((sku, 0, -i64::from(quantity.get()))),
        Event::StockCommitted { sku, quantity, .. } => {
            let units = i64::from(quantity.get());
            Some((sku, -units, -units))
        }
        Event::OversellRecorded { sku, .. } => Some((sku, 0, 0)),
        Event::Reserved { .. }
        | Event::PartiallyReserved { .. }
        | Event::ReservationRejected { .. }
        | Event::ReservationReleased { .. }
        | Event::ReservationCommitted { .. }
        | Event::ReservationExpired { .. } => None,
    }
}

/// The stock of one sku.
///
/// # Errors
/// Where the database is away.
pub async fn get(pool: &PgPool, sku: &Sku) -> Result<Option<Row>, sqlx::Error> {
    let columns = Row::COLUMNS.join(", ");
    let query = format!("select {columns} from read_models.stock_level where stock_id = $1");
    let query = sqlx::query(AssertSqlSafe(query)).bind(stock_stream(sku).id);
    query.fetch_optional(pool).await?.as_ref().map(Row::read).transpose()
}

/// At most `limit` skus after `after`, sorted by sku.
///
/// # Errors
/// Where the database is away.
pub async fn list(pool: &PgPool, after: Option<&str>, limit: i64) -> Result<Vec<Row>, sqlx::Error> {
    let columns = Row::COLUMNS.join(", ");
    let query = format!(
        "select {columns} from read_models.stock_level \
         where sku collate \"C\" > $1 order by sku collate \"C\" limit $2"
    );
    let query = sqlx::query(AssertSqlSafe(query)).bind(after.unwrap_or_default()).bind(limit);
    query.fetch_all(pool).await?.iter().map(Row::read).collect()
}

#[cfg(test)]
mod tests {
    use schemas::Quantity;

    use super::*;
    use crate::given::{given, order_id};

    #[test]
    fn what_is_held_is_in_the_house_until_it_leaves() {
        let sku = || "mug".parse::<Sku>().unwrap();
        let reservation = order_id().reservation();
        let of = |units| Quantity::new(units).unwrap();
        let story = [
            Event::StockReceived { sku: sku(), quantity: of(10), reference: None },
            Event::StockReserved { sku: sku(), reservation, quantity: of(4) },
            Event::StockReleased { sku: sku(), reservation, quantity: of(1) },
            Event::StockCommitted { sku: sku(), reservation, quantity: of(3) },
            Event::StockAdjusted { sku: sku(), delta: -2, reason: "broken".parse().unwrap() },
        ];
        let after = |events: &[Event]| {
            let row = given::<StockLevel>(events.iter().cloned().map(Fact::Inventory)).one();
            (row.on_hand, row.reserved, row.available)
        };
        assert_eq!(after(&story[..1]), (10, 0, 10));
        assert_eq!(after(&story[..2]), (10, 4, 6));
        assert_eq!(after(&story[..3]), (10, 3, 7));
        assert_eq!(after(&story[..4]), (7, 0, 7));
        assert_eq!(after(&story), (5, 0, 5));
    }

    #[test]
    fn every_sku_has_its_own_row() {
        let received = |sku: &str| {
            let quantity = Quantity::new(1).unwrap();
            let event =
                Event::StockReceived { sku: sku.parse().unwrap(), quantity, reference: None };
            Fact::Inventory(event)
        };
        assert_eq!(given::<StockLevel>([received("mug"), received("cup")]).rows().len(), 2);
    }
}
