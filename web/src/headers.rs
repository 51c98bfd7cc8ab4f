//! The headers of the API's conventions, in and out.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponseParts, ResponseParts};

use crate::{Problem, limits};

/// The position of a write in the log.
pub const COMMIT_POSITION: HeaderName = HeaderName::from_static("commit-position");
/// The position that a read must have seen.
pub const MIN_POSITION: HeaderName = HeaderName::from_static("min-position");
/// The position that a read has seen.
pub const PROJECTION_POSITION: HeaderName = HeaderName::from_static("projection-position");
/// The last event that a stream of server-sent events told the caller.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Names a request, so that sending it twice does it once.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A version that no stream has: an entity tag that is not one of ours.
pub const VERSION_NEVER: i64 = -1;

/// The one value of a header, as text without the blanks around it.
fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid_header(shown, "it is given more than once"));
    }
    let text = value.to_str();
    text.map(|text| Some(text.trim()))
        .map_err(|_| Problem::invalid_header(shown, "only visible ASCII characters are allowed"))
}

/// `Idempotency-Key`, required: 1 to 255 visible characters, quoted (a structured field's
/// string) or bare; both spellings are the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(pub String);

impl IdempotencyKey {
    /// Reads the header's value.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let key = match text.strip_prefix('"') {
            None if text.contains(['"', '\\']) => return Err("a bare key has no quotes in it"),
            None => text.to_owned(),
            Some(quoted) => unquote(quoted)?,
        };
        if !(1..=limits::IDEMPOTENCY_KEY_LENGTH_MAX).contains(&key.len()) {
            return Err("a key has 1 to 255 characters");
        }
        if !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("a key has visible ASCII characters only");
        }
        Ok(Self(key))
    }
}

/// The content of a structured field's string (RFC 9651, 3.3.3) after its first quote.
fn unquote(quoted: &str) -> Result<String, &'static str> {
    let mut key = String::with_capacity(quoted.len());
    let mut letters = quoted.chars();
    loop {
        match letters.next() {
            None => return Err("the closing quote is missing"),
            Some('"') if letters.as_str().is_empty() => return Ok(key),
            Some('"') => return Err("nothing may follow the closing quote"),
            Some('\\') => match letters.next() {
                Some(letter @ ('"' | '\\')) => key.push(letter),
                _ => return Err("a backslash escapes a quote or a backslash"),
            },
            Some(letter) => key.push(letter),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(text) = only(&parts.headers, &IDEMPOTENCY_KEY, "Idempotency-Key")? else {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "idempotency_key_required",
                "send an Idempotency-Key, and the same one when you send this again",
            ));
        };
        Self::parse(text).map_err(|why| Problem::invalid_header("Idempotency-Key", why))
    }
}

/// The version in `If-Match`. None where it is missing or `*`; [`VERSION_NEVER`] where it is an
/// entity tag that cannot be one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IfMatch(pub Option<i64>);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match only(&parts.headers, &header::IF_MATCH, "If-Match")? {
            None | Some("*") => Ok(Self(None)),
            Some(text) => match entity_tag(text) {
                // A weak tag never matches here (RFC 9110, 13.1.1).
                Some(Tag { weak: true, .. }) => Ok(Self(Some(VERSION_NEVER))),
                Some(Tag { version, .. }) => Ok(Self(Some(version))),
                None => Err(Problem::invalid_header("If-Match", "one entity tag is expected")),
            },
        }
    }
}

/// The versions in `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IfNoneMatch {
    any: bool,
    versions: Vec<i64>,
}

impl IfNoneMatch {
    /// Whether the caller has `version` already: the answer is 304.
    #[must_use]
    pub fn has(&self, version: i64) -> bool {
        self.any || self.versions.contains(&version)
    }
}

impl<S: Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all(header::IF_NONE_MATCH).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        let tags = texts.flat_map(|text| text.split(',')).map(str::trim);
        let mut found = Self::default();
        for tag in tags {
            found.any |= tag == "*";
            found.versions.extend(entity_tag(tag).map(|tag| tag.version));
        }
        Ok(found)
    }
}

struct Tag {
    weak: bool,
    version: i64,
}

