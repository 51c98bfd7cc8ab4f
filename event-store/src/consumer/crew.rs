//! Who does which part of a consumer's work.
//!
//! Every process that could do a consumer's work is a *member*. Its slices are cut into as many
//! ranges as it is to have workers ([`scale`]), each with a checkpoint and a lease of its own; a
//! worker is a task of a member that holds one. Nobody is in charge: each member looks at the
//! same rows, and takes what is free or gives back what is too much, so that ranges move when a
//! member joins, leaves, hangs or dies.
//!
//! Ranges are laid out anew while events flow. A range may be cut at once, since both parts stand
//! where it stood. Ranges that are to be joined must stand at one position: all stop at the
//! furthest, and whoever sees that the last has come there joins them.

mod scene;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use schemas::Position;
use sqlx::{PgConnection, PgPool};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::lease::{LEASE_S, Lease, RENEW_EVERY};
use super::{Backoff, chain};
use crate::slice::Slices;
use scene::{Range, Scene, Step, layout};

/// The most workers that one consumer is spread over.
pub const WORKERS_MAX: i16 = 64;

/// How often those who wait for something look whether it is there.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Spreads `consumer` over so many workers, from 1 to [`WORKERS_MAX`]. Those who run it see to it,
/// within seconds; events flow meanwhile.
///
/// # Errors
/// [`crate::Error::Config`] where there is no such consumer, or not so many workers may be;
/// [`crate::Error::Database`].
pub async fn scale(pool: &PgPool, consumer: &str, workers: i16) -> Result<(), crate::Error> {
    if !(1..=WORKERS_MAX).contains(&workers) {
        return Err(crate::Error::Config(format!(
            "{workers} workers: give a number from 1 to {WORKERS_MAX}"
        )));
    }
    let scaled = sqlx::query("update consumers set workers = $2 where consumer = $1");
    let scaled = scaled.bind(consumer).bind(workers).execute(pool).await?;
    if scaled.rows_affected() == 0 {
        return Err(crate::Error::Config(format!(
            "no consumer `{consumer}` has ever run on this log"
        )));
    }
    Ok(())
}

/// Does a share of a consumer's work until `drain` is cancelled: runs `work` for every range that
/// falls to this member, until the range is lost or its token is cancelled.
pub(super) async fn run<W>(
    pool: &PgPool,
    consumer: &str,
    spreads: bool,
    drain: &CancellationToken,
    work: impl Fn(Lease, CancellationToken) -> W,
) where
    W: Future<Output = ()> + Send + 'static,
{
    let mut crew = Crew {
        pool,
        consumer,
        spreads,
        me: member(),
        sign_due: Instant::now(),
        faults: Backoff::default(),
    };
    let mut workers = JoinSet::new();
    let mut ranges = Ranges::new();
    loop {
        let next = tokio::select! {
            biased;
            () = drain.cancelled() => break,
            next = crew.next() => next,
        };
        let wait = match next {
            Next::Take(leases) => {
                for lease in leases {
                    let (from, epoch) = (lease.slices.from(), lease.epoch);
                    let token = drain.child_token();
                    // Who held it before, and may not know yet that it does no longer, stops.
                    if let Some((_, before)) = ranges.insert(from, (epoch, token.clone())) {
                        before.cancel();
                    }
                    let working = work(lease, token);
                    workers.spawn(async move {
                        working.await;
                        (from, epoch)
                    });
                }
                LOOK_EVERY
            }
            Next::Release(from) => {
                if let Some((_, token)) =
                    ranges.get(&from).filter(|(_, token)| !token.is_cancelled())
                {
                    tracing::info!(consumer, from, "another process takes over a range");
                    token.cancel();
                }
                LOOK_EVERY
            }
            Next::Wait(wait) => wait,
        };
        tokio::select! {
            biased;
            () = drain.cancelled() => break,
            Some(ended) = workers.join_next() => ended_well(ended, &mut ranges),
            () = sleep(wait) => {}
        }
    }
    while let Some(ended) = workers.join_next().await {
        ended_well(ended, &mut ranges);
    }
    crew.leave().await;
}

