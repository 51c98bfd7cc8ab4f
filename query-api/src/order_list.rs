//! `GET /v1/orders`: lists of orders, filtered, sorted and paged.

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::DateTime;
use projections::order_progress::{FulfilmentStatus, PaymentStatus, Status};
use projections::order_summary::{self, Filter, Place, Row, Sort};
use schemas::{CustomerId, Money, OrderId, Timestamp, Version};
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;
use web::{Cursors, Page, Problem, Query};

use crate::api::{Api, Wanted, database};

pub(crate) fn routes() -> Router<Api> {
    Router::new().route("/v1/orders", get(list))
}

/// What may be asked of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(rename = "filter[customer]")]
    customer: Option<CustomerId>,
    /// One or several, with commas between them.
    #[serde(rename = "filter[status]", default, deserialize_with = "statuses")]
    statuses: Vec<Status>,
    #[serde(rename = "filter[placed_at][gte]")]
    placed_from: Option<Timestamp>,
    #[serde(rename = "filter[placed_at][lt]")]
    placed_before: Option<Timestamp>,
    #[serde(default)]
    sort: Sorted,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A minus turns the order round.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum Sorted {
    #[serde(rename = "placed_at")]
    Ascending,
    #[default]
    #[serde(rename = "-placed_at")]
    Descending,
}

fn statuses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Status>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let words = text.split(',').map(str::trim);
    let known = || Status::ALL.iter().map(|status| status.as_str()).collect::<Vec<_>>().join(", ");
    words
        .map(|word| word.parse().map_err(|_| de::Error::custom(format!("expected {}", known()))))
        .collect()
}

impl Asked {
    /// The query that a cursor belongs to, in one spelling.
    fn binding(&self) -> String {
        let Self { customer, statuses, placed_from, placed_before, sort, .. } = self;
        let mut statuses: Vec<_> = statuses.iter().map(|status| status.as_str()).collect();
        statuses.sort_unstable();
        format!("orders {customer:?} {statuses:?} {placed_from:?} {placed_before:?} {sort:?}")
    }
}

/// Where a page ends, and which way the cursor goes from there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Key {
    /// Microseconds since 1970.
    placed_at: i64,
    order_id: Uuid,
    back: bool,
}

impl Key {
    fn of(row: &Row, back: bool) -> Self {
        Self { placed_at: row.placed_at.timestamp_micros(), order_id: row.order_id, back }
    }

    fn place(self) -> Option<Place> {
        Some((DateTime::from_timestamp_micros(self.placed_at)?, self.order_id))
    }
}

async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    Query(asked): Query<Asked>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let limit = web::rows(asked.limit)?;
    let binding = asked.binding();
    let key = asked.cursor.as_deref().map(|cursor| api.cursors.open::<Key>(&binding, cursor));
    let key = key.transpose()?;
    let filter = Filter {
        customer: asked.customer,
        statuses: asked.statuses,
        placed_from: asked.placed_from,
        placed_before: asked.placed_before,
    };
    let back = key.is_some_and(|key| key.back);
    let sort = match (asked.sort, back) {
        (Sorted::Ascending, false) | (Sorted::Descending, true) => Sort::PlacedAscending,
        (Sorted::Descending, false) | (Sorted::Ascending, true) => Sort::PlacedDescending,
    };
    let seen = api.fresh("order_summary", &wanted).await?;
    let after = key.and_then(Key::place);
    // One more than asked for tells whether there is another page.
    let rows = order_summary::list(&api.pool, &filter, sort, after, i64::from(limit) + 1).await;
    let cut = Cut::new(rows.map_err(|error| database(&error))?, limit as usize, key);
    let page = cut.page(&api.cursors, &binding).map_err(|error| Problem::internal(&error))?;
    Ok((seen, page.linked(&uri)).into_response())
}

/// A page of rows, and whether there are others on either side.
struct Cut {
    rows: Vec<Row>,
    more_before: bool,
    more_after: bool,
}

impl Cut {
    fn new(mut rows: Vec<Row>, limit: usize, key: Option<Key>) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        match key {
            Some(Key { back: true, .. }) => {
                rows.reverse();
                Self { rows, more_before: more, more_after: true }
            }
            _ => Self { rows, more_before: key.is_some(), more_after: more },
        }
    }

    fn page(self, cursors: &Cursors, binding: &str) -> Result<Page<Summary>, serde_json::Error> {
        let seal = |row: Option<&Row>, back| {
            row.map(|row| cursors.seal(binding, &Key::of(row, back))).transpose()
        };
        let next = seal(self.rows.last().filter(|_| self.more_after), false)?;
        let previous = seal(self.rows.first().filter(|_| self.more_before), true)?;
        Ok(Page::new(self.rows.iter().map(Summary::of).collect(), next, previous))
    }
}

