//! Reading one's own writes: a query waits until its read model has seen a position.

use std::collections::HashMap;
use std::time::Duration;

use schemas::Position;
use sqlx::PgPool;
use tokio::sync::{Mutex, watch};

use crate::{checkpoint, registry};

/// How soon the checkpoints are looked at again while somebody waits: twice as late each time, since
/// most waits are over at once.
const POLL_FIRST: Duration = Duration::from_millis(1);

/// How often they are looked at in the end.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// Why a wait was in vain.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// It took too long: ask again later.
    #[error("the read model is still at {position}")]
    Behind {
        /// Where it is.
        position: Position,
    },
    /// The database is away.
    #[error("the checkpoints cannot be read")]
    Database(#[from] sqlx::Error),
}

/// The position of every read model, by name.
///
/// # Errors
/// Where the database is away.
pub async fn positions(pool: &PgPool) -> Result<HashMap<&'static str, Position>, sqlx::Error> {
    let names = registry::names();
    let consumers: Vec<_> = names.iter().map(|name| checkpoint(name)).collect();
    let found: Vec<(String, Position)> =
        sqlx::query_as("select consumer, position from checkpoints where consumer = any($1)")
            .bind(&consumers)
            .fetch_all(pool)
            .await?;
    let found: HashMap<_, _> = found.into_iter().collect();
    let position = |consumer| found.get(consumer).copied().unwrap_or_default();
    Ok(names.into_iter().zip(consumers.iter().map(position)).collect())
}

/// Knows how far the read models are. However many wait, one of them looks for all.
#[derive(Debug)]
pub struct Freshness {
    pool: PgPool,
    seen: watch::Sender<HashMap<&'static str, Position>>,
    looking: Mutex<()>,
}

impl Freshness {
    /// Looks through `pool`.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool, seen: watch::Sender::new(HashMap::new()), looking: Mutex::new(()) }
    }

    /// Where the read model `name` is now. What is read after this has seen that position.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn position(&self, name: &str) -> Result<Position, sqlx::Error> {
        let position = sqlx::query_scalar("select position from checkpoints where consumer = $1")
            .bind(checkpoint(name))
            .fetch_optional(&self.pool)
            .await?;
        Ok(position.unwrap_or_default())
    }

    /// Waits until the read model `name` has seen `position`, at most for `patience`, and says
    /// where it is.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn wait(
        &self,
        name: &str,
        position: Position,
        patience: Duration,
    ) -> Result<Position, WaitError> {
        match tokio::time::timeout(patience, self.reach(name, position)).await {
            Ok(reached) => Ok(reached?),
            Err(_) => Err(WaitError::Behind { position: self.seen(name) }),
        }
    }

    async fn reach(&self, name: &str, position: Position) -> Result<Position, sqlx::Error> {
        let mut news = self.seen.subscribe();
        loop {
            let seen = news.borrow_and_update().get(name).copied().unwrap_or_default();
            if seen >= position {
                return Ok(seen);
            }
            tokio::select! {
                biased;
                // The sender is ours: it cannot be gone.
                _ = news.changed() => {}
                _looking = self.looking.lock() => self.look(name, position).await?,
            }
        }
    }

    /// Looks for everybody until `name` has seen `position`.
    async fn look(&self, name: &str, position: Position) -> Result<(), sqlx::Error> {
        let mut pause = POLL_FIRST;
        loop {
            self.seen.send_replace(positions(&self.pool).await?);
            if self.seen(name) >= position {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = POLL_EVERY.min(pause * 2);
        }
    }

    fn seen(&self, name: &str) -> Position {
        self.seen.borrow().get(name).copied().unwrap_or_default()
    }
}
