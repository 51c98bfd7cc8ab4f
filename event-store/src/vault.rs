//! Personal data: sealed under a key per person, and gone when that key is destroyed.
//!
//! A [`Vault`] seals what comes in at an edge and opens it where it leaves at another. Everything
//! between them (the log, read models, journals, snapshots, JetStream, caches, logs, exports)
//! holds [`Personal`] values, which are ciphertext. So erasing a person is one row: without the
//! key nothing opens, in whatever copy.
//!
//! Keys stand in `subject_keys`, wrapped by a master key that comes from configuration and is in
//! no database. Each is fetched once and kept unwrapped for [`KEPT`], at most [`SUBJECTS_MAX`] of
//! them. An erasure is announced on the channel `waybill_erased` in the transaction that makes
//! it; a process that runs [`Vault::run`] forgets the key as soon as it hears of it, any other
//! within [`KEPT`].
//!
//! **Architecture invariant.** "Erased" is said only where a tombstone says so. A key that is
//! missing, a wrong master key, data that was changed: those are errors.

mod cipher;
mod listen;
mod master;
mod ring;
mod rotate;
mod subjects;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache;
use schemas::{Chance, CustomerId, Personal, PersonalData};
use serde_json::error::Category;
use sqlx::PgPool;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::Error;
use cipher::{Binding, KEY_BYTES};
use ring::Ring;

pub use master::{MasterKey, MasterKeyError, MasterKeys};
pub use rotate::Rewrapped;
pub use subjects::{Erasure, SubjectKey, Subjects};

/// How long a process uses a key without looking whether it is still there.
pub const KEPT: Duration = Duration::from_secs(30);
/// How many people's keys a process keeps unwrapped; each is about 1 KiB.
const SUBJECTS_MAX: usize = 8192;
/// How often a key is made anew where others are faster to make or destroy it.
const ATTEMPTS_MAX: u32 = 8;

/// Why something was not sealed or not opened. None of these means that it was erased.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The keys cannot be read or written: retry later.
    #[error("the keys of personal data are unavailable")]
    Unavailable(#[from] Error),
    /// The key was wrapped by a master key that this process was not given: give it.
    #[error(
        "the key of {subject} is wrapped by master key {master}, which was not given to this \
         process; give it as the current or as a previous master key and start again"
    )]
    UnknownMaster {
        /// Whose key.
        subject: CustomerId,
        /// Which master key, by its id.
        master: String,
    },
    /// There is neither a key nor a tombstone: look for the missing row in a backup.
    #[error("the key of {subject}, generation {generation}, is missing, and was not erased")]
    Missing {
        /// Whose key.
        subject: CustomerId,
        /// Which one, counted from 1.
        generation: i32,
    },
    /// Key and data do not belong together: changed, moved, or sealed by a newer release.
    #[error("what is sealed for {subject} does not open: it was changed or belongs elsewhere")]
    Changed {
        /// Whose data.
        subject: CustomerId,
    },
    /// It opens, and this release cannot read what is inside. What it says is not repeated here.
    #[error("what is sealed for {subject} opens and is not a `{label}` ({category:?} error)")]
    Unreadable {
        /// Whose data.
        subject: CustomerId,
        /// What it should be.
        label: &'static str,
        /// What is wrong with the JSON.
        category: Category,
    },
    /// It cannot be written as JSON.
    #[error("a `{label}` cannot be written as JSON")]
    Unwritable {
        /// What it is.
        label: &'static str,
    },
    /// Others made and destroyed this key at every attempt, or our master key is none: retry later.
    #[error(
        "no key could be made for {subject}: others make and destroy it all the time, or the \
         current master key was not introduced here, or was retired by a rotation; try again, and \
         where that does not help start again with the newer master key"
    )]
    Contended {
        /// Whose key.
        subject: CustomerId,
    },
}

impl VaultError {
    /// Whether the same call may come to another end later, without anybody mending the data.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::UnknownMaster { .. } | Self::Contended { .. })
    }
}

impl From<sqlx::Error> for VaultError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

