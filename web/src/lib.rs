//! The HTTP plumbing that both APIs share. No domain, no table.
//!
//! * [`Problem`] is the one shape of every error.
//! * Extractors answer with a [`Problem`] when a request does not fit: [`Json`], [`LargeJson`],
//!   [`OptionalJson`], [`RawBody`], [`Query`], [`PathId`], [`Caller`], [`IdempotencyKey`],
//!   [`IfMatch`], [`IfNoneMatch`], [`MinPosition`], [`Prefer`], [`LastEventId`],
//!   [`AcceptsEvents`], [`RequestContext`].
//! * Parts of an answer: [`ETag`], [`CommitPosition`], [`ProjectionPosition`], [`Page`].
//! * [`Routes`] are declared once, each as an [`Operation`] with its handler: the router and the
//!   [`openapi`] document are made of them. A [`Gate`] stands in front of each: [`Tokens`] tell
//!   who is calling, [`Rates`] how often they may.
//! * [`edge()`] puts limits, request ids, fallbacks, health and the log line around the routes,
//!   [`with_metrics()`] adds `/metrics`, and [`serve()`] serves them.
//!
//! To add one more header: a type in `headers.rs` with `FromRequestParts` or
//! `IntoResponseParts`, and a test beside it.
#![deny(missing_docs)]

mod body;
mod caller;
pub mod cursor;
mod edge;
mod gate;
pub mod headers;
pub mod health;
pub mod json;
pub mod limits;
mod metrics;
pub mod openapi;
mod page;
mod patient;
mod problem;
mod query;
mod rate;
mod request;
mod route;
mod serve;
#[cfg(test)]
mod tests;
mod token;

pub use body::{Json, LargeJson, OptionalJson, RawBody};
pub use caller::Caller;
pub use cursor::Cursors;
pub use edge::{Edge, NewId, edge};
pub use gate::Gate;
pub use headers::{
    AcceptsEvents, CommitPosition, ETag, IdempotencyKey, IfMatch, IfNoneMatch, LastEventId,
    MinPosition, Prefer, ProjectionPosition,
};
pub use metrics::{REQUEST_SECONDS, REQUEST_SECONDS_BUCKETS, describe_metrics, with_metrics};
pub use page::{Ends, Page, rows};
pub use problem::{FieldError, Problem, TYPE_BASE};
pub use query::{PathId, Query};
pub use rate::{Rates, RatesError};
pub use request::{RequestContext, TRACEPARENT, X_REQUEST_ID};
pub use route::{Access, Operation, Routes};
pub use serve::serve;
pub use token::{Fetch, Grant, Issuer, KeySet, KeySetError, Keys, Now, Tokens};
