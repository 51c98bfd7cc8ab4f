use std::sync::atomic::AtomicUsize;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use super::*;

const ISSUER: &str = "https://id.example";
const NOW: i64 = 1_800_000_000;

/// The modulus of a key of 2048 bits that was made for this test and thrown away.
const RSA_MODULUS: &str = "n-_4yelR4O5tGN7lsJZHXid72LWqj3ScDjDSfbCqVErY9usUuA9bZVzTeI_ll3uQNyZz-QCDKT5xR5D2MNp4\
    EmP945lTbK_DzUMfuBMZMsEjE7U1FdR5G15AStgp-XaPutxwRcCnuJloyFsA14khFQelAJyAvqXo8mpFsa8a\
    tLhn0uXJaVg-fz3KkNyyWuCI8d4OyETktyuSmNzJN9HalMDIbn2oeKQTIV4wEADNWK60FiCdotXT4BdZuk89\
    qjC6LY1HOOL1-Owp_jhdYLC4aPPXagNVKCJ-pAwSuJVfxoEsA-ppk7eURpPqf2O1Itt9Se60xDjlrjDwxp7R\
    ipKb-w";

/// What it signed: for `waybill` and another, `usr_1` may `orders:read`.
const RSA_TOKEN: &str = "eyJhbGciOiAiUlMyNTYiLCAia2lkIjogInJzYSJ9.eyJpc3MiOiAiaHR0cHM6Ly9pZC5leGFtcGxlIiwgImF\
    1ZCI6IFsib3RoZXIiLCAid2F5YmlsbCJdLCAic3ViIjogInVzcl8xIiwgImV4cCI6IDIwMDAwMDAwMDAsICJ\
    zY29wZSI6ICJvcmRlcnM6cmVhZCJ9.l9Sqo654MDa3UB1MYEk6JvXOv6IRa9IJ_KPo5o8ZzLI2prhCPan60K\
    fUpgFhoMbKgAStMf82QeWZ0cClx6xWdy5esDRqS3wqbz2rcY2-mbocaiiHWT7NC1P_c-ZiOyflMAdWd54M_c\
    rR2dhZ2nsqTgsomfjuNHXNBoC3bOvhcNoYWBYEQf03lgzcXDZprg-rUvYBK-gzMANMQJ2rj4-HEpnvRFY6Ma\
    IN9xDE4GQ6je2LUiywb-qiWc6RJ7-0xWVTmmamhcAQAA-flNpBCOvgXU4-Fjo23-sr2rFQB_LBOT8aXB96tR\
    iayt8vhlYKoO1uxcpg-RwPtWRPz0YNX7MRpQ";

fn issuer(seed: u8) -> Issuer {
    Issuer::new(&[seed; 32], ISSUER, "waybill").unwrap()
}

fn grant(expires_at: i64) -> Grant<'static> {
    Grant { subject: "ada", customer: None, scopes: &["orders:read", "ops:*"], expires_at }
}

fn tokens(keys: &str) -> Tokens {
    at(keys, NOW)
}

fn at(keys: &str, now: i64) -> Tokens {
    let keys = Keys::Fixed(KeySet::parse(keys).unwrap());
    Tokens::new(ISSUER, "waybill", keys, Arc::new(move || now))
}

async fn refusal(tokens: &Tokens, token: &str) -> String {
    let problem = tokens.caller(token).await.unwrap_err();
    assert_eq!(problem.status().as_u16(), 401, "{problem:?}");
    problem.detail().to_owned()
}

/// A token of our own making.
fn made(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": "waybill", "sub": "ada", "exp": NOW + 60 })
}

#[tokio::test]
async fn a_token_says_who_is_calling_and_what_they_may() {
    let issuer = issuer(7);
    let tokens = tokens(&issuer.key_set());
    let token = issuer.issue(&grant(NOW + 60));
    for _ in 0..2 {
        let caller = tokens.caller(&token).await.unwrap();
        assert_eq!(&**caller.principal(), "ada");
        assert!(caller.may("orders:read") && caller.may("ops:write"));
        assert!(!caller.may("orders:write") && !caller.is_customer());
    }
    let customer = Grant { customer: Some("usr_1"), ..grant(NOW + 60) };
    assert!(tokens.caller(&issuer.issue(&customer)).await.unwrap().is_customer());
    let customer = Grant { subject: "usr_1", ..grant(NOW + 60) };
    assert!(tokens.caller(&issuer.issue(&customer)).await.unwrap().is_customer());
}

