//! `GET /v1/sagas` and `GET /v1/sagas/{saga_id}`: where a saga is, what it asked for, what it waits for.

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use axum::routing::get;
use projections::saga_view::{self, Filter, Parked, Row, Step, Timer};
use schemas::{OrderId, SagaId, Text, Timestamp, Version};
use serde::{Deserialize, Serialize};
use web::{PathId, Problem, Query};

use crate::api::{Api, Wanted, Yes, database, missing, versioned};
use crate::listing::{Listing, sorted, words};

pub(crate) fn routes() -> Router<Api> {
    Router::new().route("/v1/sagas", get(list)).route("/v1/sagas/{saga_id}", get(one))
}

/// What may be asked of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// One or several, with commas between them.
    #[serde(rename = "filter[state]", default, deserialize_with = "words")]
    states: Vec<Text>,
    /// One or several, with commas between them.
    #[serde(rename = "filter[outcome]", default, deserialize_with = "words")]
    outcomes: Vec<Text>,
    #[serde(rename = "filter[running]")]
    running: Option<Yes>,
    #[serde(rename = "filter[parked]")]
    parked: Option<Yes>,
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
        let Self { states, outcomes, running, parked, .. } = self;
        let ways = [
            ("filter[state]", !states.is_empty(), Filter::States(states.clone())),
            ("filter[outcome]", !outcomes.is_empty(), Filter::Outcomes(outcomes.clone())),
            ("filter[running]", running.is_some(), Filter::Running),
            ("filter[parked]", parked.is_some(), Filter::Parked),
        ];
        let mut asked = ways.into_iter().filter(|(_, asked, _)| *asked);
        let first = asked.next().map_or(Filter::Any, |(_, _, filter)| filter);
        if let Some((second, ..)) = asked.next() {
            let detail = "state, outcome, running and parked are filtered by one at a time";
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
    PathId(saga): PathId<SagaId>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    let seen = api.fresh_row("saga_view", saga.uuid(), &wanted).await?;
    let row = saga_view::get(&api.pool, saga).await.map_err(|error| database(&error))?;
    let Some(row) = row else { return Ok(missing(seen, "saga")) };
    Ok(versioned(seen, &wanted, row.version, Saga::of(row)))
}

/// A saga.
#[derive(Debug, Serialize)]
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

#[derive(Debug, Serialize)]
struct Links {
    #[serde(rename = "self")]
    saga: String,
    order: String,
    events: String,
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
            },
        }
    }
}
