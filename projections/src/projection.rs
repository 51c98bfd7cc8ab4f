//! What a read model has to say about itself: the rows an event touches, and what becomes of one.

use schemas::{Category, Fact, Recorded};
use uuid::Uuid;

use crate::row::Row;

/// A fold from events to the rows of one table. Pure: no clock, no chance, no I/O.
pub trait Projection: Send + Sync + 'static {
    /// The name of its table, and of itself.
    const NAME: &'static str;

    /// Grows with every change of the row or of the fold; the table is then to be rebuilt.
    const VERSION: u16;

    /// The contexts it listens to. An event of one of them that this release cannot read parks
    /// its stream.
    const CATEGORIES: &'static [Category];

    /// Whether a row is made by one event and never touched again, so that nothing has to be
    /// read before it is written.
    const WRITES_ONCE: bool = false;

    /// Whether events of several streams touch one row, as those of every order touch the sales of
    /// a day. Then one worker folds them all: streams are spread over workers, rows are not.
    const SHARED_ROWS: bool = false;

    /// One row.
    type Row: Row;

    /// The primary keys of the rows that `event` touches.
    fn keys(event: &Recorded) -> Keys;

    /// Where rows are shared: all streams whose events touch the row `key`, so that it can be
    /// folded anew and checked. None where the key does not tell; then nobody checks it.
    #[must_use]
    fn streams(_key: Uuid) -> Vec<Uuid> {
        Vec::new()
    }

    /// The row `key` after `event`; none where there is no such row (any more).
    fn evolve(row: Option<Self::Row>, key: Uuid, event: &Recorded) -> Option<Self::Row>;
}

/// The keys of the rows that an event touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// The event is not for this read model.
    None,
    /// One row.
    One(Uuid),
    /// Several rows, each named once.
    Many(Vec<Uuid>),
}

impl Keys {
    /// The keys.
    #[must_use]
    pub fn as_slice(&self) -> &[Uuid] {
        match self {
            Self::None => &[],
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }

    /// The keys, to be kept.
    pub(crate) fn into_vec(self) -> Vec<Uuid> {
        match self {
            Self::None => Vec::new(),
            Self::One(key) => vec![key],
            Self::Many(keys) => keys,
        }
    }
}

/// Whether no event before `event` can have touched its rows: theirs are those of one stream only,
/// and it is the first of it.
pub(crate) fn is_first<P: Projection>(event: &Recorded) -> bool {
    !P::SHARED_ROWS && event.version == 1
}

/// Why `P` can never take `event`, if so.
pub(crate) fn unreadable<P: Projection>(event: &Recorded) -> Option<&str> {
    match &event.fact {
        Fact::Unknown { why, .. } if P::CATEGORIES.contains(&event.stream.category) => Some(why),
        _ => None,
    }
}
