//! How readers hear that the log has grown: from their own process, or from another one.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use schemas::Position;
use tokio::sync::watch;
use tokio::time::sleep;

/// The shortest time between two pokes: what grows meanwhile is told together. The first after a
/// rest is told at once; every one wakes a thread here and a server, on the cores that append.
const POKE_EVERY: Duration = Duration::from_millis(5);

/// Pokes the readers of `log` in other processes whenever this one has appended, for as long as it
/// does. A poke that would have to wait for NATS is left out, since readers also poll.
pub(crate) async fn poke(
    nats: async_nats::Client,
    log: String,
    mut head: watch::Receiver<Position>,
) {
    let subject = format!("poke.{log}");
    while head.changed().await.is_ok() {
        let position = *head.borrow_and_update();
        let _ = nats.publish(subject.clone(), position.to_string().into()).now_or_never();
        sleep(POKE_EVERY).await;
    }
}

/// Pokes of other processes; none where NATS cannot tell.
pub(crate) type Pokes = Option<async_nats::Subscriber>;

/// Listens for the pokes of `log`.
pub(crate) async fn pokes(nats: &async_nats::Client, log: &str) -> Pokes {
    nats.subscribe(format!("poke.{log}")).await.ok()
}

/// Waits for a poke that tells of something beyond `last`; for ever where nobody pokes.
pub(crate) async fn poked(pokes: &mut Pokes, last: Position) {
    while let Some(subscriber) = pokes {
        match subscriber.next().await {
            Some(poke) if head_of(&poke.payload) > last => return,
            Some(_) => {}
            None => *pokes = None,
        }
    }
    std::future::pending::<()>().await;
}

/// Waits until this process has appended beyond `last`; for ever where it no longer can.
pub(crate) async fn grown(head: &mut watch::Receiver<Position>, last: Position) {
    if head.wait_for(|head| *head > last).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The same, but hears of each growth once.
pub(crate) async fn grows(head: &mut watch::Receiver<Position>, last: Position) {
    while head.changed().await.is_ok() {
        if *head.borrow_and_update() > last {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// The head that a poke tells of; if it cannot be read, one that is always worth a look.
fn head_of(poke: &[u8]) -> Position {
    std::str::from_utf8(poke).ok().and_then(|head| head.parse().ok()).unwrap_or(Position::MAX)
}
