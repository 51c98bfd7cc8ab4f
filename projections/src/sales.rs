//! Sales by day, sku and currency, to the minor unit what the payment ledger says.
//!
//! A sale is money that was taken (`payment.captured`), not an order that was placed or
//! confirmed: those may yet come to nothing. It belongs to the day on which the first money of
//! the order was taken, in UTC, and so does what is given back later (`payment.refunded`): the
//! sales of a day fall when its customers get their money back.
//!
//! Only `order.placed` knows the lines, and only the payment knows the money, so the row is that
//! of an order, which both of its streams touch. It spreads what was taken over the skus, in
//! proportion to the price of their lines, by largest remainder: the parts are whole minor units
//! and their sum is the whole. What was given back is spread in proportion to what was taken, so
//! that no sku loses more than it brought.
//!
//! A page adds up the orders of the days that it shows, which one walk of an index finds.

use chrono::NaiveDate;
use schemas::order::Event as Order;
use schemas::payment::Event as Payment;
use schemas::{Category, Currency, Fact, Money, OrderId, Recorded, Sku};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgPool, Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use crate::projection::{Keys, Projection};
use crate::row::AsText;

/// A sku in an order that was paid for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What.
    pub sku: Sku,
    /// How many.
    pub units: i64,
    /// What its lines cost, in minor units.
    pub price: i64,
    /// Its part of what was taken, in minor units.
    pub captured: i64,
    /// Its part of what was given back, in minor units.
    pub refunded: i64,
}

crate::table! {
    /// The sale of an order.
    pub struct Row {
        /// The order.
        order_id: Uuid,
        /// When the first money was taken.
        day: Option<NaiveDate>,
        /// The currency of all its amounts, once one is known.
        currency: Option<AsText<Currency>>,
        /// What was taken, in minor units.
        captured: i64,
        /// What was given back, in minor units.
        refunded: i64,
        /// Every sku of the order once.
        items: Json<Vec<Item>>,
        /// The skus alone, with spaces between them.
        skus: String,
    }
}

impl Row {
    fn of(order: Uuid) -> Self {
        Self {
            order_id: order,
            day: None,
            currency: None,
            captured: 0,
            refunded: 0,
            items: Json(Vec::new()),
            skus: String::new(),
        }
    }

    fn place(&mut self, lines: &[schemas::order::Line]) {
        for line in lines {
            let units = i64::from(line.quantity.get());
            let price = line.unit_price.amount.saturating_mul(units);
            if let Some(item) = self.items.0.iter_mut().find(|item| item.sku == line.sku) {
                item.units += units;
                item.price = item.price.saturating_add(price);
            } else {
                let sku = line.sku.clone();
                self.items.0.push(Item { sku, units, price, captured: 0, refunded: 0 });
            }
        }
        let skus: Vec<_> = self.items.0.iter().map(|item| item.sku.as_str()).collect();
        self.skus = skus.join(" ");
    }

    fn add(money: &Money, sum: &mut i64, currency: &mut Option<AsText<Currency>>) {
        currency.get_or_insert(AsText(money.currency));
        *sum = sum.saturating_add(money.amount);
    }

    fn spread(&mut self) {
        let items = &mut self.items.0;
        let prices: Vec<_> = items.iter().map(|item| item.price).collect();
        let captured = shares(self.captured, &prices);
        let refunded = shares(self.refunded, &captured);
        for (item, (captured, refunded)) in items.iter_mut().zip(captured.into_iter().zip(refunded))
        {
            (item.captured, item.refunded) = (captured, refunded);
        }
    }
}

/// Divides `amount` in proportion to `weights`, none of them negative, by largest remainder: each
/// gets what it is due, rounded down, and the units that are left go to those who lost most by
/// the rounding, the first of equals first. Where all weights are 0, the first gets everything.
fn shares(amount: i64, weights: &[i64]) -> Vec<i64> {
    let total: i128 = weights.iter().copied().map(i128::from).sum();
    if total == 0 {
        let rest = std::iter::repeat_n(0, weights.len().saturating_sub(1));
        return weights.first().map(|_| amount).into_iter().chain(rest).collect();
    }
    let due = |weight: &i64| i128::from(amount) * i128::from(*weight);
    let floor = |weight| i64::try_from(due(weight).div_euclid(total)).unwrap_or_default();
    let mut shares: Vec<_> = weights.iter().map(floor).collect();
    let left = amount - shares.iter().sum::<i64>();
    let mut order: Vec<_> = (0..weights.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(due(&weights[index]).rem_euclid(total)));
    for index in order.into_iter().take(usize::try_from(left).unwrap_or_default()) {
        shares[index] += 1;
    }
    shares
}

/// What was sold.
#[derive(Debug)]
pub struct Sales;

impl Projection for Sales {
    const NAME: &'static str = "sales";
    const VERSION: u16 = 1;
    const CATEGORIES: &'static [Category] = &[Category::Order, Category::Payment];
    const SHARED_ROWS: bool = true;
    type Row = Row;