/// Seals and opens personal data. Cheap to clone.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    pool: PgPool,
    masters: MasterKeys,
    chance: Chance,
    rings: Cache<CustomerId, Arc<Ring>>,
    /// Rises whenever something is forgotten, so that what was fetched before is not kept.
    forgotten: AtomicU64,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("kept", &self.0.rings.len()).finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault over the keys in a database. The role behind `pool` needs to read `subject_keys`;
    /// to seal for somebody new also to insert. Nothing is looked up yet: see [`Vault::check`].
    #[must_use]
    pub fn new(pool: PgPool, masters: MasterKeys, chance: Chance) -> Self {
        let (rings, forgotten) = (Cache::new(SUBJECTS_MAX), AtomicU64::new(0));
        Self(Arc::new(Inner { pool, masters, chance, rings, forgotten }))
    }

    /// How many people's keys are kept unwrapped, and how many may be.
    #[must_use]
    pub fn kept(&self) -> (usize, usize) {
        (self.0.rings.len(), SUBJECTS_MAX)
    }

    /// Seals `data` under the key of `subject`, which is made where there is none. Somebody who
    /// was erased is given a new key, which opens nothing of before.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn seal<T: PersonalData>(
        &self,
        subject: CustomerId,
        data: &T,
    ) -> Result<Personal<T>, VaultError> {
        let text = serde_json::to_vec(data).map(Zeroizing::new);
        let text = text.map_err(|_| VaultError::Unwritable { label: T::LABEL })?;
        let ring = self.sealing(subject).await?;
        let (generation, cipher) = ring.live().ok_or(VaultError::Contended { subject })?;
        let binding = Binding { subject, generation, label: T::LABEL };
        Ok(Personal::sealed(subject, &binding.seal(cipher, self.0.chance.bytes(), &text)))
    }

    /// Opens what was sealed; none where its key has been destroyed.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn open<T: PersonalData>(
        &self,
        personal: &Personal<T>,
    ) -> Result<Option<T>, VaultError> {
        let mut opened = self.open_many(std::slice::from_ref(&personal)).await?;
        Ok(opened.pop().flatten())
    }

    /// Opens all of a page, with at most two queries. In the order given; none where the key has
    /// been destroyed.
    ///
    /// # Errors
    /// The first one that does not open: see [`VaultError`].
    pub async fn open_many<T: PersonalData>(
        &self,
        all: &[&Personal<T>],
    ) -> Result<Vec<Option<T>>, VaultError> {
        let mut read = Vec::with_capacity(all.len());
        for personal in all {
            let subject = personal.subject();
            let sealed = personal.bytes().map_err(|_| VaultError::Changed { subject })?;
            let generation = cipher::generation(&sealed).ok_or(VaultError::Changed { subject })?;
            read.push((Binding { subject, generation, label: T::LABEL }, sealed));
        }
        let rings =
            self.rings(read.iter().map(|(binding, _)| (binding.subject, binding.generation)));
        let rings = rings.await?;
        read.iter()
            .map(|(binding, sealed)| rings[&binding.subject].open(*binding, sealed))
            .collect()
    }

    /// A ring with a key to seal with.
    async fn sealing(&self, subject: CustomerId) -> Result<Arc<Ring>, VaultError> {
        if let Some(ring) = self.cached(subject)
            && ring.live().is_some()
        {
            return Ok(ring);
        }
        for _ in 0..ATTEMPTS_MAX {
            let ring = self.fetch(&BTreeSet::from([subject])).await?.remove(&subject);
            let Some(ring) = ring else { break };
            if ring.live().is_some() {
                return Ok(ring);
            }
            if let Some(error) = ring.blocked(subject) {
                return Err(error);
            }
            self.make(subject, ring.last() + 1).await?;
        }
        Err(VaultError::Contended { subject })
    }

    /// Makes a key unless somebody else has made that one. Who has, is found by looking again.
    async fn make(&self, subject: CustomerId, generation: i32) -> Result<(), VaultError> {
        let key = Zeroizing::new(self.0.chance.bytes::<KEY_BYTES>());
        let master = self.0.masters.current();
        let wrapped = master.wrap(subject, generation, &key, self.0.chance);
        // The lock: a master key is not retired while something is being wrapped with it.
        sqlx::query(
            "insert into subject_keys (subject_id, generation, wrapped_key, master_key)
             select $1, $2, $3, key_id from master_keys where key_id = $4 and retired_at is null
             for key share
             on conflict do nothing",
        )
        .bind(subject.uuid())
        .bind(generation)
        .bind(wrapped)
        .bind(master.id().as_slice())
        .execute(&self.0.pool)
        .await?;
        Ok(())
    }

    /// The rings of `wanted`, each with all generations that are asked for and exist.
    async fn rings(
        &self,
        wanted: impl Iterator<Item = (CustomerId, i32)>,
    ) -> Result<HashMap<CustomerId, Arc<Ring>>, VaultError> {
        let (mut rings, mut unknown) = (HashMap::new(), BTreeSet::new());
        for (subject, generation) in wanted {
            match self.cached(subject) {
                // A later generation was made since: by another process.
                Some(ring) if ring.last() >= generation => _ = rings.insert(subject, ring),
                _ => _ = unknown.insert(subject),
            }
        }
        if !unknown.is_empty() {
            rings.extend(self.fetch(&unknown).await?);
        }
        Ok(rings)
    }

    fn cached(&self, subject: CustomerId) -> Option<Arc<Ring>> {
        self.0.rings.get(&subject).filter(|ring| Instant::now() < ring.until())
    }

    /// Reads the rings of `subjects`, also those of nobody, and keeps the others.
    async fn fetch(
        &self,
        subjects: &BTreeSet<CustomerId>,
    ) -> Result<HashMap<CustomerId, Arc<Ring>>, VaultError> {
        let forgotten = self.0.forgotten.load(Ordering::Acquire);
        let until = Instant::now() + KEPT;
        let read = ring::read(&self.0.pool, &self.0.masters, subjects, until).await?;
        for (subject, ring) in &read {
            if ring.last() > 0 {
                self.0.rings.insert(*subject, ring.clone());
            }
        }
        // What was read before somebody was erased may not stay.
        if self.0.forgotten.load(Ordering::Acquire) != forgotten {
            for subject in subjects {
                self.0.rings.remove(subject);
            }
        }
        crate::metrics::vault(self.kept());
        Ok(read)
    }

    /// Destroys the keys of `subject`: what was sealed under them never opens again, here from
    /// now on, elsewhere within [`KEPT`].
    ///
    /// # Errors
    /// [`VaultError::Unavailable`]: it may or may not be done. Ask again.
    pub async fn erase(
        &self,
        subject: CustomerId,
        actor: &str,
        reason: &str,
    ) -> Result<Erasure, VaultError> {
        let erasure = Subjects::new(self.0.pool.clone()).erase(subject, actor, reason).await;
        self.forget(Some(subject));
        erasure
    }

    /// Forgets the keys of one subject, or all.
    fn forget(&self, subject: Option<CustomerId>) {
        self.0.forgotten.fetch_add(1, Ordering::AcqRel);
        match subject {
            Some(subject) => _ = self.0.rings.remove(&subject),
            None => self.0.rings.clear(),
        }
        crate::metrics::vault(self.kept());
    }
}
