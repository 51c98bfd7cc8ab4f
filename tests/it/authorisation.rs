//! Who may do what: every route of both APIs is asked as nobody, with tokens that are no good, and
//! as the wrong customer.
//!
//! The routes are those that the routers are made of: one that is added is walked by itself, and
//! one that does not say who may call it does not compile.

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use web::{Access, Grant, Operation};

use crate::tokens::{in_hours, issuer, issuer_of, scopes, token};
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
    let token = world.token_for(Some(OTHER), &["orders:read", "orders:write"]);
    let http = world.stranger();
    let place = |body: Value| {
        let url = format!("{}/v1/orders", world.command_url());
        http.post(url).header("Idempotency-Key", key()).bearer_auth(&token).json(&body)
    };
    let body = order(&[("mug", 1)], "pm_card_visa");
    let reply = world.send(place(body.clone())).await.expect(403);
    assert_eq!(reply.body["errors"][0]["pointer"], "#/customer");
    let mut body = body;
    body["customer"] = json!(OTHER);
    let placed = world.send(place(body)).await.expect(201).body;
    let events = placed["links"]["events"].as_str().unwrap();
    let first = world.get_until(events, |page| page["data"].get(0).cloned()).await;
    assert_eq!(first["actor"], "customer");
    let cancel =
        format!("{}/v1/orders/{}/cancel", world.command_url(), placed["id"].as_str().unwrap());
    let cancel = || {
        let request = http.post(&cancel).header("Idempotency-Key", key()).bearer_auth(&token);
        request.json(&json!({ "reason": "customer" }))
    };
    world.send(cancel()).await.expect(202);
    world.order_is(placed["id"].as_str().unwrap(), "cancelled").await;
    world.end().await;
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

#[test]
fn a_platform_that_issues_tokens_to_itself_is_not_reached_by_others() {
    for option in ["--command-addr", "--query-addr"] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
            .args(["up", "--data-dir", "/nowhere", option, "0.0.0.0:0"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(option) && said.contains("--jwks"), "{said}");
    }
}