#[tokio::test]
async fn keys_of_three_kinds_are_known() {
    let chance = SystemRandom::new();
    let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &chance).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &chance).unwrap();
    let point = pair.public_key().as_ref();
    let half = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let keys = json!({ "keys": [
        { "kty": "RSA", "kid": "rsa", "alg": "RS256", "n": RSA_MODULUS, "e": "AQAB" },
        { "kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "x": half(&point[1..33]),
          "y": half(&point[33..]) },
        { "kty": "oct", "kid": "secret", "k": "AAAA" },
        { "kty": "RSA", "kid": "sealing", "use": "enc", "n": RSA_MODULUS, "e": "AQAB" },
    ] });
    let tokens = tokens(&keys.to_string());
    assert!(tokens.caller(RSA_TOKEN).await.unwrap().may("orders:read"));
    let sign = |signed: &[u8]| pair.sign(&chance, signed).unwrap().as_ref().to_vec();
    let token = made(&json!({ "alg": "ES256", "kid": "ec" }), &claims(), sign);
    assert_eq!(&**tokens.caller(&token).await.unwrap().principal(), "ada");
    // The key decides, and not the token.
    let crossed = made(&json!({ "alg": "RS256", "kid": "ec" }), &claims(), sign);
    assert!(refusal(&tokens, &crossed).await.contains("signature"));
    let hmac = made(&json!({ "alg": "HS256", "kid": "rsa" }), &claims(), |_| vec![7; 32]);
    assert!(refusal(&tokens, &hmac).await.contains("signature"));
    let none = made(&json!({ "alg": "none" }), &claims(), |_| Vec::new());
    assert!(refusal(&tokens, &none).await.contains("key"));
    for kid in ["secret", "sealing"] {
        let token = made(&json!({ "alg": "RS256", "kid": kid }), &claims(), |_| vec![7; 256]);
        assert!(refusal(&tokens, &token).await.contains("nobody here knows its key"), "{kid}");
    }
}

#[tokio::test]
async fn a_token_is_ours_unchanged_and_in_time() {
    let issuer = issuer(7);
    let tokens = tokens(&issuer.key_set());
    let good = issuer.issue(&grant(NOW + 60));
    let forged = Issuer::new(&[8; 32], ISSUER, "waybill").unwrap().issue(&grant(NOW + 60));
    assert!(refusal(&tokens, &forged).await.contains("nobody here knows its key"));
    let mut parts: Vec<_> = good.split('.').map(str::to_owned).collect();
    parts[1] = URL_SAFE_NO_PAD.encode(claims().to_string());
    assert!(refusal(&tokens, &parts.join(".")).await.contains("signature"));
    for bad in ["", "x", "a.b", "a.b.c", "..", &"x".repeat(9000), &format!("{good}.x")] {
        refusal(&tokens, bad).await;
    }
    let other = Issuer::new(&[7; 32], "https://other.example", "waybill").unwrap();
    assert!(refusal(&tokens, &other.issue(&grant(NOW + 60))).await.contains("issuer"));
    let other = Issuer::new(&[7; 32], ISSUER, "payroll").unwrap();
    assert!(refusal(&tokens, &other.issue(&grant(NOW + 60))).await.contains("audience"));
    let named = |subject| issuer.issue(&Grant { subject, ..grant(NOW + 60) });
    for subject in ["", "two words", "a\nb"] {
        assert!(refusal(&tokens, &named(subject)).await.contains("sub"), "{subject:?}");
    }
    let skewed = at(&issuer.key_set(), NOW + 89);
    assert!(skewed.caller(&good).await.is_ok());
    let late = at(&issuer.key_set(), NOW + 90);
    assert!(refusal(&late, &good).await.contains("expired"));
}

