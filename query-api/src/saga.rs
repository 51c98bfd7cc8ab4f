//! `GET /v1/sagas/{saga_id}`: where a saga is, what it asked for, what it waits for.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use projections::saga_view::{self, Parked, Row, Step, Timer};
use schemas::{OrderId, SagaId, Timestamp, Version};
use serde::Serialize;
use web::{PathId, Problem};

use crate::api::{Api, Wanted, database, missing, versioned};

pub(crate) fn routes() -> Router<Api> {
    Router::new().route("/v1/sagas/{saga_id}", get(one))
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
