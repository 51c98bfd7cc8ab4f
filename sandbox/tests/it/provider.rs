//! The payment provider.

use std::io::Write as _;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use sandbox::Config;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::world::{Journal, Kind, Receiver, WEBHOOK_SECRET, World, answer, config};

const INTENTS: &str = "/v1/payment_intents";

async fn provider() -> World {
    World::start(Kind::Provider, config()).await
}

fn hold<'a>(amount: &'a str, method: &'a str) -> [(&'a str, &'a str); 7] {
    [
        ("amount", amount),
        ("currency", "eur"),
        ("payment_method", method),
        ("capture_method", "manual"),
        ("confirm", "true"),
        ("metadata[payment_id]", "pay_1"),
        ("metadata[order_id]", "ord_1"),
    ]
}

async fn held(world: &World, amount: &str) -> String {
    let (status, intent) = world.form(INTENTS, None, &hold(amount, "pm_card_visa")).await;
    assert_eq!(status, 200, "{intent}");
    intent["id"].as_str().unwrap().to_owned()
}

#[track_caller]
fn is_error(answer: &(u16, Value), status: u16, code: &str) {
    let (found, body) = answer;
    assert_eq!((*found, body["error"]["code"].as_str()), (status, Some(code)), "{body}");
}

#[tokio::test]
async fn money_is_held_then_taken_then_given_back() {
    let world = provider().await;
    let (_, intent) = world.form(INTENTS, None, &hold("1999", "pm_card_visa")).await;
    assert_eq!(intent["status"], "requires_capture");
    assert_eq!(
        (&intent["amount_capturable"], &intent["amount_received"]),
        (&json!(1999), &json!(0))
    );
    assert_eq!(intent["metadata"], json!({ "payment_id": "pay_1", "order_id": "ord_1" }));

    let id = intent["id"].as_str().unwrap();
    let capture = format!("{INTENTS}/{id}/capture");
    let (_, taken) = world.form(&capture, None, &[("amount_to_capture", "1500")]).await;
    assert_eq!(taken["status"], "succeeded");
    // One capture, and the rest is let go.
    assert_eq!((&taken["amount_capturable"], &taken["amount_received"]), (&json!(0), &json!(1500)));

    let refund = |amount| [("payment_intent", id), ("amount", amount)];
    let (status, given) = world.form("/v1/refunds", None, &refund("1000")).await;
    assert_eq!(
        (status, &given["status"], &given["amount"]),
        (200, &json!("succeeded"), &json!(1000))
    );
    is_error(&world.form("/v1/refunds", None, &refund("501")).await, 400, "amount_too_large");
    assert_eq!(world.form("/v1/refunds", None, &[("payment_intent", id)]).await.1["amount"], 500);
    is_error(&world.form("/v1/refunds", None, &refund("1")).await, 400, "charge_already_refunded");

    let books = world.books().await;
    let sums = json!({ "intents": 1, "authorised_open": 0, "captured": 1500, "refunded": 1500,
                       "disputed": 0 });
    assert_eq!(books["currencies"]["eur"], sums);
}

#[tokio::test]
async fn a_declined_card_is_a_402_that_says_why() {
    let world = provider().await;
    for (method, code, decline_code) in [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
    ] {
        let answer = world.form(INTENTS, None, &hold("1999", method)).await;
        is_error(&answer, 402, code);
        let error = &answer.1["error"];
        assert_eq!(
            (&error["type"], &error["decline_code"]),
            (&json!("card_error"), &json!(decline_code))
        );
        assert_eq!(error["payment_intent"]["status"], "requires_payment_method", "{method}");
        let id = error["payment_intent"]["id"].as_str().unwrap();
        assert_eq!(world.get(&format!("{INTENTS}/{id}")).await.1["amount_capturable"], 0);
    }
}

#[tokio::test]
async fn another_card_may_follow_a_declined_one() {
    let world = provider().await;
    let (_, declined) = world.form(INTENTS, None, &hold("1999", "pm_card_chargeDeclined")).await;
    let id = declined["error"]["payment_intent"]["id"].as_str().unwrap();
    let confirm = format!("{INTENTS}/{id}/confirm");
    let (_, intent) = world.form(&confirm, None, &[("payment_method", "pm_card_mastercard")]).await;
    assert_eq!(intent["status"], "requires_capture");
}

