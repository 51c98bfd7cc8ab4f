//! `GET /v1/streams/{category}/{id}`: a stream's events and its state, now or at a moment of the
//! past; for operators.

use aggregates::inventory::Inventory;
use aggregates::order::Order;
use aggregates::payment::Payment;
use aggregates::shipping::Shipping;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use event_store::{At, Error, History, Moment, Stored};
use saga::Journal;
use saga::fulfilment::Fulfilment;
use schemars::JsonSchema;
use schemas::{
    Category, CommandId, Decider, EventId, Position, StreamId, StreamIdError, Timestamp, Version,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;
use web::{Access, Json, Operation, Problem, Query, Routes};

use crate::api::{Api, log};
use crate::examples::event;

pub(crate) fn routes() -> Routes<Api> {
    let (path, read) = ("/v1/streams/{category}/{id}", Access::Staff("ops:read"));
    let mut entry = event();
    entry["payload"] = json!({});
    let shown = Operation::get(path, "getStream", read, "A stream, now or at a moment of the past")
        .path::<String>("category", "order")
        .path::<String>("id", "0197b0c0000070008000000000000002")
        .query::<Part>(&json!({ "at_version": 2, "after": 0, "limit": 50 }))
        .answers::<Seen>(
            200,
            "Its events up to the moment, and its state then.",
            &[],
            json!({
                "stream": "order/0197b0c0000070008000000000000002", "latest": 3, "version": 2,
                "state": {}, "state_error": null, "data": [entry],
                "page": { "next_after": null, "has_more": false },
            }),
        );
    Routes::new().route(shown, one)
}

/// The stream that a path names.
struct Named(StreamId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await.ok();
        let named = params.and_then(|params| {
            let mut params = params.iter().map(|(_, text)| text.to_owned());
            Some((params.next()?, params.next()?))
        });
        let stream = named.ok_or(StreamIdError).and_then(|(kind, id)| StreamId::named(&kind, &id));
        stream.map(Self).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_id", "the path names no stream")
                .with_parameter("id", "invalid", error.to_string())
        })
    }
}

/// Which moment, and which of the events up to it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Part {
    at_version: Option<Version>,
    at_time: Option<Timestamp>,
    after: Option<Version>,
    limit: Option<u32>,
}

impl Part {
    fn at(&self) -> Result<At, Problem> {
        match (self.at_version, self.at_time) {
            (None, None) => Ok(At::End),
            (Some(version), None) => Ok(At::Version(version)),
            (None, Some(time)) => Ok(At::Recorded(time)),
            (Some(_), Some(_)) => Err(wrong("at_time", "a version or a time, not both")),
        }
    }

    fn after(&self) -> Result<Version, Problem> {
        match self.after {
            Some(after) if after < 0 => Err(wrong("after", "a version is 0 or more")),
            after => Ok(after.unwrap_or(0)),
        }
    }
}

fn wrong(parameter: &'static str, detail: impl Into<String>) -> Problem {
    Problem::invalid_parameter(parameter, "out_of_range", detail)
}

async fn one(
    State(api): State<Api>,
    Named(stream): Named,
    Query(part): Query<Part>,
) -> Result<Response, Problem> {
    let (at, after) = (part.at()?, part.after()?);
    let limit = i64::from(web::rows(part.limit)?);
    let moment = api.history.moment(stream, at).await.map_err(|error| log(&error))?;
    let Some(Moment { version, latest }) = moment else {
        return Err(Problem::not_found("there is no such stream"));
    };
    if let At::Version(asked) = at
        && asked != version
    {
        return Err(wrong("at_version", format!("the stream has the versions 0 to {latest}")));
    }
    let events = api.history.stored(stream, after, version, limit).await;
    let data = events.map_err(|error| log(&error))?.into_iter().map(Entry::of);
    let data = data.collect::<Result<Vec<_>, _>>().map_err(|error| Problem::internal(&error))?;
    let (state, state_error) = match state(&api.history, stream, version).await {
        Ok(state) => (Some(state), None),
        Err(error @ Error::Unreadable { .. }) => (None, Some(error.to_string())),
        Err(error) => return Err(log(&error)),
    };
    let last = data.last().map_or(after, |event| event.version);
    let has_more = last < version;
    let page = Ends { next_after: has_more.then_some(last), has_more };
    let stream = stream.to_string();
    Ok(Json(Seen { stream, latest, version, state, state_error, data, page }).into_response())
}

/// The state of a stream as its first `version` events leave it.
///
/// # Errors
/// [`Error::Database`], or [`Error::Unreadable`].
pub async fn state(history: &History, stream: StreamId, version: Version) -> Result<Value, Error> {
    match stream.category {
        Category::Order => json::<Order>(history, stream, version).await,
        Category::Payment => json::<Payment>(history, stream, version).await,
        Category::Inventory => json::<Inventory>(history, stream, version).await,
        Category::Shipping => json::<Shipping>(history, stream, version).await,
        Category::Saga => json::<Journal<Fulfilment>>(history, stream, version).await,
        Category::Other(_) => Err(Error::Unreadable {
            stream,
            version,
            why: "it is of another's category, whose rules are not ours".to_owned(),
        }),
    }
}

async fn json<D: Decider>(
    history: &History,
    stream: StreamId,
    version: Version,
) -> Result<Value, Error> {
    let state: D = history.fold_to(stream, version).await?;
    serde_json::to_value(state).map_err(|error| Error::Unreadable {
        stream,
        version,
        why: format!("the state cannot be written as JSON: {error}"),
    })
}

/// A stream at a moment.
#[derive(Debug, Serialize, JsonSchema)]
struct Seen {
    stream: String,
    /// The version that it has now.
    latest: Version,
    /// The version that it had at the moment.
    version: Version,
    /// What its rules knew then.
    state: Option<Value>,
    /// Why there is no state.
    state_error: Option<String>,
    data: Vec<Entry>,
    page: Ends,
}

/// Where the list goes on.
#[derive(Debug, Serialize, JsonSchema)]
struct Ends {
    next_after: Option<Version>,
    has_more: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Entry {
    version: Version,
    position: Position,
    id: EventId,
    #[serde(rename = "type")]
    event_type: String,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    actor: String,
    command_id: CommandId,
    correlation_id: Uuid,
    causation_id: Uuid,
    traceparent: Option<String>,
    #[schemars(with = "Value")]
    payload: Box<RawValue>,
}

impl Entry {
    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn of(stored: Stored) -> Result<Self, serde_json::Error> {
        Ok(Self {
            version: stored.version,
            position: stored.position,
            id: EventId::new(stored.event_id),
            event_type: stored.event_type,
            occurred_at: stored.occurred_at,
            recorded_at: stored.recorded_at,
            actor: stored.actor,
            command_id: CommandId::new(stored.command_id),
            correlation_id: stored.correlation_id,
            causation_id: stored.causation_id,
            traceparent: stored.traceparent,
            payload: RawValue::from_string(stored.payload)?,
        })
    }
}
