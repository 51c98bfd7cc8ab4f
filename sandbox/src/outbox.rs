//! Webhooks on their way out: signed, repeated until somebody answers 2xx, at least once each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Config;

/// Deliveries under way at a time.
const CONCURRENCY_MAX: usize = 32;
/// How long a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The wait after the first failure; it doubles with every further one.
const DELAY_MIN: Duration = Duration::from_millis(50);
/// The longest wait. A real provider waits for hours; a sandbox is being watched.
const DELAY_MAX: Duration = Duration::from_secs(2);
/// A webhook that nobody took for so long is given up, as Stripe does.
const AGE_MAX: TimeDelta = TimeDelta::days(3);

/// Name and value of the header that signs a body.
pub(crate) type Sign = fn(secret: &str, body: &str, now: DateTime<Utc>) -> (&'static str, String);

/// Something that happened, as the receiver will read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Notice {
    /// Its id.
    pub(crate) id: String,
    /// When it happened.
    pub(crate) at: DateTime<Utc>,
    /// The body to send.
    pub(crate) body: String,
    /// How often it is sent: once, unless a fault was ordered.
    pub(crate) copies: u8,
    /// How long it is held back: not at all, unless a fault was ordered.
    #[serde(default)]
    pub(crate) delay_ms: u64,
}

#[derive(Debug)]
struct Waiting {
    notice: Arc<Notice>,
    failures: u32,
}

/// Every webhook that nobody took yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<BTreeMap<(Instant, u64), Waiting>>,
    queued: AtomicU64,
    changed: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Instant, u64), Waiting>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a webhook, as often as it says.
    pub(crate) fn push(&self, notice: Notice) {
        let (copies, notice) = (notice.copies, Arc::new(notice));
        for _ in 0..copies {
            let due = Instant::now() + Duration::from_millis(notice.delay_ms);
            self.queue(due, Waiting { notice: Arc::clone(&notice), failures: 0 });
        }
    }

    /// How many are waiting.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn queue(&self, due: Instant, waiting: Waiting) {
        let number = self.queued.fetch_add(1, Ordering::Relaxed);
        self.lock().insert((due, number), waiting);
        self.changed.notify_one();
    }

    fn next_due(&self) -> Option<Instant> {
        self.lock().first_key_value().map(|((due, _), _)| *due)
    }

    fn pop_due(&self, now: Instant) -> Option<Waiting> {
        let mut queue = self.lock();
        let first = queue.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// Delivers until `drain` is cancelled. `settled` hears the id of each webhook that needs no
    /// further attempt.
    pub(crate) async fn run(
        &self,
        config: &Config,
        sign: Sign,
        settled: impl Fn(&str),
        drain: CancellationToken,
    ) -> Result<(), reqwest::Error> {
        let Some(url) = config.webhook_url.clone() else {
            drain.cancelled().await;
            return Ok(());
        };
        let (secret, clock) = (config.webhook_secret.clone(), config.clock);
        let client = client()?;
        let courier = Arc::new(Courier { client, url, secret, sign, clock });
        let mut running = JoinSet::new();
        loop {
            while running.len() < CONCURRENCY_MAX
                && let Some(waiting) = self.pop_due(Instant::now())
            {
                running.spawn(Arc::clone(&courier).deliver(waiting));
            }
            let due = self.next_due().filter(|_| running.len() < CONCURRENCY_MAX);
            tokio::select! {
                () = drain.cancelled() => return Ok(()),
                Some(done) = running.join_next() => match done {
                    Ok((waiting, true)) => settled(&waiting.notice.id),
                    Ok((waiting, false)) => self.again(waiting, (config.clock)(), &settled),
                    Err(error) => tracing::error!(%error, "a delivery broke off"),
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                () = self.changed.notified() => {}
            }
        }
    }

    fn again(&self, waiting: Waiting, now: DateTime<Utc>, settled: &impl Fn(&str)) {
        let Waiting { notice, failures } = waiting;
        if now - notice.at > AGE_MAX {
            tracing::warn!(webhook.id = notice.id, "a webhook was given up: nobody takes it");
            settled(&notice.id);
            return;
        }
        let delay = DELAY_MIN.saturating_mul(1 << failures.min(10)).min(DELAY_MAX);
        self.queue(Instant::now() + delay, Waiting { notice, failures: failures + 1 });
    }
}

fn client() -> Result<reqwest::Client, reqwest::Error> {
    // Somebody may have chosen a provider before: that is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(TIMEOUT).build()
}

#[derive(Debug)]
struct Courier {
    client: reqwest::Client,
    url: String,
    secret: String,
    sign: Sign,
    clock: fn() -> DateTime<Utc>,
}

impl Courier {
    async fn deliver(self: Arc<Self>, waiting: Waiting) -> (Waiting, bool) {
        let body = waiting.notice.body.clone();
        // Signed anew for each attempt: receivers refuse old signatures.
        let (header, signature) = (self.sign)(&self.secret, &body, (self.clock)());
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header(header, signature)
            .body(body);
        let taken = match request.send().await {
            Ok(answer) if answer.status().is_success() => true,
            Ok(answer) => {
                tracing::debug!(webhook.id = waiting.notice.id, status = %answer.status(), "a webhook was not taken");
                false
            }
            Err(error) => {
                tracing::debug!(webhook.id = waiting.notice.id, %error, "a webhook was not taken");
                false
            }
        };
        (waiting, taken)
    }
}
