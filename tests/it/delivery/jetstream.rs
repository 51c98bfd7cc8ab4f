//! What JetStream may do to messages, and what becomes of it.

use async_nats::jetstream::message::StreamMessage;
use futures_util::future::join_all;
use schemas::Position;
use tokio::task::JoinSet;

use super::consumers::Scribe;
use super::wire::Wire;
use super::{Log, Process, append, eventually, stream};
use crate::services;

pub(super) fn position(message: &StreamMessage) -> Position {
    message.headers.get("ce-position").unwrap().as_str().parse().unwrap()
}

/// Every message of the log's stream, in order.
pub(super) async fn messages(log: &Log) -> Vec<StreamMessage> {
    let stream = log.jetstream().get_stream(log.stream()).await.unwrap();
    let state = stream.get_info().await.unwrap().state;
    let mut messages = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        messages.push(stream.get_raw_message(sequence).await.unwrap());
    }
    messages
}

pub(super) async fn published(log: &Log, count: u64) {
    eventually("everything is published", async || {
        let stream = log.jetstream().get_stream(log.stream()).await;
        stream.is_ok_and(|stream| stream.cached_info().state.messages >= count)
    })
    .await;
}

/// Publishes a copy of a message that JetStream does not recognise as one.
async fn forge(log: &Log, message: &StreamMessage) {
    let mut headers = async_nats::HeaderMap::new();
    for (name, values) in message.headers.iter() {
        if name.to_string().starts_with("Nats-") {
            continue;
        }
        headers.insert(name.clone(), values[0].clone());
    }
    let (subject, payload) = (message.subject.clone(), message.payload.clone());
    let ack = log.jetstream().publish_with_headers(subject, headers, payload).await.unwrap();
    ack.await.unwrap();
}

#[tokio::test]
async fn what_is_lost_repeated_or_shuffled_on_the_way_arrives_once_and_in_order() {
    let log = Log::new().await;
    // A first process writes and publishes, so that there are real messages to tamper with.
    let mut first = log.process().await;
    first.relay();
    let head = first.append(stream(), 0, 20).await;
    published(&log, 20).await;
    let real = messages(&log).await;
    first.stop().await;

    // A second one hears the tampered ones only, among twenty more that nobody publishes.
    let second = log.process().await;
    let mut tail = second.feed.tail(0);
    let mut got = Vec::new();
    while got.len() < 20 {
        got.extend(tail.next(7).await.iter().map(|event| event.position));
    }
    let mut again = log.process().await;
    let more = again.append(stream(), 0, 20).await;
    assert_eq!((head, more), (20, 40));
    for index in [3, 3, 1, 19, 0, 12] {
        forge(&log, &real[index]).await;
    }
    again.relay();
    published(&log, 46).await;
    let shuffled = messages(&log).await;
    for index in [45, 30, 44, 44, 31, 29] {
        forge(&log, &shuffled[index]).await;
    }
    let end = again.append(stream(), 0, 1).await;
    while got.last() != Some(&end) {
        got.extend(tail.next(7).await.iter().map(|event| event.position));
    }
    assert_eq!(got, (1..=end).collect::<Vec<_>>());
    again.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn an_event_is_the_same_by_either_way() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    process.append(stream(), 0, 1).await;
    published(&log, 1).await; // The feed has long been subscribed when the next one comes.
    let mut live = process.feed.tail(1);
    let position = process.append(stream(), 0, 3).await;
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.extend(live.next(3).await);
    }
    let stored = process.store.read(position - 3, 3).await.unwrap();
    assert_eq!(heard, stored);

    published(&log, 4).await; // The feed may have been faster, by way of Postgres.
    let message = messages(&log).await.pop().unwrap();
    let header = |name: &str| message.headers.get(name).unwrap().as_str().to_owned();
    assert_eq!(header("ce-specversion"), "1.0");
    assert_eq!(header("ce-type"), "order.probed.v1");
    assert_eq!(header("ce-id"), stored[2].event_id.uuid().to_string());
    assert_eq!(header("ce-time").parse::<schemas::Timestamp>().unwrap(), stored[2].occurred_at);
    assert_eq!(header("Nats-Msg-Id"), format!("{}:{position}", log.name));
    assert_eq!(message.subject.as_str(), format!("evt.{}.order.probed.v1", log.name));
    assert_eq!(message.payload.as_ref(), br#"{"number":2}"#);
    process.stop().await;
}