#[tokio::test]
async fn what_was_remembered_of_a_token_ends_with_it() {
    let issuer = issuer(7);
    let now = Arc::new(AtomicI64::new(NOW));
    let clock: Now = {
        let now = now.clone();
        Arc::new(move || now.load(Ordering::Relaxed))
    };
    let keys = Keys::Fixed(KeySet::parse(&issuer.key_set()).unwrap());
    let tokens = Tokens::new(ISSUER, "waybill", keys, clock);
    let token = issuer.issue(&grant(NOW + 60));
    assert!(tokens.caller(&token).await.is_ok());
    now.store(NOW + 90, Ordering::Relaxed);
    assert!(refusal(&tokens, &token).await.contains("expired"));
}

#[tokio::test]
async fn a_customer_who_calls_now_and_then_is_a_session() {
    let issuer = issuer(7);
    let now = Arc::new(AtomicI64::new(NOW));
    let clock: Now = {
        let now = now.clone();
        Arc::new(move || now.load(Ordering::Relaxed))
    };
    let keys = Keys::Fixed(KeySet::parse(&issuer.key_set()).unwrap());
    let tokens = Tokens::new(ISSUER, "waybill", keys, clock);
    let of = |customer, lasts| issuer.issue(&Grant { customer, ..grant(NOW + lasts) });
    let (staff, ada) = (of(None, 9000), of(Some("usr_1"), 9000));
    let (grace, late) = (of(Some("usr_2"), 9000), of(Some("usr_3"), -600));
    for token in [&staff, &ada, &ada, &grace] {
        assert!(tokens.caller(token).await.is_ok());
    }
    refusal(&tokens, &late).await;
    assert_eq!(tokens.sessions(), 2);
    now.fetch_add(SESSION_IDLE_MAX_S - 1, Ordering::Relaxed);
    assert!(tokens.caller(&ada).await.is_ok());
    now.fetch_add(1, Ordering::Relaxed);
    assert_eq!(tokens.sessions(), 1);
}

/// A provider whose keys can be changed, and which counts how often it is asked.
struct Provider {
    keys: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
    /// The clock on the wall, which only tokens end by.
    now: Arc<AtomicI64>,
    tokens: Tokens,
}

/// Lets so many seconds pass.
async fn pass(seconds: i64) {
    tokio::time::advance(Duration::from_secs(seconds.unsigned_abs())).await;
}

