//! The sandbox servers, for tests: real HTTP on loopback, their own books.

use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Config, Limits};

const KEY: &str = "sk_test_adapters";

/// Patience for tests: everything is near, and the machine may be busy.
pub(crate) const LIMITS: Limits = Limits {
    connect_timeout: Duration::from_secs(1),
    call_timeout: Duration::from_secs(5),
    attempts_max: 3,
    retry_delay_min: Duration::from_millis(1),
    retry_delay_max: Duration::from_millis(5),
    open_for: Duration::from_hours(1),
};

/// A sandbox server. Dropped, it is gone.
pub(crate) struct Sandbox {
    pub(crate) config: Config,
    client: Client,
    _task: JoinSet<()>,
}

impl Sandbox {
    pub(crate) async fn provider() -> Self {
        Self::start(sandbox::provider(sandbox::Config::new(KEY, "whsec"))).await
    }

    pub(crate) async fn carrier() -> Self {
        Self::start(sandbox::carrier(sandbox::Config::new(KEY, "whsec"))).await
    }

    async fn start(server: sandbox::Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let mut task = JoinSet::new();
        task.spawn(async move { server.serve(listener, CancellationToken::new()).await.unwrap() });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().unwrap();
        let config = Config { limits: LIMITS, ..Config::new(base_url, KEY) };
        Self { config, client, _task: task }
    }

    /// How to reach it, for a test of answers that do not come.
    pub(crate) fn hasty(&self) -> Config {
        let limits = Limits { call_timeout: Duration::from_millis(250), ..LIMITS };
        Config { limits, ..self.config.clone() }
    }

    /// Orders a fault.
    pub(crate) async fn fault(&self, fault: Value) {
        let url = format!("{}/sandbox/faults", self.config.base_url);
        self.client.post(url).json(&fault).send().await.unwrap().error_for_status().unwrap();
    }

    /// Posts a form, as the customer's browser does, and gives the answer.
    pub(crate) async fn post(&self, url: &str, form: &'static str) -> Value {
        let kind = "application/x-www-form-urlencoded";
        let request = self.client.post(url).header("content-type", kind).body(form);
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// The server's own books.
    pub(crate) async fn books(&self) -> Value {
        let url = format!("{}/sandbox/books", self.config.base_url);
        self.client.get(url).send().await.unwrap().json().await.unwrap()
    }
}
