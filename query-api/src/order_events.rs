//! `GET /v1/orders/{order_id}/events` as server-sent events: the timeline, and then live.
//!
//! An event is told once the timeline has seen it, so whoever hears of it finds it there.

use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use event_store::Error;
use projections::order_timeline::{self, News, Row};
use schemas::{OrderId, Position};
use sqlx::PgPool;
use web::{AcceptsEvents, Caller, LastEventId, Problem};

use crate::api::{Api, Wanted, missing};
use crate::follow::{PAGE_EVENTS, Page, Source, Told};
use crate::order::Entry;
use crate::{api, sse};

/// How an order is followed, if that is what the caller asks for.
pub(crate) struct Following {
    after: Option<Position>,
}

/// [`Following`] where `Accept` asks for it.
pub(crate) struct Followed(pub(crate) Option<Following>);

impl<S: Send + Sync> FromRequestParts<S> for Followed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(AcceptsEvents(accepts)) = AcceptsEvents::from_request_parts(parts, state).await;
        if !accepts {
            return Ok(Self(None));
        }
        let LastEventId(after) = LastEventId::from_request_parts(parts, state).await?;
        Ok(Self(Some(Following { after })))
    }
}

/// Tells what happens about an order, from its beginning or where the caller left off.
pub(crate) async fn follow(
    api: &Api,
    caller: &Caller,
    order: OrderId,
    Following { after }: Following,
    wanted: &Wanted,
) -> Result<Response, Problem> {
    let slot = api.streams.slot(caller)?;
    let seen = api.fresh("order_timeline", wanted).await?;
    if !api.owns(caller, order).await? {
        return Ok(missing(seen, "order"));
    }
    let filter = Filter { order, customer: caller.is_customer() };
    let mut reader = api.streams.reader(&api.streams.timeline, filter, after.unwrap_or_default());
    let found = reader.begin().await.map_err(|error| api::log(&error))?;
    let known = found || {
        let rows = order_timeline::list(&api.pool, order, 0, 1).await;
        !rows.map_err(|error| api::database(&error))?.is_empty()
    };
    if !known {
        return Ok(missing(seen, "order"));
    }
    Ok((seen, sse::response(reader, slot)).into_response())
}

/// Whose timeline is followed, and by whom.
pub(crate) struct Filter {
    order: OrderId,
    customer: bool,
}

/// What an event is about, and how a customer sees it.
pub(crate) struct Key {
    order: OrderId,
    for_customers: Bytes,
}

/// The timeline of all orders.
pub(crate) struct Timeline {
    pool: PgPool,
}

impl Timeline {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

impl Source for Timeline {
    type Filter = Filter;
    type Key = Key;

    async fn head(&self) -> Result<Position, Error> {
        // The end of what is after everything is the end.
        Ok(order_timeline::news(&self.pool, None, Position::MAX, 1).await?.seen)
    }

    async fn read(&self, filter: Option<&Filter>, after: Position) -> Result<Page<Key>, Error> {
        let News { rows, seen } =
            order_timeline::news(&self.pool, filter.map(|filter| filter.order), after, PAGE_EVENTS)
                .await?;
        let more = i64::try_from(rows.len()).is_ok_and(|rows| rows >= PAGE_EVENTS);
        let told: Vec<_> = rows.into_iter().map(told).collect::<Result<_, _>>()?;
        let last = told.last().filter(|_| more).map(|told| told.position);
        Ok(Page { told, until: last.unwrap_or_else(|| seen.max(after)), more })
    }

    fn wants(filter: &Filter, key: &Key) -> bool {
        filter.order == key.order
    }

    fn shown<'a>(filter: &Filter, told: &'a Told<Key>) -> &'a Bytes {
        if filter.customer { &told.key.for_customers } else { &told.frame }
    }
}

fn told(row: Row) -> Result<Told<Key>, Error> {
    let (position, order) = (row.position, OrderId::new(row.order_id));
    let entry = Entry::of(row);
    let frame = sse::frame(position, &entry.event_type, &entry)?;
    let entry = entry.for_customers();
    let for_customers = sse::frame(position, &entry.event_type, &entry)?;
    Ok(Told { position, key: Key { order, for_customers }, frame })
}