/// The workers of a member: where the range of each begins, under which epoch it holds it, and what
/// stops it.
type Ranges = HashMap<i16, (i64, CancellationToken)>;

/// Forgets the worker that has ended, unless another has its range by now; a panic goes on.
fn ended_well(ended: Result<(i16, i64), tokio::task::JoinError>, ranges: &mut Ranges) {
    match ended {
        Ok((from, epoch)) => {
            if ranges.get(&from).is_some_and(|(now, _)| *now == epoch) {
                ranges.remove(&from);
            }
        }
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => {} // Nobody aborts them.
    }
}

/// What a member does next.
enum Next {
    Take(Vec<Lease>),
    /// The worker of the range that begins there stops.
    Release(i16),
    Wait(Duration),
}

/// One member's view of a consumer.
struct Crew<'a> {
    pool: &'a PgPool,
    consumer: &'a str,
    /// Whether it may have more than one worker.
    spreads: bool,
    me: String,
    /// When to give a sign of life.
    sign_due: Instant,
    faults: Backoff,
}

impl Crew<'_> {
    /// Looks how things are and does what follows; waits while the database is away.
    async fn next(&mut self) -> Next {
        loop {
            match self.try_next().await {
                Ok(next) => {
                    if self.faults.recovered() {
                        tracing::info!(consumer = self.consumer, "the leases can be read again");
                    }
                    return next;
                }
                Err(error) => self.failed(&error),
            }
            sleep(self.faults.delay()).await;
        }
    }

    async fn try_next(&mut self) -> Result<Next, sqlx::Error> {
        if Instant::now() >= self.sign_due {
            self.sign().await?;
            self.sign_due = Instant::now() + RENEW_EVERY;
        }
        Ok(match self.scene().await?.step(&self.me) {
            Step::Begin => {
                self.begin().await?;
                Next::Wait(Duration::ZERO)
            }
            Step::LayOut(workers) => {
                let laid = self.lay_out(workers).await?;
                Next::Wait(if laid { Duration::ZERO } else { LOOK_EVERY })
            }
            Step::Take(ranges) => {
                let mut leases = Vec::new();
                for from in ranges {
                    leases.extend(Lease::take(self.pool, self.consumer, from, &self.me).await?);
                }
                Next::Take(leases)
            }
            Step::Release(from) => Next::Release(from),
            Step::Look => Next::Wait(LOOK_EVERY),
            Step::Rest => Next::Wait(RENEW_EVERY),
        })
    }

    fn failed(&mut self, error: &sqlx::Error) {
        if self.faults.failed() {
            let (consumer, error) = (self.consumer, chain(error));
            tracing::warn!(consumer, error, "the leases cannot be reached");
        }
    }

    /// Says that this member lives.
    async fn sign(&self) -> Result<(), sqlx::Error> {
        let sign = sqlx::query(
            "insert into consumer_members (consumer, member, seen_until)
             select $1, $2, clock_timestamp() + make_interval(secs => $3)
             from (select set_config('synchronous_commit', 'off', true)) as without_waiting
             on conflict (consumer, member) do update set seen_until = excluded.seen_until",
        );
        sign.bind(self.consumer).bind(&self.me).bind(LEASE_S).execute(self.pool).await?;
        Ok(())
    }

    /// Makes the one range that a new consumer has, and forgets members of long ago.
    async fn begin(&self) -> Result<(), sqlx::Error> {
        let mut tx = crate::begin(self.pool).await?;
        for statement in [
            "insert into consumers (consumer) values ($1) on conflict do nothing",
            "insert into checkpoints (consumer) values ($1) on conflict do nothing",
            "delete from consumer_members
             where consumer = $1 and seen_until < clock_timestamp() - interval '1 minute'",
        ] {
            sqlx::query(statement).bind(self.consumer).execute(&mut *tx).await?;
        }
        tx.commit().await
    }

    async fn scene(&self) -> Result<Scene, sqlx::Error> {
        let ranges: Vec<Range> = sqlx::query_as(
            "select from_slice, before_slice, position, stop_at, epoch, owner,
                    coalesce(leased_until > clock_timestamp(), false) as held
             from checkpoints where consumer = $1 order by from_slice",
        )
        .bind(self.consumer)
        .fetch_all(self.pool)
        .await?;
        let (workers, others): (i16, Vec<String>) = sqlx::query_as(
            "select coalesce((select workers from consumers where consumer = $1), 1::smallint),
                    array(select member from consumer_members
                          where consumer = $1 and member <> $2 and seen_until > clock_timestamp())",
        )
        .bind(self.consumer)
        .bind(&self.me)
        .fetch_one(self.pool)
        .await?;
        Ok(Scene { ranges, others, workers: if self.spreads { workers } else { 1 } })
    }

    /// Cuts or joins ranges until there are `workers`; false where some have to come to where the
    /// furthest is before that can be.
    async fn lay_out(&self, workers: i16) -> Result<bool, sqlx::Error> {
        let mut tx = crate::begin(self.pool).await?;
        let ranges: Vec<Range> = sqlx::query_as(
            "select from_slice, before_slice, position, stop_at, epoch, owner,
                    coalesce(leased_until > clock_timestamp(), false) as held
             from checkpoints where consumer = $1 order by from_slice for update",
        )
        .bind(self.consumer)
        .fetch_all(&mut *tx)
        .await?;
        let Some(layout) = layout(&ranges, workers) else {
            sqlx::query(
                "update checkpoints
                 set epoch = epoch + 1, leased_until = null,
                     stop_at = (select max(position) from checkpoints where consumer = $1)
                 where consumer = $1 and stop_at is null",
            )
            .bind(self.consumer)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            return Ok(false);
        };
        // Above every epoch there was, so that no old holder can mean a new range.
        let epoch = ranges.iter().map(|range| range.epoch).max().unwrap_or(0) + 1;
        replace(&mut tx, self.consumer, &layout, epoch).await?;
        tx.commit().await?;
        tracing::info!(consumer = self.consumer, workers, "its slices are laid out anew");
        Ok(true)
    }

    /// Others need not wait for what this member did.
    async fn leave(&self) {
        if let Err(error) = self.try_leave().await {
            let (consumer, error) = (self.consumer, chain(&error));
            tracing::warn!(consumer, error, "others will wait until this member is taken for dead");
        }
    }

    async fn try_leave(&self) -> Result<(), sqlx::Error> {
        for statement in [
            "delete from consumer_members where consumer = $1 and member = $2",
            // What was taken at the very end, and never worked on.
            "update checkpoints set leased_until = null
             where consumer = $1 and owner = $2 and leased_until is not null",
        ] {
            sqlx::query(statement).bind(self.consumer).bind(&self.me).execute(self.pool).await?;
        }
        Ok(())
    }
}

/// Puts the ranges of `layout` in the place of those that are there.
async fn replace(
    connection: &mut PgConnection,
    consumer: &str,
    layout: &[(Slices, Position)],
    epoch: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from checkpoints where consumer = $1")
        .bind(consumer)
        .execute(&mut *connection)
        .await?;
    let from: Vec<_> = layout.iter().map(|(slices, _)| slices.from()).collect();
    let before: Vec<_> = layout.iter().map(|(slices, _)| slices.before()).collect();
    let positions: Vec<_> = layout.iter().map(|(_, position)| *position).collect();
    sqlx::query(
        "insert into checkpoints (consumer, epoch, from_slice, before_slice, position)
         select $1, $2, * from unnest($3::smallint[], $4::smallint[], $5::bigint[])",
    )
    .bind(consumer)
    .bind(epoch)
    .bind(from)
    .bind(before)
    .bind(positions)
    .execute(connection)
    .await?;
    Ok(())
}

/// Names a member for people: host, process, and a number within it.
fn member() -> String {
    static MEMBERS: AtomicU64 = AtomicU64::new(0);
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "local".to_owned());
    let number = MEMBERS.fetch_add(1, Ordering::Relaxed);
    format!("{host}/{}/{number}", std::process::id())
}
