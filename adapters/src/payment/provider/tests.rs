use schemas::Currency;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::world::Sandbox;

const ORDER: OrderId = OrderId::new(Uuid::from_u128(7));

const fn eur(amount: i64) -> Money {
    Money::new(amount, Currency::EUR)
}

struct World {
    sandbox: Sandbox,
    provider: Provider,
    payment: PaymentId,
}

impl World {
    async fn start() -> Self {
        let sandbox = Sandbox::provider().await;
        let provider = Provider::new(&sandbox.hasty()).unwrap();
        Self { sandbox, provider, payment: ORDER.payment() }
    }

    async fn hold(&self, op: u32, method: &'static str) -> Outcome<Intent> {
        self.provider.hold(self.payment, ORDER, op, eur(1999), &Text::literal(method)).await
    }

    async fn held(&self) -> Intent {
        match self.hold(1, "pm_card_visa").await {
            Outcome::Ok(intent) => intent,
            outcome => panic!("{outcome:?}"),
        }
    }

    async fn eur(&self, what: &str) -> i64 {
        self.sandbox.books().await["currencies"]["eur"][what].as_i64().unwrap_or(0)
    }
}

#[track_caller]
fn code<T: std::fmt::Debug>(outcome: Outcome<T>) -> (u16, String) {
    match outcome {
        Outcome::Rejected(rejection) => (rejection.status, rejection.code()),
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn money_is_held_taken_and_given_back_over_the_wire() {
    let world = World::start().await;
    let intent = world.held().await;
    assert_eq!(
        (intent.status, intent.capturable, intent.received),
        (ProviderStatus::RequiresCapture, eur(1999), eur(0))
    );
    assert_eq!(intent.payment_id, Some(world.payment.to_string()));
    assert_eq!(world.provider.retrieve(&intent.id).await, Outcome::Ok(intent.clone()));

    let taken = world.provider.capture(world.payment, (1, 1), &intent.id, eur(1500)).await;
    let Outcome::Ok(taken) = taken else { panic!("{taken:?}") };
    assert_eq!((taken.status, taken.received), (ProviderStatus::Succeeded, eur(1500)));
    // The hold says how long it lasts.
    assert_eq!(taken.until, intent.until);

    let refund = world.payment.undoing_refund();
    for _ in 0..2 {
        let given = world.provider.refund(world.payment, refund, &intent.id, eur(1500)).await;
        assert_eq!(given, Outcome::Ok(eur(1500)));
    }
    assert_eq!((world.eur("captured").await, world.eur("refunded").await), (1500, 1500));
}

#[tokio::test]
async fn the_same_question_is_the_same_hold() {
    let world = World::start().await;
    let intent = world.held().await;
    assert_eq!(world.held().await, intent);
    assert_eq!(world.eur("intents").await, 1);
    // The next number is another question.
    assert_ne!(world.hold(2, "pm_card_visa").await, Outcome::Ok(intent));
    // And another question under the same number is our mistake, not the customer's.
    let Outcome::Rejected(rejection) = world.hold(1, "pm_card_mastercard").await else { panic!() };
    assert_eq!(rejection.field("type"), Some("idempotency_error"));
}

#[tokio::test]
async fn a_declined_card_is_a_no() {
    let world = World::start().await;
    let Outcome::Rejected(rejection) = world.hold(1, "pm_card_chargeDeclined").await else {
        panic!()
    };
    assert_eq!((rejection.status, rejection.code()), (402, "card_declined".to_owned()));
    let left = Intent::of(&rejection).unwrap();
    assert_eq!(left.status, ProviderStatus::RequiresMethod);
    // What the decline left open can be closed.
    let closed = world.provider.cancel(world.payment, &left.id).await;
    assert!(matches!(closed, Outcome::Ok(Intent { status: ProviderStatus::Cancelled, .. })));
}

#[tokio::test]
async fn a_bank_that_asks_gives_a_link() {
    let world = World::start().await;
    let asked = world.hold(1, "pm_card_threeDSecure2Required").await;
    let Outcome::Ok(intent) = asked else { panic!("{asked:?}") };
    assert_eq!(intent.status, ProviderStatus::RequiresAction);
    let url = intent.url.clone().unwrap();
    assert!(url.as_str().starts_with("http://127.0.0.1:"), "{url}");
    // Asked again under the same key, it is the same link.
    assert_eq!(world.hold(1, "pm_card_threeDSecure2Required").await, Outcome::Ok(intent.clone()));

    world.sandbox.post(url.as_str(), "result=fail").await;
    let Outcome::Ok(failed) = world.provider.retrieve(&intent.id).await else { panic!() };
    let code = "payment_intent_authentication_failure";
    assert_eq!(
        (failed.status, failed.declined.as_deref()),
        (ProviderStatus::RequiresMethod, Some(code))
    );
    let closed = world.provider.cancel(world.payment, &intent.id).await;
    assert!(matches!(closed, Outcome::Ok(Intent { status: ProviderStatus::Cancelled, .. })));

    let Outcome::Ok(second) = world.hold(2, "pm_card_threeDSecure2Required").await else {
        panic!()
    };
    world.sandbox.post(second.url.unwrap().as_str(), "result=complete").await;
    let Outcome::Ok(held) = world.provider.retrieve(&second.id).await else { panic!() };
    assert_eq!((held.status, held.capturable), (ProviderStatus::RequiresCapture, eur(1999)));
}

#[tokio::test]
async fn a_lost_answer_is_fetched_under_the_same_key() {
    for kind in ["hang", "error_after_effect", "error_before_effect"] {
        let world = World::start().await;
        let fault = json!({ "kind": kind, "times": 2, "operation": "create" });
        world.sandbox.fault(fault).await;
        assert_eq!(world.held().await.status, ProviderStatus::RequiresCapture, "{kind}");
        assert_eq!(world.eur("intents").await, 1, "{kind}");
        assert_eq!(world.eur("authorised_open").await, 1999, "{kind}");
    }
}

#[tokio::test]
async fn an_answer_that_never_comes_is_unknown_and_the_money_is_held_once() {
    let world = World::start().await;
    world.sandbox.fault(json!({ "kind": "hang", "times": 3, "operation": "create" })).await;
    let outcome = world.hold(1, "pm_card_visa").await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    // Asked again later, it turns out that it had been done.
    assert_eq!(world.held().await.status, ProviderStatus::RequiresCapture);
    assert_eq!(world.eur("authorised_open").await, 1999);
}

#[tokio::test]
async fn a_cancelled_hold_is_not_taken_and_a_taken_one_not_cancelled() {
    let world = World::start().await;
    let intent = world.held().await;
    let (provider, payment, id) = (&world.provider, world.payment, &intent.id);
    assert!(matches!(provider.cancel(payment, id).await, Outcome::Ok(_)));
    let Outcome::Rejected(rejection) = provider.capture(payment, (1, 1), id, eur(1)).await else {
        panic!()
    };
    let now = Intent::of(&rejection).unwrap();
    assert_eq!((now.id, now.status), (intent.id.clone(), ProviderStatus::Cancelled));

    let second = world.hold(2, "pm_card_visa").await;
    let Outcome::Ok(second) = second else { panic!("{second:?}") };
    assert!(matches!(
        provider.capture(payment, (2, 1), &second.id, eur(1999)).await,
        Outcome::Ok(_)
    ));
    let refused = provider.cancel(payment, &second.id).await;
    assert_eq!(code(refused), (400, "payment_intent_unexpected_state".to_owned()));
    let refund = payment.undoing_refund();
    let too_much = provider.refund(payment, refund, &second.id, eur(2000)).await;
    assert_eq!(code(too_much), (400, "amount_too_large".to_owned()));
}

#[tokio::test]
async fn a_wrong_key_is_waited_out_and_never_a_decline() {
    let sandbox = Sandbox::provider().await;
    let config = Config { secret_key: "sk_test_wrong".to_owned(), ..sandbox.config.clone() };
    let provider = Provider::new(&config).unwrap();
    let asked =
        provider.hold(ORDER.payment(), ORDER, 1, eur(1), &Text::literal("pm_card_visa")).await;
    assert!(matches!(asked, Outcome::Transient(_)), "{asked:?}");
}

#[tokio::test]
async fn a_dispute_is_read_and_leads_to_the_payment() {
    let world = World::start().await;
    let intent = world.held().await;
    world.provider.capture(world.payment, (1, 1), &intent.id, eur(1999)).await;
    let base_url = &world.sandbox.config.base_url;
    let url = format!("{base_url}/sandbox/payment_intents/{}/dispute", intent.id);
    let opened = world.sandbox.post(&url, "").await;
    let id: Text = opened["id"].as_str().unwrap().parse().unwrap();
    let Outcome::Ok(dispute) = world.provider.dispute(&id).await else { panic!("{id}") };
    assert_eq!((dispute.status, dispute.amount), (Some(DisputeStatus::Open), eur(1999)));
    assert_eq!(dispute.provider_ref, intent.id);
    assert!(dispute.evidence_due.is_some());

    let finder = crate::PaymentFinder::new(&world.sandbox.hasty()).unwrap();
    assert_eq!(finder.find(&dispute.provider_ref).await, Outcome::Ok(Some(world.payment)));
    assert_eq!(finder.find(&Text::literal("pi_nobody")).await, Outcome::Ok(None));
}
