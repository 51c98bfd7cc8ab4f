//! Rows in memory, between being read and being written.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use schemas::Recorded;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::projection::{Keys, Projection};
use crate::row::{Row as _, Table};

/// How many rows one statement writes. Larger ones cost memory and gain nothing.
const ROWS_PER_STATEMENT: usize = 5_000;

/// A row that is being folded.
#[derive(Debug)]
struct Slot<R> {
    row: Option<R>,
    /// Whether the table holds a row under this key.
    stored: bool,
}

/// The rows of one projection that a run of events touches.
#[derive(Debug)]
pub(crate) struct Fold<P: Projection> {
    slots: HashMap<Uuid, Slot<P::Row>>,
}

impl<P: Projection> Fold<P> {
    pub(crate) fn new() -> Self {
        Self { slots: HashMap::new() }
    }

    /// How many rows are held in memory.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Reads the rows that `events` touch and that are not held yet.
    pub(crate) async fn fetch<'e>(
        &mut self,
        table: &Table<P::Row>,
        connection: &mut PgConnection,
        events: impl Iterator<Item = &'e Recorded>,
    ) -> Result<(), sqlx::Error> {
        if P::WRITES_ONCE {
            return Ok(());
        }
        let mut missing = Vec::new();
        for event in events {
            for key in P::keys(event).as_slice() {
                if let Entry::Vacant(vacant) = self.slots.entry(*key) {
                    vacant.insert(Slot { row: None, stored: false });
                    missing.push(*key);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        for row in table.select(connection, &missing).await? {
            self.slots.insert(row.key(), Slot { row: Some(row), stored: true });
        }
        Ok(())
    }

    /// Folds one event into the rows that it touches.
    pub(crate) fn apply(&mut self, event: &Recorded) {
        match P::keys(event) {
            Keys::None => {}
            Keys::One(key) => self.apply_to(key, event),
            Keys::Many(keys) => keys.into_iter().for_each(|key| self.apply_to(key, event)),
        }
    }

    fn apply_to(&mut self, key: Uuid, event: &Recorded) {
        let slot = self.slots.entry(key).or_insert(Slot { row: None, stored: false });
        slot.row = P::evolve(slot.row.take(), key, event);
    }

    /// Writes the rows over what the table holds, and forgets them.
    pub(crate) async fn write(
        &mut self,
        table: &Table<P::Row>,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let gone = self.slots.iter().filter(|(_, slot)| slot.stored && slot.row.is_none());
        let gone: Vec<_> = gone.map(|(key, _)| *key).collect();
        table.delete(connection, &gone).await?;
        let rows: Vec<_> = self.slots.values().filter_map(|slot| slot.row.as_ref()).collect();
        for rows in rows.chunks(ROWS_PER_STATEMENT) {
            table.upsert(connection, rows).await?;
        }
        self.slots.clear();
        Ok(())
    }

    /// Copies the rows into a table that holds none of them, forgets them, and says how many
    /// there were.
    pub(crate) async fn copy(
        &mut self,
        table: &Table<P::Row>,
        connection: &mut PgConnection,
    ) -> Result<u64, sqlx::Error> {
        let rows = self.slots.values().filter_map(|slot| slot.row.as_ref());
        let copied = table.copy(connection, rows).await?;
        self.slots.clear();
        Ok(copied)
    }

    /// The row under `key`, as far as it is folded.
    pub(crate) fn take(&mut self, key: Uuid) -> Option<P::Row> {
        self.slots.remove(&key).and_then(|slot| slot.row)
    }
}
