//! Access tokens: JSON Web Tokens (RFC 7519) that an identity provider signed.
//!
//! The key decides how a signature is verified, never the token: each key of the provider's set is
//! pinned to one of RS256, ES256 and `EdDSA`, and a token that says otherwise is refused. What a
//! token turned out to say is remembered by its digest, so that a signature is verified once and
//! not for every request.

mod issuer;
mod keys;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::caller::CUSTOMER_PREFIX;
use crate::rate::Guesses;
use crate::{Caller, Problem};

pub use issuer::{Grant, Issuer};
pub use keys::{KeySet, KeySetError};

/// The longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// The longest `sub`, in bytes.
const SUBJECT_BYTES_MAX: usize = 128;
/// How far the provider's clock may be from ours, in seconds.
const SKEW_S: i64 = 30;
/// How long keys are used before they are fetched again, in seconds.
const KEYS_AGE_MAX_S: i64 = 600;
/// How long keys are believed while the provider is away, in seconds; then nobody passes.
const KEYS_BELIEVED_MAX_S: i64 = 3600;
/// How long after an attempt to fetch keys the next one is made at the earliest, in seconds:
/// tokens of unknown keys cost the provider nothing.
const FETCH_PAUSE_S: i64 = 30;
/// How long fetching keys may take.
const FETCH_MAX: Duration = Duration::from_secs(5);
/// How long after its last request a customer's token still counts as in use, in seconds.
const SESSION_IDLE_MAX_S: i64 = 15 * 60;
/// Tokens whose verdict is remembered.
const VERDICTS_MAX: usize = 16 * 1024;

/// Seconds since 1970.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a key set is had: its text, or why there is none.
pub type Fetch = Arc<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// Where the keys of the identity provider come from.
#[derive(Clone)]
pub enum Keys {
    /// They never change.
    Fixed(KeySet),
    /// They are fetched when they are needed, and again after ten minutes or for a token whose key
    /// is unknown.
    Fetched(Fetch),
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(keys) => f.debug_tuple("Fixed").field(keys).finish(),
            Self::Fetched(_) => f.write_str("Fetched(..)"),
        }
    }
}

/// Whose tokens are believed. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    issuer: String,
    audience: String,
    now: Now,
    /// What the age of keys is counted from, by a clock that nobody sets.
    began: Instant,
    fetch: Option<Fetch>,
    /// None until they were fetched for the first time.
    keys: RwLock<Option<Arc<KeySet>>>,
    /// Grows with every key set.
    generation: AtomicU64,
    /// In seconds since it began, as the next.
    fetched_at: AtomicI64,
    tried_at: AtomicI64,
    fetching: Mutex<Fetching>,
    verdicts: Cache<[u8; 32], Arc<Verdict>>,
}

/// Whether keys are being fetched: by a task, so that it ends whoever hangs up meanwhile.
#[derive(Default)]
struct Fetching {
    tasks: JoinSet<()>,
    /// Closed once they are there, or cannot be had.
    going: Option<watch::Receiver<()>>,
}

/// What a token with a good signature says.
struct Verdict {
    caller: Caller,
    expires_at: i64,
    begins_at: i64,
    generation: u64,
    /// When it was last brought.
    seen_at: AtomicI64,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("issuer", &self.0.issuer)
            .field("audience", &self.0.audience)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// Text, or a list of texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Texts,
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    /// Scopes with spaces between them (RFC 8693, 4.2).
    scope: Option<String>,
    /// The same as some providers write it.
    scp: Option<Texts>,
    customer: Option<String>,
}

impl Tokens {
    /// Believes what `issuer` signed for `audience` with one of `keys`.
    #[must_use]
    pub fn new(issuer: &str, audience: &str, keys: Keys, now: Now) -> Self {
        let (keys, fetch) = match keys {
            Keys::Fixed(keys) => (Some(Arc::new(keys)), None),
            Keys::Fetched(fetch) => (None, Some(fetch)),
        };
        Self(Arc::new(Inner {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            now,
            began: Instant::now(),
            fetch,
            keys: RwLock::new(keys),
            generation: AtomicU64::new(0),
            fetched_at: AtomicI64::new(i64::MIN / 2),
            tried_at: AtomicI64::new(i64::MIN / 2),
            fetching: Mutex::default(),
            verdicts: Cache::new(VERDICTS_MAX),
        }))
    }

