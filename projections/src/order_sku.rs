//! One row per order and sku: which orders ask for a sku.

use schemas::order::{Event, Line};
use schemas::{Category, Fact, OrderId, Recorded, Sku, Timestamp};
use sqlx::{PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::order_summary;
use crate::projection::{Keys, Projection};
use crate::row::AsText;
use crate::walk::{self, List, Only, Part};

crate::table! {
    /// A sku in an order.
    pub struct Row {
        /// Made of the order and the sku's place in it.
        entry_id: Uuid,
        /// The order.
        order_id: Uuid,
        /// What.
        sku: AsText<Sku>,
        /// How many, in all of its lines.
        quantity: i64,
        /// When the order was placed.
        placed_at: Timestamp,
    }
}

/// Orders, sku by sku.
#[derive(Debug)]
pub struct OrderSku;

impl Projection for OrderSku {
    const NAME: &'static str = "order_sku";
    const VERSION: u16 = 1;
    const CATEGORIES: &'static [Category] = &[Category::Order];
    const WRITES_ONCE: bool = true;
    type Row = Row;

    fn keys(event: &Recorded) -> Keys {
        let Fact::Order(Event::Placed { lines, .. }) = &event.fact else { return Keys::None };
        let base = base(event);
        Keys::Many((0..skus(lines).len() as u128).map(|n| Uuid::from_u128(base | n)).collect())
    }

    fn evolve(row: Option<Row>, key: Uuid, event: &Recorded) -> Option<Row> {
        let Fact::Order(Event::Placed { lines, placed_at, .. }) = &event.fact else { return row };
        let place = usize::try_from(key.as_u128() ^ base(event)).ok()?;
        let (sku, quantity) = skus(lines).into_iter().nth(place)?;
        Some(Row {
            entry_id: key,
            order_id: event.stream.id,
            sku: AsText(sku.clone()),
            quantity,
            placed_at: *placed_at,
        })
    }
}

/// What the keys of an order's rows begin with. The last 16 bits are left for the sku's place:
/// an order has far fewer lines.
fn base(event: &Recorded) -> u128 {
    Uuid::new_v5(&event.stream.id, b"skus").as_u128() & !0xffff
}

/// Every sku of an order once, in the order of the lines, with the units of all its lines.
fn skus(lines: &[Line]) -> Vec<(&Sku, i64)> {
    let mut skus: Vec<(&Sku, i64)> = Vec::new();
    for line in lines {
        let quantity = i64::from(line.quantity.get());
        match skus.iter_mut().find(|(sku, _)| **sku == line.sku) {
            Some((_, units)) => *units += quantity,
            None => skus.push((&line.sku, quantity)),
        }
    }
    skus
}

impl Row {
    /// The order's id.
    #[must_use]
    pub const fn order(&self) -> OrderId {
        OrderId::new(self.order_id)
    }
}

/// The orders of `part` that ask for `sku`, by the time at which they were placed.
///
/// # Errors
/// Where the database is away.
pub async fn list(
    pool: &PgPool,
    sku: &Sku,
    part: &Part,
) -> Result<Vec<order_summary::Row>, sqlx::Error> {
    walk::read(pool, list_query(sku, part)).await
}

/// What [`list`] asks, for whoever looks at how it is planned.
#[must_use]
pub fn list_query(sku: &Sku, part: &Part) -> QueryBuilder<Postgres> {
    const ORDERS: List = List {
        prefix: "orders.",
        from: "read_models.order_sku as named \
               join read_models.order_summary as orders on orders.order_id = named.order_id",
        time: "named.placed_at",
        id: "named.order_id",
    };
    let only = [Only::Text("named.sku", sku.to_string())];
    ORDERS.query::<order_summary::Row>(&only, &[], part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given::{euro, given, order_id, placed};

    fn of(skus: &[(&str, u32)]) -> Fact {
        let Fact::Order(Event::Placed { .. }) = placed(1) else { panic!("not placed") };
        let mut fact = placed(1);
        if let Fact::Order(Event::Placed { lines, .. }) = &mut fact {
            *lines = skus
                .iter()
                .map(|(sku, units)| Line {
                    sku: sku.parse().unwrap(),
                    title: "Something".parse().unwrap(),
                    quantity: schemas::Quantity::new(*units).unwrap(),
                    unit_price: euro(1),
                })
                .collect();
        }
        fact
    }

    #[test]
    fn a_sku_stands_once_however_many_lines_ask_for_it() {
        let story = [of(&[("mug", 2), ("tea", 1), ("mug", 3)]), Fact::Order(Event::Confirmed)];
        let rows = given::<OrderSku>(story).rows();
        let told: Vec<_> = rows.iter().map(|row| (row.sku.0.as_str(), row.quantity)).collect();
        assert_eq!(told, [("mug", 5), ("tea", 1)]);
        assert!(rows.iter().all(|row| row.order() == order_id()));
    }

    #[test]
    fn an_order_of_the_most_lines_has_a_row_for_each() {
        let names: Vec<_> = (0..schemas::order::LINES_MAX).map(|n| format!("sku-{n}")).collect();
        let lines: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        assert_eq!(given::<OrderSku>([of(&lines)]).rows().len(), schemas::order::LINES_MAX);
    }
}
