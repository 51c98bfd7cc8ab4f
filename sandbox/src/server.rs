//! A server from start to stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::desk::{Book, Desk};
use crate::outbox::Sign;
use crate::{Config, carrier, provider};

/// Largest body that is read.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long calls under way may take to end once the server is to stop.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Kind {
    Provider,
    Carrier,
}

/// A sandbox server that is set up and not yet serving.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    config: Config,
}

impl Server {
    pub(crate) fn provider(config: Config) -> Self {
        Self { kind: Kind::Provider, config }
    }

    pub(crate) fn carrier(config: Config) -> Self {
        Self { kind: Kind::Carrier, config }
    }

    /// Serves on `listener` until `drain` is cancelled; calls under way are given 2 seconds.
    ///
    /// # Errors
    /// Where the journal cannot be read.
    pub async fn serve(self, listener: TcpListener, drain: CancellationToken) -> io::Result<()> {
        let Self { kind, config } = self;
        match kind {
            Kind::Provider => {
                let desk = Arc::new(Desk::open(config)?);
                let router = provider::router(Arc::clone(&desk));
                run(desk, router, provider::sign, listener, drain).await
            }
            Kind::Carrier => {
                let desk = Arc::new(Desk::open(config)?);
                let router = carrier::router(Arc::clone(&desk));
                let scans = carrier::scan_all(Arc::clone(&desk), drain.clone());
                let served = run(desk, router, carrier::sign, listener, drain);
                let (served, ()) = tokio::join!(served, scans);
                served
            }
        }
    }
}

async fn run<B: Book>(
    desk: Arc<Desk<B>>,
    router: Router,
    sign: Sign,
    listener: TcpListener,
    drain: CancellationToken,
) -> io::Result<()> {
    let listener = listener.tap_io(|tcp| {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "answers may be delayed");
        }
    });
    let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let serving = axum::serve(listener, router)
        .with_graceful_shutdown(drain.clone().cancelled_owned())
        .into_future();
    let overdue = async {
        drain.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    let answers = async {
        tokio::select! {
            ended = serving => ended,
            () = overdue => Ok(()),
        }
    };
    let settled = |notice: &str| desk.settle(notice);
    let webhooks = desk.outbox.run(&desk.config, sign, settled, drain.clone());
    let (answers, webhooks) = tokio::join!(answers, webhooks);
    answers?;
    webhooks.map_err(io::Error::other)
}
