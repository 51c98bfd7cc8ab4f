//! Everything that delivers is broken at random while orders flow: every effect happens once.
//!
//! Goal: however processes, NATS and Postgres are treated, every read model equals a replay of the
//! log in the end, and every count of effects equals the count of events.
//! Method: every role as processes of its own on a private Postgres and NATS; kills, freezes,
//! silence, wiped and forged streams, and consumers spread over more and fewer workers, as drawn
//! from the seed; meanwhile callers place orders and send each again until it is answered.
//!
//! `WAYBILL_STORM_SEED` repeats the troubles of a run, though not the moments at which they meet;
//! `WAYBILL_STORM_SECONDS` makes a run longer.

mod fleet;
mod trouble;

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use schemas::Chance;
use serde_json::Value;
use tests::chaos::Dice;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waybill::embedded::Servers;

use crate::delivery::Log;
use crate::world::{key, order};
use crate::{services, tokens};

use fleet::{Fleet, PAYMENT_KEY};
use trouble::Troubles;

/// How long trouble is made, in seconds, unless `WAYBILL_STORM_SECONDS` says otherwise.
const SECONDS: u64 = 40;

/// Callers that place orders.
const CALLERS: u64 = 4;

/// Units of the one sku that all orders are about.
const UNITS: u32 = 500_000;

/// How long nothing may move when the trouble is over and not all is at rest.
const STANDSTILL_MAX: Duration = Duration::from_mins(2);

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

fn client() -> reqwest::Client {
    let bearer = format!("Bearer {}", tokens::token(&tokens::issuer(7), None, &tokens::scopes()));
    let headers = [(AUTHORIZATION, HeaderValue::try_from(bearer).unwrap())];
    let builder = reqwest::Client::builder().timeout(Duration::from_secs(10));
    builder.default_headers(headers.into_iter().collect()).build().unwrap()
}

