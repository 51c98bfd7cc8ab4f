//! How often one caller may ask: a bucket for each caller and group of routes that refills evenly.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use quick_cache::sync::Cache;

use crate::Problem;

/// What is left to a caller.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What they have in all.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The window that a rate is counted in, in microseconds.
const WINDOW_US: i64 = 60_000_000;
/// Callers whose bucket is remembered in each group; others begin anew.
const CALLERS_MAX: usize = 16 * 1024;
/// The group of what is in no other.
const OTHERS: &str = "others";

/// What is no group of routes: tokens that turn out to be no good, by the address they come from.
const BAD_TOKENS: &str = "bad-tokens";
/// How many of them a minute, unless told otherwise.
const BAD_TOKENS_RATE: u32 = 120;

/// Requests a minute that one caller may make, by group: the part of the path behind `/v1/`; and
/// `bad-tokens` a minute that may come from one address. Without any, nothing is counted. Each
/// process counts for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rates(BTreeMap<String, u32>);

/// What is wrong with a text that should tell rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatesError;

impl fmt::Display for RatesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "expected `none`, or requests a minute as `orders=500,payments=200,others=1000`",
        )
    }
}

impl std::error::Error for RatesError {}

impl FromStr for Rates {
    type Err = RatesError;

    fn from_str(text: &str) -> Result<Self, RatesError> {
        if text == "none" {
            return Ok(Self::default());
        }
        let pair = |pair: &str| {
            let (group, rate) = pair.trim().split_once('=')?;
            let rate = rate.parse().ok().filter(|rate| (1..=10_000_000).contains(rate))?;
            let named =
                !group.is_empty() && group.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
            named.then(|| (group.to_owned(), rate))
        };
        let pairs = text.split(',').map(|text| pair(text).ok_or(RatesError));
        let mut rates = pairs.collect::<Result<BTreeMap<_, _>, _>>()?;
        rates.entry(BAD_TOKENS.to_owned()).or_insert(BAD_TOKENS_RATE);
        Ok(Self(rates))
    }
}

impl Rates {
    /// The limit of each group that `paths` belong to.
    pub(crate) fn limits(&self) -> Limits {
        let limit =
            |(name, rate): (&String, &u32)| (name.clone(), Arc::new(Limit::new(name, *rate)));
        Limits(self.0.iter().map(limit).collect())
    }
}

/// The limits of all groups.
#[derive(Debug)]
pub(crate) struct Limits(BTreeMap<String, Arc<Limit>>);

impl Limits {
    /// The limit of a path, if it has one.
    pub(crate) fn of(&self, path: &str) -> Option<Arc<Limit>> {
        let group = path.split('/').nth(2).unwrap_or_default();
        self.0.get(group).or_else(|| self.0.get(OTHERS)).cloned()
    }

    /// The limit of tokens that are no good, if there is one.
    pub(crate) fn of_guesses(&self) -> Option<Arc<Limit>> {
        self.0.get(BAD_TOKENS).cloned()
    }
}

/// How often whoever calls from somewhere may still bring a token that is no good. A signature
/// costs us more to look at than it costs them to make up.
pub(crate) struct Guesses<'a> {
    limit: &'a Limit,
    from: IpAddr,
    /// In microseconds since whenever.
    now: i64,
}

impl<'a> Guesses<'a> {
    pub(crate) fn new(limit: &'a Limit, from: IpAddr, now: i64) -> Self {
        Self { limit, from, now }
    }

    /// Whether there is one left.
    ///
    /// # Errors
    /// 429 where there is none.
    pub(crate) fn left(&self) -> Result<(), Problem> {
        let full_at = self.limit.full_at.get(&self.origin());
        let full_at = full_at.map_or(0, |bucket| bucket.load(Ordering::Relaxed));
        take(full_at, self.now, self.limit.rate).map(drop).map_err(|wait| {
            let detail = "too many tokens that are no good came from this address";
            let wait = u32::try_from(seconds(wait)).unwrap_or(u32::MAX);
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(wait)
        })
    }

    /// Counts one. Those that were looked at meanwhile may be more than there were left.
    pub(crate) fn wrong(&self) {
        let _ = self.limit.count(&self.origin(), self.now);
    }

    /// An address; where everybody has plenty of them, all that belong together.
    fn origin(&self) -> Arc<str> {
        let origin = match self.from.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).to_string(),
        };
        origin.into()
    }
}

/// The limit of one group.
pub(crate) struct Limit {
    name: String,
    rate: u32,
    /// When each caller's bucket is full again, in microseconds.
    full_at: Cache<Arc<str>, Arc<AtomicI64>>,
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a caller stands after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    /// Requests that may follow at once.
    left: i64,
    /// Seconds until all of them are there again.
    full_in_s: i64,
}

/// Takes one request out of a bucket that is full again at `full_at`. Else when to ask again, in
/// microseconds.
///
/// Source: the generic cell rate algorithm, ITU-T I.371, as virtual scheduling.
fn take(full_at: i64, now: i64, rate: u32) -> Result<(i64, Standing), i64> {
    let one = WINDOW_US / i64::from(rate);
    let next = full_at.max(now) + one;
    let owed = next - now;
    if owed > WINDOW_US {
        return Err(owed - WINDOW_US);
    }
    let standing = Standing { left: (WINDOW_US - owed) / one, full_in_s: seconds(owed) };
    Ok((next, standing))
}

/// Whole seconds, and never too few.
fn seconds(us: i64) -> i64 {
    (us + 999_999) / 1_000_000
}