    /// Believes nobody.
    #[must_use]
    pub fn none() -> Self {
        Self::new("", "", Keys::Fixed(KeySet::default()), Arc::new(|| 0))
    }

    /// How many tokens of customers are in use.
    #[must_use]
    pub fn sessions(&self) -> usize {
        let now = (self.0.now)();
        self.0.verdicts.iter().filter(|(_, verdict)| verdict.is_session(now)).count()
    }

    /// Whom `token` speaks for.
    ///
    /// # Errors
    /// 401 where it is not a token of ours, or not now; 503 where that cannot be told since the
    /// keys cannot be had.
    pub async fn caller(&self, token: &str) -> Result<Caller, Problem> {
        self.caller_among(token, None).await
    }

    /// The same, where whoever brings it has so many guesses. A token that is remembered is none.
    ///
    /// # Errors
    /// 429 where there were too many; else as [`Self::caller`].
    pub(crate) async fn caller_among(
        &self,
        token: &str,
        guesses: Option<Guesses<'_>>,
    ) -> Result<Caller, Problem> {
        let inner = &self.0;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused("it is too long"));
        }
        let now = (inner.now)();
        inner.renew().await;
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let generation = inner.generation.load(Ordering::Acquire);
        let known = inner.verdicts.get(&digest);
        let known = known.filter(|known| known.generation == generation && !inner.is_stale());
        if let Some(verdict) = known {
            return verdict.at(now);
        }
        if let Some(guesses) = &guesses {
            guesses.left()?;
        }
        let verified = inner.verify(token).await;
        let wrong =
            matches!(&verified, Err(problem) if problem.status() == StatusCode::UNAUTHORIZED);
        if let Some(guesses) = guesses.filter(|_| wrong) {
            guesses.wrong();
        }
        let verdict = Arc::new(verified?);
        inner.verdicts.insert(digest, verdict.clone());
        verdict.at(now)
    }
}

impl Verdict {
    fn at(&self, now: i64) -> Result<Caller, Problem> {
        if now >= self.expires_at.saturating_add(SKEW_S) {
            return Err(refused("it has expired"));
        }
        if now < self.begins_at.saturating_sub(SKEW_S) {
            return Err(refused("it is not valid yet"));
        }
        self.seen_at.store(now, Ordering::Relaxed);
        let left = self.expires_at.saturating_add(SKEW_S).saturating_sub(now);
        Ok(self.caller.clone().until(Duration::from_secs(left.unsigned_abs())))
    }

    fn is_session(&self, now: i64) -> bool {
        let idle = now.saturating_sub(self.seen_at.load(Ordering::Relaxed));
        self.caller.is_customer() && idle < SESSION_IDLE_MAX_S && now < self.expires_at
    }
}

