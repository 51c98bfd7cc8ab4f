//! Rows in memory, between being read and being written.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use event_store::{Batch, Fault, Moved};
use schemas::Recorded;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::projection::{Keys, Projection, is_first};
use crate::recent::Recent;
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
        match self.missing(events).as_slice() {
            [] => Ok(()),
            missing => self.read(table, connection, missing).await,
        }
    }

    /// The keys of the rows that `events` touch, that are not held yet, and that the table may hold:
    /// to be read next.
    pub(crate) fn missing<'e>(&mut self, events: impl Iterator<Item = &'e Recorded>) -> Vec<Uuid> {
        let mut missing = Vec::new();
        if P::WRITES_ONCE {
            return missing;
        }
        for event in events {
            for key in P::keys(event).as_slice() {
                if let Entry::Vacant(vacant) = self.slots.entry(*key) {
                    vacant.insert(Slot { row: None, stored: false });
                    if !is_first::<P>(event) {
                        missing.push(*key);
                    }
                }
            }
        }
        missing
    }

    /// Reads the rows under `keys`.
    pub(crate) async fn read(
        &mut self,
        table: &Table<P::Row>,
        connection: &mut PgConnection,
        keys: &[Uuid],
    ) -> Result<(), sqlx::Error> {
        for row in table.select(connection, keys).await? {
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

    /// Takes the rows that `events` touch out of `recent`, as far as they are there.
    pub(crate) fn recall<'e>(
        &mut self,
        recent: &mut Recent<P::Row>,
        events: impl Iterator<Item = &'e Recorded>,
    ) {
        for event in events {
            for key in P::keys(event).as_slice() {
                if let Some(row) = recent.take(*key) {
                    self.slots.insert(*key, Slot { row: Some(row), stored: true });
                }
            }
        }
    }

    /// Writes the rows over what the table holds, with whatever else the batch does, and leaves
    /// those that are there in `recent`.
    pub(crate) async fn write_batch(
        mut self,
        table: &Table<P::Row>,
        mut batch: Batch<'_>,
        recent: &mut Recent<P::Row>,
    ) -> Result<Moved, Fault> {
        let gone = self.slots.values().any(|slot| slot.stored && slot.row.is_none());
        if gone || self.slots.len() > ROWS_PER_STATEMENT {
            self.write(table, batch.transaction().await?).await?;
            return batch.commit().await;
        }
        let rows: Vec<_> = self.slots.values().filter_map(|slot| slot.row.as_ref()).collect();
        if rows.is_empty() {
            return batch.commit().await;
        }
        let moved = table.upsert_at_once(batch, &rows).await?;
        if !P::WRITES_ONCE {
            recent.keep(self.slots.into_values().filter_map(|slot| slot.row));
        }
        Ok(moved)
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
