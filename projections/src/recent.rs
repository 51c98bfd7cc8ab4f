//! Rows that were written last, as they stand in the table.

use std::collections::HashMap;

use uuid::Uuid;

use crate::row::Row;

/// How many rows are remembered at the least, and half of how many at the most.
const ROWS_KEPT: usize = 2_048;

/// The rows that a worker has written of late. What happens to an order happens in a short time, so
/// most of what a batch touches is here and need not be read.
#[derive(Debug)]
pub struct Recent<R> {
    young: HashMap<Uuid, R>,
    /// Forgotten when the young ones have become as many.
    old: HashMap<Uuid, R>,
}

impl<R: Row> Recent<R> {
    pub(crate) fn new() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }

    /// The row under `key`, which is forgotten here: whoever has written it again brings it back.
    pub(crate) fn take(&mut self, key: Uuid) -> Option<R> {
        self.young.remove(&key).or_else(|| self.old.remove(&key))
    }

    /// Remembers rows that were written.
    pub(crate) fn keep(&mut self, rows: impl Iterator<Item = R>) {
        for row in rows {
            if self.young.len() == ROWS_KEPT {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(row.key(), row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::table! {
        /// A row of a table that is nowhere.
        struct Sample {
            /// Key.
            id: Uuid,
            /// Number.
            number: i64,
        }
    }

    fn rows(numbers: std::ops::Range<u128>) -> impl Iterator<Item = Sample> {
        numbers.map(|n| Sample { id: Uuid::from_u128(n), number: 7 })
    }

    #[test]
    fn what_was_written_last_is_remembered_and_the_rest_forgotten() {
        let most = ROWS_KEPT as u128;
        let mut recent = Recent::new();
        recent.keep(rows(0..3 * most));
        assert!(recent.young.len() + recent.old.len() <= 2 * ROWS_KEPT);
        assert!(recent.take(Uuid::from_u128(0)).is_none());
        for n in 2 * most..3 * most {
            let key = Uuid::from_u128(n);
            assert!(recent.take(key).is_some(), "{n}");
            assert!(recent.take(key).is_none(), "{n} was taken");
        }
    }
}
