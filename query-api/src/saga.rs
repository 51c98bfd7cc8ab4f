//! `GET /v1/sagas` and `GET /v1/sagas/{saga_id}`: where a saga is, what it asked for, what it waits
//! for, and what a person may do about it; `/journal` all that happened to it, for operators.

use ::saga::Legal;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse as _, Response};
use event_store::{At, Moment};
use projections::saga_view::{self, Filter, Parked, Row, Step, Timer};
use schemars::JsonSchema;
use schemas::{OrderId, SagaId, Text, Timestamp, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use web::{Access, Caller, Operation, Page, PathId, Problem, Query, Routes};

use crate::api::{Api, Wanted, Yes, database, log, missing, versioned};
use crate::examples::{AT, LISTED, ORDER, SAGA, event, page};
use crate::listing::{Listing, Walk, sorted, words};
use crate::stream::Entry;

const STAFF: Access = Access::Staff("ops:read");

pub(crate) fn routes() -> Routes<Api> {
    let listed = Operation::get("/v1/sagas", "listSagas", STAFF, "Sagas, newest first")
        .query::<Asked>(&json!({ "filter[parked]": "true", "sort": "-started_at", "limit": 50 }))
        .paged()
        .fresh()
        .answers::<Page<Saga>>(200, "A page of sagas.", &LISTED, page(&example()));
    let mut one_of_them = example();
    one_of_them["verbs"] = json!([]);
    let (path, read) = ("/v1/sagas/{saga_id}", Access::Customers("orders:read"));
    let shown = Operation::get(path, "getSaga", read, "How far an order is seen through")
        .path::<SagaId>("saga_id", SAGA)
        .fresh()
        .answers_versioned::<Seen>("The saga.", one_of_them);
    let path = "/v1/sagas/{saga_id}/journal";
    let mut entry = event();
    entry["payload"] = json!({});
    let told = Operation::get(path, "getSagaJournal", STAFF, "Everything that happened to it")
        .path::<SagaId>("saga_id", SAGA)
        .query::<Part>(&json!({ "limit": 50 }))
        .paged()
        .answers::<Page<Entry>>(200, "A page of its journal.", &["Link"], page(&entry));
    Routes::new().route(listed, list).route(shown, one).route(told, journal)
}

fn example() -> Value {
    json!({
        "id": SAGA, "type": "fulfilment", "definition_version": 2, "business_key": ORDER,
        "version": 7, "state": "authorising", "outcome": null, "compensating": null,
        "parked": null, "steps": [], "timers": [], "deferred": 0, "ignored": 0,
        "started_at": AT, "finished_at": null, "updated_at": AT,
        "links": {
            "self": format!("/v1/sagas/{SAGA}"), "order": format!("/v1/orders/{ORDER}"),
            "events": format!("/v1/orders/{ORDER}/events"),
            "journal": format!("/v1/sagas/{SAGA}/journal"),
        },
    })
}

/// What may be asked of the list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// One or several, with commas between them.
    #[serde(rename = "filter[state]", default, deserialize_with = "words")]
    #[schemars(with = "Option<String>")]
    states: Vec<Text>,
    /// One or several, with commas between them.
    #[serde(rename = "filter[outcome]", default, deserialize_with = "words")]
    #[schemars(with = "Option<String>")]
    outcomes: Vec<Text>,
    #[serde(rename = "filter[running]")]
    running: Option<Yes>,
    #[serde(rename = "filter[parked]")]
    parked: Option<Yes>,
    /// Parked for this: one or several, with commas between them.
    #[serde(rename = "filter[reason]", default, deserialize_with = "words")]
    #[schemars(with = "Option<String>")]
    reasons: Vec<Text>,
    /// Only those that began before this time.
    #[serde(rename = "filter[older_than]")]
    older_than: Option<Timestamp>,
    #[serde(default)]
    sort: Sorted,
    limit: Option<u32>,
    cursor: Option<String>,
}

sorted!("started_at", "-started_at");

impl Asked {
    /// Each filter is an index of its own, so there is one at a time.
    fn filter(&self) -> Result<Filter, Problem> {
        let Self { states, outcomes, running, parked, reasons, .. } = self;
        let ways = [
            ("filter[state]", !states.is_empty(), Filter::States(states.clone())),
            ("filter[outcome]", !outcomes.is_empty(), Filter::Outcomes(outcomes.clone())),
            ("filter[running]", running.is_some(), Filter::Running),
            ("filter[parked]", parked.is_some(), Filter::Parked),
            ("filter[reason]", !reasons.is_empty(), Filter::Reasons(reasons.clone())),
        ];
        let mut asked = ways.into_iter().filter(|(_, asked, _)| *asked);
        let first = asked.next().map_or(Filter::Any, |(_, _, filter)| filter);
        if let Some((second, ..)) = asked.next() {
            let detail = "state, outcome, running, parked and reason are filtered by one at a time";
            return Err(Problem::invalid_parameter(second, "not_combinable", detail));
        }
        Ok(first)
    }
}