#[tokio::test]
async fn a_bank_that_asks_is_answered_by_the_customer() {
    let world = provider().await;
    let ask = async |card: &'static str| {
        let (status, intent) = world.form(INTENTS, None, &hold("1999", card)).await;
        assert_eq!((status, &intent["status"]), (200, &json!("requires_action")), "{intent}");
        assert_eq!(intent["amount_capturable"], 0);
        let url = intent["next_action"]["redirect_to_url"]["url"].as_str().unwrap();
        let path = url[url.find("/sandbox").unwrap()..].to_owned();
        (format!("{INTENTS}/{}", intent["id"].as_str().unwrap()), path)
    };
    let card = "pm_card_threeDSecure2Required";

    let (_, bank) = ask(card).await;
    let (status, held) = world.form(&bank, None, &[("result", "complete")]).await;
    assert_eq!((status, &held["status"]), (200, &json!("requires_capture")));
    assert_eq!(held["next_action"], Value::Null);
    is_error(
        &world.form(&bank, None, &[("result", "complete")]).await,
        400,
        "payment_intent_unexpected_state",
    );

    let (intent, bank) = ask(card).await;
    is_error(&world.form(&bank, None, &[("result", "perhaps")]).await, 400, "parameter_invalid");
    let (_, failed) = world.form(&bank, None, &[("result", "fail")]).await;
    assert_eq!(failed["status"], "requires_payment_method");
    let code = "payment_intent_authentication_failure";
    assert_eq!(world.get(&intent).await.1["last_payment_error"]["code"], code);

    let (_, bank) = ask("pm_card_threeDSecureRequiredChargeDeclined").await;
    let (status, declined) = world.form(&bank, None, &[("result", "complete")]).await;
    assert_eq!((status, &declined["status"]), (200, &json!("requires_payment_method")));

    let (intent, bank) = ask(card).await;
    world.form(&format!("{intent}/cancel"), None, &[]).await;
    is_error(
        &world.form(&bank, None, &[("result", "complete")]).await,
        400,
        "payment_intent_unexpected_state",
    );
    assert_eq!(world.books().await["currencies"]["eur"]["authorised_open"], 1999);
}

#[tokio::test]
async fn money_that_was_taken_may_be_gone_again() {
    let world = provider().await;
    let id = held(&world, "700").await;
    let reverse = format!("/sandbox/payment_intents/{id}/reverse");
    let unexpected = "payment_intent_unexpected_state";
    is_error(&world.form(&reverse, None, &[]).await, 400, unexpected);
    world.form(&format!("{INTENTS}/{id}/capture"), None, &[]).await;
    let (status, gone) = world.form(&reverse, None, &[]).await;
    assert_eq!((status, &gone["status"]), (200, &json!("requires_payment_method")));
    assert_eq!(gone["amount_received"], 0);
    let refund = world.form("/v1/refunds", None, &[("payment_intent", &id)]).await;
    is_error(&refund, 400, unexpected);
}

#[tokio::test]
async fn what_a_customer_disputes_is_with_their_bank_until_it_decides() {
    let mut receiver = Receiver::start().await;
    let config = Config { webhook_url: Some(receiver.url.clone()), ..config() };
    let world = World::start(Kind::Provider, config).await;
    let disputed = async |world: &World| {
        let books = world.books().await;
        books["currencies"]["eur"]["disputed"].clone()
    };
    let id = held(&world, "700").await;
    let path = format!("/sandbox/payment_intents/{id}/dispute");
    is_error(&world.form(&path, None, &[]).await, 400, "parameter_invalid_integer");
    world.form(&format!("{INTENTS}/{id}/capture"), None, &[]).await;
    let (status, dispute) = world.form(&path, None, &[("reason", "product_not_received")]).await;
    assert_eq!((status, &dispute["status"]), (200, &json!("needs_response")));
    assert_eq!((&dispute["payment_intent"], &dispute["amount"]), (&json!(id), &json!(700)));
    assert_eq!(dispute["metadata"], json!({}), "as at Stripe it does not say whose payment it is");
    assert_eq!(disputed(&world).await, 700);
    is_error(&world.form(&path, None, &[]).await, 400, "payment_intent_unexpected_state");
    let refund = world.form("/v1/refunds", None, &[("payment_intent", &id)]).await;
    is_error(&refund, 400, "charge_disputed");

    let one = format!("/v1/disputes/{}", dispute["id"].as_str().unwrap());
    assert_eq!(world.get(&one).await.1, dispute);
    assert_eq!(world.get("/v1/disputes").await.1["data"], json!([dispute]));
    let close = format!("/sandbox/disputes/{}/close", dispute["id"].as_str().unwrap());
    is_error(&world.form(&close, None, &[]).await, 400, "parameter_invalid");
    let (status, won) = world.form(&close, None, &[("status", "won")]).await;
    assert_eq!((status, &won["status"]), (200, &json!("won")));
    assert_eq!(disputed(&world).await, 0);
    let again = world.form(&close, None, &[("status", "lost")]).await;
    is_error(&again, 400, "parameter_invalid");
    let mut kinds = Vec::new();
    while kinds.len() < 6 {
        kinds.push(receiver.next().await.json()["type"].as_str().unwrap().to_owned());
    }
    kinds.sort();
    let told = ["closed", "created", "funds_reinstated", "funds_withdrawn"];
    assert_eq!(kinds[..4], told.map(|told| format!("charge.dispute.{told}")));
}

