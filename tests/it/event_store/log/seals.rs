//! The hash chain.

use event_store::log::{Sealing, seal_next, seals};
use schemas::Timestamp;
use sha2::{Digest as _, Sha256};
use sqlx::FromRow;
use uuid::Uuid;

use super::super::superuser;
use super::{fill, small};

/// Every column of an event, read as anybody might.
#[derive(FromRow)]
struct Row {
    position: i64,
    stream_id: Uuid,
    stream_version: i64,
    event_id: Uuid,
    command_id: Uuid,
    correlation_id: Uuid,
    causation_id: Uuid,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    slice: i16,
    category: String,
    event_type: String,
    actor: String,
    traceparent: Option<String>,
    payload: String,
}

/// The seal of a segment as docs/log.md describes it, put together without the store's code.
fn by_the_book(number: i64, previous: &[u8], events: &[Row]) -> Vec<u8> {
    let mut sealed = b"waybill.segment.v1\0\0\0\x04main".to_vec();
    sealed.extend(number.to_be_bytes());
    sealed.extend(previous);
    sealed.extend(events[0].position.to_be_bytes());
    sealed.extend(events.last().unwrap().position.to_be_bytes());
    let epoch = Timestamp::UNIX_EPOCH + chrono::Duration::days(10_957); // 2000-01-01
    let micros = |at: Timestamp| (at - epoch).num_microseconds().unwrap().to_be_bytes().to_vec();
    for event in events {
        let columns = [
            Some(event.position.to_be_bytes().to_vec()),
            Some(event.stream_id.as_bytes().to_vec()),
            Some(event.stream_version.to_be_bytes().to_vec()),
            Some(event.event_id.as_bytes().to_vec()),
            Some(event.command_id.as_bytes().to_vec()),
            Some(event.correlation_id.as_bytes().to_vec()),
            Some(event.causation_id.as_bytes().to_vec()),
            Some(micros(event.occurred_at)),
            Some(micros(event.recorded_at)),
            Some(event.slice.to_be_bytes().to_vec()),
            Some(event.category.clone().into_bytes()),
            Some(event.event_type.clone().into_bytes()),
            Some(event.actor.clone().into_bytes()),
            event.traceparent.clone().map(String::into_bytes),
            Some(event.payload.clone().into_bytes()),
        ];
        sealed.extend(15_i16.to_be_bytes());
        for column in columns {
            match column {
                None => sealed.extend((-1_i32).to_be_bytes()),
                Some(bytes) => {
                    sealed.extend(i32::try_from(bytes.len()).unwrap().to_be_bytes());
                    sealed.extend(bytes);
                }
            }
        }
    }
    Sha256::digest(&sealed).to_vec()
}

#[tokio::test]
async fn segments_are_sealed_as_the_document_says() {
    let (url, log) = small().await;
    fill(&log, 2).await;
    let (pool, name) = (log.store.pool(), log.store.log());
    let mut sealed = Vec::new();
    while let Sealing::Sealed(seal) = seal_next(pool, name).await.unwrap() {
        sealed.push(seal);
    }
    assert_eq!(sealed, seals(pool).await.unwrap());
    let ranges: Vec<_> = sealed.iter().map(|seal| (seal.number, seal.first, seal.last)).collect();
    assert_eq!(ranges, [(1, 1, 4096), (2, 4097, 8192)]);

    let owner = superuser(&url).await;
    let mut previous = vec![0; 32];
    for seal in sealed {
        let events: Vec<Row> = sqlx::query_as(
            "select * from (select position, stream_id, stream_version, \
             event_id, command_id, correlation_id, causation_id, occurred_at, recorded_at, slice, \
             category, event_type, actor, traceparent, payload::text from events \
             where position between $1 and $2) e order by position",
        )
        .bind(seal.first)
        .bind(seal.last)
        .fetch_all(&owner)
        .await
        .unwrap();
        assert_eq!(seal.seal, by_the_book(seal.number, &previous, &events));
        previous = seal.seal;
    }
    log.end().await;
}

#[tokio::test]
async fn several_keepers_seal_each_segment_once() {
    let (_, log) = small().await;
    fill(&log, 2).await;
    let (pool, name) = (log.store.pool(), log.store.log());
    let attempts = futures_util::future::join_all((0..8).map(|_| async {
        let mut sealed = 0;
        for _ in 0..4 {
            sealed +=
                usize::from(matches!(seal_next(pool, name).await.unwrap(), Sealing::Sealed(_)));
        }
        sealed
    }));
    assert!(attempts.await.iter().sum::<usize>() <= 2);
    while let Sealing::Sealed(_) = seal_next(pool, name).await.unwrap() {}
    assert_eq!(seals(pool).await.unwrap().len(), 2);
    log.end().await;
}
