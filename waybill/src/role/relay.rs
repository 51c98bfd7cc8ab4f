//! `waybill relay`: publishes the log to JetStream.

use anyhow::Context as _;
use clap::Args;
use event_store::Relay;

use crate::exit::Ending;
use crate::platform::Platform;
use crate::supervisor::{Signals, Stage, Supervisor};
use crate::{health, options};

/// Publish the log to JetStream. One process leads at a time; others stand by.
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
    start(&mut supervisor, &platform);
    Ok(supervisor.supervise(&mut signals, log.tuning.drain.max()).await)
}

/// Starts the relay.
pub(super) fn start(supervisor: &mut Supervisor, platform: &Platform) {
    let relay = Relay::new(platform.store.clone(), platform.nats.clone());
    platform.metrics.of_relay(relay.published());
    supervisor.run(Stage::Support, "relay", |drain| async move {
        relay.run(drain).await.context("the relay cannot go on")
    });
}
