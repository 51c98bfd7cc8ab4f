//! Who may do what: every route of both APIs is asked as nobody, with tokens that are no good, and
//! as the wrong customer.
//!
//! The routes are those that the routers are made of: one that is added is walked by itself, and
//! one that does not say who may call it does not compile.

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use web::{Access, Grant, Operation};

use crate::tokens::{in_hours, issuer, issuer_of, of_nobody, scopes, token};
use crate::world::{Reply, World, key, order, until};

/// Whose order it is; the order of the tests is theirs.
const OWNER: &str = "usr_0197b0c0000070008000000000000001";
const OTHER: &str = "usr_0197b0c0000070008000000000000009";

/// A route, and how to ask for what it is about here.
struct Route {
    operation: Operation,
    url: String,
}

/// What there is to be asked about.
struct Scene {
    world: World,
    routes: Vec<Route>,
}

impl Scene {
    async fn start() -> Self {
        let world = World::start().await;
        world.stock("mug", 10).await;
        let id = world.place(&[("mug", 1)], "pm_card_visa").await;
        let shown = world.order(&id).await;
        let fulfilment = world.fulfilment(&id).await;
        let last = |link: &str| {
            let link = shown["links"][link].as_str().unwrap();
            link.rsplit_once('/').unwrap().1.to_owned()
        };
        let named = [
            ("order_id", id.clone()),
            ("payment_id", last("payment")),
            ("saga_id", last("saga")),
            ("customer_id", OWNER.to_owned()),
            ("fulfilment_id", fulfilment),
            ("sku", "mug".to_owned()),
            ("fingerprint", "00c0ffee00c0ffee".to_owned()),
            ("category", "order".to_owned()),
            ("id", id.replace("ord_", "")),
        ];
        let commands = command_api::operations().into_iter();
        let commands = commands.map(|operation| (world.command_url(), operation));
        let queries = query_api::operations().into_iter();
        let queries = queries.map(|operation| (world.query_url(), operation));
        let routes = commands.chain(queries).map(|(base, operation)| {
            let mut path = operation.pattern().to_owned();
            for (name, value) in &named {
                path = path.replace(&format!("{{{name}}}"), value);
            }
            assert!(!path.contains('{'), "{path}: say what the test is to ask for");
            Route { operation, url: format!("{base}{path}") }
        });
        let routes = routes.collect();
        Self { world, routes }
    }

