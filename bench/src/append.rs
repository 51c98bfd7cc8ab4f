//! One event per command through the store, with more and more callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use event_store::{Append, Meta, Store, Write};
use schemas::{Category, Clock, CommandId, Encoded, Ids, StreamId, Version};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Every fourth append begins a stream; the others go on with one that exists.
const APPENDS_PER_STREAM: Version = 4;

/// The event that everybody writes.
pub(crate) const EVENT_TYPE: &str = "order.placed.v1";

/// A command that appends one event to `stream`.
pub(crate) fn one_event(stream: StreamId, expected: Version, payload: &str) -> Append {
    let command = Ids::system().next();
    let encoded = Encoded { event_type: EVENT_TYPE.to_owned(), payload: payload.to_owned() };
    Append {
        meta: Meta {
            command_id: CommandId::new(command),
            request_hash: [7; 32],
            correlation_id: stream.id,
            causation_id: command,
            occurred_at: Clock::system().now(),
            actor: "bench".to_owned(),
            traceparent: None,
            expected: None,
            keep_refusal: false,
        },
        writes: vec![Write { stream, expected, events: vec![encoded] }],
        answers: (stream, expected + 1),
        refused: None,
    }
}

/// Events a second with `callers` callers, each waiting for its answer before the next.
///
/// # Errors
/// The first append that fails.
pub(crate) async fn rate(
    store: &Store,
    callers: usize,
    seconds: u64,
    payload: &str,
) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (store, done, payload) = (store.clone(), Arc::clone(&done), payload.to_owned());
        tasks.spawn(async move {
            while Instant::now() < end {
                let stream = StreamId::new(Category::Order, Ids::system().next());
                for expected in 0..APPENDS_PER_STREAM {
                    store.append(one_event(stream, expected, &payload)).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let events = done.load(Ordering::Relaxed) as f64;
    Ok(events / started.elapsed().as_secs_f64())
}
