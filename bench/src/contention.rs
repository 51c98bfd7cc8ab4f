//! Reservations of stock: all of one sku, or spread over many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aggregates::inventory::Inventory;
use anyhow::{Result, ensure};
use event_store::{Meta, Store};
use schemas::inventory::{Command, ReserveMode, Units, stock_stream};
use schemas::{Clock, CommandId, Ids, OrderId, Quantity, ReservationId, Sku};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Over how many skus they are spread.
pub(crate) const SKUS: usize = 10_000;
/// Callers that reserve, each waiting for its answer before the next.
const CALLERS: usize = 64;

/// Under an id of its own.
pub(crate) fn meta() -> Meta {
    let id = Ids::system().next();
    Meta {
        command_id: CommandId::new(id),
        request_hash: [7; 32],
        correlation_id: id,
        causation_id: id,
        occurred_at: Clock::system().now(),
        actor: "bench".to_owned(),
        traceparent: None,
        expected: None,
        keep_refusal: false,
    }
}

/// Reservations of one unit a second over `skus` skus, of which there is plenty. Checks that exactly
/// what was promised was taken from the stock.
///
/// # Errors
/// The first command that fails, or a unit that was taken twice or not at all.
pub(crate) async fn rate(store: &Store, skus: usize, seconds: u64) -> Result<f64> {
    let run = Ids::system().next().simple().to_string();
    let skus: Vec<Sku> =
        (0..skus).map(|index| format!("{run}-{index}").parse()).collect::<Result<_, _>>()?;
    let skus = Arc::new(skus);
    stock(store, &skus).await?;
    let before = store.head().await?;
    let done = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for caller in 0..CALLERS {
        let (store, skus, done) = (store.clone(), Arc::clone(&skus), Arc::clone(&done));
        tasks.spawn(async move {
            // A step that shares no factor with the number of skus visits all of them.
            for index in (caller..).step_by(CALLERS) {
                if Instant::now() >= end {
                    break;
                }
                let command = reserve(&skus[index * 7919 % skus.len()])?;
                store.create::<Inventory>(&command.streams(), &command, &meta()).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let elapsed = started.elapsed().as_secs_f64();
    let done = done.load(Ordering::Relaxed);
    let taken: i64 = sqlx::query_scalar(
        "select count(*) from events \
         where position > $1 and event_type = 'inventory.stock_reserved.v1'",
    )
    .bind(before)
    .fetch_one(store.pool())
    .await?;
    ensure!(u64::try_from(taken)? == done, "{done} units were promised and {taken} taken");
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let done = done as f64;
    Ok(done / elapsed)
}

fn reserve(sku: &Sku) -> Result<Command> {
    Ok(Command::Reserve {
        order: OrderId::new(Ids::system().next()),
        reservation: ReservationId::new(Ids::system().next()),
        units: vec![Units { sku: sku.clone(), quantity: Quantity::new(1)? }],
        mode: ReserveMode::AllOrNothing,
        expires_at: Clock::system().now() + Duration::from_hours(1),
    })
}

/// Brings in as much of every sku as there can be.
async fn stock(store: &Store, skus: &Arc<Vec<Sku>>) -> Result<()> {
    let mut tasks = JoinSet::new();
    for caller in 0..CALLERS {
        let (store, skus) = (store.clone(), Arc::clone(skus));
        tasks.spawn(async move {
            for sku in skus.iter().skip(caller).step_by(CALLERS) {
                receive(&store, sku).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Goods of a sku come in for the first time.
///
/// # Errors
/// Where the command fails.
pub(crate) async fn receive(store: &Store, sku: &Sku) -> Result<()> {
    let quantity = Quantity::new(Quantity::MAX)?;
    let command = Command::Receive { sku: sku.clone(), quantity, reference: None };
    store.create::<Inventory>(&[stock_stream(sku)], &command, &meta()).await?;
    Ok(())
}
