//! What every request carries with it: its id and its place in a trace.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

use crate::limits;

/// The header that carries a request's id, in and out.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The header of the W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header that tells a caller where in a trace their request was answered.
///
/// Source: W3C Trace Context Level 2, section 4.
pub(crate) const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The id of a request and its trace context, put there by the layers of [`crate::edge()`].
#[derive(Debug, Clone, Default)]
pub struct RequestContext {
    /// From `X-Request-Id`, or made.
    pub request_id: Arc<str>,
    /// Of the request's span; where there is none, from `traceparent`, where it is well formed.
    pub traceparent: Option<Arc<str>>,
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// The caller's request id, where it brought one that is fit to be logged.
pub(crate) fn given_request_id(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(X_REQUEST_ID)?.to_str().ok()?;
    let sane = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&b);
    let fits = (1..=limits::REQUEST_ID_LENGTH_MAX).contains(&text.len()) && text.bytes().all(sane);
    fits.then(|| text.into())
}

/// The caller's trace context, where it is well formed.
pub(crate) fn given_traceparent(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    trace::is_traceparent(text).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_taken_where_it_is_fit_to_be_logged() {
        let given = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, text.parse().unwrap());
            given_request_id(&headers)
        };
        assert_eq!(given("req-1.A:b").as_deref(), Some("req-1.A:b"));
        assert_eq!(given("a b"), None);
        assert_eq!(given(""), None);
        assert_eq!(given("<script>"), None);
        assert_eq!(given(&"x".repeat(129)), None);
    }
}
