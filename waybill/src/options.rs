//! Options that several roles share.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use event_store::{MasterKey, MasterKeys};
use web::Rates;
use zeroize::Zeroizing;

use crate::exit::Misconfigured;

/// Which log, and how to reach it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Log {
    /// Postgres, as `postgres://user:password@host:5432/waybill`. The user is a member of
    /// `waybill_write`, or of `waybill_read` for the query API, and of nothing else.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: String,
    #[command(flatten)]
    pub tuning: Tuning,
}

/// Where events are delivered through.
#[derive(Debug, Clone, Args)]
pub(crate) struct Nats {
    /// NATS with JetStream, 2.10 or later, as `nats://user:password@host:4222`. Several
    /// servers of a cluster are separated by commas.
    #[arg(long, env = "NATS_URL", value_name = "URL", hide_env_values = true)]
    pub nats_url: String,
}

/// What has a default that mostly does.
#[derive(Debug, Clone, Args)]
pub(crate) struct Tuning {
    /// The name of the log: 1 to 32 of `a-z 0-9 _`. Names its JetStream stream and subjects.
    #[arg(long, env = "WAYBILL_LOG", value_name = "NAME", default_value = "main")]
    pub log_name: String,
    /// Connections to Postgres that this process opens at most, besides the writer's own and six
    /// while it rebuilds a read model.
    #[arg(long, env = "WAYBILL_DATABASE_CONNECTIONS", value_name = "COUNT",
          default_value_t = 24, value_parser = clap::value_parser!(u32).range(4..=1000))]
    pub database_connections: u32,
    /// Serve although the database's user could change history: only warn. For trying things.
    #[arg(long, env = "WAYBILL_ALLOW_OWNER")]
    pub allow_owner: bool,
    /// How long the ledger keeps what each command was answered, in days, a week at least: a
    /// command that is sent again after that is carried out again.
    #[arg(long, env = "WAYBILL_LEDGER_WINDOW", value_name = "DAYS",
          default_value_t = event_store::log::LEDGER_DAYS_DEFAULT,
          value_parser = clap::value_parser!(u16).range(i64::from(event_store::log::LEDGER_DAYS_MIN)..=36_500))]
    pub ledger_window: u16,
    #[command(flatten)]
    pub drain: Drain,
}

/// How a process stops.
#[derive(Debug, Clone, Args)]
pub(crate) struct Drain {
    /// How long a stop may take before what is left is cut off, in seconds.
    #[arg(long, env = "WAYBILL_DRAIN_SECONDS", value_name = "SECONDS", default_value_t = 20)]
    drain_seconds: u64,
}

impl Drain {
    /// How long a stop may take.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// How a role without an API of its own says how well it is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Health {
    /// Where `/livez`, `/readyz` and `/healthz` are served; nowhere unless given.
    #[arg(long, env = "WAYBILL_HEALTH_ADDR", value_name = "ADDR:PORT")]
    pub health_addr: Option<SocketAddr>,
}

/// How closely the read models are watched.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Drift {
    /// How many rows of read models this process folds anew from the log in a second, to find
    /// those that are not what their events say; 0 for none.
    #[arg(long, env = "WAYBILL_DRIFT_ROWS_PER_SECOND", value_name = "ROWS",
          default_value_t = projections::RATE_DEFAULT,
          value_parser = clap::value_parser!(u32).range(0..=i64::from(projections::RATE_MAX)))]
    pub drift_rows_per_second: u32,
}

/// What webhooks are signed with.
#[derive(Debug, Clone, Args)]
pub(crate) struct WebhookSecrets {
    /// What the payment provider signs its webhooks with.
    #[arg(
        long,
        env = "WAYBILL_PAYMENT_WEBHOOK_SECRET",
        value_name = "SECRET",
        hide_env_values = true,
        value_parser = secret
    )]
    pub payment_webhook_secret: Hidden,
    /// What the carrier signs its webhooks with.
    #[arg(
        long,
        env = "WAYBILL_CARRIER_WEBHOOK_SECRET",
        value_name = "SECRET",
        hide_env_values = true,
        value_parser = secret
    )]
    pub carrier_webhook_secret: Hidden,
}

