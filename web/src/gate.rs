//! The gate in front of every route: who may pass, and how often.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;
use tokio::time::Instant;

use crate::caller::STAFF;
use crate::rate::{Guesses, Limit, Limits};
use crate::route::Access;
use crate::serve::Peer;
use crate::{Caller, Problem, Rates, Tokens};

/// Who is believed, and how much is too much. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    tokens: Tokens,
    rates: Rates,
    everybody: Option<Caller>,
}

impl Gate {
    /// Lets through whose token is one of `tokens`, as often as `rates` say.
    #[must_use]
    pub fn new(tokens: Tokens, rates: Rates) -> Self {
        Self { tokens, rates, everybody: None }
    }

    /// Takes everybody for `caller` and asks for nothing. For measurements: what a gate costs is
    /// told by one that is off.
    #[must_use]
    pub fn off(caller: Caller) -> Self {
        Self { everybody: Some(caller), ..Self::shut() }
    }

    /// How many customers are calling, as far as this process knows: tokens that were brought in
    /// the last 15 minutes and are still good.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.tokens.sessions()
    }

    /// Lets nobody through but to where no token is needed.
    #[must_use]
    pub fn shut() -> Self {
        Self::new(Tokens::none(), Rates::default())
    }
}

/// What stands in front of one route.
#[derive(Debug)]
struct Guard {
    tokens: Tokens,
    everybody: Option<Caller>,
    access: Access,
    limit: Option<Arc<Limit>>,
    guesses: Option<Arc<Limit>>,
    began: Instant,
}

/// Puts guards in front of routes.
pub(crate) struct Guards {
    tokens: Tokens,
    everybody: Option<Caller>,
    limits: Limits,
    began: Instant,
}

impl Guards {
    pub(crate) fn new(Gate { tokens, rates, everybody }: Gate) -> Self {
        Self { tokens, everybody, limits: rates.limits(), began: Instant::now() }
    }

    pub(crate) fn guard(&self, path: &str, access: Access, route: MethodRouter) -> MethodRouter {
        let guard = Guard {
            tokens: self.tokens.clone(),
            everybody: self.everybody.clone(),
            access,
            limit: self.limits.of(path),
            guesses: self.limits.of_guesses(),
            began: self.began,
        };
        let guard = Arc::new(guard);
        route.route_layer(from_fn_with_state(guard, guarded))
    }
}

async fn guarded(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    if guard.access == Access::Signature {
        return next.run(request).await;
    }
    let from = request.extensions().get::<Peer>().map(|Peer(address)| *address);
    let told = match guard.pass(request.headers(), from).await {
        Ok((caller, told)) => {
            request.extensions_mut().insert(caller);
            told
        }
        Err(problem) => return problem.into_response(),
    };
    let mut response = next.run(request).await;
    response.headers_mut().extend(told);
    response
}

impl Guard {
    /// The caller, and what the answer is to tell them.
    async fn pass(
        &self,
        headers: &HeaderMap,
        from: Option<IpAddr>,
    ) -> Result<(Caller, HeaderMap), Problem> {
        if let Some(caller) = &self.everybody {
            return Ok((caller.clone(), HeaderMap::new()));
        }
        let now = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX / 2);
        let guesses = self.guesses.as_deref().zip(from);
        let guesses = guesses.map(|(limit, from)| Guesses::new(limit, from, now));
        let caller = self.tokens.caller_among(bearer(headers)?, guesses).await?;
        let told = match &self.limit {
            Some(limit) => limit.count(caller.principal(), now)?,
            None => HeaderMap::new(),
        };
        if !caller.is_customer() && !caller.is_staff() {
            let detail = "the token names no customer, and does not grant staff";
            return Err(forbidden(detail.to_owned(), STAFF));
        }
        let (scope, staff) = match self.access {
            Access::Customers(scope) => (scope, false),
            Access::Staff(scope) => (scope, true),
            Access::Signature => return Ok((caller, told)),
        };
        if staff && caller.is_customer() {
            return Err(forbidden("this is not for customers".to_owned(), scope));
        }
        if !caller.may(scope) {
            return Err(forbidden(format!("the token does not grant {scope}"), scope));
        }
        Ok((caller, told))
    }
}

/// The one token that is brought.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let token = given.next().and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let token = token.filter(|token| !token.is_empty() && given.next().is_none());
    token.ok_or_else(|| Problem::unauthorised("bring a token, as `Authorization: Bearer eyJ…`"))
}

fn forbidden(detail: String, scope: &str) -> Problem {
    let asked = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
    let problem = Problem::new(StatusCode::FORBIDDEN, "forbidden", detail);
    match HeaderValue::try_from(asked) {
        Ok(asked) => problem.with_header(header::WWW_AUTHENTICATE, asked),
        Err(_) => problem,
    }
}
