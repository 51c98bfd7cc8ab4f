//! What every POST brings besides its body: who asks, under which key, of which version.

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::StatusCode;
use axum::http::request::Parts;
use event_store::Meta;
use schemas::{CommandId, Timestamp, Version, actor};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::{Uuid, uuid};
use web::{Caller, IdempotencyKey, IfMatch, Problem, RequestContext};

/// What the ids of commands that came over HTTP are derived from.
const REQUESTS: Uuid = uuid!("0d6f3a52-1c1e-4f0b-8c54-2b7f6c1f9a30");

/// A request to change something.
#[derive(Debug)]
pub(crate) struct Post {
    /// Who asks.
    pub(crate) caller: Caller,
    /// The same for the same caller, path and `Idempotency-Key`.
    pub(crate) command_id: CommandId,
    /// The pattern that the path matched.
    route: String,
    /// `If-Match`.
    expected: Option<Version>,
    traceparent: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Post {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let IdempotencyKey(key) = IdempotencyKey::from_request_parts(parts, state).await?;
        let IfMatch(expected) = IfMatch::from_request_parts(parts, state).await?;
        let Ok(context) = RequestContext::from_request_parts(parts, state).await;
        let route = parts.extensions.get::<MatchedPath>();
        let route = route.map_or_else(String::new, |route| route.as_str().to_owned());
        let (principal, method, path) = (caller.principal(), &parts.method, parts.uri.path());
        let name = format!("{principal}|{method}|{route}|{path}|{key}");
        Ok(Self {
            command_id: CommandId::derive(REQUESTS, &name),
            caller,
            route,
            expected,
            traceparent: context.traceparent.as_deref().map(str::to_owned),
        })
    }
}

impl Post {
    /// The envelope of the command. `body` is what is asked, in the one spelling that
    /// serialising it gives: another one under the same key is refused.
    ///
    /// # Errors
    /// 500 where `body` cannot be written as JSON.
    pub(crate) fn meta(
        &self,
        body: &impl Serialize,
        correlation_id: Uuid,
        occurred_at: Timestamp,
    ) -> Result<Meta, Problem> {
        let actor = actor(&self.caller)?;
        Ok(Meta {
            command_id: self.command_id,
            request_hash: request_hash(&self.route, body)
                .map_err(|error| Problem::internal(&error))?,
            correlation_id,
            causation_id: self.command_id.uuid(),
            occurred_at,
            actor: actor.to_owned(),
            traceparent: self.traceparent.clone(),
            expected: self.expected,
            keep_refusal: true,
        })
    }
}

/// Under what name the log keeps who asked. Whoever is named as the platform itself is would leave
/// traces that tell nothing.
///
/// # Errors
/// 403 where that is who they are.
pub(crate) fn actor(caller: &Caller) -> Result<&str, Problem> {
    if caller.is_customer() {
        return Ok(actor::CUSTOMER);
    }
    let name = &**caller.principal();
    if actor::is_reserved(name) {
        let detail = "the sub of the token is a name that the platform itself goes by";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    Ok(name)
}

/// SHA-256 of what is asked, and where.
///
/// # Errors
/// Where `asked` cannot be written as JSON.
pub(crate) fn request_hash(
    route: &str,
    asked: &impl Serialize,
) -> Result<[u8; 32], serde_json::Error> {
    let asked = serde_json::to_vec(asked)?;
    Ok(Sha256::new().chain_update(route).chain_update([0]).chain_update(asked).finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_goes_by_a_name_of_the_platform() {
        let named = |name, customer| actor(&Caller::new(name, customer, &[])).map(str::to_owned);
        assert_eq!(named("ada", None).unwrap(), "ada");
        assert_eq!(named("saga", Some("usr_7")).unwrap(), actor::CUSTOMER);
        for name in [actor::SAGA, actor::PAYMENT_ADAPTER, "saga/order-fulfilment", "System"] {
            assert_eq!(named(name, None).unwrap_err().status(), 403, "{name}");
        }
    }

    #[test]
    fn another_route_or_body_is_another_request() {
        let hash = |route, body: &str| request_hash(route, &body).unwrap();
        assert_eq!(hash("/a", "1"), hash("/a", "1"));
        assert_ne!(hash("/a", "1"), hash("/b", "1"));
        assert_ne!(hash("/a", "1"), hash("/a", "2"));
    }
}
