//! What no endpoint takes: every refusal is a problem that says where the fault lies, and none
//! leaves a trace in the log.

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::world::{World, key, order};

const ORDER: &str = "ord_0197b0c0000070008000000000000001";
const FULFILMENT: &str = "ful_0197b0c0000070008000000000000001";

/// An endpoint that changes something, and a body that it takes.
struct Endpoint {
    path: String,
    good: String,
    /// More than the most bytes that it reads.
    huge_bytes: usize,
}

fn endpoints() -> [Endpoint; 7] {
    let endpoint =
        |path: String, good: &str| Endpoint { path, good: good.to_owned(), huge_bytes: 70_000 };
    let place = order(&[("mug", 2)], "pm_card_visa").to_string();
    [
        Endpoint { huge_bytes: 600_000, ..endpoint("/v1/orders".to_owned(), &place) },
        endpoint(format!("/v1/orders/{ORDER}/cancel"), r#"{"reason":"customer"}"#),
        endpoint("/v1/stock/mug/receive".to_owned(), r#"{"quantity":1}"#),
        endpoint("/v1/stock/mug/adjust".to_owned(), r#"{"delta":1,"reason":"counted"}"#),
        endpoint(format!("/v1/fulfilment-orders/{FULFILMENT}/pack"), "{}"),
        endpoint(format!("/v1/fulfilment-orders/{FULFILMENT}/hand-over"), "{}"),
        endpoint("/v1/stock/mug/expect".to_owned(), r#"{"quantity":1,"reference":"PO-1"}"#),
    ]
}

fn post(world: &World, path: &str, body: impl Into<String>) -> RequestBuilder {
    world
        .http()
        .post(format!("{}{path}", world.command_url()))
        .header("Idempotency-Key", key())
        .header(CONTENT_TYPE, "application/json")
        .body(body.into())
}

/// Sends it and expects this refusal. `at` is the pointer or parameter of the first error, or
/// nothing where the request as a whole is wrong.
async fn refused(world: &World, request: RequestBuilder, status: u16, code: &str, at: &str) {
    let (client, request) = request.build_split();
    let request = request.unwrap();
    let named = format!("{} {}", request.method(), request.url());
    let reply = world.send(RequestBuilder::from_parts(client, request)).await;
    let problem = &reply.body;
    assert_eq!(
        (reply.status.as_u16(), &problem["code"]),
        (status, &Value::from(code)),
        "{named}: {problem}"
    );
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{named}");
    assert_eq!(problem["status"], status, "{named}: {problem}");
    for member in ["type", "title", "detail", "instance", "request_id"] {
        assert!(problem[member].is_string(), "{named} names no {member}: {problem}");
    }
    assert_eq!(problem["request_id"].as_str(), reply.header("x-request-id"), "{named}");
    let error = &problem["errors"][0];
    let found = error["pointer"].as_str().or_else(|| error["parameter"].as_str());
    let found = found.unwrap_or_default();
    assert_eq!(found, at, "{named}: {problem}");
}

async fn events(world: &World) -> i64 {
    sqlx::query_scalar("select count(*) from events").fetch_one(world.pool()).await.unwrap()
}

#[tokio::test]
async fn bad_commands_are_refused_and_leave_no_trace() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let before = events(&world).await;
    for endpoint in endpoints() {
        keys(&world, &endpoint).await;
        headers(&world, &endpoint).await;
        bodies(&world, &endpoint).await;
    }
    values(&world).await;
    ids(&world).await;
    callers(&world).await;
    webhooks(&world).await;
    methods(&world).await;
    assert_eq!(events(&world).await, before, "a refused command left something in the log");
    world.end().await;
}

async fn keys(world: &World, Endpoint { path, good, .. }: &Endpoint) {
    let request = || {
        let request = world.http().post(format!("{}{path}", world.command_url()));
        request.header(CONTENT_TYPE, "application/json").body(good.clone())
    };
    refused(world, request(), 400, "idempotency_key_required", "").await;
    let name = "Idempotency-Key";
    for bad in ["", "\"\"", "\"open", "two words", "a\"b", "\"a\\n\"", &"x".repeat(256)] {
        refused(world, request().header(name, bad), 400, "invalid_header", name).await;
    }
    let bytes = HeaderValue::from_bytes(b"\xff\xfe").unwrap();
    refused(world, request().header(name, bytes), 400, "invalid_header", name).await;
    let twice = request().header(name, "a").header(name, "b");
    refused(world, twice, 400, "invalid_header", name).await;
}

async fn headers(world: &World, Endpoint { path, good, .. }: &Endpoint) {
    let code = "unsupported_media_type";
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("")] {
        let request = world.http().post(format!("{}{path}", world.command_url()));
        let request = request.header("Idempotency-Key", key()).body(good.clone());
        let request = match kind {
            Some(kind) => request.header(CONTENT_TYPE, kind),
            None => request,
        };
        refused(world, request, 415, code, "").await;
    }
    for bad in ["3", "\"3", "\"1\", \"2\""] {
        let request = post(world, path, good.clone()).header("If-Match", bad);
        refused(world, request, 400, "invalid_header", "If-Match").await;
    }
    let request = post(world, path, good.clone()).header("Authorization", "Bearer guessed");
    refused(world, request, 401, "unauthorised", "").await;
}

async fn bodies(world: &World, endpoint: &Endpoint) {
    let Endpoint { path, good, huge_bytes } = endpoint;
    let malformed = ["{", "nope", "{\"a\":}", "{'a':1}", "{}{}", "\u{feff}{}", "{\"a\":\"\0\"}"];
    for body in malformed {
        refused(world, post(world, path, body), 400, "malformed_json", "").await;
    }
    let not_utf8 = post(world, path, "").body(b"{\"a\":\"\xff\"}".to_vec());
    let reply = world.send(not_utf8).await;
    assert!(matches!(reply.status.as_u16(), 400 | 422), "{path}: {}", reply.body);
    if good != "{}" {
        refused(world, post(world, path, ""), 400, "malformed_json", "").await;
    }
    let misfit = "validation_failed";
    for body in ["[]", "[{}]", "\"text\"", "7", "true"] {
        refused(world, post(world, path, body), 422, misfit, "#").await;
    }
    refused(world, post(world, path, "null"), 422, misfit, "#").await;
    let with = |member: &str| match good.as_str() {
        "{}" => format!("{{{member}}}"),
        good => good.replacen('{', &format!("{{{member},"), 1),
    };
    let unknown = with("\"surprise\":1");
    refused(world, post(world, path, unknown), 422, misfit, "#/surprise").await;
    let nul = with(r#""surprise":"a\u0000b""#);
    refused(world, post(world, path, nul), 422, misfit, "#/surprise").await;
    let (open, close) = ("[".repeat(30_000), "]".repeat(30_000));
    let deep = with(&format!("\"surprise\":{open}{close}"));
    refused(world, post(world, path, deep), 422, misfit, "#/surprise").await;
    let deep = "{\"a\":".repeat(10_000);
    refused(world, post(world, path, deep), 400, "malformed_json", "").await;
    let huge = with(&format!("\"surprise\":\"{}\"", "x".repeat(*huge_bytes)));
    refused(world, post(world, path, huge), 413, "body_too_large", "").await;
}

/// Changes `good` in one place and expects the fault to be found there.
async fn changed(world: &World, path: &str, good: &str, change: [&str; 2], code: &str, at: &str) {
    let [from, to] = change;
    assert!(good.contains(from), "{from} is not in {good}");
    let request = post(world, path, good.replacen(from, to, 1));
    refused(world, request, 422, code, at).await;
}

async fn values(world: &World) {
    let [place, cancel, receive, adjust, ..] = endpoints();
    let misfit = "validation_failed";
    let title = &format!("\"{}\"", "x".repeat(201));
    let cases: [(&Endpoint, &str, &str, &str); 41] = [
        (&place, "usr_", "ord_", "#/customer"),
        (&place, "\"usr_0197b0c0000070008000000000000001\"", "7", "#/customer"),
        (&place, "\"customer\"", "\"client\"", "#/client"),
        (&place, "\"quantity\":2", "\"quantity\":481.0", "#/lines/0/quantity"),
        (&place, "\"quantity\":2", "\"quantity\":0", "#/lines/0/quantity"),
        (&place, "\"quantity\":2", "\"quantity\":-1", "#/lines/0/quantity"),
        (&place, "\"quantity\":2", "\"quantity\":1e3", "#/lines/0/quantity"),
        (&place, "\"quantity\":2", "\"quantity\":1000000", "#/lines/0/quantity"),
        (&place, "\"quantity\":2", "\"quantity\":\"2\"", "#/lines/0/quantity"),
        (&place, "\"quantity\":2", "\"quantity\":null", "#/lines/0/quantity"),
        (&place, "\"quantity\":2", "\"quantity\":[2]", "#/lines/0/quantity"),
        (&place, "1250", "12.50", "#/lines/0/unit_price/amount"),
        (&place, "1250", "481.0", "#/lines/0/unit_price/amount"),
        (&place, "1250", "99999999999999999999", "#/lines/0/unit_price/amount"),
        (&place, "\"EUR\"", "\"eur\"", "#/lines/0/unit_price/currency"),
        (&place, "\"EUR\"", "\"XXQ\"", "#/lines/0/unit_price/currency"),
        (&place, "\"EUR\"", "978", "#/lines/0/unit_price/currency"),
        (&place, "\"mug\"", "\"a mug\"", "#/lines/0/sku"),
        (&place, "\"mug\"", "\"\"", "#/lines/0/sku"),
        (&place, "\"One mug\"", title, "#/lines/0/title"),
        (&place, "\"One mug\"", "\"a\\nb\"", "#/lines/0/title"),
        (&place, "\"One mug\"", "\"a\\u0000b\"", "#/lines/0/title"),
        (&place, "\"title\"", "\"name\"", "#/lines/0/name"),
        (&place, "\"DE\"", "\"Germany\"", "#/shipping_address"),
        (&place, "\"DE\"", "\"US\"", "#/shipping_address"),
        (&place, "\"Berlin\"", "7", "#/shipping_address/city"),
        (&place, "\"pm_card_visa\"", "\"\"", "#/payment_method"),
        (&place, "{", "{\"placed_at\":\"yesterday\",", "#/placed_at"),
        (&cancel, "\"customer\"", "\"whim\"", "#/reason"),
        (&cancel, "\"customer\"", "1", "#/reason"),
        (&cancel, "\"reason\"", "\"why\"", "#/why"),
        (&receive, "1", "481.0", "#/quantity"),
        (&receive, "1", "0", "#/quantity"),
        (&receive, "1", "\"1\"", "#/quantity"),
        (&receive, "1", "1,\"reference\":\"\"", "#/reference"),
        (&receive, "\"quantity\":1", "", "#/quantity"),
        (&receive, "1", "1,\"quantity\":2", "#/quantity"),
        (&adjust, "1", "481.0", "#/delta"),
        (&adjust, "1", "2147483648", "#/delta"),
        (&adjust, "\"counted\"", "\"\\u0007\"", "#/reason"),
        (&adjust, "\"counted\"", "null", "#/reason"),
    ];
    for (Endpoint { path, good, .. }, from, to, at) in cases {
        changed(world, path, good, [from, to], misfit, at).await;
    }
    let Endpoint { path, good, .. } = &place;
    let line = &good[good.find("[{").unwrap() + 1..=good.find("}]").unwrap()];
    let many = vec![line; 251].join(",");
    let dollar = format!("{line},{}", line.replace("EUR", "USD"));
    let (amount, currency) = ("#/lines/0/unit_price/amount", "#/lines/1/unit_price/currency");
    changed(world, path, good, [line, ""], "empty_order", "#/lines").await;
    changed(world, path, good, [line, &many], "too_many_lines", "#/lines").await;
    changed(world, path, good, [line, &dollar], "currency_mismatch", currency).await;
    changed(world, path, good, ["1250", "-1"], "negative_price", amount).await;
    let most = i64::MAX.to_string();
    changed(world, path, good, ["1250", &most], "money_overflow", "#/lines").await;
}

async fn ids(world: &World) {
    let long = "x".repeat(65);
    for (path, body, parameter) in [
        ("/v1/orders/ord_7/cancel", r#"{"reason":"customer"}"#, "order_id"),
        ("/v1/orders/%00/cancel", r#"{"reason":"customer"}"#, "order_id"),
        ("/v1/stock/a%20mug/receive", r#"{"quantity":1}"#, "sku"),
        ("/v1/stock/%F0%9F%98%80/receive", r#"{"quantity":1}"#, "sku"),
        (&format!("/v1/stock/{long}/adjust"), r#"{"delta":1,"reason":"counted"}"#, "sku"),
        (&format!("/v1/fulfilment-orders/{ORDER}/pack"), "{}", "fulfilment_id"),
        ("/v1/fulfilment-orders/ful_/hand-over", "{}", "fulfilment_id"),
    ] {
        refused(world, post(world, path, body), 400, "invalid_id", parameter).await;
    }
    let half = r#"{"delta":1,"reason":"\ud800"}"#; // Of a surrogate pair.
    let half = post(world, "/v1/stock/mug/adjust", half);
    refused(world, half, 422, "validation_failed", "#/reason").await;
    // The id of a stream of another category is nobody's here.
    let sku = "select stream_id from streams where category = 'inventory' limit 1";
    let sku: uuid::Uuid = sqlx::query_scalar(sku).fetch_one(world.pool()).await.unwrap();
    for (path, body) in [
        (format!("/v1/orders/ord_{}/cancel", sku.simple()), r#"{"reason":"customer"}"#),
        (format!("/v1/fulfilment-orders/ful_{}/pack", sku.simple()), "{}"),
    ] {
        refused(world, post(world, &path, body), 404, "not_found", "").await;
    }
    for Endpoint { path, good, .. } in endpoints().into_iter().filter(|e| e.path.contains('_')) {
        refused(world, post(world, &path, good), 404, "not_found", "").await;
    }
}

async fn callers(world: &World) {
    let Endpoint { path, good, .. } = &endpoints()[0];
    let dated = |at: &str| good.replacen('{', &format!("{{\"placed_at\":\"{at}\","), 1);
    let past = post(world, path, dated("1997-01-01T00:00:00Z"));
    let past = past.bearer_auth(world.token_for(None, &["orders:write"]));
    refused(world, past, 403, "forbidden", "#/placed_at").await;
    let future = post(world, path, dated("2999-01-01T00:00:00Z"));
    refused(world, future, 422, "validation_failed", "#/placed_at").await;
}

async fn webhooks(world: &World) {
    let body = r#"{"id":"evt_1","type":"payment_intent.succeeded","data":{"object":{}}}"#;
    for (path, header, signatures) in [
        (
            "/v1/webhooks/payments",
            "stripe-signature",
            ["", "t=1,v1=00", "v1=00", "t=99999999999,v1=zz"],
        ),
        (
            "/v1/webhooks/carrier",
            "x-hmac-signature",
            ["", "hmac-sha256-hex=", "hmac-sha256-hex=00", "00"],
        ),
    ] {
        let request = || {
            let request = world.http().post(format!("{}{path}", world.command_url()));
            request.header(CONTENT_TYPE, "application/json")
        };
        refused(world, request().body(body), 401, "signature_invalid", "").await;
        for signature in signatures {
            let signed = request().header(header, signature).body(body);
            refused(world, signed, 401, "signature_invalid", "").await;
        }
        let huge = request().body("x".repeat(70_000));
        refused(world, huge, 413, "body_too_large", "").await;
    }
}

async fn methods(world: &World) {
    let webhooks = ["/v1/webhooks/payments", "/v1/webhooks/carrier"].map(str::to_owned);
    for path in endpoints().map(|endpoint| endpoint.path).into_iter().chain(webhooks) {
        for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
            let url = format!("{}{path}", world.command_url());
            refused(world, world.http().request(method, url), 405, "method_not_allowed", "").await;
        }
    }
    for path in ["/", "/v1", "/v1/order", "/v1/orders/", "/v2/orders", "//v1/orders"] {
        refused(world, post(world, path, "{}"), 404, "not_found", "").await;
    }
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    let world = World::start().await;
    let name = key();
    let body = order(&[("mug", 1)], "pm_card_visa");
    let first = world.post_as(&name, "/v1/orders", body.clone()).await.expect(201);
    let again = world.post_as(&name, "/v1/orders", body).await.expect(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(first.body, again.body);
    for header in ["location", "etag", "commit-position"] {
        assert!(first.header(header).is_some(), "{header}");
        assert_eq!(first.header(header), again.header(header));
    }
    let other = order(&[("mug", 2)], "pm_card_visa");
    let other = world.post_request(&name, "/v1/orders", &other);
    refused(&world, other, 422, "idempotency_key_reused", "").await;

    let empty = order(&[], "pm_card_visa");
    let name = key();
    let first = world.post_as(&name, "/v1/orders", empty.clone()).await.expect(422);
    let again = world.post_as(&name, "/v1/orders", empty).await.expect(422);
    assert_eq!(first.body["code"], again.body["code"]);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    world.end().await;
}

#[tokio::test]
async fn if_match_names_the_version_that_is_meant() {
    let world = World::start().await;
    let receive = |version: &str| {
        let request = post(&world, "/v1/stock/mug/receive", r#"{"quantity":1}"#);
        request.header("If-Match", version.to_owned())
    };
    let first = world.send(receive("*")).await.expect(200);
    assert_eq!(first.header("etag"), Some("\"1\""));
    for stale in ["\"0\"", "\"2\"", "W/\"1\"", "\"another\""] {
        let reply = world.send(receive(stale)).await.expect(412);
        assert_eq!(reply.body["code"], "version_conflict", "{}", reply.body);
        assert_eq!(reply.body["current_version"], 1, "{}", reply.body);
    }
    let second = world.send(receive("\"1\"")).await.expect(200);
    assert_eq!(second.body["version"], 2);
    world.end().await;
}

#[tokio::test]
async fn bad_queries_are_refused() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let get = |path: &str| world.http().get(format!("{}{path}", world.query_url()));
    for (query, parameter) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.0", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limits=1", "limits"),
        ("filter[colour]=red", "filter[colour]"),
        ("filter[customer]=ada", "filter[customer]"),
    ] {
        let request = get(&format!("/v1/orders?{query}"));
        refused(&world, request, 400, "invalid_parameter", parameter).await;
    }
    for query in ["filter[status]=lost", "sort=colour", "filter[placed_at][gte]=soon", "sort=%00"] {
        let reply = world.send(get(&format!("/v1/orders?{query}"))).await.expect(400);
        assert!(reply.body["errors"][0]["parameter"].is_string(), "{query}: {}", reply.body);
    }
    for cursor in ["zz", "00", &"ab".repeat(200), &"0".repeat(2000)] {
        let request = get(&format!("/v1/orders?cursor={cursor}"));
        refused(&world, request, 400, "cursor_mismatch", "cursor").await;
    }
    for path in [
        "/v1/orders/ord_7",
        "/v1/orders/ord_7/events",
        "/v1/orders/pay_0197b0c0000070008000000000000001/shipments",
        "/v1/stock/a%20mug",
        "/v1/payments/x",
        "/v1/sagas/%00",
    ] {
        let reply = world.send(get(path)).await.expect(400);
        assert_eq!(reply.body["code"], "invalid_id", "{path}: {}", reply.body);
    }
    for path in ["/v1/orders/ord_", "/v1/payments/pay_", "/v1/sagas/sag_"] {
        let request = get(&format!("{path}0197b0c0000070008000000000000001"));
        refused(&world, request, 404, "not_found", "").await;
    }
    for bad in ["-1", "1.0", "x", "99999999999999999999"] {
        let request = get("/v1/orders").header("Min-Position", bad);
        refused(&world, request, 400, "invalid_header", "Min-Position").await;
    }
    let request = world.http().delete(format!("{}/v1/orders", world.query_url()));
    refused(&world, request, 405, "method_not_allowed", "").await;
    refused(&world, get("/v1/nothing"), 404, "not_found", "").await;
    world.end().await;
}
