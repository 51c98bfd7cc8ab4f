//! What consumers have parked, for operators: `GET /v1/parked` by cause, `/v1/parked/{fingerprint}`
//! the streams of one, and `/v1/parked/acts` what people did about them.

use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse as _, Response};
use event_store::parked::{self, Act, Fingerprint, Group, Parked, Place};
use schemars::JsonSchema;
use schemas::{Position, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use web::{Access, Operation, Page, PathId, Problem, Query, Routes};

use crate::api::{Api, log};
use crate::examples::{AT, BARE, page};
use crate::listing::Walk;

/// What cursors of the streams of a cause are bound to, with the cause behind it.
const STREAMS: &str = "parked ";

/// What cursors of the acts are bound to.
const ACTS: &str = "parked acts";

const READ: Access = Access::Staff("ops:read");

/// A fingerprint in examples.
const CAUSE: &str = "00c0ffee00c0ffee";

pub(crate) fn routes() -> Routes<Api> {
    let (consumer, reason) = ("projection/order_summary", "unknown type order.told.v1");
    let cause = json!({ "fingerprint": CAUSE, "consumer": consumer, "streams": 3, "events": 7,
                        "since": AT, "reason": reason });
    let causes = Operation::get("/v1/parked", "listParked", READ, "What is parked, by cause")
        .answers::<Page<Cause>>(200, "At most 1,000 causes.", &[], page(&cause));
    let act = json!({ "act": 1, "at": AT, "actor": "Ada", "action": "retry",
                      "fingerprint": CAUSE, "consumer": null, "key": null, "streams": 3,
                      "events": 7, "reason": "deployed 1.2" });
    let told = Operation::get("/v1/parked/acts", "listParkedActs", READ, "What was done about it")
        .query::<Part>(&json!({ "limit": 50 }))
        .paged()
        .answers::<Page<Done>>(200, "A page of acts, the latest first.", &["Link"], page(&act));
    let waiting = json!({ "consumer": consumer, "key": BARE,
                          "stream": "order/0197b0c0000070008000000000000002",
                          "position": 81234, "events": 2, "since": AT, "tries": 4,
                          "retry_at": null, "reason": reason });
    let path = "/v1/parked/{fingerprint}";
    let listed = Operation::get(path, "listParkedStreams", READ, "The streams of one cause")
        .path::<Fingerprint>("fingerprint", CAUSE)
        .query::<Part>(&json!({ "limit": 50 }))
        .paged()
        .answers::<Page<Waiting>>(200, "A page of streams.", &["Link"], page(&waiting));
    Routes::new().route(causes, groups).route(told, acts).route(listed, streams)
}

/// Streams of one consumer with one cause.
#[derive(Debug, Serialize, JsonSchema)]
struct Cause {
    fingerprint: Fingerprint,
    consumer: String,
    streams: i64,
    events: i64,
    since: Timestamp,
    reason: String,
}

/// A parked stream.
#[derive(Debug, Serialize, JsonSchema)]
struct Waiting {
    consumer: String,
    key: Uuid,
    stream: String,
    position: Position,
    events: i64,
    since: Timestamp,
    tries: i32,
    retry_at: Option<Timestamp>,
    reason: String,
}

/// Something that was done.
#[derive(Debug, Serialize, JsonSchema)]
struct Done {
    act: i64,
    at: Timestamp,
    actor: String,
    action: String,
    fingerprint: Option<Fingerprint>,
    consumer: Option<String>,
    key: Option<Uuid>,
    streams: i64,
    events: i64,
    reason: String,
}

/// Which part of a list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Part {
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn groups(State(api): State<Api>) -> Result<Page<Cause>, Problem> {
    let found = parked::groups(&api.pool).await.map_err(|error| log(&error))?;
    let cause = |group: Group| {
        let Group { consumer, fingerprint, streams, waiting: events, since, reason } = group;
        Cause { fingerprint, consumer, streams, events, since, reason }
    };
    Ok(Page::new(found.into_iter().map(cause).collect(), None, None))
}

async fn streams(
    State(api): State<Api>,
    PathId(fingerprint): PathId<Fingerprint>,
    OriginalUri(uri): OriginalUri,
    Query(part): Query<Part>,
) -> Result<Response, Problem> {
    let binding = format!("{STREAMS}{fingerprint}");
    let walk = Walk::<Place>::asked(&api, binding, part.limit, part.cursor.as_deref())?;
    let found = parked::list(&api.pool, Some(&fingerprint), walk.after(), walk.rows()).await;
    let found = found.map_err(|error| log(&error))?;
    let place = |row: &Parked| (row.parked_at, row.consumer.clone(), row.key);
    let stream = |row: Parked| Waiting {
        stream: format!("{}/{}", row.category, row.stream_id.simple()),
        consumer: row.consumer,
        key: row.key,
        position: row.first_position,
        events: row.waiting,
        since: row.parked_at,
        tries: row.tries,
        retry_at: row.retry_at,
        reason: row.reason,
    };
    Ok(walk.page(&api, found, place, stream)?.linked(&uri).into_response())
}

async fn acts(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    Query(part): Query<Part>,
) -> Result<Response, Problem> {
    let walk = Walk::<i64>::asked(&api, ACTS.to_owned(), part.limit, part.cursor.as_deref())?;
    let found = parked::acts(&api.pool, walk.after().copied(), walk.rows()).await;
    let found = found.map_err(|error| log(&error))?;
    let done = |act: Act| Done {
        act: act.act,
        at: act.acted_at,
        actor: act.actor,
        action: act.action,
        fingerprint: act.fingerprint,
        consumer: act.consumer,
        key: act.key,
        streams: act.streams,
        events: act.events,
        reason: act.reason,
    };
    Ok(walk.page(&api, found, |act| act.act, done)?.linked(&uri).into_response())
}
