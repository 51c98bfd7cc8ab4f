//! Server-sent events: how they are written, and how many are told at once.
//!
//! Each event has its position as `id`, so whoever is cut off goes on behind the last one with
//! `Last-Event-ID`. The last frame says why a stream ends, where that is not the client's doing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use event_store::{Error, History};
use futures_util::stream;
use metrics::{describe_gauge, gauge};
use schemas::Position;
use serde::Serialize;
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use web::{Caller, Problem};

use crate::follow::{Hub, Reader, Source};
use crate::log_events::Log;
use crate::order_events::Timeline;

/// How long a client waits before it connects again.
const RECONNECT: Duration = Duration::from_secs(1);

/// When somebody who may have no more streams should ask again, in seconds.
const RETRY_AFTER_S: u32 = 5;

const OPEN: &str = "waybill_event_streams_open";
const OPEN_MAX: &str = "waybill_event_streams_open_max";

/// The limits of event streams.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Streams that one process tells at once.
    pub open_max: usize,
    /// Streams that are told to one caller at once.
    pub per_caller_max: usize,
    /// Batches that wait for one reader before it is cut off.
    pub queue_batches_max: usize,
    /// How long a stream is silent at most.
    pub heartbeat: Duration,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            open_max: 1024,
            per_caller_max: 64,
            queue_batches_max: 64,
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// The event streams of a process. Cheap to clone.
#[derive(Clone)]
pub struct Streams {
    pub(crate) timeline: Arc<Hub<Timeline>>,
    pub(crate) log: Arc<Hub<Log>>,
    slots: Arc<Slots>,
    heartbeat: Duration,
}

/// The task that follows log and timeline for everybody. Run it once per process.
pub struct Follower(Streams);

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Follower").field(&self.0).finish()
    }
}

impl Streams {
    /// Event streams over what `pool` may read, and the task that feeds them.
    #[must_use]
    pub fn new(pool: PgPool, limits: StreamLimits) -> (Self, Follower) {
        let StreamLimits { open_max, per_caller_max, queue_batches_max, heartbeat } = limits;
        describe_gauge!(OPEN, "Event streams that are told now");
        describe_gauge!(OPEN_MAX, "Event streams that may be told at once");
        gauge!(OPEN).set(0);
        gauge!(OPEN_MAX).set(u32::try_from(open_max).unwrap_or(u32::MAX));
        let slots = Slots {
            open: Arc::new(Semaphore::new(open_max)),
            per_caller_max,
            callers: Mutex::default(),
        };
        let streams = Self {
            log: Arc::new(Hub::new(Log::new(History::new(pool.clone())), queue_batches_max)),
            timeline: Arc::new(Hub::new(Timeline::new(pool), queue_batches_max)),
            slots: Arc::new(slots),
            heartbeat,
        };
        (streams.clone(), Follower(streams))
    }

    /// A place for one more stream.
    ///
    /// # Errors
    /// 429 where the caller has enough, 503 where all together have.
    pub(crate) fn slot(&self, caller: &Caller) -> Result<Slot, Problem> {
        let mut slot = Slots::take(&self.slots, caller.principal())?;
        slot.ends = caller.ends();
        Ok(slot)
    }

    /// One who is told everything after `after` that `filter` lets through.
    pub(crate) fn reader<S: Source>(
        &self,
        hub: &Arc<Hub<S>>,
        filter: S::Filter,
        after: Position,
    ) -> Reader<S> {
        Reader::new(hub.clone(), filter, after, self.heartbeat)
    }
}

impl Follower {
    /// Follows until `drain` is cancelled; then every stream ends.
    pub async fn run(self, drain: CancellationToken) {
        let Self(streams) = self;
        tokio::select! {
            () = drain.cancelled() => {}
            () = streams.timeline.run() => {}
            () = streams.log.run() => {}
        }
        streams.timeline.close();
        streams.log.close();
    }
}

/// Who is told how many streams.
#[derive(Debug)]
struct Slots {
    open: Arc<Semaphore>,
    per_caller_max: usize,
    callers: Mutex<HashMap<Arc<str>, usize>>,
}

/// The place of one stream.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    caller: Arc<str>,
    /// When it is told no longer: with the token that it was asked for with.
    ends: Option<Instant>,
    _open: OwnedSemaphorePermit,
}