    fn request(&self, Route { operation, url }: &Route, token: Option<&str>) -> RequestBuilder {
        let http = self.world.stranger();
        let request = if operation.is_post() {
            let body = operation.example().cloned().unwrap_or_default();
            let request = http.post(url).header("Idempotency-Key", key());
            // Nothing is changed by it: no version is that high.
            request.header("If-Match", "\"1000000\"").json(&body)
        } else {
            http.get(url)
        };
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn ask(&self, route: &Route, token: Option<&str>) -> Reply {
        self.world.send(self.request(route, token)).await
    }

    /// Every route with the scope that it asks for.
    fn guarded(&self) -> impl Iterator<Item = (&Route, &'static str)> {
        self.routes.iter().filter_map(|route| Some((route, route.operation.access().scope()?)))
    }
}

fn named(route: &Route) -> String {
    format!("{} {}", route.operation.name(), route.url)
}

#[tokio::test]
async fn no_route_is_open_to_whom_it_is_not_for() {
    let scene = Scene::start().await;
    let ours = issuer_of(scene.world.folder());
    let all = scopes();
    let grant = Grant { subject: "tester", customer: None, scopes: &all, expires_at: in_hours(1) };
    let expired = ours.issue(&Grant { expires_at: in_hours(-1), ..grant });
    let forged = issuer(8).issue(&grant);
    let (head, _) = forged.rsplit_once('.').unwrap();
    let crossed = format!("{head}.{}", ours.issue(&grant).rsplit_once('.').unwrap().1);
    for route in &scene.routes {
        let nobody = scene.ask(route, None).await.expect(401);
        let signed = route.operation.access() == Access::Signature;
        let code = if signed { "signature_invalid" } else { "unauthorised" };
        assert_eq!(nobody.body["code"], code, "{}", named(route));
    }
    for (route, scope) in scene.guarded() {
        for bad in [&expired, &forged, &crossed, "guess", ""] {
            let reply = scene.ask(route, Some(bad)).await.expect(401);
            assert_eq!(reply.body["code"], "unauthorised", "{}", named(route));
            assert_eq!(reply.header("WWW-Authenticate"), Some("Bearer"), "{}", named(route));
        }
        let others: Vec<_> = all.iter().copied().filter(|other| *other != scope).collect();
        let reply = scene.ask(route, Some(&token(&ours, None, &others))).await.expect(403);
        let asked = reply.header("WWW-Authenticate").unwrap();
        assert!(asked.contains(&format!("scope=\"{scope}\"")), "{}: {asked}", named(route));
        let only = token(&ours, None, &[scope]);
        // A stream goes on for ever, and its head is enough.
        let reply = scene.request(route, Some(&only)).send().await.unwrap();
        assert!(![401, 403].contains(&reply.status().as_u16()), "{}: {reply:?}", named(route));
    }
    scene.world.end().await;
}

#[tokio::test]
async fn customers_see_what_is_theirs_and_nothing_else() {
    let scene = Scene::start().await;
    let ours = issuer_of(scene.world.folder());
    let all = scopes();
    let (own, other) = (token(&ours, Some(OWNER), &all), token(&ours, Some(OTHER), &all));
    for (route, _) in scene.guarded() {
        let name = route.operation.name();
        if let Access::Staff(_) = route.operation.access() {
            scene.ask(route, Some(&own)).await.expect(403);
            continue;
        }
        let (mine, theirs) =
            (scene.ask(route, Some(&own)).await, scene.ask(route, Some(&other)).await);
        let statuses = (mine.status.as_u16(), theirs.status.as_u16());
        match name {
            "placeOrder" => assert_eq!(statuses, (412, 403), "{}", named(route)),
            "cancelOrder" | "replacePaymentMethod" => {
                assert_eq!(statuses, (412, 404), "{}", named(route));
            }
            // The payments of which order is for them to say.
            "listPayments" => assert_eq!(statuses, (403, 403), "{}", named(route)),
            "listOrders" => {
                assert_eq!(statuses, (200, 200), "{}", named(route));
                assert_eq!(theirs.body["data"], json!([]), "{}", theirs.body);
                assert_eq!(mine.body["data"][0]["customer"], OWNER, "{}", mine.body);
            }
            _ => assert_eq!(statuses, (200, 404), "{}: {}", named(route), theirs.body),
        }
    }
    lists(&scene, &own, &other).await;
    streams(&scene, &other).await;
    scene.world.end().await;
}

/// What a list is asked for is looked at as well.
async fn lists(scene: &Scene, own: &str, other: &str) {
    let order = scene.routes.iter().find(|route| route.operation.name() == "getOrder").unwrap();
    let order = order.url.rsplit_once('/').unwrap().1;
    for (path, mine, theirs) in [
        (format!("/v1/orders?filter[customer]={OWNER}"), 200, 404),
        (format!("/v1/payments?filter[order]={order}"), 200, 404),
        ("/v1/orders?filter[sku]=mug".to_owned(), 403, 403),
        (format!("/v1/orders?filter[q]={order}"), 403, 403),
    ] {
        let url = format!("{}{path}", scene.world.query_url());
        for (token, status) in [(own, mine), (other, theirs)] {
            let request = scene.world.stranger().get(&url).bearer_auth(token);
            let reply = scene.world.send(request).await;
            assert_eq!(reply.status.as_u16(), status, "{path}: {}", reply.body);
        }
    }
}

/// What is told as it happens is nobody else's either.
async fn streams(scene: &Scene, other: &str) {
    let events = |route: &&Route| route.operation.name() == "getOrderEvents";
    let route = scene.routes.iter().find(events).unwrap();
    let request = scene.request(route, Some(other)).header("Accept", "text/event-stream");
    scene.world.send(request).await.expect(404);
}

#[tokio::test]
async fn a_customer_orders_for_themselves_and_is_told_so_by_their_token() {
    let world = World::start().await;
    world.stock("mug", 10).await;
    let token = world.token_for(Some(OTHER), &["orders:read", "orders:write", "prices:write"]);
    let http = world.stranger();
    let place = |token: &str, body: &Value| {
        let url = format!("{}/v1/orders", world.command_url());
        http.post(url).header("Idempotency-Key", key()).bearer_auth(token).json(body)
    };
    let mut body = order(&[("mug", 1)], "pm_card_visa");
    let reply = world.send(place(&token, &body)).await.expect(403);
    assert_eq!(reply.body["errors"][0]["pointer"], "#/customer");
    body["customer"] = json!(OTHER);
    // What it costs is not theirs to say, whatever they may do with orders.
    let priceless = world.token_for(Some(OTHER), &["orders:*", "staff"]);
    let reply = world.send(place(&priceless, &body)).await.expect(403);
    assert_eq!(reply.body["errors"][0]["pointer"], "#/lines");
    let placed = world.send(place(&token, &body)).await.expect(201).body;
    let events = placed["links"]["events"].as_str().unwrap();
    let first = world.get_until(events, |page| page["data"].get(0).cloned()).await;
    assert_eq!(first["actor"], "customer");
    let order = placed["id"].as_str().unwrap();
    what_the_house_does(&world, &token, order, events).await;
    let cancel = || {
        let url = format!("{}/v1/orders/{order}/cancel", world.command_url());
        let request = http.post(url).header("Idempotency-Key", key()).bearer_auth(&token);
        request.json(&json!({ "reason": "customer" }))
    };
    world.send(cancel()).await.expect(202);
    world.order_is(order, "cancelled").await;
    world.end().await;
}

/// Whatever staff and sagas do about an order, its customer sees that it was done.
async fn what_the_house_does(world: &World, token: &str, order: &str, events: &str) {
    let http = world.stranger();
    world
        .post(&format!("/v1/orders/{order}/hold"), json!({ "reason": "address" }))
        .await
        .expect(200);
    let timeline = format!("{}{events}", world.query_url());
    let shown = until("the hold", || async {
        let page = world.send(http.get(&timeline).bearer_auth(token)).await.expect(200).body;
        let told = page["data"].as_array().unwrap().clone();
        let held = told.iter().any(|event| event["type"] == "order.held.v1");
        let saga = told.iter().any(|event| event["type"] == "saga.command_issued.v1");
        (held && saga).then_some(told)
    })
    .await;
    let staff = world.get(events).await.expect(200).body;
    let all = staff["data"].as_array().unwrap();
    assert!(all.iter().any(|event| event["actor"] == "developer"), "{staff}");
    for event in &shown {
        assert!(event["actor"] == "customer" || event["actor"] == "waybill", "{event}");
        assert!(event["traceparent"].is_null(), "{event}");
        let ours = event["type"].as_str().unwrap().starts_with("saga.");
        assert!(!ours || event["data"].is_null(), "{event}");
    }
    let mut live = http.get(&timeline).bearer_auth(token).header("Accept", "text/event-stream");
    live = live.header("Last-Event-ID", "0");
    let mut live = live.send().await.unwrap();
    let mut heard = String::new();
    while !heard.contains("order.held.v1") || !heard.ends_with("\n\n") {
        heard.push_str(std::str::from_utf8(&live.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert!(heard.contains(r#""actor":"waybill""#) && !heard.contains("developer"), "{heard}");
    world.post(&format!("/v1/orders/{order}/release"), json!({})).await.expect(200);
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_when_to_come_back() {
    let world = World::start_with(&["--rate-limits", "projections=3"]).await;
    world.stock("mug", 1).await;
    let path = format!("{}/v1/projections", world.query_url());
    let ask = async |token: &str| world.send(world.stranger().get(&path).bearer_auth(token)).await;
    let token = world.token_for(None, &["ops:read"]);
    let refused = until("one request too many", || async {
        let reply = ask(&token).await;
        assert_eq!(reply.header("RateLimit-Policy"), Some("\"projections\";q=3;w=60"));
        (reply.status == 429).then_some(reply)
    })
    .await;
    assert_eq!(refused.body["code"], "rate_limited");
    assert!(refused.header("Retry-After").is_some());
    // The limit is the caller's, and no other's.
    let own = world.token();
    assert_eq!(
        ask(&own).await.header("RateLimit").unwrap().get(..18),
        Some("\"projections\";r=2;")
    );
    world.end().await;
}

/// A token that says neither whose it is nor that it is staff's opens nothing.
#[tokio::test]
async fn who_is_staff_says_so() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let url = format!("{}/v1/orders?filter[customer]={OWNER}", world.query_url());
    let ask = async |token: &str| world.send(world.stranger().get(&url).bearer_auth(token)).await;
    ask(&world.token_for(None, &["orders:read"])).await.expect(200);
    let nobody = ask(&of_nobody(world.folder(), "orders:read")).await.expect(403);
    assert!(nobody.header("WWW-Authenticate").unwrap().contains("scope=\"staff\""));
    world.end().await;
}

/// Whoever calls itself what the platform does leaves no trace under that name.
#[tokio::test]
async fn no_token_acts_in_the_name_of_the_platform() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let issuer = issuer_of(world.folder());
    for subject in ["saga", "carrier-adapter", "saga/order-fulfilment", "System"] {
        let grant = Grant { subject, customer: None, scopes: &scopes(), expires_at: in_hours(1) };
        let token = issuer.issue(&grant);
        for (path, body) in [
            ("/v1/stock/mug/receive", json!({ "quantity": 1 })),
            ("/v1/parked/00c0ffee00c0ffee/drop", json!({ "reason": "nobody needs them" })),
        ] {
            let request = world.stranger().post(format!("{}{path}", world.command_url()));
            let request = request.header("Idempotency-Key", key()).bearer_auth(&token);
            let reply = world.send(request.json(&body)).await.expect(403);
            assert_eq!(reply.body["code"], "forbidden", "{subject} {path}");
        }
    }
    world.end().await;
}

/// Whoever guesses tokens is told to wait, before anybody looks at what they bring; who is known
/// goes on.
#[tokio::test]
async fn a_flood_of_bad_tokens_is_stopped_at_its_address() {
    let world = World::start_with(&["--rate-limits", "bad-tokens=3"]).await;
    world.stock("mug", 1).await;
    let url = format!("{}/v1/projections", world.query_url());
    let ask = async |token: &str| world.send(world.stranger().get(&url).bearer_auth(token)).await;
    let known = world.token();
    ask(&known).await.expect(200);
    let forged = token(&issuer(8), None, &["ops:read"]);
    let refused = until("one guess too many", || async {
        let reply = ask(&forged).await;
        assert!([401, 429].contains(&reply.status.as_u16()), "{}", reply.body);
        (reply.status == 429).then_some(reply)
    })
    .await;
    assert_eq!(refused.body["code"], "rate_limited");
    assert!(refused.header("Retry-After").is_some());
    ask(&known).await.expect(200);
    world.end().await;
}

/// A stream that was begun ends when its token does.
#[tokio::test]
async fn an_event_stream_ends_with_its_token() {
    let world = World::start().await;
    world.stock("mug", 1).await;
    let issuer = issuer_of(world.folder());
    let url = format!("{}/v1/events/stream", world.query_url());
    let told = until("a stream that is begun in time", || async {
        // Clocks may be 30 s apart, so this one is good for some seconds.
        let expires_at = in_hours(0) - 27;
        let scopes = ["ops:read"].as_slice();
        let grant = Grant { subject: "tester", customer: None, scopes, expires_at };
        let request = world.stranger().get(&url).bearer_auth(issuer.issue(&grant));
        let answer = request.header("Accept", "text/event-stream").send().await.unwrap();
        if answer.status() == 401 {
            return None;
        }
        assert_eq!(answer.status(), 200);
        Some(answer.text().await.unwrap())
    })
    .await;
    assert!(told.contains("event: expired\n") && told.ends_with("\n\n"), "{told}");
    world.end().await;
}

#[test]
fn a_webhook_secret_that_is_empty_is_refused() {
    for option in ["--payment-webhook-secret", "--carrier-webhook-secret"] {
        for empty in ["", " "] {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
                .args(["command-api", option, empty])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(option) && !said.contains("DATABASE_URL"), "{said}");
        }
    }
}

#[test]
fn a_platform_that_issues_tokens_to_itself_is_not_reached_by_others() {
    for option in ["--command-addr", "--query-addr", "--payment-addr", "--carrier-addr"] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
            .args(["up", "--data-dir", "/nowhere", option, "0.0.0.0:0"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(option) && said.contains("--jwks"), "{said}");
    }
}
