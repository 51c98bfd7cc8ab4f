//! One sandbox server, and somebody who takes its webhooks.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use reqwest::Method;
use sandbox::Config;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const KEY: &str = "sk_test_sandbox";
pub(crate) const WEBHOOK_SECRET: &str = "whsec_sandbox";

/// A webhook as it arrived.
#[derive(Debug)]
pub(crate) struct Hook {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Hook {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap_or_default().to_owned()
    }
}

/// Takes webhooks: answers the statuses it was told to, then 200.
pub(crate) struct Receiver {
    pub(crate) url: String,
    statuses: Arc<Mutex<VecDeque<u16>>>,
    hooks: UnboundedReceiver<Hook>,
    _task: JoinSet<()>,
}

type Desk = (Arc<Mutex<VecDeque<u16>>>, UnboundedSender<Hook>);

async fn take(
    State((statuses, sender)): State<Desk>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let body = String::from_utf8(body.to_vec()).unwrap();
    sender.send(Hook { headers, body }).ok();
    let status = statuses.lock().unwrap().pop_front().unwrap_or(200);
    StatusCode::from_u16(status).unwrap()
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let (sender, hooks) = unbounded_channel();
        let statuses = Arc::default();
        let desk: Desk = (Arc::clone(&statuses), sender);
        let router = Router::new().route("/", post(take)).with_state(desk);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, statuses, hooks, _task: task }
    }

    /// Answers these first.
    pub(crate) fn answers(&self, statuses: &[u16]) {
        self.statuses.lock().unwrap().extend(statuses);
    }

    pub(crate) async fn next(&mut self) -> Hook {
        tokio::time::timeout(PATIENCE, self.hooks.recv()).await.expect("a webhook").unwrap()
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Provider,
    Carrier,
}

/// A running server. Dropped, it is gone as if killed.
pub(crate) struct World {
    base: String,
    client: reqwest::Client,
    _task: JoinSet<()>,
}

impl World {
    pub(crate) async fn start(kind: Kind, config: Config) -> Self {
        let server = match kind {
            Kind::Provider => sandbox::provider(config),
            Kind::Carrier => sandbox::carrier(config),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut task = JoinSet::new();
        task.spawn(async move { server.serve(listener, CancellationToken::new()).await.unwrap() });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { base, client, _task: task }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.anonymous(method, path).bearer_auth(KEY)
    }

    pub(crate) fn anonymous(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path)).await
    }

    /// Sends a form, under a key where one is given.
    pub(crate) async fn form(
        &self,
        path: &str,
        key: Option<&str>,
        fields: &[(&str, &str)],
    ) -> (u16, Value) {
        let request = self.request(Method::POST, path).form(fields);
        answer(keyed(request, key)).await
    }

    /// Sends JSON, under a key where one is given.
    pub(crate) async fn json(&self, path: &str, key: Option<&str>, body: Value) -> (u16, Value) {
        let request = self.request(Method::POST, path).json(&body);
        answer(keyed(request, key)).await
    }

    pub(crate) async fn fault(&self, fault: Value) {
        assert_eq!(self.json("/sandbox/faults", None, fault).await.0, 201);
    }

    pub(crate) async fn books(&self) -> Value {
        self.get("/sandbox/books").await.1
    }

    /// Asks for the books until they say what is wanted.
    pub(crate) async fn books_where(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let settled = async {
            loop {
                let books = self.books().await;
                if wanted(&books) {
                    return books;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("books as wanted")
    }
}

fn keyed(request: reqwest::RequestBuilder, key: Option<&str>) -> reqwest::RequestBuilder {
    match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    }
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or(Value::Null))
}

pub(crate) fn config() -> Config {
    Config::new(KEY, WEBHOOK_SECRET)
}

/// A journal file of its own, removed at the end.
pub(crate) struct Journal(PathBuf);

impl Journal {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sandbox-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn config(&self) -> Config {
        Config { journal: Some(self.0.clone()), ..config() }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
