//! What a call can come to, and how an HTTP answer is read as that.

use reqwest::StatusCode;
use serde_json::Value;

/// What a call came to. Each asks the caller for a different next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Done; this is the answer.
    Ok(T),
    /// A definite no: nothing was done. Asking again changes nothing.
    Rejected(Rejection),
    /// It did not get through, and certainly nothing was done: ask again later.
    Transient(String),
    /// It may or may not have been done: ask again under the same key.
    Unknown(String),
}

impl<T> Outcome<T> {
    /// Reads the answer further.
    pub fn and_then<U>(self, read: impl FnOnce(T) -> Outcome<U>) -> Outcome<U> {
        match self {
            Self::Ok(answer) => read(answer),
            Self::Rejected(rejection) => Outcome::Rejected(rejection),
            Self::Transient(why) => Outcome::Transient(why),
            Self::Unknown(why) => Outcome::Unknown(why),
        }
    }
}

/// A definite no, as the other side put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status.
    pub status: u16,
    /// The `error` of the body; null where there is none.
    pub error: Value,
}

impl Rejection {
    /// A text field of the error.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.error.get(name).and_then(Value::as_str)
    }

    /// The other side's code for it; the kind of error, or the status, where it gave none.
    #[must_use]
    pub fn code(&self) -> String {
        let named = self.field("code").or_else(|| self.field("type"));
        named.map_or_else(|| format!("http_{}", self.status), str::to_owned)
    }
}

/// Reads an HTTP answer. A status that does not say whether something was done is unknown, also
/// where it is ours to mend; one that says that nothing was begun is transient.
pub(crate) fn read(status: StatusCode, body: &[u8]) -> Outcome<Value> {
    let json = serde_json::from_slice::<Value>(body);
    match (status.as_u16(), json) {
        (200..=299, Ok(json)) => Outcome::Ok(json),
        (200..=299, Err(error)) => Outcome::Unknown(format!("the answer is not JSON: {error}")),
        // The key is wrong, somebody is at it, or we are too fast: nothing was begun.
        (401 | 403 | 409 | 425 | 429, json) => {
            Outcome::Transient(format!("{status} {}", message(&json.unwrap_or_default())))
        }
        (408 | 500..=599 | 100..=399, _) => Outcome::Unknown(format!("{status}")),
        // A no without an `error` does not come from the API but from something on the way.
        (number, Ok(json)) if json["error"].is_object() => {
            Outcome::Rejected(Rejection { status: number, error: json["error"].clone() })
        }
        _ => Outcome::Transient(format!("{status} from something that is not the API")),
    }
}

fn message(json: &Value) -> &str {
    json.pointer("/error/message").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn class(status: u16, body: &str) -> &'static str {
        match read(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
            Outcome::Ok(_) => "ok",
            Outcome::Rejected(_) => "rejected",
            Outcome::Transient(_) => "transient",
            Outcome::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn a_status_says_whether_something_was_done() {
        for (status, body, expected) in [
            (200, "{}", "ok"),
            (201, r#"{"id":"shp_1"}"#, "ok"),
            (200, "<html>", "unknown"),
            (204, "", "unknown"),
            (302, "", "unknown"),
            (400, r#"{"error":{"type":"invalid_request_error"}}"#, "rejected"),
            (401, r#"{"error":{"message":"Invalid API Key"}}"#, "transient"),
            (402, r#"{"error":{"code":"card_declined"}}"#, "rejected"),
            (403, "", "transient"),
            (404, "not json", "transient"),
            (404, r#"{"error":{"code":"NOT_FOUND"}}"#, "rejected"),
            (408, "", "unknown"),
            (409, r#"{"error":{"type":"idempotency_error"}}"#, "transient"),
            (422, r#"{"error":{"code":"ADDRESS.VERIFY.FAILURE"}}"#, "rejected"),
            (429, "", "transient"),
            (500, "{}", "unknown"),
            (502, "", "unknown"),
            (503, "", "unknown"),
            (504, "", "unknown"),
        ] {
            assert_eq!(class(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_rejection_names_its_code() {
        for (body, code) in [
            (r#"{"error":{"type":"card_error","code":"card_declined"}}"#, "card_declined"),
            (r#"{"error":{"type":"invalid_request_error"}}"#, "invalid_request_error"),
            (r#"{"error":{}}"#, "http_400"),
        ] {
            let Outcome::Rejected(rejection) = read(StatusCode::BAD_REQUEST, body.as_bytes())
            else {
                panic!("{body}")
            };
            assert_eq!(rejection.code(), code, "{body}");
        }
    }
}