impl Slots {
    fn take(slots: &Arc<Self>, caller: &Arc<str>) -> Result<Slot, Problem> {
        let mut callers = slots.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let (has, max) = (callers.get(caller).copied().unwrap_or(0), slots.per_caller_max);
        if has >= max {
            let detail = format!("{max} event streams are told to you: end one first");
            let problem =
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_event_streams", detail);
            return Err(problem.retry_after(RETRY_AFTER_S));
        }
        let Ok(open) = slots.open.clone().try_acquire_owned() else {
            let detail = "too many event streams at once: ask again, or another process";
            return Err(Problem::unavailable("overloaded", detail).retry_after(RETRY_AFTER_S));
        };
        callers.insert(caller.clone(), has + 1);
        gauge!(OPEN).increment(1);
        Ok(Slot { slots: slots.clone(), caller: caller.clone(), ends: None, _open: open })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        gauge!(OPEN).decrement(1);
        let mut callers = self.slots.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(has) = callers.get_mut(&self.caller) {
            *has -= 1;
            if *has == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// The reader does not keep up.
    Lagging,
    /// The process stops.
    Closing,
    /// The database is away.
    Interrupted,
    /// The reader's token is good no longer.
    Expired,
}

impl End {
    /// The database failed in the middle of a stream; logged here.
    pub(crate) fn interrupted(error: &Error) -> Self {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(%error, cause, "an event stream was interrupted");
        Self::Interrupted
    }

    /// The last frame. It has no id: whoever comes back goes on behind the last event.
    pub(crate) fn frame(self) -> Bytes {
        let (event, detail) = match self {
            Self::Lagging => ("lagging", "more is new than was read"),
            Self::Closing => ("closing", "this process stops"),
            Self::Interrupted => ("interrupted", "the log cannot be read now"),
            Self::Expired => ("expired", "the token has expired"),
        };
        let then = "connect again with Last-Event-ID to go on";
        format!("event: {event}\ndata: {{\"detail\":\"{detail}: {then}\"}}\n\n").into()
    }
}

/// An event as a frame.
///
/// # Errors
/// Where it cannot be written as JSON.
pub(crate) fn frame(
    position: Position,
    event_type: &str,
    entry: &impl Serialize,
) -> Result<Bytes, Error> {
    let decode = |error| Error::Database(sqlx::Error::Decode(Box::new(error)));
    let json = serde_json::to_string(entry).map_err(decode)?;
    let mut frame = format!("id: {position}\nevent: {event_type}\n");
    // Data is passed on as it is stored, which may be on several lines.
    for line in json.split(['\n', '\r']) {
        frame.push_str("data: ");
        frame.push_str(line);
        frame.push('\n');
    }
    frame.push('\n');
    Ok(frame.into())
}

/// A sign of life. Without data no event comes of it, but clients remember the id, so that they do
/// not come back for what was not theirs.
pub(crate) fn heartbeat(seen: Position) -> Bytes {
    format!(": nothing new\nid: {seen}\n\n").into()
}

/// What a stream tells next.
enum Next {
    Begin(Bytes),
    Event,
    Nothing,
}

/// The answer that tells what `reader` is told.
pub(crate) fn response<S: Source>(reader: Reader<S>, slot: Slot) -> Response {
    let begin = Bytes::from(format!("retry: {}\n\n", RECONNECT.as_millis()));
    let frames =
        stream::unfold((reader, slot, Next::Begin(begin)), async |(mut reader, slot, next)| {
            let (frame, next) = match next {
                Next::Begin(frame) => (frame, Next::Event),
                Next::Event => {
                    let ended = async {
                        match slot.ends {
                            Some(ends) => sleep_until(ends).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        () = ended => (End::Expired.frame(), Next::Nothing),
                        frame = reader.next() => (frame?, Next::Event),
                    }
                }
                Next::Nothing => return None,
            };
            Some((Ok::<_, Infallible>(frame), (reader, slot, next)))
        });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Body::from_stream(frames)).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn an_event_stays_in_its_frame_however_its_data_is_written() {
        let data = RawValue::from_string("{\n  \"a\":\r\n 1}".to_owned()).unwrap();
        let frame = frame(7, "order.placed.v1", &data).unwrap();
        let expected =
            "id: 7\nevent: order.placed.v1\ndata: {\ndata:   \"a\":\ndata: \ndata:  1}\n\n";
        assert_eq!(frame, expected);
    }

    #[test]
    fn nobody_has_more_streams_than_is_allowed_and_a_place_is_free_again() {
        let slots = Arc::new(Slots {
            open: Arc::new(Semaphore::new(3)),
            per_caller_max: 2,
            callers: Mutex::default(),
        });
        let take = |caller: &str| Slots::take(&slots, &caller.into());
        let status = |taken: Result<Slot, Problem>| taken.unwrap_err().status().as_u16();
        let first = take("ada").unwrap();
        let _second = take("ada").unwrap();
        assert_eq!(status(take("ada")), 429);
        let _third = take("bob").unwrap();
        assert_eq!(status(take("bob")), 503);
        drop(first);
        let _fourth = take("ada").unwrap();
        assert_eq!(status(take("ada")), 429);
    }
}