/// A secret that is there: what is signed with nothing can be signed by anybody.
fn secret(text: &str) -> Result<Hidden, &'static str> {
    if text.trim().is_empty() { Err("it is empty") } else { Ok(Hidden::new(text.to_owned())) }
}

/// What the keys of personal data are wrapped with.
#[derive(Debug, Clone, Args)]
pub(crate) struct Master {
    /// 32 bytes as base64, as `openssl rand -base64 32` makes them. Everybody who seals or opens
    /// is given the same one. Whoever has it and the database can read what was not erased.
    #[arg(long, env = "WAYBILL_MASTER_KEY", value_name = "BASE64", hide_env_values = true)]
    pub master_key: Option<Hidden>,
    /// Master keys that are on their way out or in, separated by commas: what they wrap is
    /// opened, and nothing new is wrapped with them.
    #[arg(
        long,
        env = "WAYBILL_MASTER_KEY_PREVIOUS",
        value_name = "BASE64",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub master_key_previous: Vec<Hidden>,
}

impl Master {
    /// The keys; `fallback` where none is set.
    pub(crate) fn keys(&self, fallback: Option<&str>) -> anyhow::Result<MasterKeys> {
        let parse = |text: &str, name: &str| {
            text.parse::<MasterKey>()
                .map_err(|error| Misconfigured::error(format!("{name} cannot be read: {error}")))
        };
        let given =
            self.master_key.as_ref().map(|key| key.0.as_str()).filter(|key| !key.is_empty());
        let current = given.or(fallback).ok_or_else(|| {
            Misconfigured::error(
                "personal data needs a master key: set WAYBILL_MASTER_KEY (--master-key) to the \
                 one that all processes of this platform share; a new platform is given a new \
                 one, as `openssl rand -base64 32` makes it",
            )
        })?;
        let previous = self.master_key_previous.iter().filter(|key| !key.0.is_empty());
        let previous = previous.map(|key| parse(&key.0, "WAYBILL_MASTER_KEY_PREVIOUS"));
        let current = parse(current, "WAYBILL_MASTER_KEY")?;
        Ok(MasterKeys::new(current, previous.collect::<anyhow::Result<_>>()?))
    }
}

/// A value that is shown nowhere.
#[derive(Clone)]
pub(crate) struct Hidden(Zeroizing<String>);

