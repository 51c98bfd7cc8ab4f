//! The relay beside a client that publishes the same messages to a stream of its own.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};
use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::{self, Context, stream};
use event_store::{Relay, Store};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::flow;
use crate::report::Turns;

/// Messages that wait for JetStream's word, as many as the relay lets wait.
const WINDOW: usize = 512;
/// Names the message before one.
const EXPECTED: &str = "Nats-Expected-Last-Sequence";
/// Where the other client publishes to.
const STREAM: &str = "PLAIN";

/// Orders of four events each that are published in a turn.
const ORDERS: usize = 10_000;

/// Messages a second that a relay publishes, and that a plain client does of the same, in turn.
///
/// # Errors
/// Where something is not published.
pub(crate) async fn rates(store: &Store, nats: &async_nats::Client, turns: u32) -> Result<Turns> {
    let context = jetstream::new(nats.clone());
    let config = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["plain.>".to_owned()],
        max_bytes: 1024 * 1024 * 1024,
        ..stream::Config::default()
    };
    context.create_stream(config).await?;
    relay(store, nats).await?; // Makes the stream, and publishes what is there.
    let mut measured = Turns::default();
    for _ in 0..turns {
        let before = store.head().await?;
        flow::append_orders(store, ORDERS).await?;
        let relayed = relay(store, nats).await?;
        let count = usize::try_from(store.head().await? - before)?;
        let messages = published(&context, store, count).await?;
        let plain = publish(&context, messages).await?;
        measured.add(relayed, plain);
    }
    Ok(measured)
}

/// Runs a relay until it has published everything, and gives its rate.
async fn relay(store: &Store, nats: &async_nats::Client) -> Result<f64> {
    let head = store.head().await?;
    let relay = Relay::new(store.clone(), nats.clone());
    let (mut published, drain) = (relay.published(), CancellationToken::new());
    let mut task = JoinSet::new();
    task.spawn(relay.run(drain.clone()));
    let first = *published.wait_for(Option::is_some).await?;
    let (first, started) = (first.context("it leads")?, Instant::now());
    published.wait_for(|position| *position >= Some(head)).await?;
    let took = started.elapsed();
    drain.cancel();
    while let Some(ended) = task.join_next().await {
        ended??;
    }
    Ok(per_second(usize::try_from(head - first)?, took.as_secs_f64()))
}

/// The last `count` messages of the relay's stream.
async fn published(context: &Context, store: &Store, count: usize) -> Result<Vec<StreamMessage>> {
    let mut stream = context.get_stream(format!("WAYBILL_{}", store.log())).await?;
    let last = stream.info().await?.state.last_sequence;
    let mut messages = Vec::with_capacity(count);
    for sequence in last - u64::try_from(count)? + 1..=last {
        messages.push(stream.get_raw_message(sequence).await?);
    }
    Ok(messages)
}

/// Publishes the same to another stream, with so many at once that wait for an answer, and gives
/// the rate.
async fn publish(context: &Context, messages: Vec<StreamMessage>) -> Result<f64> {
    let mut prepared = Vec::with_capacity(messages.len());
    for StreamMessage { subject, headers: all, payload, .. } in messages {
        let mut headers = HeaderMap::new();
        // What the message before it must be is different there.
        for (name, values) in all.iter().filter(|(name, _)| name.to_string() != EXPECTED) {
            headers.insert(name.clone(), values[0].clone());
        }
        prepared.push((format!("plain.{subject}"), headers, payload));
    }
    let (count, started) = (prepared.len(), Instant::now());
    let mut waiting: VecDeque<PublishAckFuture> = VecDeque::with_capacity(WINDOW);
    for (subject, headers, payload) in prepared {
        if waiting.len() == WINDOW
            && let Some(ack) = waiting.pop_front()
        {
            ack.await?;
        }
        waiting.push_back(context.publish_with_headers(subject, headers, payload).await?);
    }
    for ack in waiting {
        ack.await?;
    }
    Ok(per_second(count, started.elapsed().as_secs_f64()))
}

fn per_second(count: usize, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let count = count as f64;
    count / seconds
}
