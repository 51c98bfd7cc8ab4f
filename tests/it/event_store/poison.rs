//! What can never be stored is refused alone.
//!
//! Goal: no command, however wrong, fails those that it shares a batch with.
//! Method: the log's lock is held, so that a hundred good commands and the wrong ones wait for
//! each other in the writer's queue; then it is let go.

use std::collections::HashSet;

use aggregates::payment::Payment;
use event_store::{Append, AppendError, Done, Refused, Write};
use futures_util::future::join_all;
use schemas::{Category, Encoded, StreamId, Version};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::task::JoinSet;

use super::{Log, append, events, log, order, superuser};
use crate::world::until;

/// Good commands that share the queue with the wrong ones.
const NEIGHBOURS: usize = 100;

/// The log's lock, held by somebody else.
struct Held(PgConnection);

impl Held {
    /// Takes the lock, and has the writer of `log` wait for it.
    async fn by_another(url: &str, log: &Log) -> (Self, JoinSet<Done>) {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::query("select pg_advisory_lock(24560174593821772)")
            .execute(&mut connection)
            .await
            .unwrap();
        let (store, first) = (log.store.clone(), append(&[(order(), 0)], 1));
        let mut waiting = JoinSet::new();
        waiting.spawn(async move { store.append(first).await.unwrap() });
        let pool = superuser(url).await;
        until("the writer to wait for the log's lock", || async {
            let writers: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity where datname = current_database() \
                 and application_name = 'waybill writer' and wait_event_type = 'Lock'",
            )
            .fetch_one(&pool)
            .await
            .unwrap();
            (writers > 0).then_some(())
        })
        .await;
        pool.close().await;
        (Self(connection), waiting)
    }

    async fn let_go(self) {
        self.0.close().await.unwrap();
    }
}

/// Sends `wrong` in the midst of good commands, all of them to be written together, and gives the
/// answers of the wrong ones. The good ones must have been written, in few batches.
async fn among_neighbours(
    url: &str,
    log: &Log,
    wrong: Vec<Append>,
) -> Vec<Result<Done, AppendError>> {
    let (held, first) = Held::by_another(url, log).await;
    let before = log.store.head().await.unwrap();
    let good = |_| log.store.append(append(&[(order(), 0)], 1));
    let ahead = join_all((0..NEIGHBOURS / 2).map(good));
    let behind = join_all((0..NEIGHBOURS / 2).map(good));
    let wrong = join_all(wrong.into_iter().map(|wrong| log.store.append(wrong)));
    // Polled in this order, so that they stand in the queue in this order.
    let (ahead, wrong, behind, ()) = tokio::join!(ahead, wrong, behind, held.let_go());
    first.join_all().await;

    // Two batches are on their way at once, so which of them comes first is not said.
    let good = ahead.into_iter().chain(behind).map(|done| done.unwrap().position);
    assert_eq!(good.collect::<HashSet<_>>().len(), NEIGHBOURS);
    let written = log.store.read(before + 1, 2000).await.unwrap();
    let mut batches: Vec<_> = written.iter().map(|event| event.recorded_at).collect();
    batches.dedup();
    let rows = written.len();
    assert!(batches.len() <= NEIGHBOURS / 2, "{} batches of {rows} events", batches.len());
    wrong
}

fn event(event_type: &str, payload: &str) -> Encoded {
    Encoded { event_type: event_type.to_owned(), payload: payload.to_owned() }
}

/// An append of one event, changed in one place.
fn with(change: impl FnOnce(&mut Append)) -> Append {
    let mut asked = append(&[(order(), 0)], 1);
    change(&mut asked);
    asked
}

fn with_events(events: Vec<Encoded>) -> Append {
    with(|asked| asked.writes[0].events = events)
}

fn with_type(event_type: &str) -> Append {
    with_events(vec![event(event_type, "{}")])
}

fn with_payload(payload: &str) -> Append {
    with_events(vec![event("order.counted.v1", payload)])
}

fn with_expected(expected: Version) -> Append {
    with(|asked| asked.writes[0].expected = expected)
}

fn by(actor: &str) -> Append {
    with(|asked| actor.clone_into(&mut asked.meta.actor))
}

