//! From what the carrier said to what is recorded. Pure.

use schemas::shipping::Command;
use serde_json::Value;

use super::carrier::Shipment;
use crate::outcome::{Outcome, Rejection};
use crate::record::text;

/// What follows from an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// That was all.
    Nothing,
    /// The aggregate is to know.
    Record(Command),
    /// Nothing follows yet: the same question is put again later.
    Wait(String),
    /// Nothing can follow as things are: somebody has to look.
    Park(String),
}

fn park(rejection: &Rejection) -> Next {
    let message = rejection.field("message").unwrap_or_default();
    Next::Park(format!("the carrier refuses the question: {}: {message}", rejection.code()))
}

/// After asking for a label: asked until there is an answer.
pub(super) fn label(outcome: Outcome<Shipment>) -> Next {
    match outcome {
        Outcome::Ok(Shipment { id, tracking_code: Some(tracking_code), .. }) => {
            Next::Record(Command::RecordLabel { carrier_ref: id, tracking_code })
        }
        Outcome::Ok(_) => Next::Wait("the label has no number yet".to_owned()),
        Outcome::Rejected(rejection) if rejection.field("type") == Some("idempotency_error") => {
            park(&rejection)
        }
        Outcome::Rejected(rejection) => {
            Next::Record(Command::RecordLabelRejected { code: text(&rejection.code()) })
        }
        Outcome::Transient(why) | Outcome::Unknown(why) => Next::Wait(why),
    }
}

/// After asking for the parcel to be fetched. What follows is told by the carrier's scans.
pub(super) fn picked_up(outcome: Outcome<Value>) -> Next {
    match outcome {
        Outcome::Ok(_) => Next::Nothing,
        Outcome::Rejected(rejection) if rejection.code() == "PICKUP.EXISTS" => Next::Nothing,
        Outcome::Rejected(rejection) => park(&rejection),
        Outcome::Transient(why) | Outcome::Unknown(why) => Next::Wait(why),
    }
}

/// After giving a label back.
pub(super) fn label_voided(outcome: Outcome<Value>) -> Next {
    match outcome {
        Outcome::Ok(_) => Next::Record(Command::RecordLabelVoided),
        Outcome::Rejected(rejection) if rejection.code() == "SHIPMENT.REFUND.EXISTS" => {
            Next::Record(Command::RecordLabelVoided)
        }
        Outcome::Rejected(rejection) => park(&rejection),
        Outcome::Transient(why) | Outcome::Unknown(why) => Next::Wait(why),
    }
}
