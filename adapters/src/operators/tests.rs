use schemas::{CommandId, EventId};

use super::*;

fn parked() -> Recorded {
    let saga = SagaId::new(Uuid::from_u128(7));
    let at = chrono::DateTime::from_timestamp(1_795_420_800, 0).unwrap();
    Recorded {
        position: 81,
        stream: saga.stream(),
        version: 17,
        event_type: "saga.parked.v1".to_owned(),
        event_id: EventId::new(Uuid::from_u128(9)),
        command_id: CommandId::new(Uuid::nil()),
        correlation_id: Uuid::from_u128(5),
        causation_id: Uuid::nil(),
        occurred_at: at,
        recorded_at: at,
        traceparent: None,
        actor: "saga".to_owned(),
        fact: Fact::Saga(Event::Parked {
            reason: "refund_failed".to_owned(),
            resume: "unwinding".to_owned(),
        }),
    }
}

/// The example of the specification.
#[test]
fn a_signature_is_that_of_the_specification() {
    let secret = Secret::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let body = br#"{"test": 2432232314}"#;
    let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn a_secret_has_24_to_64_bytes() {
    let secret = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
    assert!(Secret::read(&secret(24)).is_ok() && Secret::read(&secret(64)).is_ok());
    for wrong in ["", "whsec_", "whsec_x", &secret(23), &secret(65), &STANDARD.encode([7; 32])] {
        assert!(Secret::read(wrong).is_err(), "{wrong}");
    }
    assert_eq!(format!("{:?}", Secret::read(&secret(24)).unwrap()), "Secret(..)");
}

#[test]
fn what_is_told_follows_from_the_event_alone() {
    let told: Value = serde_json::from_slice(&body(&parked()).unwrap().unwrap()).unwrap();
    assert_eq!(told["type"], "saga.parked");
    let data = &told["data"];
    assert_eq!((&data["reason"], &data["state"]), (&"refund_failed".into(), &"unwinding".into()));
    assert_eq!(data["saga_id"], SagaId::new(Uuid::from_u128(7)).to_string());
    assert_eq!(data["business_key"], OrderId::new(Uuid::from_u128(5)).to_string());
    let (reason, state) = ("pick_overdue".to_owned(), "fulfilling/picking".to_owned());
    let late = Recorded { fact: Fact::Saga(Event::Alerted { reason, state }), ..parked() };
    let told: Value = serde_json::from_slice(&body(&late).unwrap().unwrap()).unwrap();
    assert_eq!(
        (&told["type"], &told["data"]["reason"]),
        (&"saga.alerted".into(), &"pick_overdue".into())
    );
    let other = Recorded {
        fact: Fact::Saga(Event::Finished { outcome: "completed".to_owned() }),
        ..parked()
    };
    assert!(body(&other).is_none());
}

#[test]
fn every_sending_is_signed_anew_under_the_same_id() {
    let secret = Secret::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let at = |seconds| chrono::DateTime::from_timestamp(seconds, 0).unwrap();
    let sent = |seconds| question("id", at(seconds), b"{}".to_vec(), &secret).headers;
    let (first, second) = (sent(1), sent(2));
    assert_eq!(first[0], second[0]);
    assert_ne!(first[1], second[1]);
    assert_ne!(first[2], second[2]);
}

#[test]
fn only_success_is_taken_for_one() {
    let class = |status: u16| match read(StatusCode::from_u16(status).unwrap(), b"ok") {
        Outcome::Ok(_) => "ok",
        Outcome::Rejected(_) => "gone",
        Outcome::Transient(_) | Outcome::Unknown(_) => "again",
    };
    for (status, expected) in [
        (200, "ok"),
        (204, "ok"),
        (302, "again"),
        (400, "again"),
        (404, "again"),
        (410, "gone"),
        (429, "again"),
        (500, "again"),
    ] {
        assert_eq!(class(status), expected, "{status}");
    }
}
