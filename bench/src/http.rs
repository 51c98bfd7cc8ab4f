//! Requests over real connections, with a client that costs as little as it can.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A keep-alive connection that knows just enough of HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header's value; names are matched without regard to case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Sends a request, already written out, and reads its answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head_end = loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the server hung up");
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = std::str::from_utf8(&self.buffer[..head_end])?.to_owned();
        let status = head.get(9..12).context("no status line")?.parse()?;
        let mut answer = Answer { status, head, body: Vec::new() };
        let length: usize = answer.header("content-length").map_or(Ok(0), str::parse)?;
        while self.buffer.len() < head_end + length {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the server hung up");
        }
        answer.body = self.buffer[head_end..head_end + length].to_vec();
        Ok(answer)
    }
}

/// A `POST` of JSON under an idempotency key.
pub(crate) fn post(path: &str, key: &str, body: &str) -> Vec<u8> {
    post_as("", path, key, body)
}

/// The header that brings a token.
pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// The same with further headers.
pub(crate) fn post_as(headers: &str, path: &str, key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\n{headers}Content-Type: application/json\r\n\
         Idempotency-Key: \"{key}\"\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A `GET`.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").into_bytes()
}

/// A `GET` that is content with nothing older than `position`.
pub(crate) fn get_after(path: &str, position: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nMin-Position: {position}\r\n\r\n").into_bytes()
}

/// The body of an order of two lines.
pub(crate) const ORDER: &str = r#"{"customer":"usr_0197b0c0000070008000000000000001","lines":[{"sku":"mug-blue","title":"Mug, blue","quantity":2,"unit_price":{"amount":1250,"currency":"EUR"}},{"sku":"tea-green","title":"Green tea, 100 g","quantity":1,"unit_price":{"amount":890,"currency":"EUR"}}],"shipping_address":{"name":"Ada Example","line1":"Hauptstrasse 1","city":"Berlin","postal_code":"10115","country":"DE"},"payment_method":"pm_card_visa"}"#;

/// Orders placed a second over `connections` connections, by whoever `token` speaks for.
///
/// # Errors
/// The first answer that is not 201.
pub(crate) async fn order_rate(
    address: SocketAddr,
    connections: usize,
    seconds: u64,
    token: Option<&str>,
) -> Result<f64> {
    let authorization: Arc<str> = token.map_or_else(String::new, bearer).into();
    let run = schemas::Ids::system().next();
    let order = move |number, count| {
        post_as(&authorization, "/v1/orders", &format!("{run}-{number}-{count}"), ORDER)
    };
    rate(address, connections, seconds, 201, order).await
}

/// Answers a second over `connections` connections, each with the next request at once; `request`
/// makes them of the connection's number and its own.
///
/// # Errors
/// The first answer with another status.
pub(crate) async fn rate(
    address: SocketAddr,
    connections: usize,
    seconds: u64,
    status: u16,
    request: impl Fn(usize, usize) -> Vec<u8> + Clone + Send + 'static,
) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let (done, request) = (Arc::clone(&done), request.clone());
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            for count in 0.. {
                if Instant::now() >= end {
                    break;
                }
                let answer = connection.ask(&request(number, count)).await?;
                ensure!(answer.status == status, "{}", String::from_utf8_lossy(&answer.body));
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let answers = done.load(Ordering::Relaxed) as f64;
    Ok(answers / started.elapsed().as_secs_f64())
}
