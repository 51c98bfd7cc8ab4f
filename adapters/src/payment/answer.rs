//! From what the provider said to what is recorded. Pure; the whole of it is the table in its
//! tests.

use schemas::payment::{Command, Decline, Operation, ProviderStatus};
use schemas::{Money, PaymentId, RefundId, Text};

use super::provider::{Dispute, Intent};
use crate::outcome::{Outcome, Rejection};
use crate::record::text;

#[cfg(test)]
mod tests;

/// Declines after which another attempt of the same customer is not wanted, whatever the card:
/// somebody took the card for stolen, lost, forged or misused.
///
/// Source: Stripe, "Decline codes".
const FINAL_DECLINES: [&str; 11] = [
    "fraudulent",
    "lost_card",
    "merchant_blacklist",
    "pickup_card",
    "restricted_card",
    "revocation_of_all_authorizations",
    "revocation_of_authorization",
    "security_violation",
    "service_not_allowed",
    "stolen_card",
    "stop_payment_order",
];

/// What follows here.
pub(super) type Next = crate::record::Next<Command>;

/// What is unknown still has been recorded before: it is asked again later.
pub(super) fn or_wait(next: Next) -> Next {
    match next {
        Next::Record(command) if matches!(*command, Command::RecordUnknown { .. }) => {
            Next::Wait("the outcome is still unknown".to_owned())
        }
        next => next,
    }
}

fn wait_or_park<T>(outcome: Outcome<T>) -> Next {
    match outcome {
        Outcome::Transient(why) | Outcome::Unknown(why) => Next::Wait(why),
        Outcome::Rejected(rejection) => Next::park(&rejection),
        Outcome::Ok(_) => Next::Park("the provider's answer makes no sense".to_owned()),
    }
}

/// Our own mistake: another question was put under the same key.
fn is_ours(rejection: &Rejection) -> bool {
    rejection.field("type") == Some("idempotency_error")
}

fn is_closed(intent: &Intent) -> bool {
    matches!(intent.status, ProviderStatus::Cancelled | ProviderStatus::Expired)
}

/// What a decline with this code means for the customer.
fn decline(code: &str) -> Decline {
    Decline { code: text(code), retryable: !FINAL_DECLINES.contains(&code) }
}

fn record_state(intent: Intent) -> Next {
    Next::record(Command::RecordProviderState {
        provider_ref: intent.id,
        status: intent.status,
        // Only what was held could be taken, and an uncaptured hold is the whole amount.
        authorised: match intent.status {
            ProviderStatus::RequiresCapture => intent.capturable,
            _ => intent.amount,
        },
        captured: intent.received,
        until: intent.until,
        url: intent.url,
        decline: intent.declined.as_deref().map(decline),
    })
}

/// After asking to hold money.
pub(super) fn authorised(op: u32, outcome: Outcome<Intent>) -> Next {
    let unknown = Command::RecordUnknown { op, operation: Operation::Authorise };
    match outcome {
        Outcome::Ok(Intent {
            status: ProviderStatus::RequiresAction, id, url: Some(url), ..
        }) => Next::record(Command::RecordActionRequired { op, provider_ref: id, url }),
        Outcome::Ok(intent) => match intent.status {
            ProviderStatus::RequiresCapture => Next::record(Command::RecordAuthorised {
                op,
                provider_ref: intent.id,
                amount: intent.capturable,
                until: intent.until,
            }),
            ProviderStatus::RequiresMethod => Next::record(Command::RecordDeclined {
                op,
                provider_ref: Some(intent.id),
                code: text("requires_payment_method"),
                retryable: true,
            }),
            ProviderStatus::Succeeded | ProviderStatus::Cancelled | ProviderStatus::Expired => {
                record_state(intent)
            }
            ProviderStatus::Processing | ProviderStatus::RequiresAction => Next::record(unknown),
        },
        Outcome::Rejected(rejection) if is_ours(&rejection) => Next::park(&rejection),
        Outcome::Rejected(rejection) => {
            let code =
                rejection.field("decline_code").map_or_else(|| rejection.code(), str::to_owned);
            let Decline { code, retryable } = decline(&code);
            Next::record(Command::RecordDeclined {
                op,
                provider_ref: Intent::of(&rejection).map(|intent| intent.id),
                retryable: rejection.status == 402 && retryable,
                code,
            })
        }
        Outcome::Unknown(_) => Next::record(unknown),
        Outcome::Transient(why) => Next::Wait(why),
    }
}