/// An order in a list.
#[derive(Debug, Serialize)]
struct Summary {
    id: OrderId,
    version: Version,
    customer: CustomerId,
    status: Status,
    payment_status: PaymentStatus,
    fulfilment_status: FulfilmentStatus,
    line_count: i32,
    totals: Totals,
    placed_at: Timestamp,
    updated_at: Timestamp,
    links: Links,
}

#[derive(Debug, Serialize)]
struct Totals {
    grand: Money,
    captured: Money,
    refunded: Money,
}

#[derive(Debug, Serialize)]
struct Links {
    #[serde(rename = "self")]
    order: String,
}

impl Summary {
    fn of(row: &Row) -> Self {
        Self {
            id: row.id(),
            version: row.version,
            customer: CustomerId::new(row.customer),
            status: row.status.0,
            payment_status: row.payment_status.0,
            fulfilment_status: row.fulfilment_status.0,
            line_count: row.line_count,
            totals: Totals {
                grand: row.money(row.total),
                captured: row.money(row.captured),
                refunded: row.money(row.refunded),
            },
            placed_at: row.placed_at,
            updated_at: row.updated_at,
            links: Links { order: format!("/v1/orders/{}", row.id()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use projections::row::AsText;
    use schemas::Currency;

    use super::*;

    fn row(number: u8) -> Row {
        let at = DateTime::from_timestamp_micros(i64::from(number)).unwrap();
        Row {
            order_id: Uuid::from_u128(number.into()),
            customer: Uuid::nil(),
            status: AsText(Status::Pending),
            payment_status: AsText(PaymentStatus::None),
            fulfilment_status: AsText(FulfilmentStatus::Unfulfilled),
            line_count: 1,
            currency: AsText(Currency::EUR),
            total: 100,
            captured: 0,
            refunded: 0,
            confirmed: false,
            placed_at: at,
            updated_at: at,
            version: 1,
        }
    }

    fn numbers(cut: &Cut) -> Vec<u128> {
        cut.rows.iter().map(|row| row.order_id.as_u128()).collect()
    }

    #[test]
    fn the_first_page_has_nothing_before_it() {
        let cut = Cut::new(vec![row(3), row(2), row(1)], 2, None);
        assert_eq!(numbers(&cut), [3, 2]);
        assert!(cut.more_after && !cut.more_before);
        let all = Cut::new(vec![row(2), row(1)], 2, None);
        assert!(!all.more_after && !all.more_before);
    }

    #[test]
    fn a_page_before_another_is_turned_round() {
        let key = Some(Key::of(&row(2), true));
        let cut = Cut::new(vec![row(3), row(4), row(5)], 2, key);
        assert_eq!(numbers(&cut), [4, 3]);
        assert!(cut.more_after && cut.more_before);
    }

    #[test]
    fn a_page_after_another_has_something_before_it() {
        let key = Some(Key::of(&row(4), false));
        let cut = Cut::new(vec![row(3)], 2, key);
        assert!(cut.more_before && !cut.more_after);
        let page = cut.page(&Cursors::new(b"secret"), "orders").unwrap();
        assert!(page.page.prev_cursor.is_some() && page.page.next_cursor.is_none());
    }

    #[test]
    fn a_cursor_is_bound_to_filter_and_sort_and_not_to_the_limit() {
        let asked = |sort, limit, statuses: &[Status]| {
            let statuses = statuses.to_vec();
            Asked { statuses, sort, limit, ..Asked::default() }.binding()
        };
        let both = [Status::Pending, Status::Rejected];
        let turned = [Status::Rejected, Status::Pending];
        let first = asked(Sorted::Descending, Some(2), &both);
        assert_eq!(first, asked(Sorted::Descending, None, &turned));
        assert_ne!(first, asked(Sorted::Ascending, Some(2), &both));
        assert_ne!(first, asked(Sorted::Descending, Some(2), &both[..1]));
    }

    #[test]
    fn a_key_keeps_its_place() {
        let key = Key::of(&row(7), false);
        assert_eq!(key.place(), Some((row(7).placed_at, row(7).order_id)));
    }
}
