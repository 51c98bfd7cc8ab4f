//! Takes messages from JetStream as they come, and comes back when JetStream was away.

use std::time::Duration;

use async_nats::jetstream::{self, consumer};
use futures_util::StreamExt as _;
use schemas::Recorded;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::{BATCH_EVENTS_MAX, wire};
use crate::consumer::Backoff;

/// How often JetStream says that it is still there. Two missing signs are an absence.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// How long one pull waits for messages before it is renewed.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// How long JetStream keeps our consumer after we went silent.
const INACTIVE_MAX: Duration = Duration::from_mins(1);

/// How long to wait for an answer of JetStream's.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long to wait at most before asking JetStream again.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Listens for ever. `connected` tells whether messages can be expected.
pub(super) async fn run(
    nats: &async_nats::Client,
    log: &str,
    messages: &mpsc::Sender<Vec<Recorded>>,
    connected: &watch::Sender<bool>,
) {
    let context = jetstream::ContextBuilder::new().timeout(ANSWER_WAIT_MAX).build(nats.clone());
    let mut faults = Backoff::default();
    loop {
        let error = match subscribe(&context, log).await {
            Ok(subscription) => {
                if faults.recovered() {
                    tracing::info!(log, "JetStream delivers again");
                }
                connected.send_replace(true);
                receive(subscription, messages).await
            }
            Err(error) => error,
        };
        connected.send_replace(false);
        if messages.is_closed() {
            return;
        }
        if faults.failed() {
            tracing::warn!(log, %error, "JetStream is away: following Postgres");
        }
        sleep(faults.delay().min(RETRY_MAX)).await;
    }
}

/// An ordered consumer of everything that is published from now on. A message that is lost on
/// the way is not sent again: the follower notices, and Postgres has it.
async fn subscribe(
    context: &jetstream::Context,
    log: &str,
) -> Result<consumer::pull::Stream, async_nats::Error> {
    let config = consumer::pull::Config {
        deliver_policy: consumer::DeliverPolicy::New,
        ack_policy: consumer::AckPolicy::None,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: INACTIVE_MAX,
        ..consumer::pull::Config::default()
    };
    let consumer = context.create_consumer_on_stream(config, wire::stream_name(log)).await?;
    let stream = consumer
        .stream()
        .heartbeat(HEARTBEAT)
        .expires(PULL_EXPIRES)
        .max_messages_per_batch(2 * BATCH_EVENTS_MAX)
        .messages()
        .await?;
    Ok(stream)
}

/// Hands messages on until something fails, and says what.
async fn receive(
    subscription: consumer::pull::Stream,
    messages: &mpsc::Sender<Vec<Recorded>>,
) -> async_nats::Error {
    let mut chunks = subscription.ready_chunks(BATCH_EVENTS_MAX);
    while let Some(chunk) = chunks.next().await {
        let mut events = Vec::with_capacity(chunk.len());
        let mut failure = None;
        for message in chunk {
            match message.map(|message| decode(&message)) {
                Ok(event) => events.extend(event),
                Err(error) => failure = Some(error.into()),
            }
        }
        if !events.is_empty() && messages.send(events).await.is_err() {
            return "nobody listens any more".into();
        }
        if let Some(failure) = failure {
            return failure;
        }
    }
    "the subscription ended".into()
}

/// The event in a message. One that cannot be read is as good as lost: Postgres has it.
fn decode(message: &jetstream::Message) -> Option<Recorded> {
    let headers = message.headers.as_ref()?;
    match wire::recorded(headers, &message.payload) {
        Ok(event) => Some(event),
        Err(error) => {
            let subject = message.subject.as_str();
            tracing::warn!(subject, position = wire::position(headers), %error, "not our event");
            None
        }
    }
}
