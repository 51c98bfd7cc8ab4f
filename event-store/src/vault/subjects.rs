//! The table of keys, as operators see it: what there is for a person, and destroying it. Needs
//! no master key.

use schemas::{CustomerId, Timestamp};
use sqlx::PgPool;

use super::VaultError;

/// Where an erasure is announced; the payload is the subject's id.
pub(super) const CHANNEL: &str = "waybill_erased";

/// The keys of all subjects.
#[derive(Debug, Clone)]
pub struct Subjects {
    pool: PgPool,
}

/// What came of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erasure {
    /// The key was destroyed.
    Erased,
    /// It had been destroyed before.
    AlreadyErased,
    /// Nothing was ever sealed for this subject.
    Unknown,
}

/// One key that a subject was given.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct SubjectKey {
    /// Counted from 1; one more after each erasure.
    pub generation: i32,
    /// When it was made: with the first thing that was sealed.
    pub made_at: Timestamp,
    /// Which master key wraps it, in hexadecimal digits; none once it was destroyed.
    pub master: Option<String>,
    /// When it was destroyed.
    pub erased_at: Option<Timestamp>,
    /// By whom.
    pub erased_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl Subjects {
    /// The keys in a database. The role behind `pool` needs to read `subject_keys`; to erase also
    /// to update it.
    #[must_use]
    pub const fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Every key that `subject` was ever given.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`]: retry later.
    pub async fn show(&self, subject: CustomerId) -> Result<Vec<SubjectKey>, VaultError> {
        let keys = sqlx::query_as(
            "select generation, made_at, encode(master_key, 'hex') as master,
                    erased_at, erased_by, reason
             from subject_keys where subject_id = $1 order by generation",
        );
        Ok(keys.bind(subject.uuid()).fetch_all(&self.pool).await?)
    }

    /// Destroys the key of `subject`, leaves a tombstone that says who did it and why, and tells
    /// every process that listens. Asked again, nothing more happens.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`]: it may or may not be done. Ask again.
    pub async fn erase(
        &self,
        subject: CustomerId,
        actor: &str,
        reason: &str,
    ) -> Result<Erasure, VaultError> {
        let mut transaction = crate::begin(&self.pool).await?;
        let erased = sqlx::query(
            "update subject_keys set wrapped_key = null, master_key = null,
                    erased_at = now(), erased_by = $2, reason = $3
             where subject_id = $1 and wrapped_key is not null",
        );
        let erased = erased.bind(subject.uuid()).bind(actor).bind(reason);
        let erased = erased.execute(&mut *transaction).await?.rows_affected() > 0;
        let known: bool =
            sqlx::query_scalar("select exists (select from subject_keys where subject_id = $1)")
                .bind(subject.uuid())
                .fetch_one(&mut *transaction)
                .await?;
        sqlx::query("select pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(subject.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(match (erased, known) {
            (true, _) => Erasure::Erased,
            (false, true) => Erasure::AlreadyErased,
            (false, false) => Erasure::Unknown,
        })
    }
}
