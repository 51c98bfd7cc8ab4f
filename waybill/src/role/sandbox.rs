//! `waybill sandbox`: a payment provider and a carrier to try the platform against.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;
use web::health::Checks;

use crate::exit::Ending;
use crate::health::{self, bind};
use crate::metrics::Metrics;
use crate::options::{self, WebhookSecrets};
use crate::supervisor::{Signals, Stage, Supervisor};

/// Run a payment provider and a carrier to try Waybill against. They take test payment
/// methods such as `pm_card_visa`, `pm_card_chargeDeclined` and `pm_card_threeDSecure2Required`;
/// no money moves.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the payment provider listens.
    #[arg(
        long,
        env = "WAYBILL_SANDBOX_PAYMENT_ADDR",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8082"
    )]
    payment_addr: SocketAddr,
    /// Where the carrier listens.
    #[arg(
        long,
        env = "WAYBILL_SANDBOX_CARRIER_ADDR",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8083"
    )]
    carrier_addr: SocketAddr,
    /// The key that callers of the payment provider must bring.
    #[arg(long, env = "WAYBILL_PAYMENT_SECRET_KEY", value_name = "KEY", hide_env_values = true)]
    payment_secret_key: String,
    /// The key that callers of the carrier must bring.
    #[arg(long, env = "WAYBILL_CARRIER_SECRET_KEY", value_name = "KEY", hide_env_values = true)]
    carrier_secret_key: String,
    /// Base address of the command API, where webhooks are sent; none are sent without it.
    #[arg(long, env = "WAYBILL_COMMAND_URL", value_name = "URL")]
    command_url: Option<String>,
    #[command(flatten)]
    secrets: WebhookSecrets,
    /// Where the books are kept; without it they die with the process.
    #[arg(long, env = "WAYBILL_SANDBOX_DATA_DIR", value_name = "FOLDER")]
    sandbox_data_dir: Option<PathBuf>,
    #[command(flatten)]
    health: options::Health,
    #[command(flatten)]
    drain: options::Drain,
}

/// The two servers, ready to start.
#[derive(Debug)]
pub(super) struct Sandbox {
    provider: sandbox::Config,
    carrier: sandbox::Config,
}

/// Runs the role.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let mut signals = Signals::listen()?;
    let mut supervisor = Supervisor::default();
    let provider =
        bind(options.payment_addr, "--payment-addr (WAYBILL_SANDBOX_PAYMENT_ADDR)").await?;
    let carrier =
        bind(options.carrier_addr, "--carrier-addr (WAYBILL_SANDBOX_CARRIER_ADDR)").await?;
    let keys = (options.payment_secret_key.as_str(), options.carrier_secret_key.as_str());
    let mut sandbox = Sandbox::new(keys, &options.secrets);
    if let Some(url) = &options.command_url {
        sandbox.tell(url);
    }
    if let Some(folder) = &options.sandbox_data_dir {
        sandbox.keep(folder)?;
    }
    let metrics = Metrics::start(&mut supervisor)?;
    health::serve(&mut supervisor, options.health.health_addr, Checks::none(), &metrics).await?;
    sandbox.start(&mut supervisor, provider, carrier);
    Ok(supervisor.supervise(&mut signals, options.drain.max()).await)
}

impl Sandbox {
    /// Both know their callers by `keys` (payments, carrier) and sign webhooks with `secrets`.
    pub(super) fn new(keys: (&str, &str), secrets: &WebhookSecrets) -> Self {
        let WebhookSecrets { payment_webhook_secret, carrier_webhook_secret } = secrets;
        Self {
            provider: sandbox::Config::new(keys.0, payment_webhook_secret.as_str()),
            carrier: sandbox::Config::new(keys.1, carrier_webhook_secret.as_str()),
        }
    }

    /// Sends webhooks to the command API at `url`.
    pub(super) fn tell(&mut self, url: &str) {
        let base = url.trim_end_matches('/');
        self.provider.webhook_url = Some(format!("{base}/v1/webhooks/payments"));
        self.carrier.webhook_url = Some(format!("{base}/v1/webhooks/carrier"));
    }

    /// Keeps the books in `folder`.
    pub(super) fn keep(&mut self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        self.provider.journal = Some(folder.join("provider.journal"));
        self.carrier.journal = Some(folder.join("carrier.journal"));
        Ok(())
    }

    /// Starts both servers.
    pub(super) fn start(
        self,
        supervisor: &mut Supervisor,
        provider: TcpListener,
        carrier: TcpListener,
    ) {
        for (name, server, listener) in [
            ("sandbox/provider", sandbox::provider(self.provider), provider),
            ("sandbox/carrier", sandbox::carrier(self.carrier), carrier),
        ] {
            supervisor.run(Stage::Support, name, |drain| async move {
                server.serve(listener, drain).await.context(name)
            });
        }
    }
}
