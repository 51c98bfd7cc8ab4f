//! Rows that are looked up together.

use futures_util::future::join_all;
use projections::Lookup;
use projections::order_summary::OrderSummary;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::delivery::Log;

/// Goal: one row that does not hold what it should fails whoever asked for it, and nobody else.
/// Method: all ask before there is a connection, so that they are looked up together.
#[tokio::test]
async fn a_row_that_cannot_be_read_fails_only_who_asked_for_it() {
    let log = Log::new().await;
    projections::migrate(&log.url).await.unwrap();
    log.execute(
        "insert into read_models.order_summary (order_id, customer, status, payment_status,
             fulfilment_status, line_count, currency, total, captured, refunded, confirmed, placed_at,
             updated_at, version)
         select lpad(n::text, 32, '0')::uuid, gen_random_uuid(),
             case n when 7 then 'nonsense' else 'pending' end, 'none', 'unfulfilled', 1, 'EUR', 1250,
             0, 0, false, now(), now(), n
         from generate_series(1, 9) as n",
    )
    .await;
    let pool = PgPoolOptions::new().max_connections(1).connect(&log.url).await.unwrap();
    let only = pool.acquire().await.unwrap();
    let lookup = Lookup::<OrderSummary>::new(pool);
    let keys = (0..=9_u128).map(Uuid::from_u128);
    let asked = join_all(keys.map(|key| lookup.get(key)));
    let (found, ()) = tokio::join!(asked, async { drop(only) });
    for (number, found) in (0..).zip(found) {
        match number {
            0 => assert_eq!(found.unwrap(), None),
            7 => drop(found.unwrap_err()),
            _ => assert_eq!(found.unwrap().unwrap().version, number),
        }
    }
}
