//! Load, decide, append: decided on what is so, once.

use std::collections::BTreeMap;

use event_store::{AppendError, Done, Error, ExecuteError, Meta, Store};
use futures_util::future::join_all;
use schemars::JsonSchema;
use schemas::{Category, Decider, StreamId};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Log, append, log, meta, order};

/// What some accounts hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Accounts(BTreeMap<Uuid, i64>);

enum Command {
    Deposit {
        to: Uuid,
        amount: i64,
    },
    Move {
        from: Uuid,
        to: Uuid,
        amount: i64,
    },
    /// Something happens to an account that the command does not name.
    Stray,
}

#[derive(Debug, Serialize, Deserialize)]
enum Event {
    #[serde(rename = "order.credited.v1")]
    Credited { account: Uuid, amount: i64 },
}

#[derive(Debug, thiserror::Error)]
#[error("only {0} left")]
struct Short(i64);

impl schemas::Event for Event {
    const CATEGORY: Category = Category::Order;
}

impl schemas::Refusal for Short {
    fn code(&self) -> &'static str {
        "short"
    }
}

impl Decider for Accounts {
    const NAME: &'static str = "accounts";
    type Command = Command;
    type Event = Event;
    type Refusal = Short;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Short> {
        let credit = |account, amount| Event::Credited { account, amount };
        match *command {
            Command::Deposit { amount: 0, .. } | Command::Move { amount: 0, .. } => Ok(vec![]),
            Command::Deposit { to, amount } => Ok(vec![credit(to, amount)]),
            Command::Move { from, to, amount } => match self.balance(from) {
                left if left < amount => Err(Short(left)),
                _ => Ok(vec![credit(from, -amount), credit(to, amount)]),
            },
            Command::Stray => Ok(vec![credit(Uuid::nil(), 1)]),
        }
    }

    fn evolve(mut self, Event::Credited { account, amount }: &Event) -> Self {
        *self.0.entry(*account).or_default() += amount;
        self
    }

    fn stream_of(Event::Credited { account, .. }: &Event) -> Option<StreamId> {
        Some(StreamId::new(Category::Order, *account))
    }

