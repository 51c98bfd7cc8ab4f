//! Transactions that are given up before they have begun.

use std::time::Duration;

use crate::services;

#[tokio::test]
async fn a_beginning_that_is_given_up_leaves_no_transaction_open() {
    let url = services::database().await;
    let pool = event_store::pool_options(1).connect(&url).await.unwrap();
    let other = event_store::pool_options(1).connect(&url).await.unwrap();
    sqlx::query("create table kept (number int)").execute(&pool).await.unwrap();
    let mut given_up = 0;
    for number in 0..100 {
        // At another moment each time: before the server hears of it, while it answers, after that.
        let patience = Duration::from_micros(20 * number);
        let begun = tokio::time::timeout(patience, event_store::begin(&pool)).await;
        given_up += usize::from(begun.is_err());
        drop(begun);
        sqlx::query("insert into kept values (1)").execute(&pool).await.unwrap();
        let kept: i64 =
            sqlx::query_scalar("select count(*) from kept").fetch_one(&other).await.unwrap();
        assert_eq!(kept, i64::try_from(number).unwrap() + 1, "what was written is not committed");
    }
    assert!(given_up > 0);
}
