//! A batch of a projector: its rows and its checkpoint move together, or not at all.

use schemas::Position;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};

use super::Fault;
use super::lease::{LEASE_S, Lease};

/// What Postgres calls a division by zero.
const DIVISION_BY_ZERO: &str = "22012";

/// Statements that write the rows of a batch together with the move of its checkpoint, all as one:
/// one way to the database and back.
///
/// They share their arguments, are run at once, so that none sees what another writes, and must
/// not change the same row. Each is an `insert`, `update` or `delete` that returns nothing.
#[derive(Debug, Clone)]
pub struct AtOnce {
    with_move: String,
    alone: String,
}

impl AtOnce {
    /// Puts together statements that use the arguments `$1` to `$arguments`. Their text comes from
    /// our own code only.
    #[must_use]
    pub fn new(statements: &[String], arguments: usize) -> Self {
        let named =
            statements.iter().enumerate().map(|(n, text)| format!("written_{n} as ({text})"));
        let written = named.collect::<Vec<_>>().join(", ");
        let [consumer, from_slice, epoch, position, to, lease_s] =
            [1, 2, 3, 4, 5, 6].map(|n| arguments + n);
        // Where the checkpoint does not move, the division fails, and everything with it.
        Self {
            with_move: format!(
                "with moved as (
                     update checkpoints
                     set position = ${to}, updated_at = clock_timestamp(),
                         leased_until = clock_timestamp() + make_interval(secs => ${lease_s})
                     from (select set_config('synchronous_commit', 'off', true)) as without_waiting
                     where consumer = ${consumer} and from_slice = ${from_slice}
                       and epoch = ${epoch} and position = ${position}
                     returning 1
                 ), {written} select 1 / count(*) from moved"
            ),
            alone: format!("with {written} select 1"),
        }
    }
}

/// The batch was written, and the checkpoint has moved behind it.
#[derive(Debug)]
pub struct Moved {
    /// What it was written through, for the next one.
    pub(super) connection: Option<PoolConnection<Postgres>>,
}

/// Where a projector writes one batch, and what moves its checkpoint.
///
/// Nothing in it waits for the disk: should the database crash, the last rows are lost together with
/// the checkpoint's last moves, and the events come again.
#[derive(Debug)]
pub struct Batch<'a> {
    pool: &'a PgPool,
    lease: &'a Lease,
    to: Position,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing was written.
    Fresh(Option<PoolConnection<Postgres>>),
    /// The lease is held, and the checkpoint moved, until the transaction ends.
    Open(Transaction<'static, Postgres>),
}

impl<'a> Batch<'a> {
    /// A batch behind which the checkpoint is to stand at `to`, through the connection of the last
    /// one, if there is one.
    pub(super) fn new(
        pool: &'a PgPool,
        lease: &'a Lease,
        connection: Option<PoolConnection<Postgres>>,
        to: Position,
    ) -> Self {
        debug_assert!(to > lease.position, "a checkpoint only moves on");
        Self { pool, lease, to, state: State::Fresh(connection) }
    }

    /// A batch for which the checkpoint stays where it is, which has to be where its holder thinks:
    /// where a crash of the database took it back, rows went back with it, and what the holder
    /// remembers of them is not so.
    pub(super) async fn in_place(pool: &'a PgPool, lease: &'a Lease) -> Result<Self, Fault> {
        let mut tx = crate::begin(pool).await?;
        lease.hold(&mut tx).await?;
        if !lease.stands(&mut *tx).await? {
            return Err(Fault::Lost);
        }
        Ok(Self { pool, lease, to: lease.position, state: State::Open(tx) })
    }

    /// A connection to read what is there. Nobody else writes it for as long as the lease is held,
    /// and where it is not, nothing that follows is written.
    ///
    /// # Errors
    /// Where the database is away.
    pub async fn reader(&mut self) -> Result<&mut PgConnection, Fault> {
        Ok(match &mut self.state {
            State::Open(tx) => tx,
            State::Fresh(Some(connection)) => connection,
            State::Fresh(connection) => connection.insert(self.pool.acquire().await?),
        })
    }

    /// The transaction, in which the checkpoint has moved, for whoever has more to write than
    /// [`AtOnce`] can say. [`Batch::commit`] ends it.
    ///
    /// # Errors
    /// [`Fault::Lost`], or where the database is away.
    pub async fn transaction(&mut self) -> Result<&mut PgConnection, Fault> {
        if let State::Fresh(connection) = &mut self.state {
            drop(connection.take());
            let mut tx = crate::begin(self.pool).await?;
            self.lease.advance(&mut *tx, self.to).await?;
            self.state = State::Open(tx);
        }
        self.reader().await
    }

    /// Writes `statements` and moves the checkpoint.
    ///
    /// # Errors
    /// [`Fault::Lost`], [`Fault::Data`] where the database refuses what is written, or where it is
    /// away; then nothing was written, or, if the connection broke, nobody knows: the worker
    /// finds out.
    pub async fn at_once(
        mut self,
        statements: &AtOnce,
        mut arguments: PgArguments,
    ) -> Result<Moved, Fault> {
        if let State::Open(tx) = &mut self.state {
            let statements = AssertSqlSafe(statements.alone.as_str());
            sqlx::query_with(statements, arguments).execute(&mut **tx).await?;
            return self.commit().await;
        }
        self.lease.bind(&mut arguments, self.to).map_err(sqlx::Error::Encode)?;
        let (lease, connection) = (self.lease, self.reader().await?);
        let statements = AssertSqlSafe(statements.with_move.as_str());
        match sqlx::query_with(statements, arguments).execute(&mut *connection).await {
            Ok(_) => Ok(self.moved()),
            Err(error) => {
                let database = error.as_database_error();
                let unmoved =
                    database.is_some_and(|error| error.code().as_deref() == Some(DIVISION_BY_ZERO));
                if unmoved && !lease.stands(connection).await? {
                    return Err(Fault::Lost);
                }
                Err(error.into())
            }
        }
    }

    /// Ends the transaction; where there is none, only the checkpoint moves.
    ///
    /// # Errors
    /// As [`Batch::at_once`].
    pub async fn commit(mut self) -> Result<Moved, Fault> {
        if let State::Open(tx) = self.state {
            tx.commit().await?;
            return Ok(Moved { connection: None });
        }
        let (lease, to) = (self.lease, self.to);
        lease.advance(self.reader().await?, to).await?;
        Ok(self.moved())
    }

    fn moved(self) -> Moved {
        let State::Fresh(connection) = self.state else { return Moved { connection: None } };
        Moved { connection }
    }
}

impl Lease {
    /// The arguments behind those of the statements: see [`AtOnce::new`].
    fn bind(
        &self,
        arguments: &mut PgArguments,
        to: Position,
    ) -> Result<(), sqlx::error::BoxDynError> {
        arguments.add(&self.consumer)?;
        arguments.add(self.slices.from())?;
        arguments.add(self.epoch)?;
        arguments.add(self.position)?;
        arguments.add(to)?;
        arguments.add(LEASE_S)
    }
}
