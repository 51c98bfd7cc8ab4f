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

/// The id of a request and its trace context, put there by the layers of [`crate::edge()`].
#[derive(Debug, Clone, Default)]
pub struct RequestContext {
    /// From `X-Request-Id`, or made.
    pub request_id: Arc<str>,
    /// From `traceparent`, where it is well formed.
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
///
/// Source: W3C Trace Context, section 3.2.2.
pub(crate) fn given_traceparent(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    is_traceparent(text).then(|| text.into())
}

fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut part = |length: usize| {
        let digits = parts.next().filter(|part| part.len() == length)?;
        digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).then_some(digits)
    };
    let (Some(version), Some(trace), Some(parent), Some(_flags)) =
        (part(2), part(32), part(16), part(2))
    else {
        return false;
    };
    let any = |digits: &str| digits.bytes().any(|b| b != b'0');
    // Later versions may add parts; version 00 has exactly four.
    version != "ff" && any(trace) && any(parent) && (version != "00" || text.len() == 55)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_is_checked() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good));
        assert!(is_traceparent(&good.replacen("00", "01", 1)));
        for bad in [
            "",
            "00",
            &good.to_uppercase(),
            &good.replacen("00", "ff", 1),
            &format!("{good}-more"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }

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