#[tokio::test]
async fn jetstream_may_lose_its_whole_store_under_load() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    process.projector(Scribe::new("scribe"));
    let mut load = JoinSet::new();
    for _ in 0..8 {
        let store = process.store.clone();
        load.spawn(async move {
            for _ in 0..100 {
                append(&store, stream(), 0, 2).await;
            }
        });
    }
    for wiped_at in [200, 600, 1_000, 1_500] {
        log.wait_for("scribe", wiped_at).await;
        // Between a wipe and the next publication there may be no stream to wipe.
        let _ = log.jetstream().delete_stream(log.stream()).await;
    }
    load.join_all().await;
    log.wait_for("scribe", 1_600).await;
    assert_eq!(log.seen("scribe").await, (1..=1_600).collect::<Vec<_>>());
    // And it is back in use.
    published(&log, 1).await;
    process.stop().await;
}

#[tokio::test]
async fn two_relays_publish_each_event_once_and_in_order() {
    let log = Log::new().await;
    let mut one = log.process().await;
    let mut two = log.process().await;
    one.relay();
    two.relay();
    let head = u64::try_from(one.append(stream(), 0, 1).await).unwrap();
    published(&log, head).await;
    let writers = [&one, &two].map(|process| async {
        for _ in 0..150 {
            process.append(stream(), 0, 2).await;
        }
    });
    let cuts = async {
        // Whoever leads loses its connection to Postgres, in the middle of its work.
        for cut_at in [100, 300, 500] {
            published(&log, cut_at).await;
            cut_off_the_leader(&log).await;
        }
    };
    tokio::join!(join_all(writers), cuts);
    published(&log, 601).await;
    let positions: Vec<_> = messages(&log).await.iter().map(position).collect();
    assert_eq!(positions, (1..=601).collect::<Vec<_>>());
    one.stop().await;
    two.stop().await;
}

/// Goal: whoever reads the stream without us misses nothing and finds everything in order.
/// Method: somebody else has written, so that the relay does not know what the stream ends with, and
/// one of the messages that it then sends is lost, twice.
#[tokio::test]
async fn a_message_that_is_lost_on_its_way_leaves_no_gap_even_where_others_wrote() {
    let log = Log::new().await;
    let wire = Wire::start(&services::nats().await).await;
    let mut process = log.process().await;
    process.nats = wire.client().await;
    process.relay();
    process.append(stream(), 0, 3).await;
    published(&log, 3).await;
    let first = messages(&log).await.remove(0);
    forge(&log, &first).await;
    let id = format!("{}:6", log.name);
    wire.lose(&id);
    wire.lose(&id);
    assert_eq!(process.append(stream(), 0, 8).await, 11);
    published(&log, 12).await;
    let positions: Vec<_> = messages(&log).await.iter().map(position).collect();
    assert_eq!(positions, [1, 2, 3, 1, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert!(wire.sent().iter().filter(|sent| **sent == id).count() >= 3, "{:?}", wire.sent());
    process.stop().await;
}

/// Goal: a relay that slept while another one led finds that out before it sends anything again.
/// Method: what it has sent stands still on the way, until another one has published the same.
#[tokio::test]
async fn a_relay_that_another_one_has_replaced_sends_nothing_again() {
    let log = Log::new().await;
    let wire = Wire::start(&services::nats().await).await;
    let mut sleeper = log.process().await;
    sleeper.nats = wire.client().await;
    sleeper.relay();
    sleeper.append(stream(), 0, 1).await;
    published(&log, 1).await;
    wire.open(false);
    let mut process = log.process().await;
    process.append(stream(), 0, 40).await;
    eventually("it has sent", async || wire.sent().len() > 1).await;
    process.relay();
    let relays = async || -> i64 {
        let relays = "select count(*) from pg_stat_activity
                      where application_name = 'waybill relay' and datname = current_database()";
        sqlx::query_scalar(relays).fetch_one(&log.database).await.unwrap()
    };
    eventually("the other one stands by", async || relays().await == 2).await;
    cut_off_the_leader(&log).await;
    published(&log, 41).await;
    wire.open(true);
    eventually("it stands by in its turn", async || relays().await == 2).await;
    let mut sent = wire.sent();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), wire.sent().len(), "{:?}", wire.sent());
    let positions: Vec<_> = messages(&log).await.iter().map(position).collect();
    assert_eq!(positions, (1..=41).collect::<Vec<_>>());
    sleeper.stop().await;
    process.stop().await;
}

