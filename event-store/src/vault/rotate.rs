//! One master key after another: telling a wrong one, and wrapping everything anew.

use schemas::CustomerId;
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::master::MasterId;
use super::{Vault, VaultError};
use crate::Error;

/// Keys that are wrapped anew in one transaction.
const PAGE_KEYS: i64 = 500;
/// Introducing and retiring master keys happens one at a time.
const LOCK: i64 = 24_560_174_593_821_775;

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrapped {
    /// Keys that were wrapped anew.
    pub done: u64,
    /// Keys that had to be, when it began.
    pub total: u64,
}

impl Vault {
    /// Whether the master keys are those that the keys here are wrapped with.
    ///
    /// # Errors
    /// [`Error::Config`] where they are not; [`Error::Database`] where nobody can tell.
    pub async fn check(&self) -> Result<(), Error> {
        self.check_against(&introduced(&self.0.pool).await?)
    }

    /// Checks, and notes the current master key as one that wraps keys here. For whoever seals.
    ///
    /// # Errors
    /// As [`Vault::check`].
    pub async fn introduce(&self) -> Result<(), Error> {
        let known = introduced(&self.0.pool).await?;
        let current = self.0.masters.current().id();
        if known.iter().any(|key| key.id == current && !key.retired) {
            return self.check_against(&known);
        }
        let mut transaction = locked(&self.0.pool).await?;
        // Two that start on an empty table with different keys: the second is told.
        self.check_against(&introduced(&mut *transaction).await?)?;
        sqlx::query(
            "insert into master_keys (key_id) values ($1)
             on conflict (key_id) do update set retired_at = null",
        )
        .bind(current.as_slice())
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    fn check_against(&self, known: &[Introduced]) -> Result<(), Error> {
        let masters = &self.0.masters;
        let missing = known.iter().find(|key| !key.retired && masters.get(&key.id).is_none());
        match missing {
            None => Ok(()),
            Some(Introduced { id, .. }) => {
                let (current, id) = (hex::encode(masters.current().id()), hex::encode(id));
                Err(Error::Config(format!(
                    "the master key ({current}) is not the one that personal data is kept under \
                     here ({id}); give that one as the current master key, or, to replace it, \
                     among the previous ones"
                )))
            }
        }
    }

    /// Wraps every key that another master key has wrapped by the current one, a page at a time,
    /// and retires the others. What was done stays done: stopped and called again, it goes on.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn rewrap(
        &self,
        mut progress: impl FnMut(Rewrapped),
    ) -> Result<Rewrapped, VaultError> {
        self.introduce().await?;
        let current = self.0.masters.current().id();
        let total: i64 = sqlx::query_scalar(
            "select count(*) from subject_keys where wrapped_key is not null and master_key <> $1",
        )
        .bind(current.as_slice())
        .fetch_one(&self.0.pool)
        .await?;
        let mut rewrapped = Rewrapped { done: 0, total: total.unsigned_abs() };
        progress(rewrapped);
        loop {
            let done = self.rewrap_page(current).await?;
            if done == 0 {
                break;
            }
            rewrapped.done += done;
            progress(rewrapped);
        }
        self.retire(current).await?;
        Ok(rewrapped)
    }

    async fn rewrap_page(&self, current: MasterId) -> Result<u64, VaultError> {
        let mut transaction = crate::begin(&self.0.pool).await?;
        let rows: Vec<(Uuid, i32, Vec<u8>, Vec<u8>)> = sqlx::query_as(
            "select subject_id, generation, wrapped_key, master_key from subject_keys
             where wrapped_key is not null and master_key <> $1
             order by master_key, subject_id limit $2 for update",
        )
        .bind(current.as_slice())
        .bind(PAGE_KEYS)
        .fetch_all(&mut *transaction)
        .await?;
        let (mut subjects, mut generations, mut wrapped) = (Vec::new(), Vec::new(), Vec::new());
        for (id, generation, old, master) in rows {
            let subject = CustomerId::new(id);
            let master = self.0.masters.get(&master).ok_or_else(|| VaultError::UnknownMaster {
                subject,
                master: hex::encode(&master),
            })?;
            let key = master.unwrap(subject, generation, &old);
            let key = key.ok_or(VaultError::Changed { subject })?;
            let current = self.0.masters.current();
            wrapped.push(current.wrap(subject, generation, &key, self.0.chance));
            subjects.push(id);
            generations.push(generation);
        }
        let done = sqlx::query(
            "update subject_keys set wrapped_key = new.wrapped, master_key = $4
             from unnest($1::uuid[], $2::integer[], $3::bytea[]) as new (id, number, wrapped)
             where subject_id = new.id and generation = new.number and wrapped_key is not null",
        )
        .bind(subjects)
        .bind(generations)
        .bind(wrapped)
        .bind(current.as_slice())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }

    /// Retires the other master keys, unless one of them was used again in the meantime.
    async fn retire(&self, current: MasterId) -> Result<(), VaultError> {
        let mut transaction = locked(&self.0.pool).await?;
        // Waits for whoever is wrapping with one of them, whose key the next statement then sees.
        sqlx::query("select from master_keys for update").execute(&mut *transaction).await?;
        sqlx::query(
            "update master_keys set retired_at = now()
             where key_id <> $1 and retired_at is null and not exists (
                 select from subject_keys
                 where wrapped_key is not null and subject_keys.master_key = master_keys.key_id)",
        )
        .bind(current.as_slice())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// A master key that wraps something here, or has.
#[derive(sqlx::FromRow)]
struct Introduced {
    #[sqlx(rename = "key_id")]
    id: Vec<u8>,
    retired: bool,
}

async fn introduced<'e>(
    executor: impl sqlx::PgExecutor<'e>,
) -> Result<Vec<Introduced>, sqlx::Error> {
    sqlx::query_as("select key_id, retired_at is not null as retired from master_keys")
        .fetch_all(executor)
        .await
}

async fn locked(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut transaction = crate::begin(pool).await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    Ok(transaction)
}
