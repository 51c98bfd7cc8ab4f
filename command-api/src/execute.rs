//! Carries commands out, and makes a status of what the domain answers: here and only here.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode};
use event_store::{AppendError, Error, ExecuteError, Refused, Store, Vault, VaultError};
use schemas::{Clock, CustomerId, Fact, OrderId, Personal, PersonalData, StreamId, Version, order};
use uuid::Uuid;
use web::headers::IDEMPOTENT_REPLAYED;
use web::{Caller, Problem};

use crate::payment::FindPayment;
use crate::signature::Secret;

/// What every handler has. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    vault: Vault,
    clock: Clock,
    payment_secret: Secret,
    carrier_secret: Secret,
    find_payment: FindPayment,
}

impl Api {
    pub(crate) fn new(
        store: Store,
        vault: Vault,
        clock: Clock,
        payment_secret: Secret,
        carrier_secret: Secret,
        find_payment: FindPayment,
    ) -> Self {
        let inner = Inner { store, vault, clock, payment_secret, carrier_secret, find_payment };
        Self(Arc::new(inner))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Seals personal data, so that no command, event or log ever holds it.
    ///
    /// # Errors
    /// 503 where the keys cannot be reached; 500 where they are set wrongly.
    pub(crate) async fn seal<T: PersonalData>(
        &self,
        subject: CustomerId,
        data: &T,
    ) -> Result<Personal<T>, Problem> {
        let sealed = self.0.vault.seal(subject, data).await;
        sealed.map_err(|error| unsealed(&error))
    }

    pub(crate) fn clock(&self) -> Clock {
        self.0.clock
    }

    pub(crate) fn payment_secret(&self) -> &Secret {
        &self.0.payment_secret
    }

    pub(crate) fn find_payment(&self) -> &FindPayment {
        &self.0.find_payment
    }

    pub(crate) fn carrier_secret(&self) -> &Secret {
        &self.0.carrier_secret
    }

    /// The conversation that a stream belongs to, as its first event says; none where there is
    /// no such stream.
    ///
    /// # Errors
    /// 503 where the log cannot be read.
    pub(crate) async fn conversation(&self, stream: StreamId) -> Result<Option<Uuid>, Problem> {
        let first = self.0.store.read_stream(stream, 0, 1).await;
        let first = first.map_err(|error| problem(error.into(), NOWHERE))?;
        Ok(first.first().map(|event| event.correlation_id))
    }
}

impl Api {
    /// Whether the caller may know of the order: customers only of their own.
    ///
    /// # Errors
    /// 404 where they may not, which is what they are told of orders that are not there.
    pub(crate) async fn owned(&self, caller: &Caller, order: OrderId) -> Result<(), Problem> {
        let Some(customer) = caller.customer::<CustomerId>()? else { return Ok(()) };
        let first = self.0.store.read_stream(order.stream(), 0, 1).await;
        let first = first.map_err(|error| problem(error.into(), NOWHERE))?;
        match first.first().map(|event| &event.fact) {
            Some(Fact::Order(order::Event::Placed { customer: owner, .. }))
                if *owner == customer =>
            {
                Ok(())
            }
            _ => Err(Problem::not_found("there is no such order")),
        }
    }
}

/// Where in the body the reason for a refusal stands, by its code; none where it is not about
/// the body.
pub(crate) type Pointer<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// For routes where no refusal is about the body.
pub(crate) const NOWHERE: Pointer<'static> = &|_| None;

/// What a command that was not carried out is answered with.
pub(crate) fn problem(error: ExecuteError, pointer: Pointer<'_>) -> Problem {
    match error {
        ExecuteError::Refused { refused, replayed } => refusal(refused, replayed, pointer),
        ExecuteError::Append(AppendError::Refused(refused)) => refusal(refused, true, pointer),
        ExecuteError::VersionMismatch { current } => version_conflict(current),
        ExecuteError::Contended | ExecuteError::Append(AppendError::Conflict { .. }) => {
            Problem::unavailable("contended", "too many others change the same thing; try again")
        }
        ExecuteError::Append(AppendError::Mismatch) => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "another request was made under this Idempotency-Key; choose a new one",
        ),
        ExecuteError::Append(AppendError::Invalid(detail)) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail)
        }
        ExecuteError::Append(AppendError::Overloaded) => Problem::unavailable(
            "overloaded",
            "too many commands are waiting; this one was not accepted, so try again",
        ),
        ExecuteError::Append(AppendError::Unavailable(error)) => unavailable(&error),
        ExecuteError::Store(error @ (Error::Unreadable { .. } | Error::Config(_))) => {
            Problem::internal(&error)
        }
        ExecuteError::Store(error) => unavailable(&error),
    }
}

