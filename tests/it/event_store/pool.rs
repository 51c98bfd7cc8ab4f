//! Transactions that are given up before they have begun.

use tokio::task::yield_now;

use crate::services;

#[tokio::test]
async fn a_beginning_that_is_given_up_leaves_no_transaction_open() {
    let url = services::database().await;
    let pool = event_store::pool_options(1).connect(&url).await.unwrap();
    let other = event_store::pool_options(1).connect(&url).await.unwrap();
    sqlx::query("create table kept (number int)").execute(&pool).await.unwrap();
    let mut given_up = 0;
    for number in 0..100_i64 {
        // At another moment each time: before the server hears of it, while it answers, after that.
        let patience = async {
            for _ in 0..number {
                yield_now().await;
            }
        };
        tokio::select! {
            biased;
            begun = event_store::begin(&pool) => drop(begun),
            () = patience => given_up += 1,
        }
        sqlx::query("insert into kept values (1)").execute(&pool).await.unwrap();
        let kept: i64 =
            sqlx::query_scalar("select count(*) from kept").fetch_one(&other).await.unwrap();
        assert_eq!(kept, number + 1, "what was written is not committed");
    }
    assert!(given_up > 0);
}
