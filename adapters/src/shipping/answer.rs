//! From what the carrier said to what is recorded. Pure.

use event_store::VaultError;
use schemas::shipping::Command;
use serde_json::Value;

use super::carrier::Shipment;
use crate::outcome::{Outcome, Rejection};
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
            park(&rejection)
        }
        Outcome::Rejected(rejection) => {
            Next::record(Command::RecordLabelRejected { code: text(&rejection.code()) })
        }
        Outcome::Transient(why) | Outcome::Unknown(why) => Next::Wait(why),
    }
}

/// Where the address did not open and was not erased either: nothing can be asked.
pub(super) fn unopened(error: &VaultError) -> Next {
    let why = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    if error.is_transient() { Next::Wait(why) } else { Next::Park(why) }
}

/// Somebody has to look at this no. Of what the carrier said only its code is kept: the message
/// may repeat the address.
fn park(rejection: &Rejection) -> Next {
    Next::Park(format!("the question is refused: {}", text(&rejection.code())))
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
        Outcome::Ok(_) => Next::record(Command::RecordLabelVoided),
        Outcome::Rejected(rejection) if rejection.code() == "SHIPMENT.REFUND.EXISTS" => {
            Next::record(Command::RecordLabelVoided)
        }
        Outcome::Rejected(rejection) => park(&rejection),
        Outcome::Transient(why) | Outcome::Unknown(why) => Next::Wait(why),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::json;

    use super::*;

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
    fn a_refusal_is_parked_without_what_the_carrier_says_about_the_address() {
        let error =
            json!({ "code": "X", "message": "Weg 1 is no place", "type": "idempotency_error" });
        let rejection = || Rejection { status: 422, error: error.clone() };
        for next in [
            label(Outcome::Rejected(rejection())),
            picked_up(Outcome::Rejected(rejection())),
            label_voided(Outcome::Rejected(rejection())),
        ] {
            assert_eq!(next, Next::Park("the question is refused: X".to_owned()));
        }
    }

    #[test]
    fn an_address_that_does_not_open_is_never_taken_for_erased() {
        let subject = schemas::CustomerId::new(uuid::Uuid::from_u128(1));
        let master = "00".to_owned();
        let unknown = unopened(&VaultError::UnknownMaster { subject, master });
        assert!(matches!(unknown, Next::Wait(_)), "{unknown:?}");
        for error in
            [VaultError::Changed { subject }, VaultError::Missing { subject, generation: 1 }]
        {
            assert!(matches!(unopened(&error), Next::Park(_)), "{error}");
        }
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
