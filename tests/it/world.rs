//! One running Waybill, with a database and a log of its own, seen from outside.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use schemas::Ids;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::{Instant, interval};

use crate::{services, tokens};

/// How long anything may take before the test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Looks again and again until `look` finds something; fails after [`PATIENCE`].
#[track_caller]
pub(crate) fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + PATIENCE;
        let mut tick = interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < end, "waited in vain for {what}, asked for at {caller}");
        }
    }
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Fails with the whole answer unless the status is `status`.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }
}

/// A running Waybill. Ends with [`World::end`], which asserts that everything was delivered.
pub(crate) struct World {
    process: Option<Child>,
    folder: PathBuf,
    database_url: String,
    serving_url: String,
    nats_url: String,
    log: String,
    endpoints: Value,
    http: reqwest::Client,
    stranger: reqwest::Client,
    pool: PgPool,
    /// What the process logs, in the syntax of `RUST_LOG`; what is usual unless set.
    log_level: Option<&'static str>,
    /// How many rows of read models it looks at in a second; as many as is usual unless set.
    drift_rows: Option<&'static str>,
    /// Further options.
    options: Vec<String>,
    ended: bool,
}

impl World {
    /// Starts on the shared servers.
    pub(crate) async fn start() -> Self {
        Self::start_on(services::database().await, services::nats().await).await
    }

    /// Starts on the shared servers, and logs all that there is to tell.
    pub(crate) async fn start_talkative() -> Self {
        let (database_url, nats_url) = (services::database().await, services::nats().await);
        let mut world = Self::new(database_url, nats_url).await;
        world.log_level = Some("debug");
        world.run().await;
        world
    }

    /// Starts on the shared servers, and looks at so many rows of read models in a second.
    pub(crate) async fn start_watching(drift_rows: &'static str) -> Self {
        let (database_url, nats_url) = (services::database().await, services::nats().await);
        let mut world = Self::new(database_url, nats_url).await;
        world.drift_rows = Some(drift_rows);
        world.run().await;
        world
    }

