//! Sagas that wait for a person: who is told of them, what is seen of them, what is done.

use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::world::{Reply, World, key, until};

const SECRET: &[u8] = b"a secret of thirty-two bytes, no";

/// What a listener was sent: headers and body.
type Heard = Arc<Mutex<Vec<(HeaderMap, Vec<u8>)>>>;

/// Takes nothing the first time.
async fn take(State(heard): State<Heard>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut heard = heard.lock().unwrap();
    heard.push((headers, body.to_vec()));
    if heard.len() == 1 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::NO_CONTENT }
}

/// A listener, and what it was sent.
async fn listen(tasks: &mut JoinSet<()>) -> (String, Heard) {
    let heard = Heard::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/waybill", listener.local_addr().unwrap());
    let router = Router::new().route("/hooks/waybill", post(take)).with_state(heard.clone());
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, heard)
}

/// Has the next `times` refunds refused for good.
async fn refuse_refunds(world: &World, times: u32) {
    let fault = json!({ "kind": "refuse", "times": times, "operation": "refund" });
    let url = format!("{}/sandbox/faults", world.payment_url());
    world.send(world.http().post(url).json(&fault)).await.expect(201);
}

/// An order that was paid and is cancelled, and whose money the provider does not give back.
async fn stuck(world: &World, refusals: u32) -> (String, String) {
    let order = world.place(&[("mug", 1)], "pm_card_visa").await;
    world.pack(&order).await;
    let path = format!("/v1/orders/{order}");
    world.get_until(&path, |seen| (seen["payment_status"] == "paid").then_some(())).await;
    refuse_refunds(world, refusals).await;
    let cancel = json!({ "reason": "customer" });
    let reply = world.post(&format!("{path}/cancel"), cancel).await.expect(202);
    let saga = reply.body["saga_id"].as_str().unwrap().to_owned();
    is_parked(world, &saga).await;
    world.settle().await; // It may have heard of the goods since, and has put that off.
    (order, saga)
}

async fn is_parked(world: &World, saga: &str) -> Value {
    let path = format!("/v1/sagas/{saga}");
    world.get_until(&path, |seen| (!seen["parked"].is_null()).then(|| seen.clone())).await
}

fn verbs(seen: &Value) -> Vec<&str> {
    let verbs = seen["verbs"].as_array().unwrap().iter();
    verbs.map(|legal| legal["verb"].as_str().unwrap()).collect()
}

fn body() -> Value {
    json!({ "reason": "the bank called" })
}

/// Does something about a saga as an operator who has seen this version.
async fn act(world: &World, saga: &str, verb: &str, seen: i64, body: &Value) -> Reply {
    act_as(world, &key(), saga, verb, seen, body).await
}

async fn act_as(
    world: &World,
    key: &str,
    saga: &str,
    verb: &str,
    seen: i64,
    body: &Value,
) -> Reply {
    let request = world.post_request(key, &format!("/v1/sagas/{saga}/{verb}"), body);
    let request = request.header("If-Match", format!("\"{seen}\""));
    world.send(request).await
}

