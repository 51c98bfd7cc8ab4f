//! Serves a router on a socket until it is asked to stop.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::limits;
use crate::metrics::Connected;
use crate::patient::Patient;

/// How long to wait after a failed `accept`, so that having no file descriptors left does not
/// keep a core busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a request comes from: the other end of its connection, whatever its headers say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Serves `router` on `listener` until `drain` is cancelled; then open requests have
/// [`limits::DRAIN_WAIT_MAX`] to end.
///
/// # Errors
/// None so far: a failed `accept` is logged and tried again.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    drain: CancellationToken,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // The semaphore is never closed, so the permit is always there.
            let permit = permits.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = drain.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (permit, accepted) = accepted => match accepted {
                Ok((stream, from)) => {
                    let peer = Peer(from.ip());
                    let served = connection(stream, peer, router.clone(), drain.clone());
                    let connected = Connected::new();
                    connections.spawn(async move {
                        served.await;
                        drop((permit, connected));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits::DRAIN_WAIT_MAX, ended).await.is_err() {
        tracing::warn!(open = connections.len(), "requests were cut off at the end");
    }
    Ok(())
}

/// Serves one connection until its client leaves or `drain` is cancelled.
async fn connection(stream: TcpStream, peer: Peer, router: Router, drain: CancellationToken) {
    // Small answers must not wait for an acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let router = TowerToHyperService::new(router);
    let told = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_WAIT_MAX)
        .max_buf_size(limits::HEAD_BYTES_MAX)
        .max_headers(limits::HEADERS_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream)), told);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = drain.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
