//! JSON into types, with an error that says where and what.

use std::fmt::Write as _;

use axum::http::StatusCode;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::Problem;

/// Reads a body.
///
/// # Errors
/// 400 where it is not JSON, 422 where it does not fit `T` or holds a NUL.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    refuse_nul(body)?;
    // serde would take an array for a struct, its fields in order.
    let listed = body.trim_ascii_start().first() == Some(&b'[');
    // Paths cost; they are only tracked once something is wrong.
    let error = match serde_json::from_slice(body) {
        Ok(_) if listed => None,
        Ok(value) => return Ok(value),
        Err(error) => Some(error),
    };
    // What is no JSON at all is malformed, even where something else was wrong before.
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(body) {
        return Err(malformed(body, &error));
    }
    Err(match error {
        Some(error) if !listed => misfit::<T>(body, &error),
        _ => Problem::invalid_field("#", "wrong_type", "an object is expected"),
    })
}

fn malformed(body: &[u8], error: &serde_json::Error) -> Problem {
    let detail = if body.is_empty() {
        "the body is empty; JSON is expected".to_owned()
    } else {
        format!("the body is not JSON: {error}")
    };
    Problem::new(StatusCode::BAD_REQUEST, "malformed_json", detail)
        .extra("line", error.line())
        .extra("column", error.column())
}

fn misfit<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> Problem {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let path = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => error.path().clone(),
        Ok(_) => return malformed(body, error),
    };
    let said = error.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
    let mut pointer = pointer(&path);
    let code = code(said);
    // serde names such a field in its message, and not always in the path.
    if let Some(field) =
        quoted(said).filter(|_| matches!(code, "missing" | "unknown_field" | "duplicate"))
    {
        let last = format!("/{}", escape(field));
        if code == "missing" || !pointer.ends_with(&last) {
            pointer.push_str(&last);
        }
    }
    Problem::invalid_field(pointer, code, said)
}

fn code(said: &str) -> &'static str {
    const CODES: [(&str, &str); 7] = [
        ("missing field", "missing"),
        ("unknown field", "unknown_field"),
        ("duplicate field", "duplicate"),
        ("unknown variant", "not_allowed"),
        ("invalid type", "wrong_type"),
        ("invalid value", "out_of_range"),
        ("invalid length", "wrong_length"),
    ];
    let found = CODES.iter().find(|(start, _)| said.starts_with(start));
    found.map_or("invalid", |(_, code)| code)
}

/// The first word that stands between backticks.
fn quoted(said: &str) -> Option<&str> {
    said.split('`').nth(1)
}

fn pointer(path: &Path) -> String {
    let mut pointer = "#".to_owned();
    for segment in path {
        // Writing to a string cannot fail.
        let _ = match segment {
            Segment::Seq { index } => write!(pointer, "/{index}"),
            Segment::Map { key } => write!(pointer, "/{}", escape(key)),
            Segment::Enum { variant } => write!(pointer, "/{}", escape(variant)),
            Segment::Unknown => Ok(()),
        };
    }
    pointer
}

/// Escapes a member's name for a JSON pointer (RFC 6901).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Refuses `\u0000`, which Postgres cannot keep in a text. A bare NUL is no JSON anyway.
fn refuse_nul(body: &[u8]) -> Result<(), Problem> {
    const NUL: &[u8] = b"\\u0000";
    if !body.windows(NUL.len()).any(|window| window == NUL) {
        return Ok(());
    }
    // It may be an escaped backslash followed by letters: only a parser can tell.
    let Some(pointer) = serde_json::from_slice(body).ok().and_then(|value| find_nul(&value)) else {
        return Ok(());
    };
    Err(Problem::invalid_field(pointer, "nul", "the character U+0000 is not allowed"))
}