/// One entity tag (RFC 9110, 8.8.3).
fn entity_tag(text: &str) -> Option<Tag> {
    let (weak, text) = text.strip_prefix("W/").map_or((false, text), |text| (true, text));
    let opaque = text.strip_prefix('"')?.strip_suffix('"')?;
    if opaque.contains('"') {
        return None;
    }
    let ours = !opaque.is_empty() && opaque.bytes().all(|b| b.is_ascii_digit());
    let version = if ours { opaque.parse().unwrap_or(VERSION_NEVER) } else { VERSION_NEVER };
    Some(Tag { weak, version })
}

/// `Min-Position`: the read must have seen this position of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinPosition(pub Option<i64>);

impl<S: Sync> FromRequestParts<S> for MinPosition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        position(&parts.headers, &MIN_POSITION, "Min-Position").map(Self)
    }
}

/// A position of the log in a header.
fn position(
    headers: &HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<i64>, Problem> {
    let position = only(headers, name, shown)?.map(|text| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| Problem::invalid_header(shown, "a whole number from 0 is expected"))
    });
    position.transpose()
}

/// `Last-Event-ID`: the position up to which a follower of server-sent events has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastEventId(pub Option<i64>);

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        position(&parts.headers, &LAST_EVENT_ID, "Last-Event-ID").map(Self)
    }
}

/// Whether `Accept` asks for `text/event-stream` by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptsEvents(pub bool);

impl<S: Sync> FromRequestParts<S> for AcceptsEvents {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all(header::ACCEPT).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        let mut ranges = texts.flat_map(|text| text.split(','));
        Ok(Self(ranges.any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|t| t.eq_ignore_ascii_case("text/event-stream"));
            // A quality of nothing is a no (RFC 9110, 12.4.2).
            named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })))
    }
}

/// What a reader prefers (RFC 7240). What cannot be read is ignored, as the RFC asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefer {
    /// `wait=1`: how long a read may wait for its position, at most and by default
    /// [`limits::POSITION_WAIT_MAX`].
    pub wait: Duration,
    /// `handling=lenient`: an answer from before that position is better than none.
    pub lenient: bool,
}

impl<S: Sync> FromRequestParts<S> for Prefer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all("prefer").iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        let preferences: Vec<_> =
            texts.flat_map(|text| text.split([',', ';'])).map(str::trim).collect();
        let seconds = preferences.iter().find_map(|preference| {
            preference.strip_prefix("wait=").and_then(|seconds| seconds.parse().ok())
        });
        let wait = seconds.map_or(limits::POSITION_WAIT_MAX, Duration::from_secs);
        let lenient = preferences.contains(&"handling=lenient");
        Ok(Self { wait: wait.min(limits::POSITION_WAIT_MAX), lenient })
    }
}

/// `ETag: "3"`: the version of what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ETag(pub i64);

impl IntoResponseParts for ETag {
    type Error = Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Infallible> {
        let tag = HeaderValue::try_from(format!("\"{}\"", self.0));
        response.headers_mut().extend(tag.ok().map(|tag| (header::ETAG, tag)));
        Ok(response)
    }
}

/// `Commit-Position: 81234`: where in the log the write stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitPosition(pub i64);

impl IntoResponseParts for CommitPosition {
    type Error = Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Infallible> {
        response.headers_mut().insert(COMMIT_POSITION, HeaderValue::from(self.0));
        Ok(response)
    }
}

/// `Projection-Position: 81230`: how much of the log the read has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProjectionPosition(pub i64);