async fn parked_count(world: &World, reason: &str) -> Option<f64> {
    let url = format!("{}/metrics", world.command_url());
    let text = world.http().get(url).send().await.unwrap().text().await.unwrap();
    let series = format!("waybill_sagas_parked{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

/// What the provider took and gave back for an order, by its own books.
async fn books(world: &World, order: &str) -> (i64, i64) {
    let url = format!("{}/sandbox/books?order_id={order}", world.payment_url());
    let books = world.send(world.http().get(url)).await.expect(200).body;
    let sum = |name: &str| books["currencies"]["eur"][name].as_i64().unwrap_or(0);
    (sum("captured"), sum("refunded"))
}

async fn is_listed(world: &World, filter: &str, saga: &str) -> bool {
    let list = world.get(&format!("/v1/sagas?{filter}")).await.expect(200).body;
    list["data"].as_array().unwrap().iter().any(|row| row["id"] == saga)
}

#[tokio::test]
async fn a_parked_saga_is_told_of_and_taken_up_again() {
    let mut tasks = JoinSet::new();
    let (url, heard) = listen(&mut tasks).await;
    let secret = format!("whsec_{}", STANDARD.encode(SECRET));
    let options = ["--operator-webhook", &url, "--operator-webhook-secret", &secret];
    let world = World::start_with(&options).await;
    world.stock("mug", 1).await;
    let (order, saga) = stuck(&world, 1).await;

    told(&world, &saga, &heard).await;
    for filter in [
        "filter[parked]=true",
        "filter[reason]=dispute,refund_failed",
        "filter[state]=unwinding",
        "filter[reason]=refund_failed&filter[older_than]=2099-01-01T00:00:00Z",
    ] {
        assert!(is_listed(&world, filter, &saga).await, "{filter}");
    }
    for filter in [
        "filter[reason]=dispute",
        "filter[reason]=refund_failed&filter[older_than]=2001-01-01T00:00:00Z",
    ] {
        assert!(!is_listed(&world, filter, &saga).await, "{filter}");
    }
    let seen = is_parked(&world, &saga).await;
    assert_eq!(verbs(&seen), ["retry", "set-outcome", "abandon"], "{seen}");
    let version = seen["version"].as_i64().unwrap();
    journal(&world, &saga, version).await;
    refusals(&world, &saga, version).await;

    // Sent twice under one key, it is done once.
    let once = key();
    let done = act_as(&world, &once, &saga, "retry", version, &body()).await.expect(200);
    assert_eq!(done.header("ETag").unwrap(), format!("\"{}\"", done.body["version"]));
    let again = act_as(&world, &once, &saga, "retry", version, &body()).await.expect(200);
    assert_eq!((again.header("Idempotent-Replayed"), &again.body), (Some("true"), &done.body));
    let other = json!({ "reason": "another" });
    let reused = act_as(&world, &once, &saga, "retry", version, &other).await.expect(422);
    assert_eq!(reused.body["code"], "idempotency_key_reused");
    let page = world.get(&format!("/v1/sagas/{saga}/journal?limit=200")).await.expect(200).body;
    let mut told = page["data"].as_array().unwrap().iter();
    let acted = told.find(|event| event["type"] == "saga.operator_acted.v1").unwrap();
    assert_eq!(acted["payload"]["actor"], "developer", "whose token it was");

    world.order_is(&order, "cancelled").await;
    world.settle().await;
    assert_eq!(books(&world, &order).await, (1250, 1250));
    let mugs = world.stock_level("mug").await;
    assert_eq!((&mugs["available"], &mugs["reserved"]), (&json!(1), &json!(0)));
    let path = format!("/v1/sagas/{saga}");
    let seen =
        world.get_until(&path, |seen| (seen["outcome"] == "cancelled").then(|| seen.clone()));
    let seen = seen.await;
    assert_eq!((&seen["parked"], &seen["verbs"]), (&Value::Null, &json!([])), "{seen}");
    until("the metric to fall", || async {
        (parked_count(&world, "refund_failed").await == Some(0.0)).then_some(())
    })
    .await;
    assert!(!is_listed(&world, "filter[parked]=true", &saga).await);
    world.end().await;
}

/// In the numbers, in the log, and by the webhook.
async fn told(world: &World, saga: &str, heard: &Heard) {
    until("the metric", || async {
        (parked_count(world, "refund_failed").await == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(parked_count(world, "inventory_silent").await, Some(0.0));
    let lines = until("the line in the log", || async {
        let log = std::fs::read_to_string(world.folder().join("waybill.log")).unwrap();
        let lines = log.lines().filter(|line| line.contains("a saga is parked"));
        let lines: Vec<_> = lines.map(str::to_owned).collect();
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["WARN", "refund_failed", &format!("waybill sagas show {saga}")] {
        assert!(lines[0].contains(part), "{}", lines[0]);
    }

    until("the webhook", || async { (heard.lock().unwrap().len() >= 2).then_some(()) }).await;
    let heard = heard.lock().unwrap();
    let header = |index: usize, name: &str| heard[index].0[name].to_str().unwrap().to_owned();
    assert_eq!(header(0, "webhook-id"), header(1, "webhook-id"), "the same, told again");
    assert_eq!(heard[0].1, heard[1].1);
    for (index, (_, body)) in heard.iter().enumerate() {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
        let (id, time) = (header(index, "webhook-id"), header(index, "webhook-timestamp"));
        mac.update(format!("{id}.{time}.").as_bytes());
        mac.update(body);
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(header(index, "webhook-signature"), expected);
        assert_eq!(header(index, "content-type"), "application/json");
        assert!(heard[index].0.get("authorization").is_none());
    }
    let told: Value = serde_json::from_slice(&heard[0].1).unwrap();
    assert_eq!(told["type"], "saga.parked");
    assert_eq!(told["data"]["saga_id"], saga);
    assert_eq!(told["data"]["reason"], "refund_failed");
}

/// Operators read the whole journal, a page at a time; nobody else does.
async fn journal(world: &World, saga: &str, version: i64) {
    let path = format!("/v1/sagas/{saga}/journal");
    let shop = world.token_for(None, &["orders:read"]);
    let url = format!("{}{path}", world.query_url());
    world.send(world.http().get(url).bearer_auth(shop)).await.expect(403);
    let ask = async |path: &str| {
        let url = format!("{}{path}", world.query_url());
        world.send(world.http().get(url)).await
    };
    let (mut versions, mut types) = (Vec::new(), Vec::new());
    let mut next = format!("{path}?limit=10");
    loop {
        let page = ask(&next).await.expect(200).body;
        for event in page["data"].as_array().unwrap() {
            versions.push(event["version"].as_i64().unwrap());
            types.push(event["type"].as_str().unwrap().to_owned());
        }
        let Some(cursor) = page["page"]["next_cursor"].as_str() else { break };
        next = format!("{path}?limit=10&cursor={cursor}");
    }
    assert_eq!(versions, (1..=version).collect::<Vec<_>>());
    assert!(types.contains(&"saga.parked.v1".to_owned()), "{types:?}");
    assert_eq!(ask("/v1/sagas/sag_00000000000000000000000000000001/journal").await.status, 404);
}

/// What cannot be done, by whom, and how.
async fn refusals(world: &World, saga: &str, version: i64) {
    let path = format!("/v1/sagas/{saga}/retry");
    let request = |body: &Value| world.post_request(&key(), &path, body);
    let seen = format!("\"{version}\"");
    let customer = world.token_for(Some("usr_0197b0c0000070008000000000000001"), &["ops:write"]);
    let customer = request(&body()).header("If-Match", &seen).bearer_auth(customer);
    assert_eq!(world.send(customer).await.status, 403);
    let guess = request(&body()).header("If-Match", &seen).bearer_auth("guess");
    assert_eq!(world.send(guess).await.status, 401);
    let unseen = world.send(request(&body())).await.expect(428);
    assert_eq!(unseen.body["code"], "precondition_required");
    let keyless = world.http().post(format!("{}{path}", world.command_url())).json(&body());
    let keyless = keyless.header("If-Match", &seen);
    assert_eq!(world.send(keyless).await.expect(400).body["code"], "idempotency_key_required");
    let stale = act(world, saga, "retry", version - 1, &body()).await.expect(412);
    assert_eq!(
        (&stale.body["code"], &stale.body["current_version"]),
        (&json!("version_conflict"), &json!(version))
    );

    let mut said = body();
    said["step"] = json!("return_money");
    said["outcome"] = json!("done");
    let mut strange = said.clone();
    strange["step"] = json!("capture");
    strange["evidence"] = json!("transfer 4711");
    let mut failed = strange.clone();
    failed["step"] = json!("return_money");
    failed["outcome"] = json!("failed");
    let silent = json!({});
    for (verb, body, status, code, pointer) in [
        ("resume", body(), 409, "verb_not_legal", None),
        ("compensate", body(), 409, "verb_not_legal", None),
        ("abandon", body(), 409, "still_held", None),
        ("set-outcome", said, 422, "validation_failed", Some("#/evidence")),
        ("set-outcome", strange, 422, "step_not_legal", Some("#/step")),
        ("set-outcome", failed, 422, "outcome_not_legal", Some("#/outcome")),
        ("retry", silent, 422, "validation_failed", Some("#/reason")),
        ("sing", body(), 404, "not_found", None),
    ] {
        let reply = act(world, saga, verb, version, &body).await.expect(status);
        assert_eq!(reply.body["code"], code, "{verb}: {}", reply.body);
        let at = reply.body.pointer("/errors/0/pointer").and_then(Value::as_str);
        assert_eq!(at, pointer, "{verb}: {}", reply.body);
    }
    let unknown = "sag_00000000000000000000000000000001";
    act(world, unknown, "retry", 1, &body()).await.expect(404);
}

#[tokio::test]
async fn a_parked_saga_is_seen_to_on_the_command_line() {
    let world = World::start().await;
    world.stock("mug", 2).await;
    let (order, saga) = stuck(&world, 2).await;
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
            .arg("sagas")
            .args(arguments)
            .arg("--data-dir")
            .arg(world.folder())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (_, listed, _) = run(&["list", "--reason", "refund_failed", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed[0]["id"], listed.as_array().unwrap().len()), (&json!(saga), 1));
    let (_, listed, _) = run(&["list"]);
    assert!(listed.contains(&saga) && listed.contains("refund_failed"), "{listed}");
    let (_, shown, _) = run(&["show", &saga, "--journal"]);
    for part in ["may retry", "--step return_money --outcome done", "saga.parked.v1"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    let why = ["--reason", "the bank called"];
    let with = |first: &[&str], rest: &[&str]| run(&[first, &why[..], rest].concat());
    // The card takes nothing back once more; then the money goes another way.
    let before = is_parked(&world, &saga).await["version"].as_i64().unwrap();
    let (went, _, error) = with(&["retry", &saga], &[]);
    assert!(went, "{error}");
    world
        .get_until(&format!("/v1/sagas/{saga}"), |seen| {
            let moved = seen["version"].as_i64()? > before + 2;
            (moved && !seen["parked"].is_null()).then_some(())
        })
        .await;
    let stale = before.to_string();
    let (went, _, error) = with(&["retry", &saga], &["--if-version", &stale]);
    assert!(!went && error.contains("version_conflict"), "{error}");
    let (went, _, error) = with(&["abandon", &saga], &[]);
    assert!(!went && error.contains("still_held"), "{error}");
    let said =
        ["--step", "return_money", "--outcome", "done", "--evidence", "transfer 4711", "--json"];
    let (went, done, error) = with(&["set-outcome", &saga], &said);
    assert!(went, "{error}");
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["verb"], "set-outcome");

    world.order_is(&order, "cancelled").await;
    world.settle().await;
    assert_eq!(books(&world, &order).await, (1250, 0), "by transfer, and not by the provider");
    let mugs = world.stock_level("mug").await;
    assert_eq!((&mugs["available"], &mugs["reserved"]), (&json!(2), &json!(0)));

    // Another is left as it is: somebody else sees to the money.
    let (_, saga) = stuck(&world, 1).await;
    let (went, shown, error) = with(&["abandon", &saga], &["--force"]);
    assert!(went && shown.contains("ended: abandoned"), "{shown} {error}");
    world.end().await;
}
