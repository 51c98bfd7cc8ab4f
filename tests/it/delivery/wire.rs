//! What stands between a process and its servers, and does to one thing that passes what a bad network
//! does to many.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How many bytes are passed on at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// The port in a URL.
fn port(url: &str) -> u16 {
    let url: reqwest::Url = url.parse().unwrap();
    url.port().unwrap()
}

/// A port of its own, in front of which `carry` is called for every connection.
async fn listen<F>(carry: impl Fn(TcpStream) -> F + Send + 'static) -> (u16, JoinSet<()>)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            while connections.try_join_next().is_some() {}
            let carrying = carry(client);
            // Whoever is at the other end sees a connection that breaks, and so it is meant.
            connections.spawn(async move { drop(carrying.await) });
        }
    });
    (port, tasks)
}

/// In front of Postgres: the first commit of whoever has said a certain thing goes through, and the
/// connection ends before the answer.
pub(super) struct Deaf {
    server: u16,
    port: u16,
    unheard: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Deaf {
    pub(super) async fn start(server_url: &str, said: &'static str) -> Self {
        let (server, unheard) = (port(server_url), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&unheard);
        let (port, tasks) =
            listen(move |client| Self::carry(client, server, said, Arc::clone(&counted))).await;
        Self { server, port, unheard, _tasks: tasks }
    }

    /// `url` by way of this.
    pub(super) fn url(&self, url: &str) -> String {
        url.replacen(&format!(":{}", self.server), &format!(":{}", self.port), 1)
    }

    /// How many commits went unheard.
    pub(super) fn unheard(&self) -> usize {
        self.unheard.load(Ordering::SeqCst)
    }

    async fn carry(
        mut client: TcpStream,
        server: u16,
        said: &'static str,
        unheard: Arc<AtomicUsize>,
    ) -> io::Result<()> {
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
        let (mut asked, mut answered) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        let mut has_said = false;
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let chunk = &asked[..read?];
                    if chunk.is_empty() {
                        return Ok(());
                    }
                    server.write_all(chunk).await?;
                    has_said = has_said || contains(chunk, said);
                    if has_said && contains(chunk, "COMMIT") && unheard.load(Ordering::SeqCst) == 0 {
                        server.read_exact(&mut answered[..1]).await?; // It is done.
                        unheard.fetch_add(1, Ordering::SeqCst);
                        return Ok(());
                    }
                }
                read = server.read(&mut answered) => {
                    let chunk = &answered[..read?];
                    if chunk.is_empty() {
                        return Ok(());
                    }
                    client.write_all(chunk).await?;
                }
            }
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// In front of NATS: loses messages, or lets none pass for a while, and knows what was sent.
pub(super) struct Wire {
    url: String,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    /// Ids of messages to be lost, each once.
    lost: Mutex<Vec<String>>,
    /// The ids of the messages that came to here, in order.
    sent: Mutex<Vec<String>>,
    open: watch::Sender<bool>,
}

impl Wire {
    pub(super) async fn start(server_url: &str) -> Self {
        let server = port(server_url);
        let state = State {
            lost: Mutex::default(),
            sent: Mutex::default(),
            open: watch::Sender::new(true),
        };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        let (port, tasks) =
            listen(move |client| Self::carry(client, server, Arc::clone(&shared))).await;
        let url = server_url.replacen(&format!(":{server}"), &format!(":{port}"), 1);
        Self { url, state, _tasks: tasks }
    }

    /// A client that knows no other way to the server.
    pub(super) async fn client(&self) -> async_nats::Client {
        let address: async_nats::ServerAddr = self.url.parse().unwrap();
        let (user, password) = (address.username().unwrap(), address.password().unwrap());
        let options = async_nats::ConnectOptions::new()
            .user_and_password(user.to_owned(), password.to_owned())
            .ignore_discovered_servers();
        options.connect(&self.url).await.unwrap()
    }

    /// Loses the message with this id the next time it is sent; called twice, twice.
    pub(super) fn lose(&self, id: &str) {
        self.state.lost.lock().unwrap().push(id.to_owned());
    }

    /// Lets messages pass, or none.
    pub(super) fn open(&self, open: bool) {
        self.state.open.send_replace(open);
    }

    /// The ids of the messages that came to here, in order.
    pub(super) fn sent(&self) -> Vec<String> {
        self.state.sent.lock().unwrap().clone()
    }

    async fn carry(client: TcpStream, server: u16, state: Arc<State>) -> io::Result<()> {
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
        let (answers, mut requests) = server.into_split();
        let (asks, mut answered) = client.into_split();
        let mut asks = BufReader::new(asks);
        let mut answers = answers;
        let forth = async {
            while let Some((id, message)) = message(&mut asks).await? {
                if let Some(id) = id {
                    state.sent.lock().unwrap().push(id.clone());
                    let opened = state.open.subscribe().wait_for(|open| *open).await.is_ok();
                    let mut lost = state.lost.lock().unwrap();
                    if let Some(at) = lost.iter().position(|lost| *lost == id).filter(|_| opened) {
                        lost.remove(at);
                        continue;
                    }
                }
                requests.write_all(&message).await?;
            }
            io::Result::Ok(())
        };
        let back = tokio::io::copy(&mut answers, &mut answered);
        tokio::select! {
            done = forth => done,
            done = back => done.map(drop),
        }
    }
}

/// The next thing that a client of NATS says, whole, and if it is a message with an id, that one.
async fn message(
    asks: &mut BufReader<OwnedReadHalf>,
) -> io::Result<Option<(Option<String>, Vec<u8>)>> {
    const ID: &str = "Nats-Msg-Id: ";
    let mut bytes = Vec::new();
    if asks.read_until(b'\n', &mut bytes).await? == 0 {
        return Ok(None);
    }
    let line = String::from_utf8_lossy(&bytes);
    let body = match line.split_once(' ') {
        Some(("PUB" | "HPUB", rest)) => {
            rest.split_whitespace().next_back().and_then(|length| length.parse::<usize>().ok())
        }
        _ => None,
    };
    if let Some(length) = body {
        let start = bytes.len();
        bytes.resize(start + length + 2, 0); // And the end of the line.
        asks.read_exact(&mut bytes[start..]).await?;
    }
    let text = String::from_utf8_lossy(&bytes);
    let id = text.split_once(ID).and_then(|(_, rest)| rest.lines().next()).map(str::to_owned);
    Ok(Some((id, bytes)))
}
