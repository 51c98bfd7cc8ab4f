//! One row per order, with the words by which people look for it.
//!
//! They are what stands on labels, statements and screens: the ids of the order and of its
//! customer, the skus, the tracking code, the payment provider's reference, and why it was
//! cancelled. Nothing personal is among them. The table makes its text search document out of
//! them as they are, so that a dash or a dot in a code divides nothing.

use std::str::FromStr;

use schemas::order::{CancelReason, Event as Order};
use schemas::payment::Event as Payment;
use schemas::shipping::Event as Shipping;
use schemas::{Category, CustomerId, Fact, OrderId, Recorded, Timestamp};
use sqlx::{PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::order_summary;
use crate::projection::{Keys, Projection};
use crate::walk::{self, List, Only, Part};

/// The most characters of a search.
pub const SEARCH_CHARS_MAX: usize = 200;

/// The most terms of a search.
pub const TERMS_MAX: usize = 8;

/// The fewest characters of a term: shorter ones begin half of all words.
pub const TERM_CHARS_MIN: usize = 3;

crate::table! {
    /// How an order is found.
    pub struct Row {
        /// The order.
        order_id: Uuid,
        /// Its words in lower case, each once, with spaces between them.
        words: String,
        /// When it was placed.
        placed_at: Timestamp,
    }
}

impl Row {
    fn know(&mut self, text: &str) {
        for word in text.to_lowercase().split_whitespace() {
            if !self.words.split(' ').any(|known| known == word) {
                self.words.push(' ');
                self.words.push_str(word);
            }
        }
    }
}

/// The index of orders.
#[derive(Debug)]
pub struct OrderSearch;

impl Projection for OrderSearch {
    const NAME: &'static str = "order_search";
    const VERSION: u16 = 1;
    const CATEGORIES: &'static [Category] =
        &[Category::Order, Category::Payment, Category::Shipping];
    const SHARED_ROWS: bool = true;
    type Row = Row;

    fn keys(event: &Recorded) -> Keys {
        match &event.fact {
            Fact::Order(Order::Placed { .. }) => Keys::One(event.stream.id),
            fact => match learned(fact) {
                Some((order, _)) => Keys::One(order.map_or(event.stream.id, OrderId::uuid)),
                None => Keys::None,
            },
        }
    }

    fn streams(key: Uuid) -> Vec<Uuid> {
        let order = OrderId::new(key);
        vec![key, order.payment().uuid(), order.fulfilment().uuid()]
    }

    fn evolve(row: Option<Row>, key: Uuid, event: &Recorded) -> Option<Row> {
        if let Fact::Order(Order::Placed { customer, lines, placed_at, .. }) = &event.fact {
            let words = OrderId::new(key).to_string();
            let mut row = Row { order_id: key, words, placed_at: *placed_at };
            row.know(&CustomerId::to_string(customer));
            for line in lines {
                row.know(line.sku.as_str());
            }
            return Some(row);
        }
        let (mut row, (_, word)) = (row?, learned(&event.fact)?);
        row.know(word);
        Some(row)
    }
}

/// A word that an event adds, and the order that it is for, unless the stream is the order's.
fn learned(fact: &Fact) -> Option<(Option<OrderId>, &str)> {
    match fact {
        Fact::Order(Order::CancellationRequested { reason }) => Some((None, word(*reason))),
        Fact::Order(Order::ShipmentRecorded { tracking_code }) => {
            Some((None, tracking_code.as_str()))
        }
        Fact::Payment(
            Payment::Authorised { order, provider_ref, .. }
            | Payment::Declined { order, provider_ref: Some(provider_ref), .. },
        ) => Some((Some(*order), provider_ref.as_str())),
        Fact::Shipping(Shipping::LabelBought { order, tracking_code, .. }) => {
            Some((Some(*order), tracking_code.as_str()))
        }
        _ => None,
    }
}

const fn word(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::Customer => "customer",
        CancelReason::Fraud => "fraud",
        CancelReason::Inventory => "inventory",
        CancelReason::Staff => "staff",
        CancelReason::Other => "other",
    }
}

/// What somebody looks for: an order is found where each term begins one of its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    terms: Vec<String>,
}

