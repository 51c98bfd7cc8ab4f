//! Personal data: sealed everywhere, shown where it leaves, and gone everywhere once its key is.

use std::path::Path;
use std::process::{Command, Output};

use async_nats::jetstream;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::services;
use crate::world::{World, order, until};

/// What stands in no other test's data, and in no base64: one for every field of an address.
const NAME: &str = "Zq7-name-of-nobody";
const COMPANY: &str = "Zq7-company-of-nobody";
const LINE1: &str = "Zq7-line1-of-nobody";
const LINE2: &str = "Zq7-line2-of-nobody";
const CITY: &str = "Zq7-city-of-nobody";
const REGION: &str = "IE-ZQ7";
const POSTAL_CODE: &str = "Zq7-code-of-nobody";
const PHONE: &str = "+353999788566344";
const EMAIL: &str = "zq7-email@nobody.example";
const MARKERS: [&str; 9] = [NAME, COMPANY, LINE1, LINE2, CITY, REGION, POSTAL_CODE, PHONE, EMAIL];
/// Not personal: where this is not found, nothing was searched.
const CONTROL: &str = "Zq7-title-of-a-mug";

const CUSTOMER: &str = "usr_0197b0c000007000800000000000e4a5";

fn address() -> Value {
    json!({
        "name": NAME, "company": COMPANY, "line1": LINE1, "line2": LINE2, "city": CITY,
        "region": REGION, "postal_code": POSTAL_CODE, "country": "IE", "phone": PHONE,
        "email": EMAIL,
    })
}

fn body(address: &Value) -> Value {
    let mut body = order(&[("mug", 1)], "pm_card_visa");
    body["customer"] = json!(CUSTOMER);
    body["lines"][0]["title"] = json!(CONTROL);
    body["shipping_address"] = address.clone();
    body
}

async fn place(world: &World, address: &Value) -> String {
    let placed = world.post("/v1/orders", body(address)).await.expect(201);
    placed.body["id"].as_str().unwrap().to_owned()
}

/// Runs the program on the world's database.
fn waybill(world: &World, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
        .args(arguments)
        .args(["--database-url", world.database_url()])
        .output()
        .unwrap()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The tables that hold `text` in any column of any row, whatever its type.
async fn tables_with(pool: &PgPool, text: &str) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', nspname, relname) from pg_class
         join pg_namespace on pg_namespace.oid = relnamespace
         where relkind in ('r', 'm') and nspname !~ '^pg_' and nspname <> 'information_schema'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.len() > 15, "{tables:?}");
    let mut found = Vec::new();
    for table in tables {
        // A row as text has its text and JSON as they are, and its bytes in hexadecimal digits.
        let query = format!(
            "select exists (select from {table} as row
                            where position(lower($1) in lower(row::text)) > 0
                               or position(encode(convert_to($1, 'UTF8'), 'hex') in row::text) > 0)"
        );
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(text);
        if query.fetch_one(pool).await.unwrap() {
            found.push(table);
        }
    }
    found
}

/// How many messages in JetStream hold `text`, of how many.
async fn messages_with(world: &World, text: &str) -> (usize, u64) {
    let nats = services::client(world.nats_url()).await;
    let stream = format!("WAYBILL_{}", world.log());
    let mut stream = jetstream::new(nats).get_stream(stream).await.unwrap();
    let state = stream.info().await.unwrap().state.clone();
    let mut found = 0;
    for sequence in state.first_sequence..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let whole = format!("{:?} {}", message.headers, String::from_utf8_lossy(&message.payload));
        found += usize::from(whole.contains(text));
    }
    (found, state.messages)
}

