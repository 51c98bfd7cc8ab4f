//! Reading one's own writes: a query waits until its read model has seen a position.

use std::collections::HashMap;
use std::time::Duration;

use event_store::{Moves, Slices};
use schemas::Position;
use sqlx::PgPool;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{checkpoint, registry};

/// How often the checkpoints are looked at while somebody waits, at first: most need not wait longer.
/// What workers of this process do is heard without looking.
const POLL_FIRST: Duration = Duration::from_millis(1);

/// How many looks are so soon.
const POLLS_FIRST: u32 = 12;

/// How often after that.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// How long the word of a worker of this process is taken that it has come somewhere. A crash of the
/// database may take that back, but not as soon as this: the server has to start again.
const TRUSTED: Duration = Duration::from_millis(100);

/// How old a position may be that a query tells without looking: what it reads is at least as new.
const RECENT: Duration = Duration::from_millis(5);

/// How old it may be while somebody else is looking.
const OLD: Duration = Duration::from_millis(100);

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

/// How far the workers of one read model are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached(Vec<(Slices, Position)>);

impl Reached {
    /// What all of them have seen; 0 while there is none.
    #[must_use]
    pub fn all(&self) -> Position {
        self.0.iter().map(|(_, position)| *position).min().unwrap_or(0)
    }

    /// What the one has seen that folds this stream; what all have seen where none is named.
    #[must_use]
    pub fn of(&self, stream: Option<Uuid>) -> Position {
        let owner = stream.and_then(|id| self.0.iter().find(|(slices, _)| slices.holds(id)));
        owner.map_or_else(|| self.all(), |(_, position)| *position)
    }
}

/// How far every read model is, by name.
///
/// # Errors
/// Where the database is away.
pub async fn positions(pool: &PgPool) -> Result<HashMap<&'static str, Reached>, sqlx::Error> {
    let names = registry::names();
    let consumers: Vec<_> = names.iter().map(|name| checkpoint(name)).collect();
    let found: Vec<(String, i16, i16, Position)> = sqlx::query_as(
        "select consumer, from_slice, before_slice, position from checkpoints
         where consumer = any($1)",
    )
    .bind(&consumers)
    .fetch_all(pool)
    .await?;
    let mut reached: HashMap<String, Reached> = HashMap::new();
    for (consumer, from, before, position) in found {
        reached.entry(consumer).or_default().0.push((Slices::new(from, before), position));
    }
    let reached = consumers.iter().map(|name| reached.remove(name).unwrap_or_default());
    Ok(names.into_iter().zip(reached).collect())
}

/// Knows how far the read models are. However many wait, one of them looks for all.
#[derive(Debug)]
pub struct Freshness {
    pool: PgPool,
    moves: Moves,
    seen: watch::Sender<Seen>,
    looking: Mutex<()>,
}

/// The positions when they were last looked at.
#[derive(Debug, Default)]
struct Seen {
    /// When that began.
    at: Option<Instant>,
    positions: HashMap<&'static str, Reached>,
}

impl Seen {
    fn of(&self, name: &str, stream: Option<Uuid>) -> Position {
        self.positions.get(name).map_or(0, |reached| reached.of(stream))
    }
}

impl Freshness {
    /// Looks through `pool`, and hears of the `moves` of this process.
    #[must_use]
    pub fn new(pool: PgPool, moves: Moves) -> Self {
        let seen = watch::Sender::new(Seen::default());
        Self { pool, moves, seen, looking: Mutex::new(()) }
    }

    /// Where the read model `name` is at least; where the worker of `stream` is, if one is named.
    /// What is read after this has seen that position. However many ask, one of them looks at the
    /// checkpoints, once in 5 ms.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn position(
        &self,
        name: &str,
        stream: Option<Uuid>,
    ) -> Result<Position, sqlx::Error> {
        let mut news = self.seen.subscribe();
        if let Some(seen) = self.younger(RECENT, name, stream) {
            return Ok(seen);
        }
        if let Ok(_looking) = self.looking.try_lock() {
            self.look_once().await?;
            return Ok(self.seen(name, stream));
        }
        // Somebody else looks: what is known still holds, unless it is very old.
        loop {
            if let Some(seen) = self.younger(OLD, name, stream) {
                return Ok(seen);
            }
            tokio::select! {
                biased;
                _ = news.changed() => {}
                _looking = self.looking.lock() => self.look_once().await?,
            }
        }
    }

    /// What is known, if it is not older than this.
    fn younger(&self, age: Duration, name: &str, stream: Option<Uuid>) -> Option<Position> {
        let seen = self.seen.borrow();
        seen.at.is_some_and(|at| at.elapsed() < age).then(|| seen.of(name, stream))
    }

    async fn look_once(&self) -> Result<(), sqlx::Error> {
        let at = Instant::now();
        let positions = positions(&self.pool).await?;
        self.seen.send_replace(Seen { at: Some(at), positions });
        Ok(())
    }

    /// Waits until the read model `name` has seen `position`, at most for `patience`, and says
    /// where it is. Where the rows that matter fold one `stream`, only its worker is waited for.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn wait(
        &self,
        name: &str,
        stream: Option<Uuid>,
        position: Position,
        patience: Duration,
    ) -> Result<Position, WaitError> {
        match tokio::time::timeout(patience, self.reach(name, stream, position)).await {
            Ok(reached) => Ok(reached?),
            Err(_) => Err(WaitError::Behind { position: self.seen(name, stream) }),
        }
    }

    async fn reach(
        &self,
        name: &str,
        stream: Option<Uuid>,
        position: Position,
    ) -> Result<Position, sqlx::Error> {
        let (mut news, mut moves) = (self.seen.subscribe(), self.moves.news());
        let (consumer, mut looking, mut looks) = (checkpoint(name), None, 0);
        loop {
            moves.mark_unchanged();
            let heard = stream.and_then(|stream| self.moves.of(&consumer, stream));
            let told = heard.filter(|(_, age)| *age < TRUSTED).map_or(0, |(to, _)| to);
            let seen = news.borrow_and_update().of(name, stream).max(told);
            if seen >= position {
                return Ok(seen);
            }
            let pause = match heard {
                // Its worker will tell.
                Some((to, _)) if to < position => POLL_EVERY,
                _ if looks == 0 => Duration::ZERO,
                _ if looks <= POLLS_FIRST => POLL_FIRST,
                _ => POLL_EVERY,
            };
            tokio::select! {
                biased;
                // The senders are ours: they cannot be gone.
                _ = news.changed() => {}
                _ = moves.changed() => {}
                turn = self.looking.lock(), if looking.is_none() => looking = Some(turn),
                () = tokio::time::sleep(pause), if looking.is_some() => {
                    self.look_once().await?;
                    looks += 1;
                }
            }
        }
    }

    fn seen(&self, name: &str, stream: Option<Uuid>) -> Position {
        self.seen.borrow().of(name, stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_one_stream_waits_for_its_worker_alone() {
        let reached = Reached(vec![(Slices::new(0, 512), 7), (Slices::new(512, 1024), 3)]);
        assert_eq!(reached.all(), 3);
        // Slices 988 and 11.
        assert_eq!(reached.of(Some(Uuid::from_u128(0))), 3);
        assert_eq!(reached.of(Some(Uuid::from_u128(1))), 7);
        assert_eq!((Reached::default().all(), reached.of(None)), (0, 3));
    }
}
