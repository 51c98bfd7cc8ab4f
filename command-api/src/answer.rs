//! What a command that was carried out is answered with. Everything in it follows from the
//! request and the ledger, so that a replay says the same.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event_store::Done;
use serde::Serialize;
use web::headers::IDEMPOTENT_REPLAYED;
use web::{CommitPosition, ETag, Json};

/// The headers of an answer that something was done.
pub(crate) const DONE: [&str; 2] = ["ETag", "Commit-Position"];
/// The headers of an answer that there is something new.
pub(crate) const CREATED: [&str; 3] = ["ETag", "Commit-Position", "Location"];
/// The headers of an answer that something is under way.
pub(crate) const ACCEPTED: [&str; 4] = ["ETag", "Commit-Position", "Location", "Retry-After"];

/// An answer with `ETag` and `Commit-Position`.
#[derive(Debug)]
pub(crate) struct Answer<B> {
    status: StatusCode,
    done: Done,
    location: Option<String>,
    body: B,
}

impl<B> Answer<B> {
    /// 200: it is done.
    pub(crate) fn done(done: Done, body: B) -> Self {
        Self { status: StatusCode::OK, done, location: None, body }
    }

    /// 201: there is something new at `location`.
    pub(crate) fn created(done: Done, location: String, body: B) -> Self {
        Self { status: StatusCode::CREATED, done, location: Some(location), body }
    }

    /// 202: it is under way, and `location` tells how far.
    pub(crate) fn accepted(done: Done, location: String, body: B) -> Self {
        Self { status: StatusCode::ACCEPTED, done, location: Some(location), body }
    }
}

impl<B: Serialize> IntoResponse for Answer<B> {
    fn into_response(self) -> Response {
        let Self { status, done, location, body } = self;
        let parts = (status, ETag(done.version), CommitPosition(done.position), Json(body));
        let mut response = parts.into_response();
        let headers = response.headers_mut();
        let location = location.and_then(|location| HeaderValue::try_from(location).ok());
        headers.extend(location.map(|location| (header::LOCATION, location)));
        if status == StatusCode::ACCEPTED {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(web::limits::RETRY_AFTER_S));
        }
        if done.replayed {
            headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_differs_in_one_header_only() {
        let answer = |replayed| {
            let done = Done { version: 2, position: 81, replayed };
            Answer::accepted(done, "/v1/sagas/sag_1".to_owned(), "body").into_response()
        };
        let (first, mut again) = (answer(false), answer(true));
        assert_eq!(first.status(), 202);
        assert_eq!(first.headers()["etag"], "\"2\"");
        assert_eq!(first.headers()["commit-position"], "81");
        assert_eq!(first.headers()["location"], "/v1/sagas/sag_1");
        assert_eq!(first.headers()["retry-after"], "1");
        assert_eq!(again.headers_mut().remove(IDEMPOTENT_REPLAYED).unwrap(), "true");
        assert_eq!(first.headers(), again.headers());
    }
}
