//! Query strings and path parameters.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::Problem;

/// A query string. `T` should deny unknown fields: then an unknown parameter is 400.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    if query.contains("%00") {
        return Err(Problem::invalid_parameter("*", "nul", "the character U+0000 is not allowed"));
    }
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let said = error.inner().to_string();
        let quoted = said.split('`').nth(1).map(str::to_owned);
        let path = error.path().to_string();
        let (name, code) = if said.starts_with("unknown field") {
            (quoted.unwrap_or(path), "unknown_parameter")
        } else if said.starts_with("missing field") {
            (quoted.unwrap_or(path), "missing")
        } else if said.starts_with("duplicate field") {
            (quoted.unwrap_or(path), "duplicate")
        } else {
            (path, "invalid")
        };
        Problem::invalid_parameter(name, code, said)
    })
}

/// The first parameter of the path, which must be a `T`; else 400.
#[derive(Debug, Clone, Copy)]
pub struct PathId<T>(pub T);

impl<T, S> FromRequestParts<S> for PathId<T>
where
    T: FromStr<Err: Display>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let wrong = |name: &str, detail: String| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_id", "the path names nothing of ours")
                .with_parameter(name, "invalid", detail)
        };
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|error| wrong("*", error.body_text()))?;
        let Some((name, text)) = params.iter().next() else {
            return Err(wrong("*", "no parameter in the path".to_owned()));
        };
        text.parse().map(Self).map_err(|error: T::Err| wrong(name, error.to_string()))
    }
}