    /// Starts on the shared servers, with options of the test's own.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let (database_url, nats_url) = (services::database().await, services::nats().await);
        let mut world = Self::new(database_url, nats_url).await;
        world.options = options.iter().map(|&option| option.to_owned()).collect();
        world.run().await;
        world
    }

    /// Starts on servers of the test's own.
    pub(crate) async fn start_on(database_url: String, nats_url: String) -> Self {
        let mut world = Self::new(database_url, nats_url).await;
        world.run().await;
        world
    }

    async fn new(database_url: String, nats_url: String) -> Self {
        // Nobody else chooses a TLS provider; the second test to come here finds it chosen.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let log = services::name();
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(PATIENCE)
            .connect(&database_url)
            .await
            .unwrap();
        Self {
            process: None,
            folder: services::folder(&log),
            serving_url: services::serving(&database_url).await,
            database_url,
            nats_url,
            log,
            endpoints: Value::Null,
            http: client(None),
            stranger: client(None),
            pool,
            log_level: None,
            drift_rows: None,
            options: Vec::new(),
            ended: false,
        }
    }

    /// Starts the process, on whatever an earlier one left behind.
    pub(crate) async fn run(&mut self) {
        let file = self.folder.join("endpoints.json");
        let _ = std::fs::remove_file(&file);
        let output = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("waybill.log"))
            .unwrap();
        let any = "127.0.0.1:0";
        let child = Command::new(env!("CARGO_BIN_EXE_waybill-under-test"))
            .args(["up", "--data-dir"])
            .arg(&self.folder)
            .args(["--owner-url", &self.database_url, "--database-url", &self.serving_url])
            .args(["--nats-url", &self.nats_url])
            .args(["--log-name", &self.log])
            .args(["--command-addr", any, "--query-addr", any])
            .args(["--payment-addr", any, "--carrier-addr", any])
            .args(["--database-connections", "12"])
            .args(self.log_level.into_iter().flat_map(|level| ["--log-level", level]))
            .args(self.drift_rows.into_iter().flat_map(|rows| ["--drift-rows-per-second", rows]))
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        self.process = Some(child);
        let log = self.folder.join("waybill.log");
        let started = async {
            until("the process to start", || async {
                serde_json::from_slice(&std::fs::read(&file).ok()?).ok()
            })
            .await
        };
        self.endpoints = started.await;
        self.http = client(self.endpoints["token"].as_str());
        assert!(
            matches!(self.process.as_mut().unwrap().try_wait(), Ok(None)),
            "{}",
            std::fs::read_to_string(log).unwrap_or_default()
        );
        self.consumers_have_begun().await;
    }

    /// Waits until every consumer has a checkpoint: one that has none cannot be seen to be behind.
    async fn consumers_have_begun(&self) {
        let projections = projections::names().into_iter().map(|name| format!("projection/{name}"));
        let sagas = saga::names().into_iter().map(|name| format!("saga/{name}"));
        let others = ["saga/timers", "adapter/payments", "adapter/carrier"].map(str::to_owned);
        let consumers: Vec<_> = projections.chain(sagas).chain(others).collect();
        until("every consumer to begin", || async {
            let begun: i64 = sqlx::query_scalar(
                "select count(distinct consumer) from checkpoints where consumer = any($1)",
            )
            .bind(&consumers)
            .fetch_one(&self.pool)
            .await
            .ok()?;
            (usize::try_from(begun) == Ok(consumers.len())).then_some(())
        })
        .await;
    }

    /// Kills the process on the spot.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn endpoint(&self, name: &str) -> String {
        self.endpoints[name].as_str().unwrap().to_owned()
    }

    pub(crate) fn command_url(&self) -> String {
        self.endpoint("command_url")
    }

    pub(crate) fn query_url(&self) -> String {
        self.endpoint("query_url")
    }

    pub(crate) fn payment_url(&self) -> String {
        self.endpoint("payment_url")
    }

    pub(crate) fn carrier_url(&self) -> String {
        self.endpoint("carrier_url")
    }

    /// A client that brings the token that the platform issues to itself, unless told otherwise.
    pub(crate) fn http(&self) -> reqwest::Client {
        self.http.clone()
    }

    /// A client without a token.
    pub(crate) fn stranger(&self) -> reqwest::Client {
        self.stranger.clone()
    }

    /// The token that the platform issues to itself, which may do everything.
    pub(crate) fn token(&self) -> String {
        self.endpoint("token")
    }

    /// A token of the platform's own key: of `customer` if there is one, for `scopes`.
    pub(crate) fn token_for(&self, customer: Option<&str>, scopes: &[&str]) -> String {
        tokens::token(&tokens::issuer_of(&self.folder), customer, scopes)
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The data folder of the platform, which also has its log.
    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    pub(crate) fn log(&self) -> &str {
        &self.log
    }

    pub(crate) fn nats_url(&self) -> &str {
        &self.nats_url
    }

    pub(crate) fn database_url(&self) -> &str {
        &self.database_url
    }

    /// The database for whoever serves.
    pub(crate) fn serving_url(&self) -> &str {
        &self.serving_url
    }

    /// Sends a request and reads the answer.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        self.try_send(request).await.unwrap()
    }

    pub(crate) async fn try_send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> reqwest::Result<Reply> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let bytes = answer.bytes().await?;
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        documented(&body);
        Ok(Reply { status, headers, body })
    }

    /// A command under a key of its own.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.post_as(&key(), path, body).await
    }

    /// A command under `key`.
    pub(crate) async fn post_as(&self, key: &str, path: &str, body: Value) -> Reply {
        self.send(self.post_request(key, path, &body)).await
    }

    pub(crate) fn post_request(
        &self,
        key: &str,
        path: &str,
        body: &Value,
    ) -> reqwest::RequestBuilder {
        self.http
            .request(Method::POST, format!("{}{path}", self.command_url()))
            .header("Idempotency-Key", format!("\"{key}\""))
            .json(body)
    }

    /// A query.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(self.http.get(format!("{}{path}", self.query_url()))).await
    }

    /// A query that is to have seen a position, asked again until it has: a server waits for two
    /// seconds at most, and the machine may be slow.
    pub(crate) async fn get_at(&self, path: &str, position: &str) -> Reply {
        until("an answer that is as fresh", || async {
            let request = self.http.get(format!("{}{path}", self.query_url()));
            let reply = self.send(request.header("Min-Position", position)).await;
            let behind = reply.status == 503 && reply.body["code"] == "projection_behind";
            (!behind).then_some(reply)
        })
        .await
        .expect(200)
    }

    /// Puts units of a sku in stock.
    pub(crate) async fn stock(&self, sku: &str, units: u32) {
        let path = format!("/v1/stock/{sku}/receive");
        self.post(&path, json!({ "quantity": units })).await.expect(200);
    }

    /// Places an order of (sku, units) lines at 12.50 EUR a unit, paid with `method`.
    pub(crate) async fn place(&self, lines: &[(&str, u32)], method: &str) -> String {
        let reply = self.post("/v1/orders", order(lines, method)).await.expect(201);
        reply.body["id"].as_str().unwrap().to_owned()
    }

    /// The order as the query API has it, as soon as it has it.
    pub(crate) async fn order(&self, id: &str) -> Value {
        let is_there = |body: &Value| (body["id"] == id).then(|| body.clone());
        self.get_until(&format!("/v1/orders/{id}"), is_there).await
    }

    /// Waits until the order has `status`, and gives it.
    pub(crate) async fn order_is(&self, id: &str, status: &str) -> Value {
        let path = format!("/v1/orders/{id}");
        until(&format!("{id} to be {status}"), || async {
            let reply = self.get(&path).await;
            (reply.body["status"] == status).then_some(reply.body)
        })
        .await
    }

    /// Waits until the query API says what `look` wants to hear of `path`.
    pub(crate) async fn get_until<T>(&self, path: &str, look: impl Fn(&Value) -> Option<T>) -> T {
        until(path, || async { look(&self.get(path).await.body) }).await
    }

    /// The types of an order's events, in order.
    pub(crate) async fn events(&self, id: &str) -> Vec<String> {
        let body = self.get(&format!("/v1/orders/{id}/events?limit=200")).await.expect(200).body;
        let events = body["data"].as_array().unwrap();
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    /// Packs and hands over the order's goods as a warehouse does, and waits for the delivery.
    pub(crate) async fn send_goods(&self, id: &str) {
        self.pack_when_allowed(id).await;
        self.send_packed(id).await;
    }

    /// Packs the order's goods as soon as they do not wait any more.
    pub(crate) async fn pack_when_allowed(&self, id: &str) {
        let fulfilment = self.fulfilment(id).await;
        let path = format!("/v1/fulfilment-orders/{fulfilment}/pack");
        until("the packing to be allowed", || async {
            (self.post(&path, json!({})).await.status == 200).then_some(())
        })
        .await;
    }

    /// Hands over what is packed, once it may go.
    pub(crate) async fn send_packed(&self, id: &str) {
        let fulfilment = self.fulfilment(id).await;
        let path = format!("/v1/fulfilment-orders/{fulfilment}/hand-over");
        until("the hand-over to be allowed", || async {
            (self.post(&path, json!({})).await.status == 200).then_some(())
        })
        .await;
    }

    /// Packs the order's goods once the warehouse has been asked to, and gives the
    /// fulfilment order's id.
    pub(crate) async fn pack(&self, id: &str) -> String {
        let fulfilment = self.fulfilment(id).await;
        let path = format!("/v1/fulfilment-orders/{fulfilment}/pack");
        self.post(&path, json!({})).await.expect(200);
        fulfilment
    }

    /// The fulfilment order of an order, as soon as there is one.
    pub(crate) async fn fulfilment(&self, id: &str) -> String {
        let path = format!("/v1/orders/{id}/shipments");
        self.get_until(&path, |body| {
            let shipment = body["data"].as_array()?.first()?;
            Some(shipment["fulfilment_id"].as_str()?.to_owned())
        })
        .await
    }

    /// Reserved and available units of a sku.
    pub(crate) async fn stock_level(&self, sku: &str) -> Value {
        self.get(&format!("/v1/stock/{sku}")).await.expect(200).body
    }

    /// Waits until everything that was written has been delivered to everybody.
    pub(crate) async fn settle(&self) {
        until("every consumer to be at the head of the log", || async {
            let behind: i64 = sqlx::query_scalar(
                "select count(*) from checkpoints
                 where position < (select coalesce(max(position), 0) from events)",
            )
            .fetch_one(&self.pool)
            .await
            .ok()?;
            (behind == 0).then_some(())
        })
        .await;
    }

    /// What is parked: consumer, stream, reason.
    pub(crate) async fn parked(&self) -> Vec<(String, String)> {
        sqlx::query_as("select consumer, reason from parked_streams")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// Settles, fails unless all was relayed and nothing is parked, and stops the process.
    pub(crate) async fn end(mut self) {
        self.settle().await;
        assert_eq!(self.parked().await, [], "nothing should be parked");
        let nats = services::client(&self.nats_url).await;
        let jetstream = async_nats::jetstream::new(nats);
        self.assert_relayed(&jetstream).await;
        self.stop().await;
        // JetStream sets room aside for every stream, and all tests share it.
        jetstream.delete_stream(format!("WAYBILL_{}", self.log)).await.unwrap();
    }

    /// The last message in JetStream is the last event in the log.
    async fn assert_relayed(&self, jetstream: &async_nats::jetstream::Context) {
        until("the relay to be drained", || async {
            let head: i64 = sqlx::query_scalar("select coalesce(max(position), 0) from events")
                .fetch_one(&self.pool)
                .await
                .ok()?;
            let stream = jetstream.get_stream(format!("WAYBILL_{}", self.log)).await.ok()?;
            let last =
                stream.get_raw_message(stream.cached_info().state.last_sequence).await.ok()?;
            let id = last.headers.get("Nats-Msg-Id")?.to_string();
            (id == format!("{}:{head}", self.log)).then_some(())
        })
        .await;
    }

    /// Asks the process to stop, and waits until it has, in order.
    async fn stop(&mut self) {
        self.ended = true;
        let Some(mut process) = self.process.take() else { return };
        let asked = Command::new("kill").arg(process.id().to_string()).status().unwrap();
        assert!(asked.success());
        let status = until("the process to stop", || {
            let status = process.try_wait().unwrap();
            async move { status }
        })
        .await;
        let log = self.folder.join("waybill.log");
        assert!(status.success(), "{status}: {}", std::fs::read_to_string(log).unwrap());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.join("waybill.log")).unwrap_or_default();
            let from = log.len().saturating_sub(4000);
            eprintln!("the last lines of {}:\n{}", self.log, log.get(from..).unwrap_or(&log));
        } else {
            assert!(self.ended, "a test must end its world with `end`");
        }
    }
}