impl Hidden {
    /// Hides `text`.
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The value, for whoever needs it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hidden {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text.to_owned()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

/// The payment provider.
#[derive(Debug, Clone, Args)]
pub(crate) struct Provider {
    /// Base address of the payment provider, as `https://provider.example`.
    #[arg(long, env = "WAYBILL_PAYMENT_URL", value_name = "URL")]
    pub payment_url: String,
    /// The key that the payment provider knows us by.
    #[arg(long, env = "WAYBILL_PAYMENT_SECRET_KEY", value_name = "KEY", hide_env_values = true)]
    pub payment_secret_key: String,
}

impl Provider {
    /// How the adapters are told of it.
    pub(crate) fn config(&self) -> adapters::Config {
        adapters::Config::new(self.payment_url.trim_end_matches('/'), &self.payment_secret_key)
    }
}

/// The world outside.
#[derive(Debug, Clone, Args)]
pub(crate) struct Outside {
    #[command(flatten)]
    pub provider: Provider,
    /// Where the payment provider sends customers back to once they have confirmed a payment with
    /// their bank; some providers name no place to confirm it without.
    #[arg(long, env = "WAYBILL_PAYMENT_RETURN_URL", value_name = "URL")]
    pub payment_return_url: Option<String>,
    /// Base address of the carrier, as `https://carrier.example`.
    #[arg(long, env = "WAYBILL_CARRIER_URL", value_name = "URL")]
    pub carrier_url: String,
    /// The key that the carrier knows us by.
    #[arg(long, env = "WAYBILL_CARRIER_SECRET_KEY", value_name = "KEY", hide_env_values = true)]
    pub carrier_secret_key: String,
}

/// Who is told of what waits for a person.
#[derive(Debug, Clone, Args)]
pub(crate) struct OperatorWebhook {
    /// Is told of every saga that is parked, by a signed POST (Standard Webhooks), until it takes
    /// it; nobody is told unless it is given.
    #[arg(long, env = "WAYBILL_OPERATOR_WEBHOOK", value_name = "URL", hide_env_values = true)]
    pub operator_webhook: Option<String>,
    /// What that is signed with: `whsec_` and 24 to 64 bytes as base64.
    #[arg(
        long,
        env = "WAYBILL_OPERATOR_WEBHOOK_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub operator_webhook_secret: Option<Hidden>,
}

impl OperatorWebhook {
    /// Address and secret, where there is an address.
    pub(crate) fn given(&self) -> anyhow::Result<Option<(&str, &str)>> {
        // A variable that is set to nothing is no address.
        let Some(url) = self.operator_webhook.as_deref().filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let secret = self.operator_webhook_secret.as_ref().map(|secret| secret.0.as_str());
        let secret = secret.filter(|secret| !secret.is_empty()).ok_or_else(|| {
            Misconfigured::error(
                "WAYBILL_OPERATOR_WEBHOOK needs WAYBILL_OPERATOR_WEBHOOK_SECRET: `whsec_` and \
                 what `openssl rand -base64 32` makes",
            )
        })?;
        Ok(Some((url, secret)))
    }
}

/// Who may call the APIs, and how often.
#[derive(Debug, Clone, Args)]
pub(crate) struct Access {
    /// The key set (JWKS) of the identity provider whose tokens are believed: its address, a
    /// file, or the JSON itself. It is fetched again every ten minutes, and for keys that are new.
    #[arg(long, env = "WAYBILL_JWKS", value_name = "URL|FILE|JSON")]
    jwks: Option<String>,
    #[command(flatten)]
    pub names: TokenNames,
    /// Requests a minute that one caller may make of this process, by the part of the path behind
    /// `/v1/`, as `orders=500,payments=200,others=1000`; or `none`. [default: customers=1000,
    /// stock=2000, orders=500, payments=200, others=1000; with `waybill up` none]
    #[arg(long, env = "WAYBILL_RATE_LIMITS", value_name = "GROUP=RATE,…")]
    pub rate_limits: Option<Rates>,
}

impl Access {
    /// The key set, where one is named. A variable that is set to nothing names none.
    pub(crate) fn jwks(&self) -> Option<&str> {
        self.jwks.as_deref().map(str::trim).filter(|jwks| !jwks.is_empty())
    }
}

/// Who makes tokens, and for whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenNames {
    /// What tokens have in `iss`.
    #[arg(long, env = "WAYBILL_TOKEN_ISSUER", value_name = "NAME", default_value = "waybill")]
    pub token_issuer: String,
    /// What tokens have in `aud`, by itself or among others.
    #[arg(long, env = "WAYBILL_TOKEN_AUDIENCE", value_name = "NAME", default_value = "waybill")]
    pub token_audience: String,
}

/// What the query API seals its page cursors with.
#[derive(Debug, Clone, Args)]
pub(crate) struct Cursors {
    /// The same for every query API of a platform, so that a page begun at one can be followed
    /// at another; made anew at every start unless given.
    #[arg(long, env = "WAYBILL_CURSOR_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub cursor_secret: Option<String>,
}

/// How the query API serves.
#[derive(Debug, Clone, Args)]
pub(crate) struct Queries {
    #[command(flatten)]
    pub cursors: Cursors,
    #[command(flatten)]
    pub streams: EventStreams,
}

/// How many event streams the query API tells.
#[derive(Debug, Clone, Args)]
pub(crate) struct EventStreams {
    /// Event streams that this process tells at once.
    #[arg(long, env = "WAYBILL_EVENT_STREAMS", value_name = "COUNT", default_value_t = 1024,
          value_parser = clap::value_parser!(u16).range(1..=4000))]
    pub event_streams: u16,
    /// Event streams that are told to one caller at once.
    #[arg(long, env = "WAYBILL_EVENT_STREAMS_PER_CALLER", value_name = "COUNT",
          default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4000))]
    pub event_streams_per_caller: u16,
}
