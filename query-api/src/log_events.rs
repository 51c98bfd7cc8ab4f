//! `GET /v1/events/stream`: the whole log as server-sent events; for operators.

use axum::extract::State;
use axum::response::Response;
use event_store::{Error, History, Stored};
use schemars::JsonSchema;
use schemas::{Category, Position, StreamId};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::json;
use web::{Access, Caller, LastEventId, Operation, Problem, Query, Routes};

use crate::api::{Api, log};
use crate::follow::{PAGE_EVENTS, Page, Source, Told};
use crate::sse;
use crate::stream::Entry;

pub(crate) fn routes() -> Routes<Api> {
    let read = Access::Staff("ops:read");
    let told = Operation::get("/v1/events/stream", "followLog", read, "The log as it happens")
        .query::<Filter>(&json!({ "filter[context]": "order" }))
        .tells_events("id: 81234\nevent: order.confirmed.v1\ndata: {\"position\":81234}\n\n");
    Routes::new().route(told, follow)
}

/// Which events are asked for; all of them where nothing is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    #[serde(rename = "filter[context]", default, deserialize_with = "context")]
    #[schemars(with = "Option<String>")]
    context: Option<Category>,
    /// With its version, as `order.placed.v1`.
    #[serde(rename = "filter[type]")]
    event_type: Option<String>,
}

fn context<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Category>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let known = Category::ALL.iter().find(|category| category.as_str() == text);
    let names = || Category::ALL.map(Category::as_str).join(", ");
    known.copied().map(Some).ok_or_else(|| de::Error::custom(format!("expected {}", names())))
}

/// From the head of the log, or where the caller left off.
async fn follow(
    caller: Caller,
    State(api): State<Api>,
    Query(filter): Query<Filter>,
    LastEventId(after): LastEventId,
) -> Result<Response, Problem> {
    let slot = api.streams.slot(&caller)?;
    let hub = &api.streams.log;
    let after = match after {
        Some(after) => after,
        None => hub.source().head().await.map_err(|error| log(&error))?,
    };
    let mut reader = api.streams.reader(hub, filter, after);
    reader.begin().await.map_err(|error| log(&error))?;
    Ok(sse::response(reader, slot))
}

/// The log.
pub(crate) struct Log {
    history: History,
}

impl Log {
    pub(crate) fn new(history: History) -> Self {
        Self { history }
    }
}

/// What a filter looks at.
pub(crate) struct Key {
    context: Category,
    event_type: String,
}

impl Source for Log {
    type Filter = Filter;
    type Key = Key;

    async fn head(&self) -> Result<Position, Error> {
        self.history.head().await
    }

    async fn read(&self, filter: Option<&Filter>, after: Position) -> Result<Page<Key>, Error> {
        let head = self.head().await?;
        if head <= after {
            return Ok(Page { told: Vec::new(), until: after, more: false });
        }
        let until = head.min(after + PAGE_EVENTS);
        let context = filter.and_then(|filter| filter.context);
        let event_type = filter.and_then(|filter| filter.event_type.as_deref());
        let stored = self.history.stored_between(after, until, context, event_type).await?;
        let told = stored.into_iter().map(told).collect::<Result<_, _>>()?;
        Ok(Page { told, until, more: until < head })
    }

    fn wants(Filter { context, event_type }: &Filter, key: &Key) -> bool {
        context.is_none_or(|context| context == key.context)
            && event_type.as_ref().is_none_or(|event_type| *event_type == key.event_type)
    }
}

/// An event of a stream, and which stream that is.
#[derive(Serialize)]
struct Happened {
    stream: String,
    #[serde(flatten)]
    entry: Entry,
}

fn told((stream, stored): (StreamId, Stored)) -> Result<Told<Key>, Error> {
    let (position, context) = (stored.position, stream.category);
    let event_type = stored.event_type.clone();
    let entry = Entry::of(stored);
    let entry = entry.map_err(|error| Error::Database(sqlx::Error::Decode(Box::new(error))))?;
    let frame = sse::frame(position, &event_type, &Happened { stream: stream.to_string(), entry })?;
    Ok(Told { position, key: Key { context, event_type }, frame })
}