/// Fails where a problem of ours has no page.
fn documented(body: &Value) {
    let ours = body["type"].as_str().is_some_and(|kind| kind.starts_with(web::TYPE_BASE));
    if let Some(code) = body["code"].as_str().filter(|_| ours) {
        let page = format!("{}/../docs/problems/{code}.md", env!("CARGO_MANIFEST_DIR"));
        assert!(std::path::Path::new(&page).is_file(), "docs/problems has no page of {code}");
    }
}

/// A client that brings `token` with every request that brings no other.
fn client(token: Option<&str>) -> reqwest::Client {
    let bearer = token.map(|token| {
        let bearer = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        (AUTHORIZATION, bearer)
    });
    let builder = reqwest::Client::builder().timeout(PATIENCE);
    builder.default_headers(HeaderMap::from_iter(bearer)).build().unwrap()
}

/// A fresh idempotency key.
pub(crate) fn key() -> String {
    Ids::system().next().to_string()
}

/// The body of an order of (sku, units) lines at 12.50 EUR a unit.
pub(crate) fn order(lines: &[(&str, u32)], method: &str) -> Value {
    let lines: Vec<Value> = lines
        .iter()
        .map(|(sku, units)| {
            json!({
                "sku": sku, "title": format!("One {sku}"), "quantity": units,
                "unit_price": { "amount": 1250, "currency": "EUR" },
            })
        })
        .collect();
    json!({
        "customer": "usr_0197b0c0000070008000000000000001",
        "lines": lines,
        "shipping_address": {
            "name": "Ada Example", "line1": "Hauptstrasse 1", "city": "Berlin",
            "postal_code": "10115", "country": "DE",
        },
        "payment_method": method,
    })
}