/// Why nothing can be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a search has 1 to {TERMS_MAX} terms of at least {TERM_CHARS_MIN} characters, \
     in all at most {SEARCH_CHARS_MAX}"
)]
pub struct SearchError;

impl FromStr for Search {
    type Err = SearchError;

    fn from_str(text: &str) -> Result<Self, SearchError> {
        let terms: Vec<_> = text.to_lowercase().split_whitespace().map(str::to_owned).collect();
        let fits = (1..=TERMS_MAX).contains(&terms.len())
            && text.chars().count() <= SEARCH_CHARS_MAX
            && terms.iter().all(|term| term.chars().count() >= TERM_CHARS_MIN);
        if fits { Ok(Self { terms }) } else { Err(SearchError) }
    }
}

impl Search {
    /// The search as Postgres reads it: quoted, so that no character means anything.
    fn query(&self) -> String {
        let quote = |term: &String| {
            let term = term.replace('\\', "\\\\").replace('\'', "''");
            format!("'{term}':*")
        };
        self.terms.iter().map(quote).collect::<Vec<_>>().join(" & ")
    }
}

/// The orders of `part` that `search` finds, by the time at which they were placed.
///
/// # Errors
/// Where the database is away.
pub async fn list(
    pool: &PgPool,
    search: &Search,
    part: &Part,
) -> Result<Vec<order_summary::Row>, sqlx::Error> {
    walk::read(pool, list_query(search, part)).await
}

/// What [`list`] asks, for whoever looks at how it is planned.
///
/// Postgres knows how often the frequent words occur. It looks rare ones up and sorts the few
/// that it finds; for frequent ones it walks through the orders until a page is full.
#[must_use]
pub fn list_query(search: &Search, part: &Part) -> QueryBuilder<Postgres> {
    const ORDERS: List = List {
        prefix: "orders.",
        from: "read_models.order_search as found \
               join read_models.order_summary as orders on orders.order_id = found.order_id",
        time: "found.placed_at",
        id: "found.order_id",
    };
    let only = [Only::Search("found.document", search.query())];
    ORDERS.query::<order_summary::Row>(&only, &[], part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given::{euro, given, order_id, placed};

    #[test]
    fn an_order_is_known_by_what_every_context_calls_it() {
        let order = order_id();
        let row = given::<OrderSearch>([
            placed(300),
            Fact::Payment(Payment::Authorised {
                order,
                op: 1,
                amount: euro(300),
                provider_ref: "pi_ABC".parse().unwrap(),
                until: chrono::DateTime::UNIX_EPOCH,
            }),
            Fact::Shipping(Shipping::LabelBought {
                order,
                carrier_ref: "shp_1".parse().unwrap(),
                tracking_code: "EZ-1 000".parse().unwrap(),
            }),
            Fact::Order(Order::ShipmentRecorded { tracking_code: "EZ-1 000".parse().unwrap() }),
            Fact::Order(Order::CancellationRequested { reason: CancelReason::Fraud }),
        ])
        .one();
        let customer = CustomerId::new(Uuid::from_u128(2));
        let expected = format!("{order} {customer} mug pi_abc ez-1 000 fraud");
        assert_eq!(row.words, expected);
    }

    #[test]
    fn what_is_known_before_the_order_is_left_out() {
        let fact = Fact::Order(Order::CancellationRequested { reason: CancelReason::Fraud });
        assert!(given::<OrderSearch>([fact]).rows().is_empty());
    }

    #[test]
    fn a_search_is_bounded() {
        let long = "x".repeat(SEARCH_CHARS_MAX + 1);
        let many = ["abc"; TERMS_MAX + 1].join(" ");
        for bad in ["", "  ", "ab", "abc de", &long, &many] {
            assert_eq!(bad.parse::<Search>(), Err(SearchError), "{bad}");
        }
        assert!(["abc"; TERMS_MAX].join(" ").parse::<Search>().is_ok());
    }

    #[test]
    fn no_character_of_a_term_means_anything() {
        let search: Search = "Ord_1  it's|a\\b:*".parse().unwrap();
        assert_eq!(search.query(), r"'ord_1':* & 'it''s|a\\b:*':*");
    }
}
