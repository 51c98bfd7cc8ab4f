//! Appending: positions, verdicts, and what survives a broken connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use event_store::{AppendError, Options, Refused, Store, Write};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use schemas::{Category, Encoded, Recorded, StreamId};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Log, append, events, log, order, superuser};

async fn whole(store: &Store) -> Vec<Arc<Recorded>> {
    let mut all = Vec::new();
    loop {
        let page = store.read(all.len().try_into().unwrap(), 1000).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_have_no_gaps_whoever_writes() {
    let (url, first) = log().await;
    let second = Log::open(&url).await;
    let mut writers = JoinSet::new();
    for index in 0..16 {
        let store = if index % 2 == 0 { &first.store } else { &second.store }.clone();
        writers.spawn(async move {
            for _ in 0..50 {
                let done = store.append(append(&[(order(), 0)], 2)).await.unwrap();
                assert!(!done.replayed);
                assert_eq!(done.version, 2);
            }
        });
    }
    writers.join_all().await;

    let all = whole(&first.store).await;
    assert_eq!(all.len(), 16 * 50 * 2);
    assert!(all.iter().map(|event| event.position).eq(1..=1600));
    assert!(all.is_sorted_by_key(|event| event.recorded_at));
    assert_eq!(second.store.head().await.unwrap(), 1600);
    first.end().await;
    second.end().await;
}

/// Each finds the place that it had in mind taken by the other.
#[tokio::test]
async fn lone_writers_that_take_turns_leave_no_gap() {
    const MISPLACED: &str = "select count(*) from streams join (select stream_id, \
        min(position) as low, max(position) as high from events group by stream_id) as found \
        using (stream_id) where (first_position, last_position) <> (low, high)";
    let (url, first) = log().await;
    let second = Log::open(&url).await;
    for _ in 0..5 {
        let (one, other) = (order(), order());
        for even in [0, 2, 4, 6] {
            for (log, stream, expected) in [
                (&first, one, even),
                (&second, other, even),
                (&second, one, even + 1),
                (&first, other, even + 1),
            ] {
                let done = log.store.append(append(&[(stream, expected)], 1)).await.unwrap();
                assert_eq!(done.version, expected + 1);
            }
        }
    }
    let all = whole(&first.store).await;
    assert!(all.iter().map(|event| event.position).eq(1..=5 * 4 * 4));
    assert!(all.is_sorted_by_key(|event| event.recorded_at));
    let misplaced: i64 = sqlx::query_scalar(MISPLACED).fetch_one(first.store.pool()).await.unwrap();
    assert_eq!(misplaced, 0);
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_scan_gives_every_event_of_its_range_once_and_in_order() {
    const PAGE: usize = 4000;
    let (_, log) = log().await;
    for _ in 0..9 {
        log.store.append(append(&[(order(), 0)], 1000)).await.unwrap();
    }
    let history = log.store.history();
    for (after, until) in [(0, 9000), (2, 8500), (3999, 4000), (5, 5), (0, 8000), (9, 3)] {
        let pages: Vec<_> = history.scan(after, until).map(Result::unwrap).collect().await;
        assert!(pages.iter().all(|page| (1..=PAGE).contains(&page.len())), "{after} to {until}");
        let positions = pages.iter().flatten().map(|event| event.position);
        assert!(positions.eq(after + 1..=until), "{after} to {until}");
    }
    log.store.pool().close().await;
    assert!(history.scan(0, 9000).any(async |page| page.is_err()).await);
    log.end().await;
}

#[tokio::test]
async fn who_leaves_a_scan_halfway_leaves_no_half_of_it_to_others() {
    let (_, log) = log().await;
    for _ in 0..5 {
        log.store.append(append(&[(order(), 0)], 1000)).await.unwrap();
    }
    let mut left = 0;
    for turns in 0..60 {
        let mut pages = Box::pin(log.store.history().scan(0, 5000));
        // At another moment each time: before Postgres hears of it, while it sends, after that.
        let patience = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = pages.next() => {}
            () = patience => left += 1,
        }
        drop(pages);
        assert_eq!(log.store.head().await.unwrap(), 5000);
        assert_eq!(log.store.read(4998, 10).await.unwrap().len(), 2);
    }
    assert!(left > 0);
    log.end().await;
}

#[tokio::test]
async fn an_event_is_read_back_as_it_was_written() {
    let (_, log) = log().await;
    let stream = order();
    let mut asked = append(&[(stream, 0)], 1);
    asked.meta.traceparent = Some("00-1-2-01".to_owned());
    asked.writes[0].events[0].event_type = "order.confirmed.v9".to_owned();
    let done = log.store.append(asked.clone()).await.unwrap();

    let read = log.store.read_stream(stream, 0, 10).await.unwrap();
    assert_eq!(read, log.store.read(done.position - 1, 10).await.unwrap());
    let scan = log.store.history().scan(done.position - 1, done.position);
    assert_eq!(read, scan.map(Result::unwrap).concat().await);
    let [event] = read.as_slice() else { panic!("{read:?}") };
    assert_eq!((event.position, event.stream, event.version), (done.position, stream, 1));
    assert_eq!(event.event_type, "order.confirmed.v9");
    assert_eq!(event.command_id, asked.meta.command_id);
    assert_eq!(event.correlation_id, asked.meta.correlation_id);
    assert_eq!(event.causation_id, asked.meta.causation_id);
    assert_eq!(event.occurred_at, asked.meta.occurred_at);
    assert_eq!(event.traceparent, asked.meta.traceparent);
    assert_eq!(event.actor, "customer");
    assert!(
        matches!(&event.fact, schemas::Fact::Unknown { payload, .. } if payload == r#"{"by":1}"#)
    );
    log.end().await;
}

#[tokio::test]
async fn what_is_written_alone_is_stored_like_what_is_written_together() {
    const STORED: &str = "select jsonb_build_object( \
            'stream', (select to_jsonb(s) - '{stream_id,first_position,last_position}'::text[] \
                || jsonb_build_object('events', last_position - first_position + 1) \
                from streams s where s.stream_id = $1), \
            'events', (select jsonb_agg(to_jsonb(e) - '{position,slice,stream_id,event_id,command_id, \
                correlation_id,causation_id,occurred_at,recorded_at}'::text[] order by position) \
                from events e where e.stream_id = $1), \
            'answer', (select to_jsonb(c) - '{command_id,stream_id,position,recorded_at}'::text[] \
                from commands c where c.stream_id = $1 order by position desc limit 1))";
    let (_, log) = log().await;
    let stored = async |stream: StreamId| -> serde_json::Value {
        sqlx::query_scalar(STORED).bind(stream.id).fetch_one(log.store.pool()).await.unwrap()
    };
    let (alone, together) = (order(), order());
    for expected in 0..2 {
        log.store.append(append(&[(alone, expected)], 1)).await.unwrap();
    }
    log.store.append(append(&[(together, 0)], 2)).await.unwrap();
    let expected = stored(alone).await;
    assert_eq!(expected["stream"]["version"], 2);
    assert_eq!(expected["events"].as_array().unwrap().len(), 2);
    assert_eq!(stored(together).await, expected);

    // Who is alone and does not stand where it thinks changes nothing either.
    for (wrong, current) in [(0, 2), (1, 2), (9, 2)] {
        let error = log.store.append(append(&[(alone, wrong)], 1)).await.unwrap_err();
        let found =
            matches!(error, AppendError::Conflict { current: found, .. } if found == current);
        assert!(found, "{wrong}: {error}");
    }
    let payment = StreamId::new(Category::Payment, alone.id);
    let error = log.store.append(append(&[(payment, 2)], 1)).await.unwrap_err();
    assert!(matches!(error, AppendError::Invalid(_)), "{error}");
    let error = log.store.append(append(&[(payment, 0)], 1)).await.unwrap_err();
    assert!(matches!(error, AppendError::Invalid(_)), "{error}");
    assert_eq!(stored(alone).await, expected);
    assert_eq!(log.store.head().await.unwrap(), 4);
    log.end().await;
}

#[tokio::test]
async fn a_command_is_answered_the_same_for_ever() {
    let (url, log) = log().await;
    let other = Log::open(&url).await;
    let stream = order();
    let asked = append(&[(stream, 0)], 3);
    let done = log.store.append(asked.clone()).await.unwrap();
    log.store.append(append(&[(stream, 3)], 1)).await.unwrap();

    for store in [&log.store, &other.store] {
        let again = store.append(asked.clone()).await.unwrap();
        assert!(again.replayed);
        assert_eq!((again.version, again.position), (done.version, done.position));

        let mut different = asked.clone();
        different.meta.request_hash = [2; 32];
        let error = store.append(different).await.unwrap_err();
        assert!(matches!(error, AppendError::Mismatch), "{error}");
    }
    assert_eq!(log.store.head().await.unwrap(), 4);
    log.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_command_sent_twice_at_once_is_done_once() {
    let (_, log) = log().await;
    let asked = append(&[(order(), 0)], 1);
    let mut different = asked.clone();
    different.meta.request_hash = [2; 32];
    let answers = [asked.clone(), asked, different].map(|asked| log.store.append(asked));
    let answers = join_all(answers).await;
    let [Ok(first), Ok(second), Err(AppendError::Mismatch)] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert_eq!((first.replayed, second.replayed), (false, true));
    assert_eq!((first.version, first.position), (second.version, second.position));
    log.end().await;
}

#[tokio::test]
async fn a_conflict_does_not_fail_its_neighbours() {
    let (_, log) = log().await;
    let taken = order();
    log.store.append(append(&[(taken, 0)], 5)).await.unwrap();

    let batch = (0..100).map(|index| {
        let at = if index % 10 == 3 { (taken, 2) } else { (order(), 0) };
        log.store.append(append(&[at], 1))
    });
    let answers = join_all(batch).await;
    for (index, answer) in answers.iter().enumerate() {
        if index % 10 == 3 {
            assert!(
                matches!(answer, Err(AppendError::Conflict { stream, current: 5 }) if *stream == taken),
                "{answer:?}"
            );
        } else {
            assert!(answer.is_ok(), "{answer:?}");
        }
    }
    assert_eq!(log.store.head().await.unwrap(), 95);
    log.end().await;
}

#[tokio::test]
async fn of_those_who_expect_the_same_version_one_wins() {
    let (_, log) = log().await;
    let stream = order();
    let answers = join_all((0..64).map(|_| log.store.append(append(&[(stream, 0)], 1)))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Ok(_) | Err(AppendError::Conflict { current: 1, .. })))
    );
    log.end().await;
}

#[tokio::test]
async fn commands_of_one_batch_build_on_each_other() {
    let (_, log) = log().await;
    let stream = order();
    let chain = (0..200).map(|version| log.store.append(append(&[(stream, version)], 1)));
    for (answer, version) in join_all(chain).await.iter().zip(1..) {
        assert_eq!(answer.as_ref().unwrap().version, version);
    }
    log.end().await;
}

#[tokio::test]
async fn a_chain_breaks_where_a_command_fails() {
    let (_, log) = log().await;
    let stream = order();
    log.store.append(append(&[(stream, 0)], 2)).await.unwrap();
    // The first believes the stream is at 1 and would leave it at 2. It is at 2, for another
    // reason, so the second must not slip through.
    let chain = [1, 2, 3].map(|version| log.store.append(append(&[(stream, version)], 1)));
    for answer in join_all(chain).await {
        assert!(matches!(answer, Err(AppendError::Conflict { current: 2, .. })), "{answer:?}");
    }
    assert_eq!(log.store.head().await.unwrap(), 2);
    log.end().await;
}

#[tokio::test]
async fn several_streams_are_written_together_or_not_at_all() {
    let (_, log) = log().await;
    let (a, b, c) = (order(), order(), order());
    log.store.append(append(&[(c, 0)], 1)).await.unwrap();
    let batch = [
        append(&[(a, 0), (b, 0)], 2),
        append(&[(b, 2), (c, 5)], 1), // c is at 1.
        append(&[(a, 2), (c, 1)], 1),
    ];
    let answers = join_all(batch.map(|asked| log.store.append(asked))).await;
    assert!(
        matches!(answers.as_slice(), [Ok(_), Err(AppendError::Conflict { current: 1, .. }), Ok(_)]),
        "{answers:?}"
    );
    for (stream, version) in [(a, 3), (b, 2), (c, 2)] {
        let events = log.store.read_stream(stream, 0, 10).await.unwrap();
        assert!(events.iter().map(|event| event.version).eq(1..=version));
    }
    assert_eq!(log.store.head().await.unwrap(), 7);
    log.end().await;
}

#[tokio::test]
async fn a_stream_keeps_its_category() {
    let (_, log) = log().await;
    let stream = order();
    let wrong = StreamId::new(Category::Payment, stream.id);
    let answers = [append(&[(stream, 0)], 1), append(&[(wrong, 0)], 1), append(&[(wrong, 1)], 1)]
        .map(|asked| log.store.append(asked));
    let answers = join_all(answers).await;
    assert!(
        matches!(
            answers.as_slice(),
            [Ok(_), Err(AppendError::Invalid(_)), Err(AppendError::Invalid(_))]
        ),
        "{answers:?}"
    );
    assert!(log.store.read_stream(wrong, 0, 10).await.unwrap().is_empty());
    log.end().await;
}

#[tokio::test]
async fn what_cannot_be_stored_fails_alone() {
    let (_, log) = log().await;
    let with = |change: &dyn Fn(&mut Write)| {
        let mut asked = append(&[(order(), 0)], 1);
        change(&mut asked.writes[0]);
        asked
    };
    let payload = |payload: &str| {
        let event =
            Encoded { event_type: "order.counted.v1".to_owned(), payload: payload.to_owned() };
        with(&|write| write.events = vec![event.clone()])
    };
    let stream = order();
    let mut actor = append(&[(order(), 0)], 1);
    actor.meta.actor = "a\0b".to_owned();
    let mut refusal = append(&[(order(), 0)], 1);
    refusal.refused = Some(Refused { code: "no".to_owned(), detail: "no".to_owned() });
    let invalid = [
        with(&|write| write.events.clear()),
        with(&|write| write.events = events(1001)),
        with(&|write| write.expected = -1),
        append(&[(stream, 0), (stream, 1)], 1),
        append(&(0..513).map(|_| (order(), 0)).collect::<Vec<_>>(), 1),
        payload(&format!("\"{}\"", "x".repeat(256 * 1024))),
        payload("\"\0\""),
        payload(r#""\u0000""#),
        payload("no json"),
        actor,
        refusal,
    ];
    let valid = [payload(r#""\\u0000""#), with(&|write| write.events = events(1000))];

    let (invalid, valid) =
        (invalid.map(|a| log.store.append(a)), valid.map(|a| log.store.append(a)));
    let (invalid, valid) = tokio::join!(join_all(invalid), join_all(valid));
    for answer in invalid {
        assert!(matches!(answer, Err(AppendError::Invalid(_))), "{answer:?}");
    }
    for answer in valid {
        answer.unwrap();
    }
    log.end().await;
}

#[tokio::test]
async fn a_command_that_changes_nothing_is_answered_all_the_same() {
    let (_, log) = log().await;
    let stream = order();
    log.store.append(append(&[(stream, 0)], 4)).await.unwrap();
    let mut asked = append(&[(stream, 4)], 1);
    asked.writes.clear();
    let done = log.store.append(asked.clone()).await.unwrap();
    assert_eq!((done.version, done.position, done.replayed), (4, 4, false));
    log.store.append(append(&[(stream, 4)], 1)).await.unwrap();
    let again = log.store.append(asked).await.unwrap();
    assert_eq!((again.version, again.position, again.replayed), (4, 4, true));
    log.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_is_lost_or_doubled_when_connections_break() {
    let (url, log) = log().await;
    let mut killer = JoinSet::new();
    let (pool, store) = (superuser(&url).await, log.store.clone());
    let struck = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&struck);
    killer.spawn(async move {
        // In the middle of a statement if possible, and never so often that nothing gets through.
        for after in (20..=260).step_by(40) {
            let mut head = store.head_watch();
            head.wait_for(|head| *head >= after).await.unwrap();
            let mut hit = 0;
            while hit == 0 {
                let kill = sqlx::query(
                    "select pg_terminate_backend(pid) from pg_stat_activity \
                     where application_name = 'waybill writer' and datname = current_database() \
                     and state = 'active'",
                );
                hit = kill.execute(&pool).await.unwrap().rows_affected();
            }
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut writers = JoinSet::new();
    for _ in 0..16 {
        let store = log.store.clone();
        writers.spawn(async move {
            let stream = order();
            for version in 0..20 {
                let done = store.append(append(&[(stream, version)], 1)).await.unwrap();
                assert_eq!(done.version, version + 1);
            }
        });
    }
    writers.join_all().await;
    // It may be after one more, which will not come.
    killer.shutdown().await;
    assert!(struck.load(Ordering::Relaxed) > 0, "nothing broke");

    let all = whole(&log.store).await;
    assert!(all.iter().map(|event| event.position).eq(1..=320));
    log.end().await;
}

#[tokio::test]
async fn history_is_not_rewritten() {
    let (url, log) = log().await;
    log.store.append(append(&[(order(), 0)], 1)).await.unwrap();
    let pool = superuser(&url).await;
    for table in ["events", "events_00000"] {
        for change in ["update $ set actor = 'x'", "delete from $", "truncate $"] {
            let change = change.replace('$', table);
            let by_owner = sqlx::query(sqlx::AssertSqlSafe(change.clone())).execute(&pool).await;
            let by_owner = by_owner.unwrap_err().to_string();
            assert!(by_owner.contains("never changed or removed"), "{change}: {by_owner}");
            let by_store =
                sqlx::query(sqlx::AssertSqlSafe(change.clone())).execute(log.store.pool()).await;
            let by_store = by_store.unwrap_err().to_string();
            assert!(by_store.contains("permission denied"), "{change}: {by_store}");
        }
    }
    log.end().await;
}

#[tokio::test]
async fn a_missing_partition_is_made_when_it_is_needed() {
    let (url, log) = log().await;
    log.store.append(append(&[(order(), 0)], 1)).await.unwrap();
    let pool = superuser(&url).await;
    let leaf: String = sqlx::query_scalar("select tableoid::regclass::text from commands limit 1")
        .fetch_one(&pool)
        .await
        .unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("drop table {leaf}"))).execute(&pool).await.unwrap();
    log.store.append(append(&[(order(), 0)], 1)).await.unwrap();
    log.end().await;
}

#[tokio::test]
async fn beyond_the_queue_callers_are_refused_at_once_and_the_accepted_are_answered() {
    const CALLERS: usize = 12_000;
    let (url, log) = log().await;
    log.store.append(append(&[(order(), 0)], 1)).await.unwrap();
    let mut holder = superuser(&url).await.acquire().await.unwrap();
    let lock =
        |how: &str| sqlx::AssertSqlSafe(format!("select pg_advisory_{how}(24560174593821772)"));
    sqlx::query(lock("lock")).execute(&mut *holder).await.unwrap();

    let asked = (0..CALLERS).map(|_| log.store.append(append(&[(order(), 0)], 1)));
    let mut answers: FuturesUnordered<_> = asked.collect();
    let (mut refused, mut done) = (0, Vec::new());
    let (_, queue_max) = log.store.queue();
    // Nothing can be written, so whoever is answered was refused, and did not wait for it.
    while refused < CALLERS - queue_max - 2 * 512 {
        let answer = answers.next().await.unwrap();
        assert!(matches!(answer, Err(AppendError::Overloaded)), "{answer:?}");
        refused += 1;
    }
    assert!(log.store.queue().0 > 0);

    sqlx::query(lock("unlock")).execute(&mut *holder).await.unwrap();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(answered) => done.push(answered.position),
            Err(AppendError::Overloaded) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(done.len() >= queue_max, "{} of {queue_max}", done.len());
    assert_eq!(done.len() + refused, CALLERS);
    done.sort_unstable();
    assert!(done.iter().copied().eq((2..).take(done.len())));
    assert_eq!(log.store.queue().0, 0);
    drop(answers);
    log.end().await;
}

/// Goal: a process can be stopped while NATS is away, however much it has appended meanwhile.
/// Method: a client that has nobody to connect to, and room for one message, so that the second poke
/// would have to wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_ends_though_nats_takes_no_poke() {
    let (url, log) = log().await;
    log.end().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = async_nats::ConnectOptions::new().retry_on_initial_connect().client_capacity(1);
    let nobody = nobody.connect(format!("nats://127.0.0.1:{port}")).await.unwrap();
    let options = Options { database_url: url, log: "main".to_owned(), connections_max: 4 };
    let (store, writer) = Store::open(&options, Some(nobody)).await.unwrap();
    let (drain, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(writer.run(drain.clone()));
    for _ in 0..50 {
        store.append(append(&[(order(), 0)], 1)).await.unwrap();
    }
    drain.cancel();
    let ended = timeout(Duration::from_mins(1), tasks.join_next()).await;
    ended.expect("the writer does not end").unwrap().unwrap();
}