    fn keys(event: &Recorded) -> Keys {
        match &event.fact {
            Fact::Order(Order::Placed { .. }) => Keys::One(event.stream.id),
            Fact::Payment(Payment::Captured { order, .. } | Payment::Refunded { order, .. }) => {
                Keys::One(order.uuid())
            }
            _ => Keys::None,
        }
    }

    fn streams(key: Uuid) -> Vec<Uuid> {
        vec![key, OrderId::new(key).payment().uuid()]
    }

    fn evolve(row: Option<Row>, key: Uuid, event: &Recorded) -> Option<Row> {
        let mut row = row.unwrap_or_else(|| Row::of(key));
        match &event.fact {
            Fact::Order(Order::Placed { lines, .. }) => row.place(lines),
            Fact::Payment(Payment::Captured { amount, .. }) => {
                Row::add(amount, &mut row.captured, &mut row.currency);
                row.day.get_or_insert_with(|| event.occurred_at.date_naive());
            }
            Fact::Payment(Payment::Refunded { amount, .. }) => {
                Row::add(amount, &mut row.refunded, &mut row.currency);
            }
            _ => {}
        }
        row.spread();
        Some(row)
    }
}

/// What was sold of a sku on a day in a currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sold {
    /// On this day, in UTC.
    pub day: NaiveDate,
    /// Of this sku.
    pub sku: Sku,
    /// In this currency.
    pub currency: Currency,
    /// In so many orders.
    pub orders: i64,
    /// So many units.
    pub units: i64,
    /// What was taken, in minor units.
    pub captured: i64,
    /// What was given back of it, in minor units.
    pub refunded: i64,
}

impl Sold {
    /// Where it is in the list.
    #[must_use]
    pub fn place(&self) -> Place {
        (self.day, self.sku.clone(), self.currency)
    }
}

/// Which sales are wanted. What is absent does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// On this day or later.
    pub from: Option<NaiveDate>,
    /// Before this day.
    pub before: Option<NaiveDate>,
    /// Of this sku.
    pub sku: Option<Sku>,
    /// In this currency.
    pub currency: Option<Currency>,
}

/// The place of a row in the list.
pub type Place = (NaiveDate, Sku, Currency);

/// At most `limit` rows that `filter` lets through and that come after the place `after`: the
/// latest day first, and within a day by sku and currency.
///
/// # Errors
/// Where the database is away.
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    after: Option<&Place>,
    limit: i64,
) -> Result<Vec<Sold>, sqlx::Error> {
    let rows = list_query(filter, after, limit).build().fetch_all(pool).await?;
    let sold = rows.iter().map(|row| {
        Ok(Sold {
            day: row.try_get(0)?,
            sku: row.try_get::<AsText<_>, _>(1)?.0,
            currency: row.try_get::<AsText<_>, _>(2)?.0,
            orders: row.try_get(3)?,
            units: row.try_get(4)?,
            captured: row.try_get(5)?,
            refunded: row.try_get(6)?,
        })
    });
    sold.collect()
}

