//! `GET /v1/projections`: how far behind the log each read model is.

use axum::extract::State;
use projections::Status;
use serde_json::json;
use web::{Access, Operation, Page, Problem, Routes};

use crate::api::{Api, log};
use crate::examples::page;

pub(crate) fn routes() -> Routes<Api> {
    let row = json!({
        "name": "order_summary", "version": 2, "health": "current", "position": 81234,
        "head": 81234, "lag_events": 0, "lag_seconds": 0, "parked": 0, "rebuilt_at": null, "workers": [],
    });
    let (path, read) = ("/v1/projections", Access::Staff("ops:read"));
    let listed = Operation::get(path, "listProjections", read, "How far each read model is")
        .answers::<Page<Status>>(200, "Every read model.", &[], page(&row));
    Routes::new().route(listed, list)
}

async fn list(State(api): State<Api>) -> Result<Page<Status>, Problem> {
    let found = projections::list(&api.pool).await.map_err(|error| log(&error))?;
    Ok(Page::new(found, None, None))
}
