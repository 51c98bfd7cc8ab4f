//! One row per sku: how many there are, how many of them are spoken for, how many are to come.

use std::collections::BTreeMap;

use schemas::inventory::{Event, stock_stream};
use schemas::{Category, Fact, Recorded, Sku, Text, Timestamp};
use sqlx::types::Json;
use sqlx::{PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::projection::{Keys, Projection};
use crate::row::{self, AsText, Row as _};

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
        /// How many are announced and have not come yet.
        incoming: i64,
        /// The same, by the reference under which they were announced.
        expected: Json<BTreeMap<Text, u32>>,
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
    const VERSION: u16 = 2;
    const CATEGORIES: &'static [Category] = &[Category::Inventory];
    type Row = Row;

    fn keys(event: &Recorded) -> Keys {
        match sku(event) {
            Some(_) => Keys::One(event.stream.id),
            None => Keys::None,
        }
    }

    fn evolve(row: Option<Row>, key: Uuid, event: &Recorded) -> Option<Row> {
        let Fact::Inventory(fact) = &event.fact else { return row };
        let mut row = match row {
            Some(row) => row,
            None => Row::of(key, sku(event)?.clone(), event.recorded_at),
        };
        row.count(fact);
        row.announce(fact);
        row.available = row.on_hand - row.reserved;
        Some(Row { updated_at: event.recorded_at, version: event.version, ..row })
    }
}

impl Row {
    fn of(key: Uuid, sku: Sku, at: Timestamp) -> Self {
        Self {
            stock_id: key,
            sku: AsText(sku),
            on_hand: 0,
            reserved: 0,
            available: 0,
            incoming: 0,
            expected: Json(BTreeMap::new()),
            updated_at: at,
            version: 0,
        }
    }

    fn count(&mut self, fact: &Event) {
        match fact {
            Event::StockReceived { quantity, .. } | Event::StockReturned { quantity, .. } => {
                self.on_hand += i64::from(quantity.get());
            }
            Event::StockAdjusted { delta, .. } => self.on_hand += i64::from(*delta),
            Event::StockReserved { quantity, .. } => self.reserved += i64::from(quantity.get()),
            Event::StockReleased { quantity, .. } => self.reserved -= i64::from(quantity.get()),
            Event::StockCommitted { quantity, .. } => {
                self.on_hand -= i64::from(quantity.get());
                self.reserved -= i64::from(quantity.get());
            }
            _ => {}
        }
    }

    fn announce(&mut self, fact: &Event) {
        let (reference, left) = match fact {
            Event::StockExpected { reference, quantity, .. } => (reference, *quantity),
            Event::StockReceived { reference: Some(reference), quantity, .. } => {
                let announced = self.expected.0.get(reference).copied().unwrap_or_default();
                (reference, announced.saturating_sub(quantity.get()))
            }
            _ => return,
        };
        match left {
            0 => self.expected.0.remove(reference),
            _ => self.expected.0.insert(reference.clone(), left),
        };
        self.incoming = self.expected.0.values().copied().map(i64::from).sum();
    }
}

/// The sku whose stock `event` is about, if it is about any.
fn sku(event: &Recorded) -> Option<&Sku> {
    let Fact::Inventory(fact) = &event.fact else { return None };
    match fact {
        Event::StockExpected { sku, .. }
        | Event::StockReceived { sku, .. }
        | Event::StockReturned { sku, .. }
        | Event::StockAdjusted { sku, .. }
        | Event::StockReserved { sku, .. }
        | Event::StockReleased { sku, .. }
        | Event::StockCommitted { sku, .. }
        | Event::OversellRecorded { sku, .. } => Some(sku),
        Event::Reserved { .. }
        | Event::PartiallyReserved { .. }
        | Event::ReservationRejected { .. }
        | Event::ReservationReleased { .. }
        | Event::ReservationReduced { .. }
        | Event::ReservationCommitted { .. }
        | Event::ReservationExtended { .. }
        | Event::ReservationExpired { .. } => None,
    }
}

/// The stock of one sku.
///
/// # Errors
/// Where the database is away.
pub async fn get(pool: &PgPool, sku: &Sku) -> Result<Option<Row>, sqlx::Error> {
    row::get(pool, StockLevel::NAME, stock_stream(sku).id).await
}

/// At most `limit` skus after `after`, sorted by sku; with `out` only those of which nothing can
/// be ordered.
///
/// # Errors
/// Where the database is away.
pub async fn list(
    pool: &PgPool,
    out: bool,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    let rows = list_query(out, after, limit).build().fetch_all(pool).await?;
    rows.iter().map(Row::read).collect()
}

/// How many units there are of all skus together: in the house, held for orders, to be ordered,
/// and announced.
///
/// # Errors
/// Where the database is away.
pub async fn levels(pool: &PgPool) -> Result<[(&'static str, i64); 4], sqlx::Error> {
    let (on_hand, reserved, available, incoming) = sqlx::query_as(
        "select coalesce(sum(on_hand), 0)::bigint, coalesce(sum(reserved), 0)::bigint,
                coalesce(sum(available), 0)::bigint, coalesce(sum(incoming), 0)::bigint
         from read_models.stock_level",
    )
    .fetch_one(pool)
    .await?;
    Ok([
        ("on_hand", on_hand),
        ("reserved", reserved),
        ("available", available),
        ("incoming", incoming),
    ])
}

/// What [`list`] asks, for whoever looks at how it is planned.
#[must_use]
pub fn list_query(out: bool, after: Option<&str>, limit: i64) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("select ");
    query.push(Row::COLUMNS.join(", ")).push(" from read_models.stock_level");
    query.push(" where sku collate \"C\" > ").push_bind(after.unwrap_or_default().to_owned());
    if out {
        query.push(" and available <= 0");
    }
    query.push(" order by sku collate \"C\" limit ").push_bind(limit);
    query
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
    fn what_is_announced_is_incoming_until_it_comes() {
        let (sku, text) = ("mug".parse::<Sku>().unwrap(), |text: &str| text.parse().unwrap());
        let expect = |quantity, reference| {
            let (sku, reference) = (sku.clone(), text(reference));
            Event::StockExpected { sku, quantity, reference }
        };
        let receive = |units, reference: Option<&str>| {
            let (sku, quantity) = (sku.clone(), Quantity::new(units).unwrap());
            Event::StockReceived { sku, quantity, reference: reference.map(text) }
        };
        let story = [
            expect(10, "PO-1"),
            expect(5, "PO-2"),
            receive(4, Some("PO-1")),
            receive(7, None),
            expect(2, "PO-2"),
            receive(9, Some("PO-1")),
            expect(0, "PO-2"),
        ];
        let after = |events: usize| {
            let facts = story[..events].iter().cloned().map(Fact::Inventory);
            let row = given::<StockLevel>(facts).one();
            (row.incoming, row.on_hand, row.available)
        };
        let told = [10, 15, 11, 11, 8, 2, 0];
        assert_eq!((1..=7).map(|n| after(n).0).collect::<Vec<_>>(), told);
        assert_eq!(after(2), (15, 0, 0));
        assert_eq!(after(7), (0, 20, 20));
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