impl Limit {
    fn new(name: &str, rate: u32) -> Self {
        Self { name: name.to_owned(), rate, full_at: Cache::new(CALLERS_MAX) }
    }

    /// Counts a request at `now`, in microseconds since whenever, and gives the headers that tell
    /// the caller how they stand.
    ///
    /// # Errors
    /// 429 where it is one too many.
    pub(crate) fn count(&self, caller: &Arc<str>, now: i64) -> Result<HeaderMap, Problem> {
        let bucket = self.full_at.get(caller).unwrap_or_else(|| {
            let bucket = Arc::new(AtomicI64::new(0));
            self.full_at.insert(caller.clone(), bucket.clone());
            bucket
        });
        let mut full_at = bucket.load(Ordering::Relaxed);
        loop {
            let (next, standing) = match take(full_at, now, self.rate) {
                Ok(taken) => taken,
                Err(wait) => return Err(self.too_many(wait)),
            };
            let set =
                bucket.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed);
            match set {
                Ok(_) => return Ok(self.headers(standing).into_iter().collect()),
                Err(found) => full_at = found,
            }
        }
    }

    /// As in draft-ietf-httpapi-ratelimit-headers-10.
    fn headers(&self, Standing { left, full_in_s }: Standing) -> Vec<(HeaderName, HeaderValue)> {
        let Self { name, rate, .. } = self;
        let policy = HeaderValue::try_from(format!("\"{name}\";q={rate};w=60"));
        let limit = HeaderValue::try_from(format!("\"{name}\";r={left};t={full_in_s}"));
        let pairs = [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, limit)];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value.ok()?))).collect()
    }

    fn too_many(&self, wait: i64) -> Problem {
        let detail = format!("{} requests a minute are yours in this group", self.rate);
        let wait = seconds(wait);
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
            .retry_after(u32::try_from(wait).unwrap_or(u32::MAX));
        let standing = Standing { left: 0, full_in_s: wait };
        self.headers(standing)
            .into_iter()
            .fold(problem, |problem, (name, value)| problem.with_header(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_emptied_and_fills_again_evenly() {
        let limit = Limit::new("orders", 3);
        let caller: Arc<str> = "ada".into();
        let left = |now| {
            let headers = limit.count(&caller, now);
            headers.map(|headers| headers[RATE_LIMIT].to_str().unwrap().to_owned())
        };
        assert_eq!(left(0).unwrap(), "\"orders\";r=2;t=20");
        assert_eq!(left(0).unwrap(), "\"orders\";r=1;t=40");
        assert_eq!(left(0).unwrap(), "\"orders\";r=0;t=60");
        let problem = left(1).unwrap_err();
        assert_eq!((problem.status().as_u16(), problem.code()), (429, "rate_limited"));
        assert_eq!(left(20_000_000).unwrap(), "\"orders\";r=0;t=60");
        assert!(left(20_000_000).is_err());
        assert_eq!(left(80_000_000).unwrap(), "\"orders\";r=2;t=20");
        assert!(limit.count(&"bob".into(), 1).is_ok(), "others have buckets of their own");
    }

    #[test]
    fn whoever_guesses_is_told_to_wait_by_address() {
        let limit = Limit::new(BAD_TOKENS, 2);
        let guesses = |from: &str, now| Guesses::new(&limit, from.parse().unwrap(), now);
        for _ in 0..3 {
            assert!(guesses("10.0.0.7", 0).left().is_ok(), "asking costs nothing");
        }
        guesses("10.0.0.7", 0).wrong();
        guesses("::ffff:10.0.0.7", 0).wrong();
        let problem = guesses("10.0.0.7", 0).left().unwrap_err();
        assert_eq!((problem.status().as_u16(), problem.code()), (429, "rate_limited"));
        assert!(guesses("10.0.0.8", 0).left().is_ok(), "others are others");
        assert!(guesses("10.0.0.7", 30_000_000).left().is_ok());
        guesses("2001:db8::1", 0).wrong();
        guesses("2001:db8::2:1", 0).wrong();
        assert!(guesses("2001:db8::3", 0).left().is_err(), "these belong to one");
        assert!(guesses("2001:db8:0:1::1", 0).left().is_ok());
    }

    #[test]
    fn rates_are_read_by_group() {
        let rates: Rates = "orders=500, others=1000".parse().unwrap();
        let limits = rates.limits();
        let name = |path| limits.of(path).map(|limit| (limit.name.clone(), limit.rate));
        assert_eq!(name("/v1/orders/{order_id}"), Some(("orders".to_owned(), 500)));
        assert_eq!(name("/v1/stock"), Some(("others".to_owned(), 1000)));
        assert_eq!("none".parse::<Rates>(), Ok(Rates::default()));
        assert_eq!(limits.of_guesses().map(|limit| limit.rate), Some(BAD_TOKENS_RATE));
        let limits = "bad-tokens=7".parse::<Rates>().unwrap().limits();
        assert_eq!(limits.of_guesses().map(|limit| limit.rate), Some(7));
        assert!(limits.of("/v1/orders").is_none());
        assert!(Rates::default().limits().of("/v1/orders").is_none());
        assert!(Rates::default().limits().of_guesses().is_none());
        for bad in ["", "orders", "orders=", "orders=0", "orders=-1", "ORDERS=1", "=5", "a=1,,b=2"]
        {
            assert_eq!(bad.parse::<Rates>(), Err(RatesError), "{bad}");
        }
    }
}