/// 404 where nobody knows it, 422 where the body is to blame, else 409.
fn refusal(refused: Refused, replayed: bool, pointer: Pointer<'_>) -> Problem {
    let Refused { code, detail } = refused;
    let problem = match pointer(&code) {
        Some(pointer) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code.clone(), detail.clone())
                .with_error(pointer, code, detail)
        }
        None if code == "not_found" => Problem::not_found(detail),
        None => Problem::new(StatusCode::CONFLICT, code, detail),
    };
    if replayed {
        problem.with_header(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"))
    } else {
        problem
    }
}

fn version_conflict(current: Version) -> Problem {
    let detail = format!("If-Match does not hold: the version is {current}");
    Problem::new(StatusCode::PRECONDITION_FAILED, "version_conflict", detail)
        .extra("current_version", current)
}

/// The store could not do its part. Whether the command was stored may be unknown.
fn unavailable(error: &Error) -> Problem {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%error, cause, "a command met an event store that is away");
    Problem::unavailable(
        "dependency_unavailable",
        "the event store is away, and whether this was done may be unknown; send it again \
         under the same Idempotency-Key: it is done once",
    )
}

/// Personal data could not be sealed. Nothing was stored.
fn unsealed(error: &VaultError) -> Problem {
    if !matches!(error, VaultError::Unavailable(_) | VaultError::Contended { .. }) {
        return Problem::internal(error);
    }
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%error, cause, "personal data could not be sealed");
    Problem::unavailable("dependency_unavailable", "the event store is away; try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: ExecuteError, pointer: Pointer<'_>, status: u16, code: &str) -> Problem {
        let problem = problem(error, pointer);
        assert_eq!((problem.status().as_u16(), problem.code()), (status, code));
        problem
    }

    fn refused(code: &str) -> ExecuteError {
        let refused = Refused { code: code.to_owned(), detail: "no".to_owned() };
        ExecuteError::Refused { refused, replayed: false }
    }

    #[test]
    fn every_answer_of_the_domain_has_its_status() {
        check(refused("not_found"), NOWHERE, 404, "not_found");
        check(refused("not_released"), NOWHERE, 409, "not_released");
        let lines = |_: &str| Some("#/lines".to_owned());
        let problem = check(refused("empty_order"), &lines, 422, "empty_order");
        assert_eq!(problem.errors()[0].pointer.as_deref(), Some("#/lines"));
        check(ExecuteError::VersionMismatch { current: 3 }, NOWHERE, 412, "version_conflict");
        check(ExecuteError::Contended, NOWHERE, 503, "contended");
        let append = |error| ExecuteError::Append(error);
        check(append(AppendError::Mismatch), NOWHERE, 422, "idempotency_key_reused");
        check(append(AppendError::Overloaded), NOWHERE, 503, "overloaded");
        let invalid = AppendError::Invalid("too big".to_owned());
        check(append(invalid), NOWHERE, 422, "validation_failed");
        let away = || Error::Nats("away".to_owned());
        let unavailable = AppendError::Unavailable(Box::new(away()));
        check(append(unavailable), NOWHERE, 503, "dependency_unavailable");
        let stopped = Error::Config("the writer has stopped".to_owned());
        let stopped = AppendError::Unavailable(Box::new(stopped));
        check(append(stopped), NOWHERE, 503, "dependency_unavailable");
        check(ExecuteError::Store(away()), NOWHERE, 503, "dependency_unavailable");
        let wrong = Error::Config("wrong".to_owned());
        check(ExecuteError::Store(wrong), NOWHERE, 500, "internal");
    }
}
