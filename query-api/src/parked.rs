//! What consumers have parked, for operators: `GET /v1/parked` by cause, `/v1/parked/{fingerprint}`
//! the streams of one, and `/v1/parked/acts` what people did about them.

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use event_store::parked::{self, Act, Fingerprint, Group, Parked, Place};
use schemas::{Position, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use web::{Operator, Page, PathId, Problem, Query};

use crate::api::{Api, log};
use crate::listing::Walk;

/// What cursors of the streams of a cause are bound to, with the cause behind it.
const STREAMS: &str = "parked ";

/// What cursors of the acts are bound to.
const ACTS: &str = "parked acts";

pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/parked", get(groups))
        .route("/v1/parked/acts", get(acts))
        .route("/v1/parked/{fingerprint}", get(streams))
}

/// Streams of one consumer with one cause.
#[derive(Debug, Serialize)]
struct Cause {
    fingerprint: Fingerprint,
    consumer: String,
    streams: i64,
    events: i64,
    since: Timestamp,
    reason: String,
}

/// A parked stream.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
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
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn groups(_: Operator, State(api): State<Api>) -> Result<Page<Cause>, Problem> {
    let found = parked::groups(&api.pool).await.map_err(|error| log(&error))?;
    let cause = |group: Group| {
        let Group { consumer, fingerprint, streams, waiting: events, since, reason } = group;
        Cause { fingerprint, consumer, streams, events, since, reason }
    };
    Ok(Page::new(found.into_iter().map(cause).collect(), None, None))
}

async fn streams(
    _: Operator,
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
    _: Operator,
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
