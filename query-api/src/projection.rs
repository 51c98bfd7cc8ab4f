//! `GET /v1/projections`: how far behind the log each read model is.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use projections::Status;
use web::{Page, Problem};

use crate::api::{Api, log};

pub(crate) fn routes() -> Router<Api> {
    Router::new().route("/v1/projections", get(list))
}

async fn list(State(api): State<Api>) -> Result<Page<Status>, Problem> {
    let found = projections::list(&api.pool).await.map_err(|error| log(&error))?;
    Ok(Page::new(found, None, None))
}