impl Inner {
    async fn verify(self: &Arc<Self>, token: &str) -> Result<Verdict, Problem> {
        let malformed = || refused("it is not a signed JSON Web Token");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed());
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed())?;
        let kinds = ["JWT", "at+jwt", "application/at+jwt"];
        let kind = header.typ.as_deref();
        if header.crit.is_some()
            || kind.is_some_and(|kind| !kinds.iter().any(|k| k.eq_ignore_ascii_case(kind)))
        {
            return Err(refused("it is of a kind that is not known here"));
        }
        let signature = decode(signature)?;
        let named = header.kid.as_deref();
        if !self.has_key(named)
            && let Some(going) = self.fetching()
        {
            ended(going).await;
        }
        // The generation is read before the keys: what is newer is only looked at once more.
        let generation = self.generation.load(Ordering::Acquire);
        let Some(keys) = self.keys() else {
            let detail = "the keys of the identity provider cannot be had; try again";
            return Err(Problem::unavailable("dependency_unavailable", detail));
        };
        let key = keys.find(named).ok_or_else(|| refused("nobody here knows its key"))?;
        if !key.verifies(&header.alg, signed.as_bytes(), &signature) {
            return Err(refused("its signature is wrong"));
        }
        let claims: Claims = serde_json::from_slice(&decode(claims)?)
            .map_err(|_| refused("it lacks one of iss, aud, sub and exp"))?;
        self.read(claims, generation)
    }

    /// What the claims of a token with a good signature say.
    fn read(&self, claims: Claims, generation: u64) -> Result<Verdict, Problem> {
        let Claims { iss, aud, sub, exp, nbf, scope, scp, customer } = claims;
        if iss != self.issuer {
            return Err(refused("another issuer made it"));
        }
        let ours = match &aud {
            Texts::One(one) => *one == self.audience,
            Texts::Many(many) => many.contains(&self.audience),
        };
        if !ours {
            return Err(refused("it is for another audience"));
        }
        let fits = (1..=SUBJECT_BYTES_MAX).contains(&sub.len())
            && sub.bytes().all(|b| b.is_ascii_graphic());
        if !fits {
            return Err(refused("its sub is not 1 to 128 visible ASCII characters"));
        }
        let listed = match &scp {
            None => Vec::new(),
            Some(Texts::One(one)) => one.split_ascii_whitespace().collect(),
            Some(Texts::Many(many)) => many.iter().map(String::as_str).collect(),
        };
        let scopes = scope.as_deref().unwrap_or_default().split_ascii_whitespace();
        let scopes: Vec<_> = scopes.chain(listed).collect();
        let customer =
            customer.as_deref().or_else(|| sub.starts_with(CUSTOMER_PREFIX).then_some(&*sub));
        #[expect(clippy::cast_possible_truncation, reason = "whole seconds, and `as` saturates")]
        let seconds = |time: f64| time.floor() as i64;
        Ok(Verdict {
            caller: Caller::new(&sub, customer, &scopes),
            expires_at: seconds(exp),
            begins_at: nbf.map_or(i64::MIN, seconds),
            generation,
            seen_at: AtomicI64::new(i64::MIN),
        })
    }

    fn keys(&self) -> Option<Arc<KeySet>> {
        if self.is_stale() {
            return None;
        }
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_key(&self, kid: Option<&str>) -> bool {
        self.keys().is_some_and(|keys| keys.find(kid).is_some())
    }

    /// Seconds since it began.
    fn elapsed(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_secs()).unwrap_or(i64::MAX / 2)
    }

    fn age(&self) -> i64 {
        self.elapsed().saturating_sub(self.fetched_at.load(Ordering::Relaxed))
    }

    /// Whether the keys are too old to be believed: who has lost theirs may have said so since.
    fn is_stale(&self) -> bool {
        self.fetch.is_some() && self.age() >= KEYS_BELIEVED_MAX_S
    }

    /// Has keys that are old fetched again. Whoever comes meanwhile goes on with those, for as long
    /// as they are believed.
    async fn renew(self: &Arc<Self>) {
        if self.fetch.is_none() || self.age() < KEYS_AGE_MAX_S {
            return;
        }
        let going = self.fetching();
        if let Some(going) = going.filter(|_| self.is_stale()) {
            ended(going).await;
        }
    }

    /// Has keys fetched, unless that was tried just now. Closed once that has ended; whoever comes
    /// meanwhile is given the same.
    fn fetching(self: &Arc<Self>) -> Option<watch::Receiver<()>> {
        let fetch = self.fetch.clone()?;
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(going) = fetching.going.as_ref().filter(|going| going.has_changed().is_ok()) {
            return Some(going.clone());
        }
        let now = self.elapsed();
        if now.saturating_sub(self.tried_at.load(Ordering::Relaxed)) < FETCH_PAUSE_S {
            return None;
        }
        self.tried_at.store(now, Ordering::Relaxed);
        while fetching.tasks.try_join_next().is_some() {}
        let (done, going) = watch::channel(());
        let inner = self.clone();
        fetching.tasks.spawn(async move {
            inner.take(&fetch, now).await;
            drop(done);
        });
        fetching.going = Some(going.clone());
        Some(going)
    }

    async fn take(&self, fetch: &Fetch, now: i64) {
        let fetched = match tokio::time::timeout(FETCH_MAX, fetch()).await {
            Ok(fetched) => fetched,
            Err(_) => Err("it took too long".to_owned()),
        };
        let parsed = fetched.and_then(|text| KeySet::parse(&text).map_err(|e| e.to_string()));
        match parsed {
            Ok(keys) => {
                let mut held = self.keys.write().unwrap_or_else(PoisonError::into_inner);
                *held = Some(Arc::new(keys));
                self.generation.fetch_add(1, Ordering::Release);
                self.fetched_at.store(now, Ordering::Relaxed);
            }
            Err(why) => {
                tracing::warn!(why, "the keys of the identity provider could not be fetched");
            }
        }
    }
}

/// Waits until it is closed.
async fn ended(mut going: watch::Receiver<()>) {
    while going.changed().await.is_ok() {}
}

fn refused(why: &str) -> Problem {
    Problem::unauthorised(&format!("the token is not taken: {why}"))
}
