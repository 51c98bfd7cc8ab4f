//! Rows by their keys, for many who ask at once.
//!
//! While one look-up is under way, those who come wait, and the next takes all of them: a busy server
//! goes to the database far less often than it is asked, and a quiet one at once.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::PgPool;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::projection::Projection;
use crate::row::Table;

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
    /// Where the database is away, or the row does not hold what it should.
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

    /// Those who have waited longest, as many as one look-up takes. Who has gone is forgotten.
    fn next(&self) -> Vec<Asked<P::Row>> {
        let mut waiting = self.waiting();
        waiting.retain(|asked| !asked.answer.is_closed());
        let count = waiting.len().min(KEYS_MAX);
        waiting.drain(..count).collect()
    }

    /// Answers those who have waited longest. Where one row cannot be read, whoever asked for it is
    /// told so, and nobody else.
    async fn look_up(&self) -> Result<(), sqlx::Error> {
        let connection = self.pool.acquire().await; // Some may go while it is waited for.
        let asked = self.next();
        let keys: Vec<_> = asked.iter().map(|asked| asked.key).collect();
        let found = async { self.table.select_each(&mut *connection?, &keys).await };
        let found = match found.await {
            Ok(found) => found,
            Err(error) => {
                let why = error.to_string();
                for Asked { answer, .. } in asked {
                    let _ = answer.send(Err(why.clone()));
                }
                return Err(error);
            }
        };
        for Asked { key, answer } in asked {
            let row = match found.get(&key) {
                Some(Ok(row)) => Ok(Some(row.clone())),
                Some(Err(error)) => Err(error.to_string()),
                None => Ok(None),
            };
            let _ = answer.send(row); // Whoever asked may have gone.
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order_summary::OrderSummary;

    #[tokio::test]
    async fn who_has_gone_is_not_looked_up() {
        let nowhere = PgPool::connect_lazy("postgres://nobody@localhost/nowhere").unwrap();
        let lookup = Lookup::<OrderSummary>::new(nowhere);
        let ask = |key| {
            let (answer, answered) = oneshot::channel();
            lookup.waiting().push(Asked { key: Uuid::from_u128(key), answer });
            answered
        };
        for key in 0..500 {
            drop(ask(key));
        }
        let there = ask(1_000);
        let next: Vec<_> = lookup.next().iter().map(|asked| asked.key).collect();
        assert_eq!(next, [Uuid::from_u128(1_000)]);
        drop(there);
        assert!(lookup.next().is_empty());
    }
}
