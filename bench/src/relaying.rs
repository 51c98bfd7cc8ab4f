//! The relay beside a client that publishes the same messages to a stream of its own.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::{self, Context, stream};
use event_store::Relay;
use schemas::Position;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::large;
use crate::log::Log;
use crate::report::Turns;

/// Messages that wait for JetStream's word, as many as the relay lets wait.
const WINDOW: usize = 512;
/// Names the message before one.
const EXPECTED: &str = "Nats-Expected-";
/// Where the other client publishes to.
const STREAM: &str = "PLAIN";

/// Streams of four events each that are published in a turn.
const STREAMS: usize = 5_000;

/// Messages a second that a relay publishes, and that a plain client does of the same, in turn.
///
/// The relay leads all the time, and what it is to publish comes into the log at once: so it is
/// neither its start nor the writer that is measured.
///
/// # Errors
/// Where something is not published.
pub(crate) async fn rates(log: &Log, nats: &async_nats::Client, turns: u32) -> Result<Turns> {
    let context = jetstream::new(nats.clone());
    let config = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["plain.>".to_owned()],
        max_bytes: 1024 * 1024 * 1024,
        ..stream::Config::default()
    };
    context.create_stream(config).await?;
    let relay = Relay::new(log.store.clone(), nats.clone());
    let (mut published, drain) = (relay.published(), CancellationToken::new());
    let mut task = JoinSet::new();
    task.spawn(relay.run(drain.clone()));
    large::add(&log.owner, 1).await?;
    let mut head = log.store.head().await?;
    published.wait_for(|position| *position >= Some(head)).await?;
    let mut measured = Turns::default();
    for _ in 0..turns {
        let before = head;
        head = large::add(&log.owner, STREAMS).await?;
        let relayed = relayed(&mut published, before, head).await?;
        let messages = last(&context, log.store.log(), head - before).await?;
        measured.add(relayed, publish(&context, messages).await?);
    }
    drain.cancel();
    while let Some(ended) = task.join_next().await {
        ended??;
    }
    Ok(measured)
}

/// The rate from when a relay is seen to have begun until it is at the head.
async fn relayed(
    published: &mut watch::Receiver<Option<Position>>,
    before: Position,
    head: Position,
) -> Result<f64> {
    let begun = *published.wait_for(|position| *position > Some(before)).await?;
    let started = Instant::now();
    published.wait_for(|position| *position >= Some(head)).await?;
    let rest = usize::try_from(head - begun.context("it leads")?)?;
    ensure!(rest > 0, "the relay was done before it was looked at");
    Ok(per_second(rest, started.elapsed().as_secs_f64()))
}

/// The last `count` messages of the relay's stream.
async fn last(context: &Context, log: &str, count: Position) -> Result<Vec<StreamMessage>> {
    let mut stream = context.get_stream(format!("WAYBILL_{log}")).await?;
    let (last, count) = (stream.info().await?.state.last_sequence, u64::try_from(count)?);
    ensure!(last >= count, "the stream has {last} messages, and {count} were published");
    let mut messages = Vec::new();
    for sequence in last - count + 1..=last {
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
        for (name, values) in all.iter().filter(|(name, _)| !name.to_string().starts_with(EXPECTED))
        {
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
