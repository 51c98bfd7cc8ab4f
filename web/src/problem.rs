//! The one shape of every error (RFC 9457).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use crate::limits;

/// What `type` starts with; the code follows.
pub const TYPE_BASE: &str = "https://docs.waybill.example/problems/";

/// An error as a client sees it: `application/problem+json`.
///
/// `instance` and `request_id` are added by the layers of [`crate::edge()`].
#[derive(Debug, Clone)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: String,
    errors: Vec<FieldError>,
    extra: Vec<(&'static str, Value)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What is wrong with one part of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where in the body, as `#/lines/0/quantity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Which parameter of the path or query, or which header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// Stable name.
    pub code: Cow<'static, str>,
    /// For people.
    pub detail: String,
}

impl Problem {
    /// A problem with a stable `code` to match on and a `detail` for people.
    #[must_use]
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            status,
            code: code.into(),
            detail: detail.into(),
            errors: Vec::new(),
            extra: Vec::new(),
            headers: Vec::new(),
        }))
    }

    /// 404.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 401.
    #[must_use]
    pub fn unauthorised(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorised", detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 503 with `Retry-After`: something this request needs is away.
    #[must_use]
    pub fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(limits::RETRY_AFTER_S)
    }

    /// 500. The cause is logged, here and only here, and not shown.
    #[must_use]
    pub fn internal(cause: &(dyn Error + 'static)) -> Self {
        let mut causes = cause.to_string();
        let mut next = cause.source();
        while let Some(cause) = next {
            causes.push_str(": ");
            causes.push_str(&cause.to_string());
            next = cause.source();
        }
        tracing::error!(error = %causes, "a request failed by our fault");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the fault is ours; it is logged")
    }

    /// 422 about one part of the body, named by its JSON pointer (`#/lines/0/quantity`).
    #[must_use]
    pub fn invalid_field(
        pointer: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "validation_failed",
            "the body does not fit; see errors",
        )
        .with_error(pointer, code, detail)
    }

    /// 400 about a header.
    #[must_use]
    pub fn invalid_header(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_header", format!("the header {name} is wrong"))
            .with_parameter(name, "invalid", detail)
    }

    /// 400 about a parameter of the query.
    #[must_use]
    pub fn invalid_parameter(
        name: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_parameter", "a parameter of the query is wrong")
            .with_parameter(name, code, detail)
    }

    /// Adds what is wrong at `pointer` (`#/lines/0/quantity`).
    #[must_use]
    pub fn with_error(
        mut self,
        pointer: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        self.0.errors.push(FieldError {
            pointer: Some(pointer.into()),
            parameter: None,
            code: code.into(),
            detail: detail.into(),
        });
        self
    }

    /// Adds what is wrong with a parameter of the path or query, or with a header.
    #[must_use]
    pub fn with_parameter(
        mut self,
        parameter: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        self.0.errors.push(FieldError {
            pointer: None,
            parameter: Some(parameter.into()),
            code: code.into(),
            detail: detail.into(),
        });
        self
    }

    /// Adds `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Adds a member of its own to the body.
    #[must_use]
    pub fn extra(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.0.extra.push((key, value.into()));
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable name.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// For people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The parts that are wrong.
    #[must_use]
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// The body. `instance` is the request's path.
    pub(crate) fn body(&self, instance: Option<&str>, request_id: Option<&str>) -> String {
        let Inner { status, code, detail, errors, extra, .. } = &*self.0;
        let body = Body {
            kind: format!("{TYPE_BASE}{code}"),
            title: title(code),
            status: status.as_u16(),
            code,
            detail,
            instance,
            request_id,
            errors,
            extra: extra.iter().map(|(key, value)| (*key, value)).collect(),
        };
        // Strings and numbers only: it always can be written.
        serde_json::to_string(&body).unwrap_or_default()
    }
}

/// The members of RFC 9457, and then ours, in the order in which they are written.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(flatten)]
    extra: BTreeMap<&'a str, &'a Value>,
}

/// `idempotency_key_reused` reads "Idempotency key reused".
pub(crate) fn title(code: &str) -> String {
    let words = code.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.body(None, None);
        let mut response = (self.0.status, body).into_response();
        let headers = response.headers_mut();
        for (name, value) in &self.0.headers {
            headers.append(name.clone(), value.clone());
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_written_as_the_rfc_says() {
        let problem = Problem::invalid_field("#/lines/0/quantity", "out_of_range", "1 to 999999")
            .extra("current_version", 7)
            .retry_after(2);
        assert_eq!(
            problem.body(Some("/v1/orders"), Some("req_1")),
            r##"{"type":"https://docs.waybill.example/problems/validation_failed","title":"Validation failed","status":422,"code":"validation_failed","detail":"the body does not fit; see errors","instance":"/v1/orders","request_id":"req_1","errors":[{"pointer":"#/lines/0/quantity","code":"out_of_range","detail":"1 to 999999"}],"current_version":7}"##
        );
        let response = problem.into_response();
        assert_eq!(response.status(), 422);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "2");
    }
}