/// Sends a request until it is answered with one of these statuses.
async fn insist(
    http: &reqwest::Client,
    url: &str,
    key: &str,
    body: &Value,
    statuses: &[u16],
) -> (u16, Value) {
    loop {
        let request = http.post(url).header("idempotency-key", key).json(body);
        if let Ok(answer) = request.send().await {
            let status = answer.status().as_u16();
            let body = answer.json().await;
            match body {
                Ok(body) if statuses.contains(&status) => return (status, body),
                _ if status >= 500 => {}
                body => panic!("{url}: {status} {body:?}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Places orders until told to stop: most are paid, some declined, some cancelled at once.
async fn shop(url: String, mut dice: Dice, stop: CancellationToken) -> usize {
    let http = client();
    let mut placed = 0;
    while !stop.is_cancelled() {
        let declined = dice.chance(15);
        let method = if declined { "pm_card_chargeDeclinedStolenCard" } else { "pm_card_visa" };
        let body = order(&[("mug", 1)], method);
        let (_, order) = insist(&http, &format!("{url}/v1/orders"), &key(), &body, &[201]).await;
        placed += 1;
        if dice.chance(15) {
            let url = format!("{url}/v1/orders/{}/cancel", order["id"].as_str().unwrap());
            let reason = serde_json::json!({ "reason": "customer" });
            // It may have been rejected in the meantime.
            insist(&http, &url, &key(), &reason, &[200, 202, 409]).await;
        }
    }
    placed
}

/// Waits until `missing` says nothing any more; fails where it says the same for too long.
async fn rest(what: &str, mut missing: impl AsyncFnMut() -> Option<String>) {
    let mut moved = (String::new(), Instant::now());
    while let Some(now) = missing().await {
        if now != moved.0 {
            moved = (now, Instant::now());
        }
        let (said, since) = &moved;
        assert!(since.elapsed() < STANDSTILL_MAX, "{what}, but for {STANDSTILL_MAX:?}: {said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Every order has come to its end or waits for the warehouse, and everybody is at the head.
async fn at_rest(log: &Log, placed: i64) {
    rest("all orders come to rest", async || {
        let found: Result<(i64, i64), _> = sqlx::query_as(
            "select count(*), count(*) filter (where status in ('confirmed', 'cancelled', 'rejected'))
             from read_models.order_summary",
        )
        .fetch_one(&log.database)
        .await;
        let Ok((known, resting)) = found else { return Some("the database is away".to_owned()) };
        (resting < placed).then(|| format!("{resting} of {known} rest, {placed} were placed"))
    })
    .await;
    rest("everybody is at the head", async || {
        let Ok(parts) = event_store::positions(&log.database).await else {
            return Some("the database is away".to_owned());
        };
        let behind = parts.iter().filter(|part| part.lag_events() > 0);
        let behind: Vec<_> = behind
            .map(|part| format!("{} {} {}", part.consumer, part.slices(), part.position))
            .collect();
        (!behind.is_empty()).then(|| behind.join("\n"))
    })
    .await;
}

/// Every read model is what a replay of the whole log makes of it.
async fn replays_agree(log: &Log, nats_url: &str) {
    let options = event_store::Options {
        database_url: log.url.clone(),
        log: log.name.clone(),
        connections_max: 6,
    };
    let nats = services::client(nats_url).await;
    let (store, _writer) = event_store::Store::open(&options, Some(nats)).await.unwrap();
    for name in projections::names() {
        let before = projections::fingerprint(store.pool(), name).await.unwrap();
        let how = projections::Rebuild::new(Chance::system());
        projections::rebuild(&store, name, how, |_| {}).await.unwrap();
        let after = projections::fingerprint(store.pool(), name).await.unwrap();
        assert_eq!(before, after, "{name} is not what its events say");
    }
}

/// A count from the database.
async fn count(log: &Log, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(&log.database).await.unwrap()
}

/// What happened outside and inside is as much as the events say.
async fn effects_are_counted(log: &Log, fleet: &Fleet) {
    let head = count(log, "select max(position) from events").await;
    assert!(event_store::parked::counts(&log.database).await.unwrap().is_empty());
    // Its key refuses what comes twice.
    let seen = log.seen("scribe").await;
    let missing = (1..=head).find(|position| seen.binary_search(position).is_err());
    assert_eq!((missing, seen.len()), (None, usize::try_from(head).unwrap()));
    let confirmed =
        count(log, "select count(*) from read_models.order_summary where status = 'confirmed'")
            .await;
    let reserved =
        count(log, "select reserved from read_models.stock_level where sku = 'mug'").await;
    assert_eq!(reserved, confirmed, "one unit for each order that is confirmed, and no other");
    // The provider's own books: money is held for these orders and for no other, once.
    let url = format!("{}/sandbox/books?limit=1", fleet.payment_url());
    let books = client().get(url).bearer_auth(PAYMENT_KEY).send().await.unwrap();
    let books: Value = books.json().await.unwrap();
    let authorised = &books["currencies"]["eur"]["authorised_open"];
    assert_eq!(authorised, &Value::from(confirmed * 1_250), "{books}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_effect_happens_once_whatever_breaks_on_the_way() {
    let seed = number("WAYBILL_STORM_SEED")
        .unwrap_or_else(|| schemas::Ids::system().next().as_u64_pair().1 >> 16);
    let seconds = number("WAYBILL_STORM_SECONDS").unwrap_or(SECONDS);
    eprintln!("WAYBILL_STORM_SEED={seed} WAYBILL_STORM_SECONDS={seconds} repeats this run");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let servers = Servers::start(&services::folder(&format!("storm-{seed}"))).await.unwrap();
    let url = servers.postgres.database("waybill").await.unwrap();
    let nats_url = servers.nats.url();
    let log = Log::at(url.clone(), &nats_url).await;
    // The stream of the one sku grows beyond what other tests take for poison.
    log.execute("alter table seen drop constraint seen_version_check").await;
    let mut fleet = Fleet::start(&log, &nats_url, seed).await;
    fleet.stock("mug", UNITS).await;

    let stop = CancellationToken::new();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(shop(fleet.command_url(), Dice::new(&[seed, caller]), stop.clone()));
    }
    let mut troubles = Troubles::new(&log, &servers, seed);
    troubles.make(&mut fleet, Duration::from_secs(seconds)).await;
    stop.cancel();
    let placed: usize = callers.join_all().await.into_iter().sum();
    let placed = i64::try_from(placed).unwrap();
    troubles.end(&mut fleet).await;

    let calm = Instant::now();
    at_rest(&log, placed).await;
    let calm = calm.elapsed();
    let events = count(&log, "select max(position) from events").await;
    eprintln!("{placed} orders, {events} events; {}; at rest after {calm:.1?}", troubles.told());
    effects_are_counted(&log, &fleet).await;
    replays_agree(&log, &nats_url).await;
    assert!(troubles.all_kinds_happened(seconds), "{}", troubles.told());
    fleet.stop().await;
    servers.stop().await;
}
