//! `waybill command-api`: the write side's two doors, HTTP and the inbox of saga commands.

use std::net::SocketAddr;
use std::sync::Arc;

use adapters::Outcome;
use clap::Args;
use command_api::FindPayment;
use event_store::{FeedHandle, Vault};
use schemas::Clock;
use tokio::net::TcpListener;
use web::Gate;

use crate::exit::Ending;
use crate::platform::Platform;
use crate::supervisor::{Signals, Supervisor};
use crate::{access, health, options};

/// Take commands: over HTTP, and from sagas.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the command API listens.
    #[arg(
        long,
        env = "WAYBILL_COMMAND_ADDR",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080"
    )]
    command_addr: SocketAddr,
    #[command(flatten)]
    log: options::Log,
    #[command(flatten)]
    nats: options::Nats,
    #[command(flatten)]
    secrets: options::WebhookSecrets,
    #[command(flatten)]
    provider: options::Provider,
    #[command(flatten)]
    master: options::Master,
    #[command(flatten)]
    access: options::Access,
}

/// Runs the role.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let Options { command_addr, log, nats, secrets, provider, master, access } = options;
    let gate = access::gate(&access, Clock::system())?;
    let masters = master.keys(None)?;
    let find_payment = finder(&provider)?;
    let mut signals = Signals::listen()?;
    let mut supervisor = Supervisor::default();
    let listener = health::bind(command_addr, "--command-addr (WAYBILL_COMMAND_ADDR)").await?;
    let platform =
        Platform::open(&mut supervisor, &log.database_url, &nats.nats_url, &log.tuning).await?;
    let vault = platform.vault(&mut supervisor, masters).await?;
    let feed = platform.follow(&mut supervisor);
    let outside = Outside { secrets, find_payment };
    start(&mut supervisor, &platform, vault, &feed, listener, outside, gate);
    Ok(supervisor.supervise(&mut signals, log.tuning.drain.max()).await)
}

/// What the API knows of who sends it word from outside.
pub(super) struct Outside {
    pub(super) secrets: options::WebhookSecrets,
    pub(super) find_payment: FindPayment,
}

/// Asks the provider whose payment it is that a webhook names by the provider's id.
pub(super) fn finder(provider: &options::Provider) -> anyhow::Result<FindPayment> {
    let finder =
        adapters::PaymentFinder::new(&provider.config()).map_err(super::adapters::wrong)?;
    let finder = Arc::new(finder);
    Ok(FindPayment::new(move |provider_ref| {
        let finder = Arc::clone(&finder);
        async move {
            match finder.find(&provider_ref).await {
                Outcome::Ok(payment) => Ok(payment),
                Outcome::Rejected(rejection) => Err(rejection.code()),
                Outcome::Transient(why) | Outcome::Unknown(why) => Err(why),
            }
        }
    }))
}

/// Starts the inbox and the API.
pub(super) fn start(
    supervisor: &mut Supervisor,
    platform: &Platform,
    vault: Vault,
    feed: &FeedHandle,
    listener: TcpListener,
    outside: Outside,
    gate: Gate,
) {
    platform.metrics.of_gate(&gate);
    let inbox = command_api::Inbox::new(platform.store.clone(), platform.clock);
    platform.react(supervisor, feed, inbox);
    let router = command_api::router(command_api::Config {
        store: platform.store.clone(),
        vault,
        clock: platform.clock,
        ids: platform.ids,
        gate,
        payment_webhook_secret: outside.secrets.payment_webhook_secret.as_str().to_owned(),
        find_payment: outside.find_payment,
        carrier_webhook_secret: outside.secrets.carrier_webhook_secret.as_str().to_owned(),
        health: health::checks(platform),
    });
    health::serve_router(supervisor, "command-api", listener, router, &platform.metrics);
}
