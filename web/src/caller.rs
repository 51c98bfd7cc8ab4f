//! Who is calling.

use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::Problem;

/// Whom the API believes. Part of a router's state: implement `FromRef` for it.
#[derive(Clone)]
pub struct Trust {
    /// Who brings the token.
    principal: &'static str,
    token: Option<[u8; 32]>,
}

impl Trust {
    /// Believes callers that bring `import_token`; without one, nobody.
    #[must_use]
    pub fn new(import_token: Option<&str>) -> Self {
        Self { principal: "import", token: import_token.map(digest) }
    }

    /// Believes operators, who bring `token`; without one, nobody.
    #[must_use]
    pub fn operators(token: Option<&str>) -> Self {
        Self { principal: "operator", token: token.map(digest) }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

/// Tokens are compared by their digests, so that the time it takes says nothing about them.
fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Who is calling. A wrong token is 401; no token is the principal `anonymous`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name under which idempotency keys are kept apart.
    pub principal: Arc<str>,
    /// Whether the caller brought the token: one may say when things happened, or look into
    /// streams, as the API has it.
    pub trusted: bool,
}

impl<S: Sync> FromRequestParts<S> for Caller
where
    Trust: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Some(given) = parts.headers.get(header::AUTHORIZATION) else {
            return Ok(Self { principal: Arc::from("anonymous"), trusted: false });
        };
        let token = given.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let Trust { principal, token: ours } = Trust::from_ref(state);
        match (token, ours) {
            (Some(token), Some(ours)) if digest(token) == ours => {
                Ok(Self { principal: Arc::from(principal), trusted: true })
            }
            _ => Err(unauthorised("the token in Authorization is not one of ours")),
        }
    }
}

fn unauthorised(detail: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorised", detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// A caller who brings the operators' token. No token or a wrong one is 401; where there is none
/// to bring, everybody is 403.
#[derive(Debug, Clone, Copy)]
pub struct Operator;

impl<S: Sync> FromRequestParts<S> for Operator
where
    Trust: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if Trust::from_ref(state).token.is_none() {
            let detail = "this is for operators, and this service has no token for them";
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
        }
        let caller = Caller::from_request_parts(parts, state).await?;
        if caller.trusted {
            return Ok(Self);
        }
        Err(unauthorised("this is for operators: bring their token in Authorization"))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    async fn caller(authorization: Option<&str>) -> Result<Caller, Problem> {
        let mut request = Request::new(());
        if let Some(text) = authorization {
            request.headers_mut().insert(header::AUTHORIZATION, text.parse().unwrap());
        }
        let trust = Trust::new(Some("secret"));
        Caller::from_request_parts(&mut request.into_parts().0, &trust).await
    }

    #[tokio::test]
    async fn only_the_right_token_is_trusted() {
        assert!(!caller(None).await.unwrap().trusted);
        assert!(caller(Some("Bearer secret")).await.unwrap().trusted);
        for wrong in ["Bearer guess", "Basic secret", "secret", "", "Bearer "] {
            assert_eq!(caller(Some(wrong)).await.unwrap_err().status(), 401, "{wrong}");
        }
    }

    #[tokio::test]
    async fn only_operators_pass_and_only_where_there_are_any() {
        for (ours, given, status) in [
            (Some("secret"), Some("Bearer secret"), None),
            (Some("secret"), Some("Bearer guess"), Some(401)),
            (Some("secret"), None, Some(401)),
            (None, Some("Bearer secret"), Some(403)),
            (None, None, Some(403)),
        ] {
            let mut request = Request::new(());
            if let Some(text) = given {
                request.headers_mut().insert(header::AUTHORIZATION, text.parse().unwrap());
            }
            let mut parts = request.into_parts().0;
            let passed = Operator::from_request_parts(&mut parts, &Trust::operators(ours)).await;
            assert_eq!(passed.err().map(|problem| problem.status().as_u16()), status);
        }
    }
}
