//! `waybill projections`: maintains the read models.

use clap::Args;
use event_store::FeedHandle;
use projections::Detector;
use schemas::Chance;

use crate::exit::Ending;
use crate::platform::Platform;
use crate::supervisor::{Signals, Stage, Supervisor};
use crate::{health, options};

/// Maintain the read models.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    log: options::Log,
    #[command(flatten)]
    nats: options::Nats,
    #[command(flatten)]
    health: options::Health,
    #[command(flatten)]
    drift: options::Drift,
}

/// Runs the role.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let Options { log, nats, health, drift } = options;
    let mut signals = Signals::listen()?;
    let mut supervisor = Supervisor::default();
    let platform =
        Platform::open(&mut supervisor, &log.database_url, &nats.nats_url, &log.tuning).await?;
    let checks = health::checks(&platform);
    health::serve(&mut supervisor, health.health_addr, checks, &platform.metrics).await?;
    let feed = platform.follow(&mut supervisor);
    start(&mut supervisor, &platform, feed, drift);
    Ok(supervisor.supervise(&mut signals, log.tuning.drain.max()).await)
}

/// Starts every projection, and what watches them.
pub(super) fn start(
    supervisor: &mut Supervisor,
    platform: &Platform,
    feed: FeedHandle,
    drift: options::Drift,
) {
    let (store, clock, chance) = (platform.store.clone(), platform.clock, Chance::system());
    supervisor.run(Stage::Consumer, "projections", |drain| async move {
        projections::run_all(store, feed, clock, chance, drain).await;
        Ok(())
    });
    let store = platform.store.clone();
    let detector = Detector::new(store, chance, drift.drift_rows_per_second);
    supervisor.run(Stage::Consumer, "drift detector", |drain| async move {
        detector.run(drain).await;
        Ok(())
    });
}