fn provider(keys: Option<String>) -> Provider {
    let keys = Arc::new(Mutex::new(keys));
    let (asked, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicI64::new(NOW)));
    let fetch: Fetch = {
        let (keys, asked) = (keys.clone(), asked.clone());
        Arc::new(move || {
            asked.fetch_add(1, Ordering::Relaxed);
            let keys = keys.lock().unwrap().clone();
            Box::pin(async move {
                tokio::task::yield_now().await;
                keys.ok_or_else(|| "away".to_owned())
            })
        })
    };
    let clock: Now = {
        let now = now.clone();
        Arc::new(move || now.load(Ordering::Relaxed))
    };
    let tokens = Tokens::new(ISSUER, "waybill", Keys::Fetched(fetch), clock);
    Provider { keys, asked, now, tokens }
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_once_for_everybody_who_waits() {
    let issuer = issuer(7);
    let Provider { asked, tokens, .. } = provider(Some(issuer.key_set()));
    let token = issuer.issue(&grant(NOW + 60));
    let all = futures_util::future::join_all((0..8).map(|_| tokens.caller(&token))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_are_asked_for_now_and_then_only() {
    let (old, new) = (issuer(7), issuer(8));
    let Provider { keys, asked, tokens, .. } = provider(Some(old.key_set()));
    let (first, second) = (old.issue(&grant(NOW + 6000)), new.issue(&grant(NOW + 6000)));
    assert!(tokens.caller(&first).await.is_ok());
    *keys.lock().unwrap() = Some(new.key_set());
    for _ in 0..10 {
        refusal(&tokens, &second).await;
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "the provider was asked just now");
    pass(FETCH_PAUSE_S).await;
    assert!(tokens.caller(&second).await.is_ok());
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    refusal(&tokens, &first).await;
}

#[tokio::test(start_paused = true)]
async fn keys_grow_old_and_are_kept_while_the_provider_is_away() {
    let (old, new) = (issuer(7), issuer(8));
    let Provider { keys, asked, tokens, .. } = provider(None);
    let (first, second) = (old.issue(&grant(NOW + 6000)), new.issue(&grant(NOW + 6000)));
    let problem = tokens.caller(&first).await.unwrap_err();
    assert_eq!((problem.status().as_u16(), problem.code()), (503, "dependency_unavailable"));
    *keys.lock().unwrap() = Some(old.key_set());
    pass(FETCH_PAUSE_S).await;
    assert!(tokens.caller(&first).await.is_ok());
    *keys.lock().unwrap() = None;
    pass(KEYS_AGE_MAX_S).await;
    assert!(tokens.caller(&first).await.is_ok(), "old keys are better than none");
    while asked.load(Ordering::Relaxed) < 3 {
        tokio::task::yield_now().await;
    }
    *keys.lock().unwrap() = Some(new.key_set());
    pass(FETCH_PAUSE_S).await;
    assert!(tokens.caller(&second).await.is_ok());
    refusal(&tokens, &first).await;
    // What nobody has confirmed for an hour may have been withdrawn.
    *keys.lock().unwrap() = None;
    pass(KEYS_BELIEVED_MAX_S - 1).await;
    assert!(tokens.caller(&second).await.is_ok());
    pass(1).await;
    let problem = tokens.caller(&second).await.unwrap_err();
    assert_eq!((problem.status().as_u16(), problem.code()), (503, "dependency_unavailable"));
    *keys.lock().unwrap() = Some(new.key_set());
    pass(FETCH_PAUSE_S).await;
    assert!(tokens.caller(&second).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_does_not_stop_the_keys_for_others() {
    let issuer = issuer(7);
    let Provider { asked, tokens, .. } = provider(Some(issuer.key_set()));
    let token = issuer.issue(&grant(NOW + 60));
    tokio::select! {
        biased;
        answered = tokens.caller(&token) => panic!("{answered:?}"),
        () = std::future::ready(()) => {}
    }
    assert!(tokens.caller(&token).await.is_ok());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_makes_no_keys_old_and_keeps_none_young() {
    const DAY_S: i64 = 24 * 60 * 60;
    let (old, new) = (issuer(7), issuer(8));
    let Provider { keys, asked, now, tokens } = provider(Some(old.key_set()));
    let (first, second) = (old.issue(&grant(NOW + 9 * DAY_S)), new.issue(&grant(NOW + 9 * DAY_S)));
    assert!(tokens.caller(&first).await.is_ok());
    now.fetch_add(DAY_S, Ordering::Relaxed);
    assert!(tokens.caller(&first).await.is_ok());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    now.fetch_sub(5 * DAY_S, Ordering::Relaxed);
    *keys.lock().unwrap() = Some(new.key_set());
    pass(FETCH_PAUSE_S).await;
    assert!(tokens.caller(&second).await.is_ok(), "the pause is over, whatever the wall says");
    refusal(&tokens, &first).await;
    *keys.lock().unwrap() = None;
    pass(KEYS_BELIEVED_MAX_S).await;
    assert_eq!(tokens.caller(&second).await.unwrap_err().status().as_u16(), 503);
}

#[test]
fn what_is_no_key_set_is_refused() {
    for bad in ["", "{}", "[]", "{\"keys\":7}"] {
        assert!(KeySet::parse(bad).is_err(), "{bad}");
    }
    let many = json!({ "keys": vec![json!({ "kty": "oct" }); 65] });
    assert!(KeySet::parse(&many.to_string()).is_err());
    let two = |kid| {
        let key = |seed, kid| {
            let mut set: Value = serde_json::from_str(&issuer(seed).key_set()).unwrap();
            let mut key = set["keys"][0].take();
            key["kid"] = json!(kid);
            key
        };
        KeySet::parse(&json!({ "keys": [key(7, "a"), key(8, kid)] }).to_string())
    };
    assert!(two("a").is_err() && two("b").is_ok());
    assert!(Issuer::new(&[7; 31], ISSUER, "waybill").is_none());
}