fn find_nul(value: &Value) -> Option<String> {
    fn walk(value: &Value, path: &mut String) -> bool {
        let length = path.len();
        let found = match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().enumerate().any(|(index, item)| {
                path.truncate(length);
                let _ = write!(path, "/{index}");
                walk(item, path)
            }),
            Value::Object(members) => members.iter().any(|(key, member)| {
                path.truncate(length);
                let _ = write!(path, "/{}", escape(key));
                key.contains('\0') || walk(member, path)
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        };
        if !found {
            path.truncate(length);
        }
        found
    }
    let mut path = "#".to_owned();
    walk(value, &mut path).then_some(path)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[expect(dead_code, reason = "only read")]
        name: String,
        #[serde(default)]
        #[expect(dead_code, reason = "only read")]
        lines: Vec<Line>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        #[expect(dead_code, reason = "only read")]
        quantity: u32,
    }

    #[track_caller]
    fn check(body: &str, status: u16, code: &str, pointer: Option<(&str, &str)>) {
        let problem = parse::<Body>(body.as_bytes()).unwrap_err();
        assert_eq!(problem.status().as_u16(), status, "{problem:?}");
        assert_eq!(problem.code(), code, "{problem:?}");
        let found = problem.errors().first();
        let found = found.map(|error| (error.pointer.as_deref().unwrap(), error.code.as_ref()));
        assert_eq!(found, pointer, "{problem:?}");
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for body in
            ["", "{", "{\"name\":}", "nope", "{\"name\":\"a\"} trailing", "{\"name\":\"\0\"}"]
        {
            check(body, 400, "malformed_json", None);
        }
        check(
            &format!(r#"{{"name":"a","lines":{}"#, "[".repeat(10_000)),
            400,
            "malformed_json",
            None,
        );
        check(r#"{"nam":"a"} trailing"#, 400, "malformed_json", None);
        check(r#"{"name":7,"lines":}"#, 400, "malformed_json", None);
    }

    #[test]
    fn depth_does_no_harm() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        check(&deep, 422, "validation_failed", Some(("#", "wrong_type")));
        let lines = format!(r#"{{"name":"a","lines":{deep}}}"#);
        check(&lines, 422, "validation_failed", Some(("#/lines/0/0", "wrong_type")));
        let unknown = format!(r#"{{"name":"a","more":{deep}}}"#);
        check(&unknown, 422, "validation_failed", Some(("#/more", "unknown_field")));
        let nul = format!(r#"{{"name":"\u0000","more":{deep}}}"#);
        check(&nul, 422, "validation_failed", Some(("#/more", "unknown_field")));
    }

    #[test]
    fn malformed_json_names_line_and_column() {
        let problem = parse::<Body>(b"{\n  \"name\" 1}").unwrap_err();
        let body = problem.body(None, None);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["line"], &body["column"]), (&2.into(), &10.into()), "{body}");
    }

    #[test]
    fn what_does_not_fit_is_pointed_at() {
        let invalid = "validation_failed";
        check("{}", 422, invalid, Some(("#/name", "missing")));
        check(r#"{"name":1}"#, 422, invalid, Some(("#/name", "wrong_type")));
        check(r#"{"name":"a","x/y":1}"#, 422, invalid, Some(("#/x~1y", "unknown_field")));
        check(r#"{"name":"a","name":"b"}"#, 422, invalid, Some(("#/name", "duplicate")));
        for (quantity, code) in [
            ("481.0", "wrong_type"),
            ("-1", "out_of_range"),
            ("5e9", "wrong_type"),
            ("\"1\"", "wrong_type"),
            ("4294967296", "out_of_range"),
        ] {
            let body =
                format!(r#"{{"name":"a","lines":[{{"quantity":1}},{{"quantity":{quantity}}}]}}"#);
            check(&body, 422, invalid, Some(("#/lines/1/quantity", code)));
        }
        let body = r#"{"name":"a","lines":[{}]}"#;
        check(body, 422, invalid, Some(("#/lines/0/quantity", "missing")));
        let body = r#"{"name":"a","lines":[{"quantity":1,"extra":2}]}"#;
        check(body, 422, invalid, Some(("#/lines/0/extra", "unknown_field")));
        check("[]", 422, invalid, Some(("#", "wrong_type")));
    }

    #[test]
    fn nul_is_refused_and_a_backslash_is_not() {
        check(r#"{"name":"a\u0000"}"#, 422, "validation_failed", Some(("#/name", "nul")));
        check(
            r#"{"lines":[{"q\u0000":1}]}"#,
            422,
            "validation_failed",
            Some(("#/lines/0/q\0", "nul")),
        );
        assert!(parse::<Body>(br#"{"name":"a\\u0000"}"#).is_ok());
    }
}
