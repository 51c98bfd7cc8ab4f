//! `waybill sagas run`: what happens next, and what is given back.

use clap::Args;
use event_store::FeedHandle;

use crate::exit::Ending;
use crate::platform::Platform;
use crate::supervisor::{Signals, Stage, Supervisor};
use crate::{health, options};

/// Run the sagas and their timers.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    log: options::Log,
    #[command(flatten)]
    nats: options::Nats,
    #[command(flatten)]
    health: options::Health,
}

/// Runs the role.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let Options { log, nats, health } = options;
    let mut signals = Signals::listen()?;
    let mut supervisor = Supervisor::default();
    let platform =
        Platform::open(&mut supervisor, &log.database_url, &nats.nats_url, &log.tuning).await?;
    let checks = health::checks(&platform);
    health::serve(&mut supervisor, health.health_addr, checks, &platform.metrics).await?;
    let feed = platform.follow(&mut supervisor);
    start(&mut supervisor, &platform, feed);
    Ok(supervisor.supervise(&mut signals, log.tuning.drain.max()).await)
}

/// Starts every saga, the consumer that keeps their timers, and the task that fires them.
pub(super) fn start(supervisor: &mut Supervisor, platform: &Platform, feed: FeedHandle) {
    let (store, clock) = (platform.store.clone(), platform.clock);
    platform.metrics.of_sagas(store.pool());
    supervisor.run(Stage::Consumer, "sagas", |drain| async move {
        saga::run_all(store, feed, clock, drain).await;
        Ok(())
    });
}