    fn join(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl Accounts {
    fn balance(&self, account: Uuid) -> i64 {
        self.0.get(&account).copied().unwrap_or_default()
    }
}

async fn deposit(
    store: &Store,
    to: StreamId,
    amount: i64,
    meta: &Meta,
) -> Result<Done, ExecuteError> {
    store.execute::<Accounts>(&[to], &Command::Deposit { to: to.id, amount }, meta).await
}

async fn transfer(
    store: &Store,
    from: StreamId,
    to: StreamId,
    amount: i64,
    meta: &Meta,
) -> Result<Done, ExecuteError> {
    let command = Command::Move { from: from.id, to: to.id, amount };
    store.execute::<Accounts>(&[from, to], &command, meta).await
}

async fn balance(store: &Store, account: StreamId) -> i64 {
    store.load::<Accounts>(account).await.unwrap().state.balance(account.id)
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_races_for_a_stream_gets_through() {
    let (url, first) = log().await;
    let second = Log::open(&url).await;
    let account = order();
    let mut writers = JoinSet::new();
    for index in 0..40 {
        let store = if index % 2 == 0 { &first.store } else { &second.store }.clone();
        writers.spawn(async move {
            for _ in 0..5 {
                deposit(&store, account, 1, &meta()).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    for log in [first, second] {
        assert_eq!(balance(&log.store, account).await, 200);
        assert_eq!(log.store.load::<Accounts>(account).await.unwrap().version, 200);
        log.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_spends_what_is_not_there() {
    let (url, first) = log().await;
    let second = Log::open(&url).await;
    let (source, target) = (order(), order());
    deposit(&first.store, source, 30, &meta()).await.unwrap();
    let mut writers = JoinSet::new();
    for index in 0..100 {
        let store = if index % 2 == 0 { &first.store } else { &second.store }.clone();
        writers.spawn(async move {
            match transfer(&store, source, target, 1, &meta()).await {
                Ok(_) => true,
                Err(ExecuteError::Refused { refused, replayed: false }) => {
                    assert_eq!(
                        (refused.code.as_str(), refused.detail.as_str()),
                        ("short", "only 0 left")
                    );
                    false
                }
                Err(error) => panic!("{error:?}"),
            }
        });
    }
    let wins = writers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(wins, 30);
    assert_eq!(balance(&second.store, source).await, 0);
    assert_eq!(balance(&first.store, target).await, 30);
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn commands_on_one_stream_share_a_batch() {
    let (_, log) = log().await;
    let account = order();
    deposit(&log.store, account, 1, &meta()).await.unwrap();
    let metas: Vec<_> = (0..100).map(|_| meta()).collect();
    let done = join_all(metas.iter().map(|meta| deposit(&log.store, account, 1, meta))).await;
    assert!(done.into_iter().map(|done| done.unwrap().version).eq(2..=101));
    let times = log.store.read(1, 100).await.unwrap();
    let mut times: Vec<_> = times.iter().map(|event| event.recorded_at).collect();
    times.dedup();
    assert!(times.len() <= 3, "{} batches", times.len());
    log.end().await;
}

#[tokio::test]
async fn a_retry_hears_what_the_first_call_heard() {
    let (url, log) = log().await;
    let other = Log::open(&url).await;
    let (a, b) = (order(), order());
    deposit(&log.store, a, 5, &meta()).await.unwrap();
    let (moved, nothing) = (meta(), meta());
    let first = transfer(&log.store, a, b, 5, &moved).await.unwrap();
    let idle = transfer(&log.store, a, b, 0, &nothing).await.unwrap();
    assert_eq!((idle.version, idle.position, idle.replayed), (2, 3, false));

    // Decided anew, the first would be refused and the second stand at another version.
    deposit(&log.store, a, 1, &meta()).await.unwrap();
    for store in [&log.store, &other.store] {
        for keep_refusal in [true, false] {
            let moved = Meta { keep_refusal, ..moved.clone() };
            let again = transfer(store, a, b, 5, &moved).await.unwrap();
            assert_eq!(again, Done { replayed: true, ..first });
        }
        let again = transfer(store, a, b, 0, &nothing).await.unwrap();
        assert_eq!(again, Done { replayed: true, ..idle });
        let different = Meta { request_hash: [9; 32], keep_refusal: false, ..moved.clone() };
        let error = transfer(store, a, b, 5, &different).await.unwrap_err();
        assert!(matches!(error, ExecuteError::Append(AppendError::Mismatch)), "{error:?}");
    }
    log.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_refusal_is_kept_where_the_caller_wants_it_kept() {
    let (_, log) = log().await;
    let (a, b) = (order(), order());
    let (kept, anew) = (meta(), Meta { keep_refusal: false, ..meta() });
    for meta in [&kept, &anew] {
        let error = transfer(&log.store, a, b, 5, meta).await.unwrap_err();
        assert!(matches!(error, ExecuteError::Refused { replayed: false, .. }), "{error:?}");
    }
    deposit(&log.store, a, 5, &meta()).await.unwrap();
    let error = transfer(&log.store, a, b, 5, &kept).await.unwrap_err();
    let ExecuteError::Refused { refused, replayed: true } = error else { panic!("{error:?}") };
    assert_eq!(refused.detail, "only 0 left");
    transfer(&log.store, a, b, 5, &anew).await.unwrap();
    log.end().await;
}

#[tokio::test]
async fn a_version_that_the_caller_minds_must_hold() {
    let (url, log) = log().await;
    let other = Log::open(&url).await;
    let account = order();
    deposit(&log.store, account, 1, &meta()).await.unwrap();
    deposit(&other.store, account, 1, &meta()).await.unwrap();

    // What this store remembers is one version old.
    let error = deposit(&log.store, account, 1, &Meta { expected: Some(1), ..meta() }).await;
    assert!(matches!(error, Err(ExecuteError::VersionMismatch { current: 2 })), "{error:?}");
    let right = Meta { expected: Some(2), ..meta() };
    let done = deposit(&log.store, account, 1, &right).await.unwrap();
    let again = deposit(&log.store, account, 1, &right).await.unwrap();
    assert_eq!(again, Done { replayed: true, ..done });
    log.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_stale_memory_decides_nothing() {
    let (url, log) = log().await;
    let other = Log::open(&url).await;
    let (a, b) = (order(), order());
    deposit(&log.store, a, 1, &meta()).await.unwrap();
    deposit(&other.store, a, 9, &meta()).await.unwrap();
    // Refusals and answers without events rest on the log as well.
    transfer(&log.store, a, b, 10, &meta()).await.unwrap();
    let error = transfer(&other.store, a, b, 10, &Meta { keep_refusal: false, ..meta() }).await;
    assert!(matches!(error, Err(ExecuteError::Refused { .. })), "{error:?}");
    deposit(&log.store, a, 3, &meta()).await.unwrap();
    let idle = deposit(&other.store, a, 0, &meta()).await.unwrap();
    assert_eq!(idle.version, 4);
    log.end().await;
    other.end().await;
}

#[tokio::test]
async fn creating_what_exists_is_decided_on_what_exists() {
    let (url, log) = log().await;
    let other = Log::open(&url).await;
    let account = order();
    let command = Command::Deposit { to: account.id, amount: 2 };
    let first = log.store.create::<Accounts>(&[account], &command, &meta()).await.unwrap();
    assert_eq!(first.version, 1);
    for store in [&log.store, &other.store] {
        store.create::<Accounts>(&[account], &command, &meta()).await.unwrap();
    }
    assert_eq!(balance(&other.store, account).await, 6);
    log.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_long_stream_is_loaded_whole() {
    let (_, log) = log().await;
    let account = order();
    for version in [0, 1000, 2000] {
        let mut asked = append(&[(account, version)], 1000);
        for event in &mut asked.writes[0].events {
            "order.credited.v1".clone_into(&mut event.event_type);
            event.payload = format!(r#"{{"account":"{}","amount":1}}"#, account.id);
        }
        log.store.append(asked).await.unwrap();
    }
    assert_eq!(balance(&log.store, account).await, 3000);
    let empty = log.store.load::<Accounts>(order()).await.unwrap();
    assert_eq!((empty.version, empty.state), (0, Accounts::default()));
    log.end().await;
}

#[tokio::test]
async fn an_unknown_event_is_not_folded_over() {
    let (_, log) = log().await;
    let account = order();
    log.store.append(append(&[(account, 0)], 1)).await.unwrap();
    let error = deposit(&log.store, account, 1, &meta()).await.unwrap_err();
    assert!(
        matches!(error, ExecuteError::Store(Error::Unreadable { version: 1, .. })),
        "{error:?}"
    );
    log.end().await;
}

#[tokio::test]
async fn an_event_of_a_stream_that_was_not_named_is_refused() {
    let (_, log) = log().await;
    let error = log.store.execute::<Accounts>(&[order()], &Command::Stray, &meta()).await;
    assert!(matches!(error, Err(ExecuteError::Append(AppendError::Invalid(_)))), "{error:?}");
    log.end().await;
}