/// After asking to take money.
pub(super) fn captured(op: u32, outcome: Outcome<Intent>) -> Next {
    let unknown = Command::RecordUnknown { op, operation: Operation::Capture };
    match outcome {
        Outcome::Ok(intent) => match intent.status {
            ProviderStatus::Succeeded => {
                Next::record(Command::RecordCaptured { amount: intent.received })
            }
            ProviderStatus::Processing => Next::record(unknown),
            _ => record_state(intent),
        },
        Outcome::Rejected(rejection) if is_ours(&rejection) => Next::park(&rejection),
        // It was taken before, or let go of: the provider's record says which.
        Outcome::Rejected(rejection) => match Intent::of(&rejection) {
            Some(intent) if intent.status == ProviderStatus::Succeeded => {
                Next::record(Command::RecordCaptured { amount: intent.received })
            }
            Some(intent) if is_closed(&intent) => record_state(intent),
            _ => Next::record(Command::RecordCaptureFailed {
                code: text(&rejection.code()),
                retryable: false,
            }),
        },
        Outcome::Unknown(_) => Next::record(unknown),
        Outcome::Transient(why) => Next::Wait(why),
    }
}

/// After asking to let go. Nobody waits for that with the customer, so it is asked until it is
/// done.
pub(super) fn voided(outcome: Outcome<Intent>) -> Next {
    let intent = match outcome {
        Outcome::Ok(intent) => Ok(intent),
        // It had been let go of before, or it was taken in the meantime.
        Outcome::Rejected(rejection) => Intent::of(&rejection).ok_or(Outcome::Rejected(rejection)),
        outcome => Err(outcome),
    };
    match intent {
        Ok(intent) if is_closed(&intent) => Next::record(Command::RecordVoided),
        Ok(intent) => record_state(intent),
        Err(outcome) => wait_or_park(outcome),
    }
}

/// After asking to close what an earlier authorisation left open. That it is closed needs no
/// word: nobody counts on it any more.
pub(super) fn closed(outcome: Outcome<Intent>) -> Next {
    match voided(outcome) {
        Next::Record(command) if *command == Command::RecordVoided => Next::Nothing,
        next => next,
    }
}

/// After asking to give money back: asked until there is an answer.
pub(super) fn refunded(refund: RefundId, outcome: Outcome<Money>) -> Next {
    match outcome {
        Outcome::Ok(amount) => Next::record(Command::RecordRefunded { refund, amount }),
        Outcome::Rejected(rejection) if !is_ours(&rejection) => {
            Next::record(Command::RecordRefundFailed { refund, code: text(&rejection.code()) })
        }
        outcome => wait_or_park(outcome),
    }
}

/// After looking at the provider's record of `payment`.
pub(super) fn state(payment: PaymentId, outcome: Outcome<Intent>) -> Next {
    match outcome {
        Outcome::Ok(intent) => match &intent.payment_id {
            Some(other) if *other != payment.to_string() => {
                Next::Park(format!("the provider has {} as {other}", intent.id))
            }
            _ => record_state(intent),
        },
        outcome => wait_or_park(outcome),
    }
}

/// After looking at the provider's record of a dispute about its payment `provider_ref`.
pub(super) fn disputed(provider_ref: &Text, outcome: Outcome<Dispute>) -> Next {
    match outcome {
        Outcome::Ok(dispute) if dispute.provider_ref != *provider_ref => {
            Next::Park(format!("{} is about {}", dispute.id, dispute.provider_ref))
        }
        Outcome::Ok(Dispute { id, status: Some(status), amount, reason, evidence_due, .. }) => {
            let dispute = id;
            Next::record(Command::RecordDispute { dispute, status, amount, reason, evidence_due })
        }
        // The bank only asks.
        Outcome::Ok(_) => Next::Nothing,
        outcome => wait_or_park(outcome),
    }
}
