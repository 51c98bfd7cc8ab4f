//! From what the carrier said to what is recorded. Pure.

use schemas::shipping::Command;
use serde_json::Value;

use super::carrier::Shipment;
use crate::outcome::Outcome;
use crate::record::text;

/// What follows here.
pub(super) type Next = crate::record::Next<Command>;

/// After asking for a label: asked until there is an answer.
pub(super) fn label(outcome: Outcome<Shipment>) -> Next {
    match outcome {
        Outcome::Ok(Shipment { id, tracking_code: Some(tracking_code), .. }) => {
            Next::record(Command::RecordLabel { carrier_ref: id, tracking_code })
        }
        Outcome::Ok(_) => Next::Wait("the label has no number yet".to_owned()),
        Outcome::Rejected(rejection) if rejection.field("type") == Some("idempotency_error") => {
            Next::park(&rejection)
        }
        Outcome::Rejected(rejection) => {
            Next::record(Command::RecordLabelRejected { code: text(&rejection.code()) })
        }
        Outcome::Transient(why) | Outcome::Unknown(why) => Next::Wait(why),
    }
}

/// After asking for the parcel to be fetched. What follows is told by the carrier's scans.
pub(super) fn picked_up(outcome: Outcome<Value>) -> Next {
    match outcome {
        Outcome::Ok(_) => Next::Nothing,
        Outcome::Rejected(rejection) if rejection.code() == "PICKUP.EXISTS" => Next::Nothing,
        Outcome::Rejected(rejection) => Next::park(&rejection),
        Outcome::Transient(why) | Outcome::Unknown(why) => Next::Wait(why),
    }
}

/// After giving a label back.
pub(super) fn label_voided(outcome: Outcome<Value>) -> Next {
    match outcome {
        Outcome::Ok(_) => Next::record(Command::RecordLabelVoided),
        Outcome::Rejected(rejection) if rejection.code() == "SHIPMENT.REFUND.EXISTS" => {
            Next::record(Command::RecordLabelVoided)
        }
        Outcome::Rejected(rejection) => Next::park(&rejection),
        Outcome::Transient(why) | Outcome::Unknown(why) => Next::Wait(why),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::json;

    use super::*;
    use crate::outcome::Rejection;

    fn rejected<T>(code: &str) -> Outcome<T> {
        Outcome::Rejected(Rejection { status: 422, error: json!({ "code": code }) })
    }

    fn unclear<T>() -> [Outcome<T>; 2] {
        [Outcome::Transient("busy".to_owned()), Outcome::Unknown("timed out".to_owned())]
    }

    #[test]
    fn every_outcome_has_its_consequence() {
        let bought = json!({ "id": "shp_1", "tracking_code": "EZ1" });
        let label_of = |json| label(Outcome::Ok(Shipment::deserialize(json).unwrap()));
        let (carrier_ref, tracking_code) = (text("shp_1"), text("EZ1"));
        let recorded = Command::RecordLabel { carrier_ref, tracking_code };
        assert_eq!(label_of(&bought), Next::record(recorded));
        assert!(matches!(label_of(&json!({ "id": "shp_1" })), Next::Wait(_)));
        let code = text("ADDRESS.VERIFY.FAILURE");
        let refused = Next::record(Command::RecordLabelRejected { code });
        assert_eq!(label(rejected("ADDRESS.VERIFY.FAILURE")), refused);

        assert_eq!(picked_up(Outcome::Ok(json!({}))), Next::Nothing);
        assert_eq!(picked_up(rejected("PICKUP.EXISTS")), Next::Nothing);
        assert!(matches!(picked_up(rejected("PICKUP.LABEL.MISSING")), Next::Park(_)));

        let voided = Next::record(Command::RecordLabelVoided);
        assert_eq!(label_voided(Outcome::Ok(json!({}))), voided);
        assert_eq!(label_voided(rejected("SHIPMENT.REFUND.EXISTS")), voided);
        assert!(matches!(label_voided(rejected("SHIPMENT.REFUND.IN_TRANSIT")), Next::Park(_)));
    }

    #[test]
    fn what_is_not_known_is_asked_again() {
        assert!(unclear().into_iter().all(|outcome| matches!(label(outcome), Next::Wait(_))));
        assert!(unclear().into_iter().all(|outcome| matches!(picked_up(outcome), Next::Wait(_))));
        assert!(
            unclear().into_iter().all(|outcome| matches!(label_voided(outcome), Next::Wait(_)))
        );
    }
}
