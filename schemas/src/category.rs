//! Whose events a stream holds: ours by context, and those of anybody else who keeps a log.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::DecodeError;

/// The longest name of a category, in characters.
pub const CATEGORY_LENGTH_MAX: usize = 32;

/// The most categories of others that one process reads from its log: their names are kept.
pub(crate) const OTHERS_MAX: usize = 1024;

static OTHERS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The context that a stream belongs to.
///
/// The platform's own are variants, so that the compiler names every place which forgets one.
/// Whoever uses the event store for something else names theirs, and edits nothing of ours:
///
/// ```
/// use schemas::Category;
///
/// const LIBRARY: Category = Category::new("library");
/// assert_eq!("library".parse::<Category>().unwrap(), LIBRARY);
/// assert_eq!(Category::new("order"), Category::Order);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Orders.
    Order,
    /// Payments.
    Payment,
    /// Stock and reservations.
    Inventory,
    /// Fulfilment orders and their parcels.
    Shipping,
    /// Journals of sagas.
    Saga,
    /// Somebody else's.
    Other(CategoryName),
}

/// The name of a category that is none of the platform's. Made by [`Category::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CategoryName(&'static str);

impl Category {
    /// Every category of the platform.
    pub const ALL: [Self; 5] =
        [Self::Order, Self::Payment, Self::Inventory, Self::Shipping, Self::Saga];

    /// The category of that name.
    ///
    /// # Panics
    /// Where `name` is not 1 to [`CATEGORY_LENGTH_MAX`] of `a-z 0-9 _`; in a constant, when it is
    /// compiled.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        let mut at = 0;
        while at < Self::ALL.len() {
            if same(Self::ALL[at].as_str(), name) {
                return Self::ALL[at];
            }
            at += 1;
        }
        assert!(is_name(name), "a category is named by 1 to 32 of a-z 0-9 _");
        Self::Other(CategoryName(name))
    }

    /// The name that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Payment => "payment",
            Self::Inventory => "inventory",
            Self::Shipping => "shipping",
            Self::Saga => "saga",
            Self::Other(CategoryName(name)) => name,
        }
    }
}

const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'_') {
            return false;
        }
        at += 1;
    }
    1 <= at && at <= CATEGORY_LENGTH_MAX
}

/// Equality, where a constant is made and `==` cannot be had.
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Category {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        if let Some(ours) = Self::ALL.into_iter().find(|category| category.as_str() == text) {
            return Ok(ours);
        }
        let mut others = OTHERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = others.get(text) {
            return Ok(Self::Other(CategoryName(known)));
        }
        if !is_name(text) || others.len() >= OTHERS_MAX {
            return Err(DecodeError::Category(text.to_owned()));
        }
        let name: &'static str = String::leak(text.to_owned());
        others.insert(name);
        Ok(Self::Other(CategoryName(name)))
    }
}

/// The stream of one thing's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The context.
    pub category: Category,
    /// The thing.
    pub id: Uuid,
}

impl StreamId {
    /// Names a stream.
    #[must_use]
    pub const fn new(category: Category, id: Uuid) -> Self {
        Self { category, id }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.category, self.id.simple())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_is_read_back_by_its_name_whoever_named_it() {
        for category in Category::ALL.into_iter().chain([Category::new("sample_library_2")]) {
            assert_eq!(category.to_string().parse::<Category>().unwrap(), category);
            assert_eq!(Category::new(category.as_str()), category);
        }
        let long = "a".repeat(CATEGORY_LENGTH_MAX + 1);
        for name in ["", "Order", "a.b", "a b", "ä", &long] {
            let error = name.parse::<Category>().unwrap_err();
            assert!(matches!(&error, DecodeError::Category(text) if text == name), "{error}");
        }
    }
}
