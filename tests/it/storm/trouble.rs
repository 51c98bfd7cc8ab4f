//! What is done to the processes, to NATS and to Postgres.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use tests::chaos::Dice;
use tokio::time::{Instant, sleep, timeout};
use waybill::embedded::Servers;

use super::fleet::Fleet;
use crate::delivery::Log;

/// How long to wait between two troubles, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 100..900;

/// How long something done to JetStream may take before it is left.
const JETSTREAM_MAX: Duration = Duration::from_secs(3);

/// From how long a run on NATS is silent for a whole minute once, in seconds.
const LONG_RUN_S: u64 = 240;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// SIGKILL for a process, and a new one.
    Kill,
    /// SIGSTOP for a process, at times for longer than its lease.
    Freeze,
    /// SIGKILL for NATS.
    NatsKill,
    /// SIGSTOP for NATS.
    NatsSilent,
    /// The stream in JetStream is deleted.
    Wipe,
    /// Messages are deleted from the stream.
    Lose,
    /// Messages of old are published again, in any order.
    Forge,
    /// The stream keeps only a few messages.
    Shrink,
    /// SIGKILL for Postgres.
    PostgresKill,
    /// A consumer is spread over more or fewer workers.
    Scale,
}

/// How often each is drawn, of 100.
const KINDS: [(Kind, u64); 10] = [
    (Kind::Kill, 34),
    (Kind::Freeze, 10),
    (Kind::NatsKill, 6),
    (Kind::NatsSilent, 6),
    (Kind::Wipe, 8),
    (Kind::Lose, 8),
    (Kind::Forge, 9),
    (Kind::Shrink, 4),
    (Kind::PostgresKill, 3),
    (Kind::Scale, 12),
];

/// Makes trouble, and counts it.
pub(super) struct Troubles<'a> {
    log: &'a Log,
    servers: &'a Servers,
    dice: Dice,
    done: BTreeMap<Kind, u64>,
}

impl<'a> Troubles<'a> {
    pub(super) fn new(log: &'a Log, servers: &'a Servers, seed: u64) -> Self {
        Self { log, servers, dice: Dice::new(&[seed, u64::MAX]), done: BTreeMap::new() }
    }

    /// Makes trouble for so long.
    pub(super) async fn make(&mut self, fleet: &mut Fleet, time: Duration) {
        let started = Instant::now();
        let mut minute_of_silence = time.as_secs() >= LONG_RUN_S;
        while started.elapsed() < time {
            sleep(Duration::from_millis(self.dice.range(PAUSE_MS))).await;
            let mut drawn = self.dice.range(0..100);
            let kind = KINDS.iter().find(|(_, share)| {
                let found = drawn < *share;
                drawn = drawn.saturating_sub(*share);
                found
            });
            let kind = kind.map_or(Kind::Kill, |(kind, _)| *kind);
            if self.happen(kind, fleet).await {
                *self.done.entry(kind).or_default() += 1;
            }
            if minute_of_silence && started.elapsed() > time / 2 {
                minute_of_silence = false;
                self.silence(Duration::from_mins(1)).await;
            }
            fleet.revive();
        }
    }

    /// Whether it could be done.
    async fn happen(&mut self, kind: Kind, fleet: &mut Fleet) -> bool {
        let whom = usize::try_from(self.dice.range(0..Fleet::size() as u64)).unwrap();
        match kind {
            Kind::Kill => fleet.kill(whom, self.log).await,
            Kind::Freeze => {
                let Some(pid) = fleet.pid(whom) else { return false };
                // Now and then longer than a lease lasts.
                let most = if self.dice.chance(20) { 7_000 } else { 1_000 };
                signal("STOP", pid);
                sleep(Duration::from_millis(self.dice.range(50..most))).await;
                signal("CONT", pid);
                fleet.freezes += 1;
            }
            Kind::NatsKill => {
                let Some(pid) = self.servers.nats.pid() else { return false };
                signal("KILL", pid.unsigned_abs());
            }
            Kind::NatsSilent => {
                let time = Duration::from_millis(self.dice.range(100..4_000));
                return self.silence(time).await;
            }
            Kind::PostgresKill => self.servers.postgres.kill(),
            Kind::Scale => return self.scale().await,
            Kind::Wipe | Kind::Lose | Kind::Forge | Kind::Shrink => {
                let tampered = timeout(JETSTREAM_MAX, self.tamper(kind)).await;
                return matches!(tampered, Ok(Some(())));
            }
        }
        true
    }

