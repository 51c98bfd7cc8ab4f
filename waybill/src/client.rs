//! A caller of the public APIs: what the operator commands and the demo are made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, Response};
use schemas::{Ids, Version};
use serde_json::Value;

/// How long a call may take.
const CALL_MAX: Duration = Duration::from_secs(30);
/// How long to wait before a call is made again that the server was too busy for.
const BUSY_WAIT: Duration = Duration::from_millis(200);
/// How often a call is made again.
const BUSY_ATTEMPTS_MAX: u32 = 50;

/// How many connections may be lost over one call.
const LOST_MAX: u32 = 3;
/// How many rows of a list are asked for at once.
const PAGE_ROWS: u32 = 200;

/// A caller. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    command_url: Arc<str>,
    query_url: Arc<str>,
    token: Option<Arc<str>>,
    /// The last position that one of our own writes was answered with.
    written: Arc<AtomicI64>,
}

/// What a write was answered with.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// 201, 202, 409 …
    pub status: u16,
    /// Whether this is the answer of an earlier time.
    pub replayed: bool,
    /// The body.
    pub body: Value,
}

impl Reply {
    /// A text in the body.
    pub(crate) fn text(&self, pointer: &str) -> anyhow::Result<&str> {
        self.body
            .pointer(pointer)
            .and_then(Value::as_str)
            .with_context(|| format!("{pointer} is missing in {}", self.body))
    }

    /// The reply, where it is a success.
    pub(crate) fn succeeded(self) -> anyhow::Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        bail!("{}", problem(self.status, &self.body))
    }
}

/// A problem, for people.
fn problem(status: u16, body: &Value) -> String {
    let word = |name: &str| body[name].as_str().unwrap_or_default();
    let errors = body["errors"].as_array().into_iter().flatten().map(|error| {
        let part = |name: &str| error[name].as_str().unwrap_or_default();
        format!("; {}: {}", part("pointer"), part("detail"))
    });
    format!("{status} {}: {}{}", word("code"), word("detail"), errors.collect::<String>())
}

impl Client {
    /// A caller of the two APIs, with a token where there is one.
    pub(crate) fn new(
        command_url: &str,
        query_url: &str,
        token: Option<&str>,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(CALL_MAX).tcp_nodelay(true).build()?;
        Ok(Self {
            http,
            command_url: command_url.trim_end_matches('/').into(),
            query_url: query_url.trim_end_matches('/').into(),
            token: token.map(Into::into),
            written: Arc::default(),
        })
    }

    /// The same for somebody else, who need not read what this one wrote.
    pub(crate) fn apart(&self) -> Self {
        Self { written: Arc::default(), ..self.clone() }
    }

    /// Asks the command API for something, under a new key.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        self.post_as(path, body, &Ids::system().next().to_string()).await
    }

    /// Asks the command API for something under `key`. Where it is too busy it is asked again,
    /// which is safe since the key is the same.
    pub(crate) async fn post_as(
        &self,
        path: &str,
        body: &Value,
        key: &str,
    ) -> anyhow::Result<Reply> {
        self.post_with(path, body, key, None).await
    }

    /// The same under a new key, where the version of what is changed is `expected`.
    pub(crate) async fn post_if(
        &self,
        path: &str,
        body: &Value,
        expected: Version,
    ) -> anyhow::Result<Reply> {
        let key = Ids::system().next().to_string();
        self.post_with(path, body, &key, Some(expected)).await
    }

    async fn post_with(
        &self,
        path: &str,
        body: &Value,
        key: &str,
        expected: Option<Version>,
    ) -> anyhow::Result<Reply> {
        let url = format!("{}{path}", self.command_url);
        let mut lost = 0;
        for _ in 0..BUSY_ATTEMPTS_MAX {
            let mut request = self.http.post(&url).header("Idempotency-Key", key).json(body);
            if let Some(version) = expected {
                request = request.header("If-Match", format!("\"{version}\""));
            }
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            let Some(response) = patient(request, &url, &mut lost).await? else { continue };
            let status = response.status().as_u16();
            if status == 503 || status == 504 {
                tokio::time::sleep(BUSY_WAIT).await;
                continue;
            }
            let replayed = response.headers().contains_key("idempotent-replayed");
            if let Some(position) = number(response.headers(), "commit-position") {
                self.written.fetch_max(position, Ordering::Relaxed);
            }
            let body = response.json().await.with_context(|| format!("no JSON from {url}"))?;
            return Ok(Reply { status, replayed, body });
        }
        bail!("{url} stays too busy")
    }

    /// Asks the query API, which waits until it has seen what this caller wrote.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.get_if_found(path).await?.with_context(|| format!("there is no {path}"))
    }

    /// The same where it may be that there is nothing.
    pub(crate) async fn get_if_found(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let url = format!("{}{path}", self.query_url);
        let mut lost = 0;
        for _ in 0..BUSY_ATTEMPTS_MAX {
            let mut request = self.http.get(&url);
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            let written = self.written.load(Ordering::Relaxed);
            if written > 0 {
                request = request.header("Min-Position", written);
            }
            let Some(response) = patient(request, &url, &mut lost).await? else { continue };
            let status = response.status().as_u16();
            if status == 503 {
                tokio::time::sleep(BUSY_WAIT).await;
                continue;
            }
            if status == 404 {
                return Ok(None);
            }
            let body = response.json().await.with_context(|| format!("no JSON from {url}"))?;
            if status != 200 {
                bail!("{url}: {}", problem(status, &body));
            }
            return Ok(Some(body));
        }
        bail!("{url} stays too busy")
    }

    /// Every row of a list.
    pub(crate) async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        self.pages(path, PAGE_ROWS).await
    }

    /// Every row of a list, in pages of `limit`.
    pub(crate) async fn pages(&self, path: &str, limit: u32) -> anyhow::Result<Vec<Value>> {
        let mut rows = Vec::new();
        let mut cursor = None;
        loop {
            let join = if path.contains('?') { '&' } else { '?' };
            let page = match &cursor {
                None => format!("{path}{join}limit={limit}"),
                Some(cursor) => format!("{path}{join}limit={limit}&cursor={cursor}"),
            };
            let mut page = self.get(&page).await?;
            if let Some(Value::Array(data)) = page.get_mut("data").map(Value::take) {
                rows.extend(data);
            }
            match page["page"]["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(rows),
            }
        }
    }
}

/// Sends a request. A connection that is lost is none of the caller's business as long as
/// others are to be had: the server closes idle ones, and every request here may be repeated.
async fn patient(
    request: RequestBuilder,
    url: &str,
    lost: &mut u32,
) -> anyhow::Result<Option<Response>> {
    match request.send().await {
        Ok(response) => Ok(Some(response)),
        Err(_) if *lost < LOST_MAX => {
            *lost += 1;
            tokio::time::sleep(BUSY_WAIT).await;
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("no answer at {url}")),
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