async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    Query(asked): Query<Asked>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let filter = asked.filter()?;
    let Asked { older_than, sort, limit, cursor, .. } = asked;
    let binding = format!("sagas {filter:?} {older_than:?}");
    let listing = Listing::asked(&api, &binding, sort, limit, cursor.as_deref())?;
    let seen = api.fresh("saga_view", &wanted).await?;
    let part = listing.part(None, older_than);
    let rows = saga_view::list(&api.pool, &filter, &part).await;
    let rows = rows.map_err(|error| database(&error))?;
    listing.answer(&api, seen, &uri, rows, Saga::of)
}

async fn one(
    State(api): State<Api>,
    caller: Caller,
    PathId(saga): PathId<SagaId>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let seen = api.fresh_row("saga_view", saga.uuid(), &wanted).await?;
    let row = saga_view::get(&api.pool, saga).await.map_err(|error| database(&error))?;
    let Some(row) = row else { return Ok(missing(seen, "saga")) };
    if !api.owns(&caller, row.order()).await? {
        return Ok(missing(seen, "saga"));
    }
    let verbs = match &row.parked {
        Some(_) if !caller.is_customer() => verbs(&api, &row).await?,
        _ => Vec::new(),
    };
    let version = row.version;
    let mut saga = Saga::of(row);
    if caller.is_customer() {
        saga.parked = None; // For whom it waits, and why, is not theirs to know.
    }
    Ok(versioned(seen, &wanted, version, Seen { saga, verbs }))
}

/// What may be done about a saga as the row has it: acting on it takes that version.
async fn verbs(api: &Api, row: &Row) -> Result<Vec<Legal>, Problem> {
    let verbs = ::saga::verbs(&api.history, &row.definition, row.id(), row.version).await;
    verbs.map_err(|error| log(&error))
}

/// Which part of a journal.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Part {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// From the log itself, in the order of the versions. What is personal stays sealed.
async fn journal(
    State(api): State<Api>,
    PathId(saga): PathId<SagaId>,
    OriginalUri(uri): OriginalUri,
    Query(part): Query<Part>,
) -> Result<Response, Problem> {
    let binding = format!("journal {saga}");
    let walk = Walk::<Version>::asked(&api, binding, part.limit, part.cursor.as_deref())?;
    let stream = saga.stream();
    let moment = api.history.moment(stream, At::End).await.map_err(|error| log(&error))?;
    let Some(Moment { latest, .. }) = moment else {
        return Err(Problem::not_found("there is no such saga"));
    };
    let after = walk.after().copied().unwrap_or_default();
    let events = api.history.stored(stream, after, latest, walk.rows()).await;
    let rows = events.map_err(|error| log(&error))?.into_iter().map(Entry::of);
    let rows = rows.collect::<Result<Vec<_>, _>>().map_err(|error| Problem::internal(&error))?;
    let page = walk.page(&api, rows, Entry::version, |entry| entry)?;
    Ok(page.linked(&uri).into_response())
}

/// A saga by itself.
#[derive(Debug, Serialize, JsonSchema)]
struct Seen {
    #[serde(flatten)]
    saga: Saga,
    /// What a person may do about it now.
    verbs: Vec<Legal>,
}

/// A saga.
#[derive(Debug, Serialize, JsonSchema)]
struct Saga {
    id: SagaId,
    #[serde(rename = "type")]
    definition: String,
    definition_version: i32,
    /// What it is about.
    business_key: OrderId,
    version: Version,
    state: String,
    /// How it ended.
    outcome: Option<String>,
    /// Why it gives back what it took.
    compensating: Option<String>,
    parked: Option<Parked>,
    steps: Vec<Step>,
    timers: Vec<Timer>,
    /// Inputs that it keeps for later.
    deferred: i64,
    /// Inputs that changed nothing.
    ignored: i64,
    started_at: Timestamp,
    finished_at: Option<Timestamp>,
    updated_at: Timestamp,
    links: Links,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Links {
    #[serde(rename = "self")]
    saga: String,
    order: String,
    events: String,
    journal: String,
}

impl Saga {
    fn of(row: Row) -> Self {
        let (id, order) = (row.id(), row.order());
        Self {
            id,
            definition: row.definition,
            definition_version: row.definition_version,
            business_key: order,
            version: row.version,
            state: row.state,
            outcome: row.outcome,
            compensating: row.compensating,
            parked: row.parked.map(|parked| parked.0),
            steps: row.steps.0,
            timers: row.timers.0,
            deferred: row.deferred,
            ignored: row.ignored,
            started_at: row.started_at,
            finished_at: row.finished_at,
            updated_at: row.updated_at,
            links: Links {
                saga: format!("/v1/sagas/{id}"),
                order: format!("/v1/orders/{order}"),
                events: format!("/v1/orders/{order}/events"),
                journal: format!("/v1/sagas/{id}/journal"),
            },
        }
    }
}