/// What [`list`] asks, for whoever looks at how it is planned.
#[must_use]
pub fn list_query(filter: &Filter, after: Option<&Place>, limit: i64) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(
        "select day, sku, currency, count(*), sum(units)::bigint, sum(item.captured)::bigint, \
         sum(item.refunded)::bigint from read_models.sales as sale, \
         jsonb_to_recordset(sale.items) \
         as item(sku text collate \"C\", units bigint, captured bigint, refunded bigint) \
         where day is not null",
    );
    if let Some(from) = filter.from {
        query.push(" and day >= ").push_bind(from);
    }
    if let Some(before) = filter.before {
        query.push(" and day < ").push_bind(before);
    }
    if let Some(sku) = &filter.sku {
        // Which orders, and which of their items.
        query.push(" and named @> array[").push_bind(sku.to_string()).push("] and sku = ");
        query.push_bind(sku.to_string());
    }
    if let Some(currency) = filter.currency {
        query.push(" and currency = ").push_bind(currency.to_string());
    }
    if let Some((day, sku, currency)) = after {
        query.push(" and day <= ").push_bind(*day).push(" and (day < ").push_bind(*day);
        query.push(" or (sku, currency) > (").push_bind(sku.to_string()).push(", ");
        query.push_bind(currency.to_string()).push("))");
    }
    query.push(" group by day, sku, currency order by day desc, sku, currency limit ");
    query.push_bind(limit);
    query
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::given::{euro, given, order_id, placed};

    fn of(lines: &[(&str, u32, i64)]) -> Fact {
        let mut fact = placed(0);
        if let Fact::Order(Order::Placed { lines: placed, .. }) = &mut fact {
            let line = |&(sku, units, price): &(&str, u32, i64)| schemas::order::Line {
                sku: sku.parse().unwrap(),
                title: "Something".parse().unwrap(),
                quantity: schemas::Quantity::new(units).unwrap(),
                unit_price: euro(price),
            };
            *placed = lines.iter().map(line).collect();
        }
        fact
    }

    fn captured(amount: i64) -> Fact {
        Fact::Payment(Payment::Captured { order: order_id(), op: 1, amount: euro(amount) })
    }

    fn refunded(amount: i64) -> Fact {
        let refund = order_id().payment().undoing_refund();
        Fact::Payment(Payment::Refunded { order: order_id(), refund, amount: euro(amount) })
    }

    fn items(facts: impl IntoIterator<Item = Fact>) -> Vec<(String, i64, i64, i64)> {
        let row = given::<Sales>(facts).one();
        let told = |item: Item| (item.sku.to_string(), item.units, item.captured, item.refunded);
        row.items.0.into_iter().map(told).collect()
    }

    #[test]
    fn an_order_is_no_sale_before_money_was_taken() {
        let row = given::<Sales>([of(&[("mug", 2, 100)])]).one();
        assert_eq!((row.day, row.captured), (None, 0));
        let row = given::<Sales>([of(&[("mug", 2, 100)]), captured(200)]).one();
        assert_eq!((row.day, row.skus.as_str()), (NaiveDate::from_ymd_opt(1970, 1, 1), "mug"));
        assert_eq!(
            (row.captured, row.currency.map(|currency| currency.0)),
            (200, Some(Currency::EUR))
        );
    }

    #[test]
    fn a_part_of_the_money_is_spread_over_the_skus() {
        let order = || of(&[("mug", 1, 100), ("tea", 3, 100), ("mug", 1, 100), ("free", 1, 0)]);
        let told =
            |name: &str, units, captured, refunded| (name.to_owned(), units, captured, refunded);
        let all = items([order(), captured(500)]);
        assert_eq!(all, [told("mug", 2, 200, 0), told("tea", 3, 300, 0), told("free", 1, 0, 0)]);
        let part = items([order(), captured(101), captured(100), refunded(1)]);
        assert_eq!(part, [told("mug", 2, 80, 0), told("tea", 3, 121, 1), told("free", 1, 0, 0)]);
        let none = items([order(), captured(500), refunded(500)]);
        assert_eq!(
            none,
            [told("mug", 2, 200, 200), told("tea", 3, 300, 300), told("free", 1, 0, 0)]
        );
    }

    #[test]
    fn money_that_is_told_before_the_order_is_spread_when_the_order_is_known() {
        let late = items([captured(7), of(&[("mug", 1, 7)])]);
        assert_eq!(late, [("mug".to_owned(), 1, 7, 0)]);
    }

    #[test]
    fn the_largest_remainders_get_what_is_left() {
        assert_eq!(shares(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(shares(100, &[1, 2, 4]), [14, 29, 57]);
        assert_eq!(shares(5, &[0, 0]), [5, 0]);
        assert_eq!(shares(5, &[]), [0_i64; 0]);
        assert_eq!(shares(i64::MAX, &[i64::MAX, i64::MAX]), [i64::MAX / 2 + 1, i64::MAX / 2]);
    }

    proptest! {
        /// The parts are the whole, each is within one unit of what it is due, and who is due
        /// nothing gets nothing.
        #[test]
        fn shares_add_up(
            amount in 0..=i64::MAX,
            weights in prop::collection::vec(0..=i64::MAX / 250, 1..250),
        ) {
            let total: i128 = weights.iter().copied().map(i128::from).sum();
            prop_assume!(total > 0);
            let shares = shares(amount, &weights);
            prop_assert_eq!(shares.iter().copied().map(i128::from).sum::<i128>(), i128::from(amount));
            for (share, weight) in shares.iter().zip(&weights) {
                let off = i128::from(*share) * total - i128::from(amount) * i128::from(*weight);
                prop_assert!(off.abs() < total);
            }
        }

        /// A sku never gives back more than it brought, and a sale adds up to the payment.
        #[test]
        fn a_sale_adds_up_to_the_payment(
            prices in prop::collection::vec(0_i64..100_000, 1..20),
            taken in 0.0..=1.0_f64,
            given_back in 0.0..=1.0_f64,
        ) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::float_arithmetic, reason = "any part will do")]
            let part = |of: i64, part: f64| (of as f64 * part) as i64;
            let names: Vec<_> = (0..prices.len()).map(|n| format!("sku-{n}")).collect();
            let lines: Vec<_> = names.iter().zip(&prices).map(|(name, price)| (name.as_str(), 1, *price)).collect();
            let taken = part(prices.iter().sum(), taken);
            let given_back = part(taken, given_back);
            let items = items([of(&lines), captured(taken), refunded(given_back)]);
            prop_assert_eq!(items.iter().map(|item| item.2).sum::<i64>(), taken);
            prop_assert_eq!(items.iter().map(|item| item.3).sum::<i64>(), given_back);
            prop_assert!(items.iter().all(|item| item.3 <= item.2));
        }
    }
}