fn with_time(at: &str) -> Append {
    with(|asked| asked.meta.occurred_at = at.parse().unwrap())
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// What no log takes, and what its refusal must say.
fn invalid() -> Vec<(Append, &'static str)> {
    let (twice, other) = (order(), order());
    let refusal = |code: &str, detail: &str| {
        let refused = Some(Refused { code: code.to_owned(), detail: detail.to_owned() });
        with(|asked| {
            asked.writes.clear();
            asked.refused = refused;
        })
    };
    let mut second = events(3);
    second[1] = event("order.counted.v1", r#""\u0000""#);
    let mut both = refusal("no", "no");
    both.writes = append(&[(order(), 0)], 1).writes;
    let many: Vec<_> = (0..513).map(|_| (order(), 0)).collect();
    vec![
        (with_payload(r#"{"a":"b\u0000c"}"#), "NUL"),
        (with_payload("\"a\0b\""), "NUL"),
        (with_events(second), "event 2 for order/"),
        (by("a\0b"), "an actor that contains NUL"),
        (by("a\r\nb"), "control character"),
        (by(&"a".repeat(201)), "an actor of more than 200 bytes"),
        (with(|asked| asked.meta.traceparent = Some("0\0".to_owned())), "a trace context"),
        (with(|asked| asked.meta.traceparent = Some("0\n0".to_owned())), "a trace context"),
        (with(|asked| asked.meta.traceparent = Some("0".repeat(4097))), "more than 4096 bytes"),
        (with_type("order.\0.v1"), "the type \"order.\\0.v1\" is not made of letters"),
        (with_type(&"a".repeat(201)), "a type of more than 200 bytes"),
        // What the relay could never publish.
        (with_type(""), "the type \"\""),
        (with_type("order placed"), "the type \"order placed\""),
        (with_type("order.placed.v1\r\n"), "the type"),
        (with_type("order..v1"), "the type"),
        (with_type("order.>"), "the type"),
        (with_type("order.*.v1"), "the type"),
        // What Postgres would take and nobody could read.
        (with_payload(r#""\ud800""#), "could not be read back"),
        (with_payload(r#"{"a":["\ude00\ud83d"]}"#), "could not be read back"),
        (with_payload(&nested(101)), "more than 100 levels"),
        (with_payload(&nested(50_000)), "more than 100 levels"),
        (with_payload(&format!("\"{}\"", "x".repeat(300 * 1024))), "262144 are the most"),
        (with_events(events(10_000)), "more than 1000 events"),
        (with_events(Vec::new()), "a write without events"),
        (with_expected(-1), "expected at version -1"),
        (with_expected(Version::MIN), "which no stream has"),
        (with_expected(Version::MAX), "which no stream has"),
        (append(&[(twice, 0), (other, 0), (twice, 1)], 1), "is named twice"),
        (append(&many, 1), "more than 512 streams"),
        (with_time("0000-12-31T23:59:59Z"), "the year 0,"),
        (with_time("-262142-01-01T00:00:00Z"), "the year -262142,"),
        (with_time("+10000-01-01T00:00:00Z"), "the year 10000,"),
        (with_time("+262142-01-01T00:00:00Z"), "the year 262142,"),
        (both, "a refusal that writes"),
        (refusal("n\0", "no"), "a refusal's code that contains NUL"),
        (refusal("no", "n\0"), "a refusal's detail that contains NUL"),
        (refusal("no", &"n".repeat(4097)), "a refusal's detail of more than 4096 bytes"),
    ]
}

#[tokio::test]
async fn poison_is_refused_before_it_can_fail_its_neighbours() {
    let (url, log) = log().await;
    let (wrong, expected): (Vec<_>, Vec<_>) = invalid().into_iter().unzip();
    let ids: Vec<_> = wrong.iter().map(|asked| asked.meta.command_id.uuid()).collect();
    let answers = among_neighbours(&url, &log, wrong).await;
    for (answer, expected) in answers.iter().zip(expected) {
        match answer {
            Err(AppendError::Invalid(why)) if why.contains(expected) => {}
            _ => panic!("`{expected}` should be in {answer:?}"),
        }
    }
    assert_no_trace(&superuser(&url).await, &ids).await;
    log.end().await;
}

#[tokio::test]
async fn what_is_only_just_within_the_limits_is_stored_and_read_back() {
    let (url, log) = log().await;
    let right = vec![
        with_payload(r#""\\u0000 \\ud800 \ud83d\ude00""#),
        with_payload(&nested(100)),
        with_payload(&format!("\"{}\"", "[".repeat(5000))),
        with_payload(&format!("\"{}\"", "x".repeat(256 * 1024 - 2))),
        with_events(events(1000)),
        with_type(&"a".repeat(200)),
        with_time("0001-01-01T00:00:00Z"),
        with_time("9999-12-31T23:59:59.999Z"),
        by(&"Ä".repeat(100)),
    ];
    let asked: Vec<_> = right.iter().map(|asked| asked.writes[0].clone()).collect();
    for answer in among_neighbours(&url, &log, right).await {
        answer.unwrap();
    }
    for Write { stream, events, .. } in asked {
        let read = log.store.read_stream(stream, 0, 1000).await.unwrap();
        assert_eq!(read.len(), events.len());
        let schemas::Fact::Unknown { payload, .. } = &read[0].fact else { panic!("{read:?}") };
        assert_eq!(*payload, events[0].payload);
    }
    log.end().await;
}

#[tokio::test]
async fn a_version_from_the_future_is_a_conflict_and_another_category_is_invalid() {
    let (url, log) = log().await;
    let known = order();
    log.store.append(append(&[(known, 0)], 3)).await.unwrap();
    let alien = StreamId::new(Category::Payment, known.id);
    let wrong = vec![
        append(&[(known, 4)], 1),
        append(&[(order(), 1 << 40)], 1),
        append(&[(alien, 0)], 1),
        append(&[(alien, 3)], 1),
        append(&[(order(), 0), (alien, 3)], 1),
    ];
    let ids: Vec<_> = wrong.iter().map(|asked| asked.meta.command_id.uuid()).collect();
    let answers = among_neighbours(&url, &log, wrong).await;
    let [future, far, aliens @ ..] = answers.as_slice() else { panic!("{answers:?}") };
    assert!(matches!(future, Err(AppendError::Conflict { current: 3, .. })), "{future:?}");
    assert!(matches!(far, Err(AppendError::Conflict { current: 0, .. })), "{far:?}");
    for answer in aliens {
        let Err(AppendError::Invalid(why)) = answer else { panic!("{answer:?}") };
        assert!(why.contains("belongs to category order"), "{why}");
    }
    // Whoever decides there decides on nothing, rather than on somebody else's events.
    assert_eq!(log.store.load::<Payment>(alien).await.unwrap().version, 0);
    assert_no_trace(&superuser(&url).await, &ids).await;
    log.end().await;
}

/// Makes Postgres refuse what some actors do, for reasons that Rust cannot foresee.
async fn set_traps(pool: &PgPool) {
    sqlx::raw_sql(
        "alter table events add constraint events_are_tame check (actor <> 'checked');
         create function refuse() returns trigger language plpgsql as $$
         begin
             case new.actor
                 when 'raised' then raise exception 'not on my watch';
                 when 'divided' then perform 1 / 0;
                 when 'limited' then raise exception 'too much' using errcode = '54000';
                 else return new;
             end case;
         end $$;
         create trigger refuse before insert on events for each row execute function refuse();",
    )
    .execute(pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn what_only_postgres_can_refuse_is_found_by_halving_the_batch() {
    let (url, log) = log().await;
    let pool = superuser(&url).await;
    set_traps(&pool).await;
    let wrong = vec![
        with_payload("no json"),
        by("checked"),
        by("raised"),
        by("customer"),
        by("divided"),
        by("limited"),
    ];
    let ids: Vec<_> = wrong.iter().map(|asked| asked.meta.command_id.uuid()).collect();
    let mut answers = among_neighbours(&url, &log, wrong).await;
    answers.remove(3).unwrap();
    let why = ["json", "events_are_tame", "not on my watch", "division by zero", "too much"];
    for (answer, expected) in answers.iter().zip(why) {
        match answer {
            Err(AppendError::Invalid(why)) if why.contains(expected) => {}
            _ => panic!("`{expected}` should be in {answer:?}"),
        }
    }
    let ids: Vec<_> =
        ids.iter().enumerate().filter(|(at, _)| *at != 3).map(|(_, id)| *id).collect();
    assert_no_trace(&pool, &ids).await;
    log.end().await;
}

/// None of the commands is in the log or in the ledger, and the log has no gaps.
async fn assert_no_trace(pool: &PgPool, ids: &[uuid::Uuid]) {
    for table in ["events", "commands"] {
        let query = format!("select count(*) from {table} where command_id = any ($1)");
        let found: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(ids).fetch_one(pool).await.unwrap();
        assert_eq!(found, 0, "refused commands are in {table}");
    }
    let whole: bool = sqlx::query_scalar("select count(*) = max(position) from events")
        .fetch_one(pool)
        .await
        .unwrap();
    assert!(whole, "the log has gaps");
}