impl IntoResponseParts for ProjectionPosition {
    type Error = Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Infallible> {
        response.headers_mut().insert(PROJECTION_POSITION, HeaderValue::from(self.0));
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::new(());
        for (name, value) in headers {
            let name = name.parse::<HeaderName>().unwrap();
            request.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        request.into_parts().0
    }

    async fn extract<T: FromRequestParts<()>>(headers: &[(&str, &str)]) -> Result<T, T::Rejection> {
        T::from_request_parts(&mut parts(headers), &()).await
    }

    #[test]
    fn a_key_is_the_same_quoted_and_bare() {
        let key = |text: &str| IdempotencyKey::parse(text).map(|key| key.0);
        assert_eq!(key("8e03978e-40d5"), Ok("8e03978e-40d5".to_owned()));
        assert_eq!(key("\"8e03978e-40d5\""), key("8e03978e-40d5"));
        assert_eq!(key(r#""a\"b\\c""#), Ok(r#"a"b\c"#.to_owned()));
        assert!(key(&"x".repeat(255)).is_ok());
        for bad in ["", "\"\"", "\"a", "a\"", "\"a\"b", r#""a\n""#, "a b", "\"a b\"", "ü", r"a\b"]
        {
            assert!(key(bad).is_err(), "{bad}");
        }
        assert!(key(&"x".repeat(256)).is_err());
    }

    #[tokio::test]
    async fn a_key_is_required_once() {
        let missing = extract::<IdempotencyKey>(&[]).await.unwrap_err();
        assert_eq!(missing.code(), "idempotency_key_required");
        let twice = [("idempotency-key", "a"), ("idempotency-key", "a")];
        for bad in [&twice[..], &[("idempotency-key", "ü")], &[("idempotency-key", " ")]] {
            let problem = extract::<IdempotencyKey>(bad).await.unwrap_err();
            assert_eq!((problem.status().as_u16(), problem.code()), (400, "invalid_header"));
        }
    }

    #[tokio::test]
    async fn if_match_names_a_version() {
        for (text, version) in [
            ("\"3\"", Some(3)),
            ("*", None),
            ("W/\"3\"", Some(VERSION_NEVER)),
            ("\"abc\"", Some(VERSION_NEVER)),
            ("\"99999999999999999999\"", Some(VERSION_NEVER)),
        ] {
            let found = extract::<IfMatch>(&[("if-match", text)]).await.unwrap();
            assert_eq!(found, IfMatch(version), "{text}");
        }
        assert_eq!(extract::<IfMatch>(&[]).await.unwrap(), IfMatch(None));
        for bad in ["3", "\"3", "\"1\", \"2\"", "ü"] {
            assert!(extract::<IfMatch>(&[("if-match", bad)]).await.is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn positions_and_waits_are_numbers() {
        let found = extract::<MinPosition>(&[("min-position", "7")]).await.unwrap();
        assert_eq!(found, MinPosition(Some(7)));
        for bad in ["-1", "+1", "1.0", "", "x", "99999999999999999999"] {
            assert!(extract::<MinPosition>(&[("min-position", bad)]).await.is_err(), "{bad}");
        }
        let wait = |text: &'static str| async move {
            let Ok(Prefer { wait, lenient }) = extract(&[("prefer", text)]).await;
            assert_eq!(lenient, text.contains("lenient"));
            wait.as_secs()
        };
        assert_eq!(wait("handling=lenient; wait=0").await, 0);
        assert_eq!(wait("respond-async, wait=1").await, 1);
        assert_eq!(wait("wait=60").await, 2);
        assert_eq!(wait("wait=x").await, 2);
    }

    #[tokio::test]
    async fn who_follows_events_says_so_and_from_where() {
        let found = extract::<LastEventId>(&[("last-event-id", "7")]).await.unwrap();
        assert_eq!(found, LastEventId(Some(7)));
        assert_eq!(extract::<LastEventId>(&[]).await.unwrap(), LastEventId(None));
        for bad in ["-1", "", "x", "7 8", "99999999999999999999"] {
            assert!(extract::<LastEventId>(&[("last-event-id", bad)]).await.is_err(), "{bad}");
        }
        for (accept, accepts) in [
            ("text/event-stream", true),
            ("application/json;q=0.5, Text/Event-Stream; q=0.9", true),
            ("text/event-stream;q=0", false),
            ("text/*", false),
            ("*/*", false),
            ("application/json", false),
        ] {
            let Ok(found) = extract::<AcceptsEvents>(&[("accept", accept)]).await;
            assert_eq!(found, AcceptsEvents(accepts), "{accept}");
        }
    }

    #[tokio::test]
    async fn a_caller_that_has_a_version_is_recognised() {
        let Ok(found) = extract::<IfNoneMatch>(&[("if-none-match", "\"2\", W/\"3\"")]).await;
        assert!(found.has(2) && found.has(3) && !found.has(4));
        let Ok(any) = extract::<IfNoneMatch>(&[("if-none-match", "*")]).await;
        assert!(any.has(9));
    }
}
