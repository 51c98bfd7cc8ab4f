//! Rows by their keys, for many who ask at once.
//!
//! While one look-up is under way, those who come wait, and the next takes all of them: a busy server
//! goes to the database far less often than it is asked, and a quiet one at once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::PgPool;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::projection::Projection;
use crate::row::{Row as _, Table};

/// How many rows one look-up takes at most.
const KEYS_MAX: usize = 256;

/// Looks rows of `P` up. What is read was true after it was asked for.
pub struct Lookup<P: Projection> {
    pool: PgPool,
    table: Table<P::Row>,
    waiting: Mutex<Vec<Asked<P::Row>>>,
    /// Held by whoever looks up for all.
    looking: tokio::sync::Mutex<()>,
}

/// A row that somebody waits for.
struct Asked<R> {
    key: Uuid,
    answer: oneshot::Sender<Result<Option<R>, String>>,
}

impl<P: Projection> fmt::Debug for Lookup<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("table", &self.table.name()).finish_non_exhaustive()
    }
}

impl<P: Projection<Row: Clone>> Lookup<P> {
    /// Looks through `pool`.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            table: Table::new(P::NAME),
            waiting: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    /// The row under `key`.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn get(&self, key: Uuid) -> Result<Option<P::Row>, sqlx::Error> {
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.waiting().push(Asked { key, answer });
            let answer = loop {
                tokio::select! {
                    biased;
                    answer = &mut answered => break answer,
                    _looking = self.looking.lock() => self.look_up().await?,
                }
            };
            // An error says that whoever looked for us went away: once more.
            if let Ok(row) = answer {
                return row.map_err(sqlx::Error::Protocol);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Asked<P::Row>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers those who have waited longest.
    async fn look_up(&self) -> Result<(), sqlx::Error> {
        let asked: Vec<_> = {
            let mut waiting = self.waiting();
            let count = waiting.len().min(KEYS_MAX);
            waiting.drain(..count).collect()
        };
        let keys: Vec<_> = asked.iter().map(|asked| asked.key).collect();
        let found = async { self.table.select(&mut *self.pool.acquire().await?, &keys).await };
        let found = match found.await {
            Ok(rows) => rows.into_iter().map(|row| (row.key(), row)).collect::<HashMap<_, _>>(),
            Err(error) => {
                let why = error.to_string();
                for Asked { answer, .. } in asked {
                    let _ = answer.send(Err(why.clone()));
                }
                return Err(error);
            }
        };
        for Asked { key, answer } in asked {
            let _ = answer.send(Ok(found.get(&key).cloned())); // Whoever asked may have gone.
        }
        Ok(())
    }
}
