//! The keys of one person, as they are kept in memory for a while.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use schemas::{CustomerId, PersonalData};
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use super::VaultError;
use super::cipher::{Binding, Cipher};
use super::master::MasterKeys;

/// Every key that a person was ever given.
#[derive(Debug)]
pub(super) struct Ring {
    /// By generation, counted from 1.
    keys: Vec<Key>,
    until: Instant,
}

#[derive(Debug)]
enum Key {
    Live(Box<Cipher>),
    /// Destroyed.
    Erased,
    /// Wrapped by a master key that we do not have.
    Wrapped(String),
    /// Wrapped by a master key that we have, and not for this row.
    Changed,
    /// Neither a key nor a tombstone.
    Missing,
}

type Row = (Uuid, i32, Option<Vec<u8>>, Option<Vec<u8>>);

/// Reads the rings of `subjects`; of somebody who never had a key, an empty one.
pub(super) async fn read(
    pool: &PgPool,
    masters: &MasterKeys,
    subjects: &BTreeSet<CustomerId>,
    until: Instant,
) -> Result<HashMap<CustomerId, Arc<Ring>>, sqlx::Error> {
    let ids: Vec<Uuid> = subjects.iter().map(|subject| subject.uuid()).collect();
    let rows: Vec<Row> = sqlx::query_as(
        "select subject_id, generation, wrapped_key, master_key from subject_keys
         where subject_id = any($1) order by subject_id, generation",
    )
    .bind(ids)
    .fetch_all(pool)
    .await?;
    let empty = |subject: &CustomerId| (*subject, Ring { keys: Vec::new(), until });
    let mut rings: HashMap<CustomerId, Ring> = subjects.iter().map(empty).collect();
    for (subject, generation, wrapped, master) in rows {
        let subject = CustomerId::new(subject);
        let Some(ring) = rings.get_mut(&subject) else { continue };
        while ring.last() + 1 < generation {
            ring.keys.push(Key::Missing);
        }
        ring.keys.push(Key::read(masters, subject, generation, wrapped.zip(master)));
    }
    Ok(rings.into_iter().map(|(subject, ring)| (subject, Arc::new(ring))).collect())
}

impl Key {
    fn read(
        masters: &MasterKeys,
        subject: CustomerId,
        generation: i32,
        stored: Option<(Vec<u8>, Vec<u8>)>,
    ) -> Self {
        let Some((wrapped, master)) = stored else { return Self::Erased };
        let Some(master) = masters.get(&master) else { return Self::Wrapped(hex::encode(master)) };
        match master.unwrap(subject, generation, &wrapped) {
            Some(key) => Self::Live(Box::new(Cipher::new(&key))),
            None => Self::Changed,
        }
    }
}

impl Ring {
    /// The last generation; 0 where there is none.
    pub(super) fn last(&self) -> i32 {
        i32::try_from(self.keys.len()).unwrap_or(i32::MAX)
    }

    /// Until when it may be used.
    pub(super) const fn until(&self) -> Instant {
        self.until
    }

    /// What to seal with, and its generation; none where a key has to be made. A key that cannot
    /// be unwrapped here is not replaced: the database refuses a second live key.
    pub(super) fn live(&self) -> Option<(i32, &Cipher)> {
        match self.keys.last() {
            Some(Key::Live(cipher)) => Some((self.last(), cipher)),
            _ => None,
        }
    }

    /// What prevents that a key is made, besides a live one.
    pub(super) fn blocked(&self, subject: CustomerId) -> Option<VaultError> {
        match self.keys.last()? {
            Key::Live(_) | Key::Erased => None,
            key => Some(key.error(subject, self.last())),
        }
    }

    /// Opens what is sealed; none where its key was destroyed.
    pub(super) fn open<T: PersonalData>(
        &self,
        binding: Binding,
        sealed: &[u8],
    ) -> Result<Option<T>, VaultError> {
        let Binding { subject, generation, label } = binding;
        let index = usize::try_from(generation).ok().and_then(|number| number.checked_sub(1));
        let key = index.and_then(|index| self.keys.get(index)).unwrap_or(&Key::Missing);
        let cipher = match key {
            Key::Live(cipher) => cipher,
            Key::Erased => return Ok(None),
            key => return Err(key.error(subject, generation)),
        };
        let text = binding.open(cipher, sealed).ok_or(VaultError::Changed { subject })?;
        // What serde says may quote the text, so only the kind of error is kept.
        serde_json::from_slice(&text).map(Some).map_err(|error| VaultError::Unreadable {
            subject,
            label,
            category: error.classify(),
        })
    }
}

impl Key {
    /// Why it is of no use.
    fn error(&self, subject: CustomerId, generation: i32) -> VaultError {
        match self {
            Self::Wrapped(master) => VaultError::UnknownMaster { subject, master: master.clone() },
            Self::Missing => VaultError::Missing { subject, generation },
            Self::Live(_) | Self::Erased | Self::Changed => VaultError::Changed { subject },
        }
    }
}