/// Ends the connection of the relay that leads.
pub(super) async fn cut_off_the_leader(log: &Log) {
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_locks
         where locktype = 'advisory' and granted
           and classid::bigint << 32 | objid::bigint = hashtextextended($1, 0)",
    )
    .bind(format!("waybill.relay.{}", log.name))
    .execute(&log.database)
    .await
    .unwrap();
}

/// The ids of the events in the log's stream, if there is one.
async fn published_ids(log: &Log) -> Option<Vec<String>> {
    let mut stream = log.jetstream().get_stream(log.stream()).await.ok()?;
    let state = stream.info().await.ok()?.state.clone();
    let mut ids = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.ok()?;
        ids.push(message.headers.get("ce-id")?.as_str().to_owned());
    }
    Some(ids)
}

/// Waits until JetStream tells the log's own history, and nothing else.
async fn tells_the_same(log: &Log, process: &Process) {
    let stored = process.store.read(0, 100).await.unwrap();
    let stored: Vec<_> = stored.iter().map(|event| event.event_id.uuid().to_string()).collect();
    eventually("the stream tells what the log does", async || {
        published_ids(log).await.is_some_and(|ids| ids == stored)
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_tells_of_another_history_is_made_again() {
    for grown_again_before_the_relay_looks in [false, true] {
        let log = Log::new().await;
        let mut process = log.process().await;
        process.relay();
        process.append(stream(), 0, 30).await;
        published(&log, 30).await;
        process.stop().await;
        // The database is restored to a time before the last ten: JetStream knows their ids.
        log.execute(
            "set session_replication_role = replica; delete from events where position > 20;
             delete from streams; delete from commands; set session_replication_role = origin;",
        )
        .await;

        let mut process = log.process().await;
        if !grown_again_before_the_relay_looks {
            process.relay();
            tells_the_same(&log, &process).await;
        }
        assert_eq!(process.append(stream(), 0, 10).await, 30);
        if grown_again_before_the_relay_looks {
            process.relay();
        }
        process.projector(Scribe::new("scribe"));
        log.wait_for("scribe", 30).await;
        tells_the_same(&log, &process).await;
        // From the first message on, each names the one before it.
        for (before, message) in messages(&log).await.iter().enumerate() {
            let named = message.headers.get("Nats-Expected-Last-Sequence").unwrap();
            assert_eq!(named.as_str(), before.to_string());
        }
        process.stop().await;
    }
}

#[tokio::test]
async fn who_does_not_keep_up_holds_up_nobody_and_misses_nothing() {
    let log = Log::new().await;
    let mut process = log.process().await;
    process.relay();
    let mut slow = process.feed.tail(0);
    process.append(stream(), 0, 1).await;
    let mut got: Vec<_> = slow.next(1).await;
    let mut quick = process.feed.tail(0);
    for _ in 0..300 {
        let head = process.append(stream(), 0, 1).await;
        while quick.next(100).await.last().unwrap().position < head {}
    }
    while got.len() < 301 {
        got.extend(slow.next(100).await);
    }
    let positions: Vec<_> = got.iter().map(|event| event.position).collect();
    assert_eq!(positions, (1..=301).collect::<Vec<_>>());
    process.stop().await;
}
