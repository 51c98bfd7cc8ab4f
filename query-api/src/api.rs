//! What every handler shares: the database, how fresh it must be, and how an answer is made.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use event_store::{History, Moves, Vault, VaultError};
use projections::order_detail::OrderDetail;
use projections::{Freshness, Lookup, WaitError};
use schemars::JsonSchema;
use schemas::{CustomerId, Fact, OrderId, Personal, PersonalData, order};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;
use web::{
    Caller, Cursors, ETag, IfNoneMatch, Json, MinPosition, Prefer, Problem, ProjectionPosition,
};

use crate::sse::Streams;

/// The state of the router. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) pool: PgPool,
    /// What is asked for most, one by one.
    pub(crate) orders: Arc<Lookup<OrderDetail>>,
    pub(crate) cursors: Cursors,
    pub(crate) history: History,
    pub(crate) streams: Streams,
    vault: Vault,
    freshness: Arc<Freshness>,
}

/// How fresh the caller wants the answer, and what it has already.
#[derive(Debug)]
pub(crate) struct Wanted {
    min_position: Option<i64>,
    patience: Duration,
    /// Whether an older answer is better than none.
    lenient: bool,
    known: IfNoneMatch,
}

/// A filter that is either asked for, as `true`, or left out.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum Yes {
    #[serde(rename = "true")]
    Yes,
}

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let MinPosition(min_position) = MinPosition::from_request_parts(parts, state).await?;
        let Ok(Prefer { wait: patience, lenient }) = Prefer::from_request_parts(parts, state).await;
        let Ok(known) = IfNoneMatch::from_request_parts(parts, state).await;
        Ok(Self { min_position, patience, lenient, known })
    }
}

impl Wanted {
    /// The same, as though nothing were known yet.
    pub(crate) fn anew(self) -> Self {
        Self { known: IfNoneMatch::default(), ..self }
    }
}

impl Api {
    pub(crate) fn new(
        pool: PgPool,
        moves: Moves,
        vault: Vault,
        cursor_secret: &str,
        streams: Streams,
    ) -> Self {
        let freshness = Arc::new(Freshness::new(pool.clone(), moves));
        let orders = Arc::new(Lookup::new(pool.clone()));
        let history = History::new(pool.clone());
        let cursors = Cursors::new(cursor_secret.as_bytes());
        Self { pool, orders, cursors, history, streams, vault, freshness }
    }

    /// Waits until the read model `name` is as fresh as `wanted`, and says how fresh that is.
    /// To be called before the read model is read.
    pub(crate) async fn fresh(
        &self,
        name: &str,
        wanted: &Wanted,
    ) -> Result<ProjectionPosition, Problem> {
        self.fresh_part(name, None, wanted).await
    }

    /// The same for rows that fold one stream: only the worker of that stream is waited for.
    pub(crate) async fn fresh_row(
        &self,
        name: &str,
        stream: Uuid,
        wanted: &Wanted,
    ) -> Result<ProjectionPosition, Problem> {
        self.fresh_part(name, Some(stream), wanted).await
    }

    async fn fresh_part(
        &self,
        name: &str,
        stream: Option<Uuid>,
        wanted: &Wanted,
    ) -> Result<ProjectionPosition, Problem> {
        let Wanted { min_position, patience, lenient, .. } = wanted;
        let position = match min_position {
            None => self.freshness.position(name, stream).await.map_err(WaitError::from),
            Some(position) => self.freshness.wait(name, stream, *position, *patience).await,
        };
        position.map(ProjectionPosition).or_else(|error| match error {
            WaitError::Behind { position } if *lenient => Ok(ProjectionPosition(position)),
            WaitError::Behind { position } => {
                let detail = "the read model has not seen that position yet; try again, or take \
                              what there is with `Prefer: handling=lenient`";
                let problem = Problem::unavailable("projection_behind", detail);
                Err(problem.extra("position", position))
            }
            WaitError::Database(error) => Err(database(&error)),
        })
    }
}

impl Api {
    /// Whether the caller may know of the order: customers only of their own. The log says whose
    /// it is, however far the read models are.
    pub(crate) async fn owns(&self, caller: &Caller, order: OrderId) -> Result<bool, Problem> {
        let Some(customer) = caller.customer::<CustomerId>()? else { return Ok(true) };
        let first = self.history.read_stream(order.stream(), 0, 1).await;
        let first = first.map_err(|error| log(&error))?;
        Ok(match first.first().map(|event| &event.fact) {
            Some(Fact::Order(order::Event::Placed { customer: owner, .. })) => *owner == customer,
            _ => false,
        })
    }

    /// Opens personal data; none where the person was erased. What does not open for another
    /// reason is a fault, and never taken for erased.
    pub(crate) async fn open<T: PersonalData>(
        &self,
        sealed: &[&Personal<T>],
    ) -> Result<Vec<Option<T>>, Problem> {
        self.vault.open_many(sealed).await.map_err(|error| match &error {
            VaultError::Unavailable(event_store::Error::Database(cause)) => database(cause),
            _ => Problem::internal(&error),
        })
    }
}

/// A read that failed.
pub(crate) fn database(error: &sqlx::Error) -> Problem {
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Problem::internal(error),
        _ => {
            tracing::error!(
                error = error as &(dyn std::error::Error + 'static),
                "the database is unavailable"
            );
            Problem::unavailable("dependency_unavailable", "the database is away; try again")
        }
    }
}

/// The same through the event store.
pub(crate) fn log(error: &event_store::Error) -> Problem {
    match error {
        event_store::Error::Database(cause) => database(cause),
        _ => Problem::internal(error),
    }
}

/// A resource with a version: 304 where the caller has that version already.
pub(crate) fn versioned<T: Serialize>(
    seen: ProjectionPosition,
    wanted: &Wanted,
    version: i64,
    body: T,
) -> Response {
    if wanted.known.has(version) {
        return (StatusCode::NOT_MODIFIED, seen, ETag(version), ()).into_response();
    }
    (seen, ETag(version), Json(body)).into_response()
}

/// Customers know of themselves, and of nobody else: 404.
pub(crate) fn oneself(caller: &Caller, customer: CustomerId) -> Result<(), Problem> {
    if caller.customer::<CustomerId>()?.is_none_or(|own| own == customer) {
        return Ok(());
    }
    Err(Problem::not_found("there is no such customer"))
}

/// 404, also with the position: what is missing may only be too new.
pub(crate) fn missing(seen: ProjectionPosition, what: &str) -> Response {
    (seen, Problem::not_found(format!("there is no such {what}"))).into_response()
}
