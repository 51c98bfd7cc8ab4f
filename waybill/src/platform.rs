//! What every role stands on: the log, and the feed that follows it.

use anyhow::Context as _;
use event_store::log::{Keeper, powers};
use event_store::{Feed, FeedHandle, MasterKeys, Reactor, Store, Vault, run_reactor};
use schemas::{Chance, Clock, Ids};
use sqlx::PgPool;
use tracing::{info, warn};

use crate::exit::Misconfigured;
use crate::metrics::Metrics;
use crate::options;
use crate::supervisor::{Stage, Supervisor};

/// Who we are, in the server's list of connections.
const CLIENT_NAME: &str = "waybill";

/// The log, and the clock and the chance that everybody is handed.
#[derive(Debug, Clone)]
pub(crate) struct Platform {
    pub store: Store,
    pub nats: async_nats::Client,
    pub clock: Clock,
    pub ids: Ids,
    pub metrics: Metrics,
}

impl Platform {
    /// Connects, and runs the task that writes to the log.
    pub(crate) async fn open(
        supervisor: &mut Supervisor,
        database_url: &str,
        nats_url: &str,
        tuning: &options::Tuning,
    ) -> anyhow::Result<Self> {
        let metrics = Metrics::start(supervisor)?;
        let nats = connect_nats(nats_url).await?;
        let options = event_store::Options {
            database_url: database_url.to_owned(),
            log: tuning.log_name.clone(),
            connections_max: tuning.database_connections,
        };
        let opened = Store::open(&options, Some(nats.clone())).await;
        let (store, writer) = opened.map_err(|error| match error {
            event_store::Error::Config(why) => Misconfigured::error(why),
            error => anyhow::Error::new(error).context(
                "cannot open the log (is DATABASE_URL right, and did `waybill migrate` run?)",
            ),
        })?;
        check_login(store.pool(), tuning.allow_owner).await?;
        supervisor.run(Stage::Writer, "writer", |drain| async move {
            writer.run(drain).await;
            Ok(())
        });
        metrics.of_store(&store);
        let keeper = Keeper::new(store.clone(), tuning.ledger_window);
        supervisor.run(Stage::Support, "log keeper", |drain| async move {
            keeper.run(drain).await;
            Ok(())
        });
        Ok(Self { store, nats, clock: Clock::system(), ids: Ids::system(), metrics })
    }

    /// What seals and opens personal data; forgets a key as soon as it is destroyed.
    pub(crate) async fn vault(
        &self,
        supervisor: &mut Supervisor,
        masters: MasterKeys,
    ) -> anyhow::Result<Vault> {
        let vault = Vault::new(self.store.pool().clone(), masters, Chance::system());
        vault.introduce().await.map_err(|error| match error {
            event_store::Error::Config(why) => Misconfigured::error(why),
            error => anyhow::Error::new(error).context("cannot check the master key"),
        })?;
        forget_erased(supervisor, &vault);
        Ok(vault)
    }

    /// Follows the log for the consumers of this process.
    pub(crate) fn follow(&self, supervisor: &mut Supervisor) -> FeedHandle {
        let (feed, handle) = Feed::new(self.store.clone(), self.nats.clone());
        supervisor.run(Stage::Support, "feed", |drain| async move {
            feed.run(drain).await;
            Ok(())
        });
        self.metrics.of_feed(&handle);
        handle
    }

    /// Runs a reactor on the feed.
    pub(crate) fn react<R: Reactor>(
        &self,
        supervisor: &mut Supervisor,
        feed: &FeedHandle,
        reactor: R,
    ) {
        let (store, feed) = (self.store.clone(), feed.clone());
        let name = reactor.name().to_owned();
        supervisor.run(Stage::Consumer, name, |drain| async move {
            run_reactor(store, feed, reactor, drain).await;
            Ok(())
        });
    }
}

/// Refuses to serve as a login that could change history; only warns where that is allowed.
pub(crate) async fn check_login(pool: &PgPool, allow_owner: bool) -> anyhow::Result<()> {
    let powers = powers(pool).await.context("cannot look up what the database's user may do")?;
    if powers.is_empty() {
        return Ok(());
    }
    let powers = powers.join(", ");
    if allow_owner {
        warn!("the database's user could change history: {powers}; serve as another");
        return Ok(());
    }
    Err(Misconfigured::error(format!(
        "the user of DATABASE_URL (--database-url) could change history: {powers}. Serve as a \
         login that is only a member of waybill_write (`create role waybill_serve login password \
         '…' in role waybill_write, waybill_read`; the query API needs waybill_read alone), and \
         keep the owner's for `waybill migrate` and `waybill log`; or pass --allow-owner \
         (WAYBILL_ALLOW_OWNER=true) to try things"
    )))
}

/// Hears of erasures for as long as the process runs.
pub(crate) fn forget_erased(supervisor: &mut Supervisor, vault: &Vault) {
    let vault = vault.clone();
    supervisor.run(Stage::Support, "erasures", |drain| async move {
        vault.run(drain).await;
        Ok(())
    });
}

/// A client that keeps trying: a NATS that is away delays delivery and stops nothing.
async fn connect_nats(url: &str) -> anyhow::Result<async_nats::Client> {
    let servers: Vec<async_nats::ServerAddr> =
        url.split(',').map(|server| server.trim().parse()).collect::<Result<_, _>>().map_err(
            |error| {
                Misconfigured::error(format!(
                    "NATS_URL (--nats-url) is not an address: {error}; it should look like \
                 nats://user:password@host:4222"
                ))
            },
        )?;
    let mut options = async_nats::ConnectOptions::new()
        .name(CLIENT_NAME)
        .retry_on_initial_connect()
        .event_callback(|event| async move {
            match event {
                async_nats::Event::Connected => info!("connected to NATS"),
                async_nats::Event::Draining | async_nats::Event::Closed => {}
                event => warn!("NATS: {event}"),
            }
        });
    let login = servers.first().and_then(|server| Some((server.username()?, server.password()?)));
    if let Some((user, password)) = login {
        options = options.user_and_password(user.to_owned(), password.to_owned());
    }
    options.connect(servers).await.context("cannot start the NATS client")
}