#[tokio::test]
async fn money_that_nobody_takes_in_time_is_let_go() {
    let world = provider().await;
    let id = held(&world, "700").await;
    let expire = format!("/sandbox/payment_intents/{id}/expire");
    let (status, gone) = world.form(&expire, None, &[]).await;
    assert_eq!((status, &gone["status"]), (200, &json!("canceled")));
    assert_eq!(gone["cancellation_reason"], "automatic");
    let unexpected = "payment_intent_unexpected_state";
    is_error(&world.form(&expire, None, &[]).await, 400, unexpected);
    let capture = format!("{INTENTS}/{id}/capture");
    is_error(&world.form(&capture, None, &[]).await, 400, unexpected);
}

#[tokio::test]
async fn webhooks_are_held_back_on_request() {
    let mut receiver = Receiver::start().await;
    let config = Config { webhook_url: Some(receiver.url.clone()), ..config() };
    let world = World::start(Kind::Provider, config).await;
    world.fault(json!({ "kind": "delay_webhooks", "ms": 500 })).await;
    let (first, second) = (held(&world, "1").await, held(&world, "2").await);
    for id in [second, first] {
        assert_eq!(receiver.next().await.json()["data"]["object"]["id"], id);
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let world = provider().await;
    let zero = world.form(INTENTS, None, &hold("0", "pm_card_visa")).await;
    is_error(&zero, 400, "parameter_invalid_integer");
    is_error(
        &world.form(INTENTS, None, &hold("-5", "pm_card_visa")).await,
        400,
        "parameter_invalid_integer",
    );
    is_error(&world.form(INTENTS, None, &hold("5", "pm_nonsense")).await, 400, "resource_missing");
    is_error(&world.form(INTENTS, None, &[("amount", "5")]).await, 400, "parameter_missing");
    is_error(&world.get("/v1/payment_intents/pi_nobody").await, 404, "resource_missing");
    let stranger = world.anonymous(Method::GET, INTENTS).bearer_auth("sk_test_no");
    assert_eq!(answer(stranger).await.0, 401);
}

#[tokio::test]
async fn an_intent_is_captured_once_and_not_after_it_was_cancelled() {
    let world = provider().await;
    let unexpected = "payment_intent_unexpected_state";
    let (taken, closed) = (held(&world, "700").await, held(&world, "800").await);

    let over = [("amount_to_capture", "701")];
    let capture = format!("{INTENTS}/{taken}/capture");
    is_error(&world.form(&capture, None, &over).await, 400, "amount_too_large");
    assert_eq!(world.form(&capture, None, &[]).await.1["amount_received"], 700);
    let again = world.form(&capture, None, &[]).await;
    is_error(&again, 400, unexpected);
    assert_eq!(again.1["error"]["payment_intent"]["status"], "succeeded");
    is_error(&world.form(&format!("{INTENTS}/{taken}/cancel"), None, &[]).await, 400, unexpected);

    let cancel = format!("{INTENTS}/{closed}/cancel");
    let (_, cancelled) = world.form(&cancel, None, &[]).await;
    assert_eq!(
        (&cancelled["status"], &cancelled["amount_capturable"]),
        (&json!("canceled"), &json!(0))
    );
    is_error(&world.form(&cancel, None, &[]).await, 400, unexpected);
    is_error(&world.form(&format!("{INTENTS}/{closed}/capture"), None, &[]).await, 400, unexpected);
    let refund = world.form("/v1/refunds", None, &[("payment_intent", &closed)]).await;
    is_error(&refund, 400, unexpected);
}

#[tokio::test]
async fn the_same_key_hears_the_same_answer() {
    let world = provider().await;
    let first = world.form(INTENTS, Some("k1"), &hold("1999", "pm_card_visa")).await;
    assert_eq!(world.form(INTENTS, Some("k1"), &hold("1999", "pm_card_visa")).await, first);
    let other = world.form(INTENTS, Some("k1"), &hold("2000", "pm_card_visa")).await;
    assert_eq!((other.0, &other.1["error"]["type"]), (400, &json!("idempotency_error")));
    let declined = world.form(INTENTS, Some("k2"), &hold("5", "pm_card_chargeDeclined")).await;
    assert_eq!(
        world.form(INTENTS, Some("k2"), &hold("5", "pm_card_chargeDeclined")).await,
        declined
    );
    assert_eq!(world.books().await["currencies"]["eur"]["intents"], 2);

    // A slip in the request is not an answer: the key is still free.
    is_error(
        &world.form(INTENTS, Some("k3"), &hold("0", "pm_card_visa")).await,
        400,
        "parameter_invalid_integer",
    );
    assert_eq!(world.form(INTENTS, Some("k3"), &hold("1", "pm_card_visa")).await.0, 200);
}

#[tokio::test]
async fn the_same_key_at_the_same_time_is_a_409() {
    let world = provider().await;
    world.fault(json!({ "kind": "delay", "ms": 200, "operation": "create" })).await;
    let fields = hold("1999", "pm_card_visa");
    let (one, two) = tokio::join!(
        world.form(INTENTS, Some("k"), &fields),
        world.form(INTENTS, Some("k"), &fields)
    );
    let mut statuses = [one.0, two.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(world.books().await["currencies"]["eur"]["intents"], 1);
}

#[tokio::test]
async fn a_lost_answer_is_heard_by_asking_again() {
    for kind in ["hang", "error_after_effect", "error_before_effect"] {
        let world = provider().await;
        world.fault(json!({ "kind": kind, "times": 2, "operation": "create" })).await;
        let attempt = || async {
            let request = world
                .request(Method::POST, INTENTS)
                .header("idempotency-key", "k")
                .timeout(Duration::from_millis(200))
                .form(&hold("1999", "pm_card_visa"));
            request.send().await.ok().filter(|answer| answer.status().is_success())
        };
        assert!(attempt().await.is_none(), "{kind}");
        let done = u64::from(kind != "error_before_effect");
        let books = world.books().await;
        assert_eq!(books["currencies"]["eur"]["intents"].as_u64().unwrap_or(0), done, "{kind}");
        assert!(attempt().await.is_none(), "{kind}");
        assert!(attempt().await.is_some(), "{kind}");
        assert_eq!(world.books().await["currencies"]["eur"]["intents"], 1, "{kind}");
    }
}

/// Checks a signature the way Stripe documents it.
fn is_signed(header: &str, body: &str) -> bool {
    let part = |name: &str| {
        header.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).unwrap()
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET.as_bytes()).unwrap();
    mac.update(format!("{}.{body}", part("t")).as_bytes());
    mac.verify_slice(&hex::decode(part("v1")).unwrap()).is_ok()
}

#[tokio::test]
async fn a_webhook_is_signed_and_sent_until_somebody_takes_it() {
    let mut receiver = Receiver::start().await;
    receiver.answers(&[500, 404]);
    let config = Config { webhook_url: Some(receiver.url.clone()), ..config() };
    let world = World::start(Kind::Provider, config).await;
    let id = held(&world, "1999").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let hook = receiver.next().await;
        let signature = hook.headers["stripe-signature"].to_str().unwrap();
        assert!(is_signed(signature, &hook.body), "{signature}");
        assert_eq!(hook.kind(), "payment_intent.amount_capturable_updated");
        assert_eq!(hook.json()["data"]["object"]["id"], id);
        assert_eq!(hook.json()["data"]["object"]["metadata"]["payment_id"], "pay_1");
        ids.push(hook.json()["id"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    world.books_where(|books| books["webhooks_waiting"] == 0).await;
}

#[tokio::test]
async fn every_change_is_told() {
    let mut receiver = Receiver::start().await;
    let config = Config { webhook_url: Some(receiver.url.clone()), ..config() };
    let world = World::start(Kind::Provider, config).await;
    let (taken, closed) = (held(&world, "700").await, held(&world, "800").await);
    world.form(&format!("{INTENTS}/{taken}/capture"), None, &[]).await;
    world.form("/v1/refunds", None, &[("payment_intent", &taken)]).await;
    world.form(&format!("{INTENTS}/{closed}/cancel"), None, &[]).await;
    world.form(INTENTS, None, &hold("5", "pm_card_chargeDeclined")).await;
    let mut kinds = Vec::new();
    for _ in 0..6 {
        kinds.push(receiver.next().await.kind());
    }
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            "charge.refunded",
            "payment_intent.amount_capturable_updated",
            "payment_intent.amount_capturable_updated",
            "payment_intent.canceled",
            "payment_intent.payment_failed",
            "payment_intent.succeeded",
        ]
    );
}

#[tokio::test]
async fn webhooks_are_lost_or_doubled_on_request() {
    let mut receiver = Receiver::start().await;
    let config = Config { webhook_url: Some(receiver.url.clone()), ..config() };
    let world = World::start(Kind::Provider, config).await;
    world.fault(json!({ "kind": "drop_webhooks" })).await;
    world.fault(json!({ "kind": "duplicate_webhooks" })).await;
    held(&world, "1").await;
    let doubled = held(&world, "2").await;
    for _ in 0..2 {
        assert_eq!(receiver.next().await.json()["data"]["object"]["id"], doubled);
    }
}

#[tokio::test]
async fn a_killed_provider_comes_back_with_its_books() {
    let journal = Journal::new("provider");
    let nobody = Some("http://127.0.0.1:9/".to_owned());
    let world =
        World::start(Kind::Provider, Config { webhook_url: nobody, ..journal.config() }).await;
    let first = world.form(INTENTS, Some("k"), &hold("1999", "pm_card_visa")).await;
    let id = first.1["id"].as_str().unwrap();
    world.form(&format!("{INTENTS}/{id}/capture"), None, &[]).await;
    let before = world.books().await;
    drop(world);
    // Cut off in the middle of a line.
    let mut file = std::fs::OpenOptions::new().append(true).open(journal.path()).unwrap();
    file.write_all(br#"{"objects":[{"intent":{"id""#).unwrap();

    let mut receiver = Receiver::start().await;
    let config = Config { webhook_url: Some(receiver.url.clone()), ..journal.config() };
    let world = World::start(Kind::Provider, config).await;
    let told = [receiver.next().await.kind(), receiver.next().await.kind()];
    assert!(told.contains(&"payment_intent.succeeded".to_owned()), "{told:?}");
    let after = world.books_where(|books| books["webhooks_waiting"] == 0).await;
    assert_eq!(
        (&after["intents"], &after["currencies"]),
        (&before["intents"], &before["currencies"])
    );
    assert_eq!(world.form(INTENTS, Some("k"), &hold("1999", "pm_card_visa")).await, first);

    // What is written after the cut is read again.
    let later = held(&world, "5").await;
    drop(world);
    let world = World::start(Kind::Provider, journal.config()).await;
    assert_eq!(world.get(&format!("{INTENTS}/{later}")).await.0, 200);
}

#[tokio::test]
async fn lists_and_books_come_in_pages() {
    let world = provider().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(held(&world, "1").await);
    }
    let found = |page: &Value, list: &str| -> Vec<String> {
        let items = page[list].as_array().unwrap().iter();
        items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let (_, page) = world.get("/v1/payment_intents?limit=2").await;
    assert_eq!(
        (found(&page, "data"), page["has_more"].as_bool()),
        (vec![ids[4].clone(), ids[3].clone()], Some(true))
    );
    let (_, page) =
        world.get(&format!("/v1/payment_intents?limit=3&starting_after={}", ids[3])).await;
    assert_eq!((found(&page, "data").len(), page["has_more"].as_bool()), (3, Some(false)));

    let (_, page) = world.get(&format!("/sandbox/books?limit=3&starting_after={}", ids[1])).await;
    assert_eq!(
        (found(&page, "intents"), page["has_more"].as_bool()),
        (ids[2..].to_vec(), Some(false))
    );
    let (_, order) = world.get("/sandbox/books?order_id=ord_1").await;
    assert_eq!(order["currencies"]["eur"]["authorised_open"], 5);
    assert_eq!(world.get("/sandbox/books?order_id=ord_2").await.1["currencies"], json!({}));
}
