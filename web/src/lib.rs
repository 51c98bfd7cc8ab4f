//! The HTTP plumbing that both APIs share. No domain, no table.
//!
//! * [`Problem`] is the one shape of every error.
//! * Extractors answer with a [`Problem`] when a request does not fit: [`Json`], [`LargeJson`],
//!   [`OptionalJson`], [`RawBody`], [`Query`], [`PathId`], [`Caller`], [`Operator`], [`IdempotencyKey`],
//!   [`IfMatch`], [`IfNoneMatch`], [`MinPosition`], [`Prefer`], [`LastEventId`],
//!   [`AcceptsEvents`], [`Peer`], [`RequestContext`].
//! * Parts of an answer: [`ETag`], [`CommitPosition`], [`ProjectionPosition`], [`Page`].
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
pub mod headers;
pub mod health;
pub mod json;
pub mod limits;
mod metrics;
mod page;
mod patient;
mod problem;
mod query;
mod request;
mod serve;
#[cfg(test)]
mod tests;

pub use body::{Json, LargeJson, OptionalJson, RawBody};
pub use caller::{Caller, Operator, Trust};
pub use cursor::Cursors;
pub use edge::{Edge, NewId, edge};
pub use headers::{
    AcceptsEvents, CommitPosition, ETag, IdempotencyKey, IfMatch, IfNoneMatch, LastEventId,
    MinPosition, Prefer, ProjectionPosition,
};
pub use metrics::{REQUEST_SECONDS, REQUEST_SECONDS_BUCKETS, describe_metrics, with_metrics};
pub use page::{Ends, Page, rows};
pub use problem::{FieldError, Problem, TYPE_BASE};
pub use query::{PathId, Query};
pub use request::{Peer, RequestContext, TRACEPARENT, X_REQUEST_ID};
pub use serve::serve;