    async fn silence(&self, time: Duration) -> bool {
        let Some(pid) = self.servers.nats.pid() else { return false };
        signal("STOP", pid.unsigned_abs());
        sleep(time).await;
        signal("CONT", pid.unsigned_abs());
        true
    }

    /// Spreads some consumer over some number of workers.
    async fn scale(&mut self) -> bool {
        let workers = i16::try_from(self.dice.range(1..9)).unwrap();
        let drawn = self.dice.throw();
        let database = &self.log.database;
        let consumers: Result<Vec<String>, _> =
            sqlx::query_scalar("select consumer from consumers order by 1")
                .fetch_all(database)
                .await;
        let Ok(consumers) = consumers else { return false };
        let consumers: Vec<_> =
            consumers.into_iter().filter(|name| projections::spreads(name)).collect();
        let Some(at) = usize::try_from(drawn >> 1).unwrap().checked_rem(consumers.len()) else {
            return false;
        };
        event_store::scale(database, &consumers[at], workers).await.is_ok()
    }

    /// Does something to the stream in JetStream, if it answers.
    async fn tamper(&mut self, kind: Kind) -> Option<()> {
        let (jetstream, name) = (self.log.jetstream(), self.log.stream());
        let stream = jetstream.get_stream(&name).await.ok()?;
        match kind {
            Kind::Wipe => {
                jetstream.delete_stream(&name).await.ok()?;
            }
            Kind::Shrink => {
                let mut config = stream.cached_info().config.clone();
                config.max_messages = 3;
                jetstream.update_stream(config).await.ok()?;
            }
            _ => {
                for _ in 0..10 {
                    let sequence = self.sequence(&stream)?;
                    if kind == Kind::Lose {
                        let _ = stream.delete_message(sequence).await;
                    } else if let Ok(message) = stream.get_raw_message(sequence).await {
                        let mut headers = async_nats::HeaderMap::new();
                        let theirs = message.headers.iter();
                        for (name, values) in
                            theirs.filter(|(name, _)| !name.to_string().starts_with("Nats-"))
                        {
                            headers.insert(name.clone(), values[0].clone());
                        }
                        let (subject, payload) = (message.subject.clone(), message.payload);
                        let ack = jetstream.publish_with_headers(subject, headers, payload).await;
                        ack.ok()?.await.ok()?;
                    }
                }
            }
        }
        Some(())
    }

    /// The number of some message of late.
    fn sequence(&mut self, stream: &Stream) -> Option<u64> {
        let state = &stream.cached_info().state;
        let first = state.first_sequence.max(state.last_sequence.saturating_sub(200));
        (first < state.last_sequence).then(|| self.dice.range(first..state.last_sequence))
    }

    /// Everything runs again, and may come to rest.
    pub(super) async fn end(&mut self, fleet: &mut Fleet) {
        crate::world::until("Postgres to answer", || async {
            sqlx::query("select 1").execute(&self.log.database).await.ok().map(drop)
        })
        .await;
        fleet.revive();
    }

    /// What was done, for people.
    pub(super) fn told(&self) -> String {
        let done: Vec<_> =
            self.done.iter().map(|(kind, count)| format!("{count} {kind:?}")).collect();
        done.join(", ")
    }

    /// Whether nothing was left out; a short run may be lucky.
    pub(super) fn all_kinds_happened(&self, seconds: u64) -> bool {
        seconds < LONG_RUN_S || self.done.len() == KINDS.len()
    }
}

pub(super) fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "{name} to {pid}");
}
