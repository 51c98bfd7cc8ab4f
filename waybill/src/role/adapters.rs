//! `waybill adapters`: talks to the payment provider and the carrier, and tells operators.

use clap::Args;
use event_store::{FeedHandle, Vault};

use crate::exit::{Ending, Misconfigured};
use crate::platform::Platform;
use crate::supervisor::{Signals, Supervisor};
use crate::{health, options};

/// Talk to the payment provider and the carrier: hear an event, call out, tell the aggregate.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    log: options::Log,
    #[command(flatten)]
    nats: options::Nats,
    #[command(flatten)]
    outside: options::Outside,
    #[command(flatten)]
    webhook: options::OperatorWebhook,
    #[command(flatten)]
    master: options::Master,
    #[command(flatten)]
    health: options::Health,
}

/// Runs the role.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let Options { log, nats, outside, webhook, master, health } = options;
    let masters = master.keys(None)?;
    let mut signals = Signals::listen()?;
    let mut supervisor = Supervisor::default();
    let platform =
        Platform::open(&mut supervisor, &log.database_url, &nats.nats_url, &log.tuning).await?;
    let checks = health::checks(&platform);
    health::serve(&mut supervisor, health.health_addr, checks, &platform.metrics).await?;
    let vault = platform.vault(&mut supervisor, masters).await?;
    let feed = platform.follow(&mut supervisor);
    start(&mut supervisor, &platform, &vault, &feed, &outside, &webhook)?;
    Ok(supervisor.supervise(&mut signals, log.tuning.drain.max()).await)
}

/// The outside world is set wrongly.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn wrong(error: adapters::ConfigError) -> anyhow::Error {
    Misconfigured::error(format!("the outside world is set wrongly: {error}"))
}

/// Starts the adapters.
pub(super) fn start(
    supervisor: &mut Supervisor,
    platform: &Platform,
    vault: &Vault,
    feed: &FeedHandle,
    outside: &options::Outside,
    webhook: &options::OperatorWebhook,
) -> anyhow::Result<()> {
    let (store, clock) = (&platform.store, platform.clock);
    let provider = adapters::Config {
        return_url: outside.payment_return_url.clone(),
        ..outside.provider.config()
    };
    let carrier_url = outside.carrier_url.trim_end_matches('/');
    let carrier = adapters::Config::new(carrier_url, &outside.carrier_secret_key);
    let payments = adapters::Payments::new(store.clone(), clock, &provider).map_err(wrong)?;
    let carrier =
        adapters::Carrier::new(store.clone(), vault.clone(), clock, &carrier).map_err(wrong)?;
    platform.react(supervisor, feed, payments);
    platform.react(supervisor, feed, carrier);
    if let Some((url, secret)) = webhook.given()? {
        let operators =
            adapters::Operators::new(store.clone(), clock, url, secret).map_err(wrong)?;
        platform.react(supervisor, feed, operators);
    }
    Ok(())
}
