//! Hears of erasures, so that a key is forgotten at once and not only when its time is up.

use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Vault;
use super::subjects::CHANNEL;

/// How long to wait before listening again.
const RETRY: Duration = Duration::from_secs(1);

impl Vault {
    /// Listens for erasures until `drain` is cancelled, on a connection of its own. While it
    /// cannot, keys are kept for [`KEPT`](super::KEPT) and no longer.
    pub async fn run(self, drain: CancellationToken) {
        let listening = async {
            let mut away = false;
            loop {
                let Err(error) = self.listen().await;
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(%error, "erasures are not heard of at once, but within 30 s");
                }
                sleep(RETRY).await;
            }
        };
        tokio::select! {
            () = drain.cancelled() => {}
            () = listening => {}
        }
    }

    async fn listen(&self) -> Result<std::convert::Infallible, sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.0.pool).await?;
        listener.listen(CHANNEL).await?;
        loop {
            // From here on nothing is missed; before, something may have been.
            self.forget(None);
            // None: the connection was lost, and there is a new one.
            while let Some(notice) = listener.try_recv().await? {
                self.forget(notice.payload().parse().ok());
            }
        }
    }
}
