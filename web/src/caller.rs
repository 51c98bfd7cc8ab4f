//! Who is calling, as the token says that they brought.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::time::Instant;

use crate::Problem;

/// The scope of whoever works here, and of services: what is not for customers asks for it.
pub(crate) const STAFF: &str = "staff";

/// The furthest end of a token that anybody waits for.
const ENDS_AFTER_MAX: Duration = Duration::from_hours(24);

/// What the `sub` of a customer's token begins with, where the token does not say so by itself.
pub(crate) const CUSTOMER_PREFIX: &str = "usr_";

/// Who is calling. Put there by the gate in front of every route that takes a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(Arc<Known>, Option<Instant>);

#[derive(Debug, PartialEq, Eq)]
struct Known {
    principal: Arc<str>,
    customer: Option<Arc<str>>,
    scopes: Vec<String>,
}

impl Caller {
    /// The caller `principal`, who is the customer `customer` where there is one, and was granted
    /// `scopes`.
    #[must_use]
    pub fn new(principal: &str, customer: Option<&str>, scopes: &[&str]) -> Self {
        let known = Known {
            principal: principal.into(),
            customer: customer.map(Into::into),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        };
        Self(Arc::new(known), None)
    }

    /// The same, who is believed for no longer than that.
    #[must_use]
    pub fn until(self, left: Duration) -> Self {
        Self(self.0, Some(Instant::now() + left.min(ENDS_AFTER_MAX)))
    }

    /// When what is told to them has to end, if ever: that of their token.
    #[must_use]
    pub fn ends(&self) -> Option<Instant> {
        self.1
    }

    /// The name under which idempotency keys, limits and acts are kept apart.
    #[must_use]
    pub fn principal(&self) -> &Arc<str> {
        &self.0.principal
    }

    /// Whether the token speaks for one customer, who sees what is theirs and nothing else.
    #[must_use]
    pub fn is_customer(&self) -> bool {
        self.0.customer.is_some()
    }

    /// Whether the token says that it speaks for staff or for a service. One that says nothing of
    /// whom it speaks for does not.
    #[must_use]
    pub fn is_staff(&self) -> bool {
        !self.is_customer() && self.0.scopes.iter().any(|scope| scope == STAFF)
    }

    /// The customer that the token speaks for; none where it speaks for staff or for a service.
    ///
    /// # Errors
    /// 401 where the token names a customer that there cannot be.
    pub fn customer<T: FromStr>(&self) -> Result<Option<T>, Problem> {
        let customer = self.0.customer.as_deref().map(str::parse).transpose();
        customer.map_err(|_| Problem::unauthorised("the token names no customer of ours"))
    }

    /// Whether `scope` was granted, by itself or, as `ops:read` by `ops:*`, with all of its kind.
    #[must_use]
    pub fn may(&self, scope: &str) -> bool {
        let kind = scope.split_once(':').map(|(kind, _)| kind);
        self.0.scopes.iter().any(|granted| {
            granted == scope || granted.strip_suffix(":*").is_some_and(|all| Some(all) == kind)
        })
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::unauthorised("bring a token in Authorization"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_granted_by_name_or_with_all_of_its_kind() {
        let caller = Caller::new("ada", None, &["orders:read", "ops:*"]);
        for (scope, may) in [
            ("orders:read", true),
            ("orders:write", false),
            ("orders", false),
            ("ops:read", true),
            ("ops:write", true),
            ("opsy:read", false),
            ("stock:read", false),
        ] {
            assert_eq!(caller.may(scope), may, "{scope}");
        }
        assert!(!Caller::new("ada", None, &[":*", "*"]).may("orders:read"));
    }

    #[test]
    fn staff_are_who_says_so_and_is_no_customer() {
        for (customer, scopes, staff) in [
            (None, ["orders:read", "staff"].as_slice(), true),
            (None, ["orders:read", "ops:*"].as_slice(), false),
            (Some("usr_7"), ["orders:read", "staff"].as_slice(), false),
        ] {
            assert_eq!(Caller::new("ada", customer, scopes).is_staff(), staff, "{scopes:?}");
        }
    }

    #[test]
    fn a_customer_that_cannot_be_is_nobody() {
        let customer = |named| Caller::new("ada", named, &[]).customer::<u32>();
        assert_eq!(customer(None).unwrap(), None);
        assert_eq!(customer(Some("7")).unwrap(), Some(7));
        assert_eq!(customer(Some("usr_7")).unwrap_err().status(), 401);
    }
}