/// The files under `folder` that hold any of `texts`.
fn files_with(folder: &Path, texts: &[&str]) -> Vec<String> {
    let mut grep = Command::new("grep");
    // Files come and go meanwhile. The sandbox's books are those of other companies.
    grep.env("LC_ALL", "C").args(["-rlasF", "--exclude-dir=sandbox"]);
    for text in texts {
        grep.args(["-e", text]);
    }
    let output = grep.arg(folder).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Fails where a plain text is found anywhere; or the control is not, where it should be.
async fn assert_sealed_everywhere(world: &World) {
    let pool = world.pool();
    let held = tables_with(pool, CONTROL).await;
    assert!(held.iter().any(|table| table.contains("events")), "{held:?}");
    assert!(held.iter().any(|table| table.contains("order_detail")), "{held:?}");
    let (found, messages) = messages_with(world, CONTROL).await;
    assert!(found > 0, "{messages} messages");
    for marker in MARKERS {
        assert_eq!(tables_with(pool, marker).await, [""; 0], "{marker}");
        assert_eq!(messages_with(world, marker).await.0, 0, "{marker}");
    }
    // The platform's own folder: its log, the log as a file, and whatever else it may have left there.
    let folder = world.folder();
    let export = folder.join("export.ndjson");
    let _ = std::fs::remove_file(&export);
    let file = export.to_str().unwrap();
    succeeded(&waybill(world, &["log", "export", "--format", "ndjson", "--output", file]));
    assert_eq!(files_with(folder, &[CONTROL]).iter().filter(|held| *held == file).count(), 1);
    let logs = files_with(folder, &["DEBUG"]);
    assert!(logs.iter().any(|file| file.ends_with("/waybill.log")), "{logs:?}");
    assert_eq!(files_with(folder, &MARKERS), [""; 0]);
    // The servers' folders: tables, write-ahead log, JetStream's store, their logs.
    sqlx::query("checkpoint").execute(pool).await.unwrap();
    let servers = services::folder("services");
    let held = files_with(&servers, &[CONTROL]);
    assert!(held.iter().any(|file| file.contains("/postgres/base/")), "{held:?}");
    assert_eq!(files_with(&servers, &MARKERS), [""; 0]);
}

/// What fails on its way is where plain text is most easily kept: in reasons and in logs.
async fn provoke(world: &World) {
    let mut wrong = address();
    wrong["country"] = json!("XX");
    world.post("/v1/orders", body(&wrong)).await.expect(422);
    let mut wrong = address();
    wrong["city"] = json!({ CITY: LINE1 });
    world.post("/v1/orders", body(&wrong)).await.expect(422);
    let mut wrong = address();
    wrong[NAME] = json!(EMAIL);
    world.post("/v1/orders", body(&wrong)).await.expect(422);
    // Refused by the rules, and the refusal is kept.
    let mut refused = body(&address());
    refused["lines"][0]["unit_price"]["amount"] = json!(-1);
    world.post("/v1/orders", refused).await.expect(422);
    // Refused by the carrier.
    let mut nowhere = address();
    nowhere["country"] = json!("AQ");
    nowhere["region"] = json!("AQ-ZQ7");
    let id = place(world, &nowhere).await;
    world.pack(&id).await;
    world.order_is(&id, "cancelled").await;
}

#[tokio::test]
async fn personal_data_is_sealed_in_every_store_and_gone_once_its_subject_is_erased() {
    let world = World::start_talkative().await;
    world.stock("mug", 9).await;

    let sent = place(&world, &address()).await;
    world.send_goods(&sent).await;
    let shown = world.order_is(&sent, "completed").await;
    assert_eq!(shown["shipping_address"], address());
    assert_eq!(shown["shipping_address_erased"], false);
    let shipments = world.get(&format!("/v1/orders/{sent}/shipments")).await.expect(200).body;
    assert_eq!(shipments["data"][0]["address"], address());
    assert_eq!(shipments["data"][0]["address_erased"], false);
    provoke(&world).await;
    let open = place(&world, &address()).await;
    world.fulfilment(&open).await;
    world.settle().await;
    assert_sealed_everywhere(&world).await;

    let told = succeeded(&waybill(
        &world,
        &["subjects", "erase", CUSTOMER, "--reason", "asked to", "--actor", "it", "--yes"],
    ));
    assert!(told.contains("erased"), "{told}");
    let told = succeeded(&waybill(&world, &["subjects", "show", CUSTOMER]));
    assert!(told.contains("by it: asked to"), "{told}");
    erased(&world, &sent).await;

    // What was not sent yet cannot be sent any more, and is undone like any label that is refused.
    world.pack(&open).await;
    let undone = world.order_is(&open, "cancelled").await;
    assert_eq!(undone["shipping_address"], Value::Null);
    let path = format!("/v1/orders/{open}/events?limit=200");
    let events = world.get(&path).await.expect(200).body;
    let rejected = events["data"].as_array().unwrap().iter();
    let rejected: Vec<_> =
        rejected.filter(|event| event["type"] == "shipping.label_rejected.v1").collect();
    assert_eq!(rejected.len(), 1, "{events}");
    assert_eq!(rejected[0]["data"]["code"], "address_erased");

    // Who comes back is somebody new: shown, while what was before stays erased.
    let back = place(&world, &address()).await;
    world.order_is(&back, "confirmed").await;
    assert_eq!(world.order(&back).await["shipping_address"], address());
    erased(&world, &sent).await;
    world.settle().await;
    for name in ["order_detail", "order_timeline", "shipment_tracking"] {
        let told = succeeded(&waybill(&world, &["projections", "rebuild", name]));
        assert!(told.contains("nothing changed"), "{told}");
    }
    erased(&world, &sent).await;
    assert_sealed_everywhere(&world).await;
    world.end().await;
}

/// Waits until the order and its shipments are shown without the address, also to somebody who
/// has seen this version of it before.
async fn erased(world: &World, id: &str) {
    let path = format!("/v1/orders/{id}");
    let seen = world.get(&path).await.expect(200);
    let tag = seen.header("etag").unwrap().to_owned();
    let url = format!("{}{path}", world.query_url());
    let order = until("the order to be shown without its address", || async {
        let ask = world.http().get(&url).header("If-None-Match", &tag);
        let reply = world.send(ask).await;
        (reply.body["shipping_address_erased"] == true).then_some(reply.body)
    })
    .await;
    assert_eq!(order["shipping_address"], Value::Null);
    let shipments = world.get(&format!("{path}/shipments")).await.expect(200).body;
    assert_eq!(shipments["data"][0]["address"], Value::Null);
    assert_eq!(shipments["data"][0]["address_erased"], true);
}

#[tokio::test]
async fn erasing_somebody_unknown_or_unasked_does_nothing_and_says_so() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let unknown = ["subjects", "erase", CUSTOMER, "--reason", "asked to", "--yes"];
    let output = waybill(&world, &unknown);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let unasked = waybill(&world, &unknown[..5]);
    assert_eq!(unasked.status.code(), Some(2), "{unasked:?}");
    assert_eq!(waybill(&world, &["subjects", "show", CUSTOMER]).status.code(), Some(1));
    world.end().await;
}

#[tokio::test]
async fn a_role_with_a_wrong_master_key_does_not_start() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let master = event_store::MasterKey::generate(schemas::Chance::system());
    let start = |key: &str| {
        Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
            .args(["query-api", "--database-url", world.database_url()])
            .args(["--query-addr", "127.0.0.1:0", "--allow-owner"])
            .env("WAYBILL_MASTER_KEY", key)
            .env("WAYBILL_JWKS", crate::tokens::issuer(7).key_set())
            .output()
            .unwrap()
    };
    for (key, why) in [
        (master.as_str(), "is not the one that personal data is kept under"),
        ("c2hvcnQ=", "32 bytes as base64"),
        ("", "needs a master key"),
    ] {
        let output = start(key);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(key.is_empty() || !said.contains(key), "{said}");
    }
    world.end().await;
}
