//! A bad network between a client and a server that answers each of its requests.
//!
//! Every connection has a fate, drawn when it is made: after some requests something happens to the
//! next one. A client that connects again draws again.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tests::chaos::Dice;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How many bytes are passed on at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered, and the connection is cut before the client hears of it.
    AnswerLost,
    /// The connection is cut in the middle of the answer.
    AnswerTorn,
    /// The connection is cut before the server hears of it.
    RequestLost,
    /// The connection is cut in the middle of the request.
    RequestTorn,
    /// Nothing passes in either direction for a while; then the connection is cut.
    Silence,
    /// The client is cut off at once, and the server gets the request later.
    RequestLate,
    /// The answer takes a while.
    AnswerLate,
}

impl Fault {
    pub(crate) const ALL: [Self; 7] = [
        Self::AnswerLost,
        Self::AnswerTorn,
        Self::RequestLost,
        Self::RequestTorn,
        Self::Silence,
        Self::RequestLate,
        Self::AnswerLate,
    ];
}

/// What lies ahead of a connection.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// Requests that nothing happens to.
    requests: u64,
    fault: Fault,
    pause: Duration,
}

impl Fate {
    fn draw(dice: &mut Dice, requests_max: u64) -> Self {
        Self {
            requests: dice.range(2..requests_max),
            fault: *dice.pick(&Fault::ALL).unwrap(),
            pause: Duration::from_millis(dice.range(20..400)),
        }
    }
}

/// A proxy on the loopback interface; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    faults: Arc<[AtomicU64; Fault::ALL.len()]>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts one in front of a port. No connection outlives `requests_max` requests.
    pub(crate) async fn start(server: u16, mut dice: Dice, requests_max: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults: Arc<[AtomicU64; Fault::ALL.len()]> = Arc::default();
        let counted = Arc::clone(&faults);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let connections = Mutex::new(JoinSet::new());
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let fate = Fate::draw(&mut dice, requests_max);
                let counted = Arc::clone(&counted);
                let mut connections = connections.lock().unwrap();
                while connections.try_join_next().is_some() {}
                connections.spawn(async move {
                    // Whoever is at the other end sees a connection that breaks, and so it is meant.
                    let _ = carry(client, server, fate, &counted[fate.fault as usize]).await;
                });
            }
        });
        Self { port, faults, _tasks: tasks }
    }

    /// `url` with this proxy in the place of the server at `port`.
    pub(crate) fn url(&self, url: &str, port: u16) -> String {
        url.replacen(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", self.port), 1)
    }

    /// How often something happened so far.
    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.faults[fault as usize].load(Ordering::Relaxed)
    }
}

/// Carries one connection until it ends or its fate comes true.
async fn carry(mut client: TcpStream, port: u16, fate: Fate, count: &AtomicU64) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asked, mut answered) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let (mut requests, mut answering) = (0, true);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let chunk = &asked[..read?];
                if chunk.is_empty() {
                    return server.shutdown().await;
                }
                requests += u64::from(answering);
                answering = false;
                if requests > fate.requests {
                    count.fetch_add(1, Ordering::Relaxed);
                    let chunk = chunk.to_vec();
                    return strike(client, server, &chunk, fate).await;
                }
                server.write_all(chunk).await?;
            }
            read = server.read(&mut answered) => {
                let chunk = &answered[..read?];
                if chunk.is_empty() {
                    return client.shutdown().await;
                }
                answering = true;
                client.write_all(chunk).await?;
            }
        }
    }
}

/// What happens to the request that begins with `chunk`.
async fn strike(
    mut client: TcpStream,
    mut server: TcpStream,
    chunk: &[u8],
    Fate { fault, pause, .. }: Fate,
) -> io::Result<()> {
    match fault {
        Fault::RequestLost => {}
        Fault::RequestTorn => server.write_all(&chunk[..chunk.len() / 2]).await?,
        Fault::Silence => {
            server.write_all(chunk).await?;
            sleep(pause).await;
        }
        Fault::RequestLate => {
            drop(client);
            sleep(pause).await;
            server.write_all(chunk).await?;
            // It is worked on although nobody listens any more.
            let _ = server.read(&mut vec![0; CHUNK_BYTES]).await?;
        }
        Fault::AnswerLost | Fault::AnswerTorn | Fault::AnswerLate => {
            let answer = answer(&mut client, &mut server, chunk).await?;
            match fault {
                Fault::AnswerTorn => client.write_all(&answer[..answer.len() / 2]).await?,
                Fault::AnswerLate => {
                    sleep(pause).await;
                    client.write_all(&answer).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Passes the request on, whole, and gives the beginning of its answer.
async fn answer(
    client: &mut TcpStream,
    server: &mut TcpStream,
    chunk: &[u8],
) -> io::Result<Vec<u8>> {
    server.write_all(chunk).await?;
    let (mut asked, mut answered) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => server.write_all(&asked[..read]).await?,
            },
            read = server.read(&mut answered) => {
                answered.truncate(read?);
                return Ok(answered);
            }
        }
    }
}
