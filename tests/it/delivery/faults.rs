//! NATS that dies, is silent or forgets, and a relay that stands still: the effects are as many as
//! the events.

use std::process::{Child, Command, Stdio};

use tokio::task::JoinSet;
use waybill::embedded::{Folder, Nats};

use super::consumers::Scribe;
use super::jetstream::{cut_off_the_leader, messages, position, published};
use super::{Log, Process, append, eventually, stream};
use crate::services;

/// A NATS of the test's own.
async fn nats(name: &str) -> (Folder, Nats) {
    let folder = Folder::open(&services::folder(name)).unwrap();
    let nats = Nats::start(&folder, "nats").await.unwrap();
    (folder, nats)
}

fn pid(nats: &Nats) -> u32 {
    nats.pid().unwrap().try_into().unwrap()
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Appends `count` events to streams of two, from four callers.
fn load(process: &Process, count: i64) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let store = process.store.clone();
        callers.spawn(async move {
            for _ in 0..count / 8 {
                append(&store, stream(), 0, 2).await;
            }
        });
    }
    callers
}

/// Fails unless `consumer` has written down each of the first `count` events once.
async fn saw_all(log: &Log, consumer: &'static str, count: i64) {
    log.wait_for(consumer, count).await;
    assert_eq!(log.seen(consumer).await, (1..=count).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_nats_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let (_folder, nats) = nats("killed").await;
    let log = Log::on(&nats.url()).await;
    let mut process = log.process().await;
    process.relay();
    process.projector(Scribe::new("scribe"));
    let load = load(&process, 1_600);
    for killed_at in [200, 800] {
        log.wait_for("scribe", killed_at).await;
        eventually("the server to run", async || nats.pid().is_some()).await;
        signal("-KILL", pid(&nats));
    }
    load.join_all().await;
    saw_all(&log, "scribe", 1_600).await;
    // It is back in use, and what it tells in the end is what happened, in order.
    let head = process.append(stream(), 0, 1).await;
    eventually("the relay to be at the head", async || {
        let stream = log.jetstream().get_stream(log.stream()).await;
        let Ok(stream) = stream else { return false };
        let last = stream.get_raw_message(stream.cached_info().state.last_sequence).await;
        last.is_ok_and(|last| position(&last) == head)
    })
    .await;
    process.stop().await;
    nats.stop().await;
}

#[tokio::test]
async fn a_nats_that_is_silent_for_a_while_delays_and_loses_nothing() {
    let (_folder, nats) = nats("silent_for_a_while").await;
    let log = Log::on(&nats.url()).await;
    let mut process = log.process().await;
    process.relay();
    process.projector(Scribe::new("scribe"));
    process.append(stream(), 0, 10).await;
    published(&log, 10).await;
    signal("-STOP", pid(&nats));
    load(&process, 400).join_all().await;
    // Without a word from NATS: Postgres has everything.
    saw_all(&log, "scribe", 410).await;
    signal("-CONT", pid(&nats));
    published(&log, 410).await;
    let positions: Vec<_> = messages(&log).await.iter().map(position).collect();
    assert_eq!(positions, (1..=410).collect::<Vec<_>>());
    saw_all(&log, "scribe", 410).await;
    process.stop().await;
    nats.stop().await;
}

#[tokio::test]
async fn a_stream_that_keeps_less_than_waits_costs_nobody_an_event() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    process.append(stream(), 0, 1).await;
    published(&log, 1).await;
    let mut config =
        log.jetstream().get_stream(log.stream()).await.unwrap().cached_info().config.clone();
    config.max_messages = 3;
    log.jetstream().update_stream(config).await.unwrap();
    // Windows are far larger than what is kept, and the first consumer comes when all is gone.
    load(&process, 800).join_all().await;
    process.projector(Scribe::new("late"));
    saw_all(&log, "late", 801).await;
    let mut tail = process.feed.tail(0);
    let more = load(&process, 800);
    let mut got = Vec::new();
    while got.len() < 1_601 {
        got.extend(tail.next(100).await.iter().map(|event| event.position));
    }
    assert_eq!(got, (1..=1_601).collect::<Vec<_>>());
    more.join_all().await;
    saw_all(&log, "late", 1_601).await;
    assert!(messages(&log).await.len() <= 3);
    process.stop().await;
}

/// A relay in a process of its own, so that it can be made to stand still. Killed when dropped.
struct Relay(Child);

impl Relay {
    async fn start(log: &Log) -> Self {
        let url = services::serving(&log.url).await;
        let output = std::fs::File::create(services::folder(&log.name).join("relay.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
            .args(["relay", "--database-url", &url, "--nats-url", &services::nats().await])
            .args(["--log-name", &log.name])
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, name: &str) {
        signal(name, self.0.id());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_relay_that_stood_still_while_another_led_publishes_nothing_twice() {
    let log = Log::new().await;
    let still = Relay::start(&log).await;
    let mut process = log.process().await;
    process.projector(Scribe::new("scribe"));
    process.append(stream(), 0, 10).await;
    published(&log, 10).await; // By the only one there is.
    let first = load(&process, 400);
    published(&log, 100).await;
    still.signal("-STOP");
    first.join_all().await;
    // Nobody publishes, and nobody waits for that.
    saw_all(&log, "scribe", 410).await;

    // Its connection to Postgres is cut, which it cannot know; another one leads.
    cut_off_the_leader(&log).await;
    process.relay();
    let second = load(&process, 400);
    published(&log, 500).await;
    // It wakes up in the middle of what it was about to publish, and for a moment there are two.
    still.signal("-CONT");
    second.join_all().await;
    published(&log, 810).await;
    saw_all(&log, "scribe", 810).await;
    let last = process.append(stream(), 0, 1).await;
    published(&log, u64::try_from(last).unwrap()).await;
    let positions: Vec<_> = messages(&log).await.iter().map(position).collect();
    assert_eq!(positions, (1..=last).collect::<Vec<_>>());
    process.stop().await;
}
