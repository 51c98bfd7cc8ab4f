//! What tells that a row is not what its events say.

use crate::world::{World, until};

/// A counter of the drift detector, summed over all read models.
async fn counted(world: &World, name: &str) -> u64 {
    let answer = world.http().get(format!("{}/metrics", world.command_url())).send().await.unwrap();
    let told = answer.text().await.unwrap();
    let series = told.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

async fn drifted(world: &World) -> u64 {
    counted(world, "waybill_projection_drift_total").await
}

async fn checked(world: &World) -> u64 {
    counted(world, "waybill_projection_drift_checked_total").await
}

/// What the process said about rows that are wrong.
fn said(world: &World) -> Vec<String> {
    let log = std::fs::read_to_string(world.folder().join("waybill.log")).unwrap();
    log.lines().filter(|line| line.contains("is not what")).map(str::to_owned).collect()
}

async fn execute(world: &World, statement: &'static str) {
    sqlx::raw_sql(statement).execute(world.pool()).await.unwrap();
}

#[tokio::test]
async fn a_row_that_was_tampered_with_is_found_and_told() {
    let world = World::start_watching("200").await;
    world.stock("mug", 10).await;
    let id = world.place(&[("mug", 2)], "pm_card_visa").await;
    world.order_is(&id, "confirmed").await;
    world.settle().await;
    assert_eq!(drifted(&world).await, 0);

    execute(&world, "update read_models.stock_level set on_hand = 9, sku = 'cup'").await;
    until("the row to be found", || async { (drifted(&world).await > 0).then_some(()) }).await;
    let said = said(&world).concat();
    assert!(said.contains("stock_level") && said.contains("inventory/"), "{said}");
    assert!(said.contains(r#""on_hand":9,"sku":"cup""#), "{said}");
    assert!(said.contains(r#""on_hand":10,"sku":"mug""#), "{said}");
    assert!(said.contains("up to position "), "{said}");
    assert!(!said.contains("\"reserved\""), "only what differs is told: {said}");
    world.end().await;
}

#[tokio::test]
async fn a_row_that_is_missing_is_found() {
    let world = World::start_watching("200").await;
    world.stock("mug", 10).await;
    let id = world.place(&[("mug", 2)], "pm_card_visa").await;
    world.order_is(&id, "confirmed").await;
    world.settle().await;
    execute(&world, "delete from read_models.payment_ledger").await;
    until("the row to be missed", || async { (drifted(&world).await > 0).then_some(()) }).await;
    let said = said(&world).concat();
    assert!(said.contains("of payment_ledger") && said.contains("the table has no row"), "{said}");
    world.end().await;
}

/// Goal: the detector is never wrong, whatever is written while it looks.
/// Method: rows are looked at as fast as may be while orders are placed, sent and cancelled and
/// read models are rebuilt; nothing may be found.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_drifts_under_load() {
    let world = World::start_watching("1000").await;
    world.stock("mug", 1_000).await;
    let store = event_store::Options {
        database_url: world.serving_url().to_owned(),
        log: world.log().to_owned(),
        connections_max: 4,
    };
    let (store, _writer) = event_store::Store::open(&store, None).await.unwrap();
    for _ in 0..3 {
        let orders = async {
            for round in 0..8 {
                let method = if round % 3 == 0 {
                    "pm_card_chargeDeclinedStolenCard"
                } else {
                    "pm_card_visa"
                };
                world.place(&[("mug", 1)], method).await;
            }
        };
        let rebuilds = async {
            for name in projections::names() {
                let how = projections::Rebuild::new(schemas::Chance::system());
                projections::rebuild(&store, name, how, |_| {}).await.unwrap();
            }
        };
        tokio::join!(orders, rebuilds);
    }
    until("many rows to be looked at", || async { (checked(&world).await > 500).then_some(()) })
        .await;
    world.settle().await;
    let before = checked(&world).await;
    until("many more at rest", || async { (checked(&world).await > before + 200).then_some(()) })
        .await;
    assert_eq!(said(&world), Vec::<String>::new());
    assert_eq!(drifted(&world).await, 0);
    world.end().await;
}
