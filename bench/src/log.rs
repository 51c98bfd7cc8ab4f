//! A log to measure: a database of its own, a store, and its writer.

use anyhow::Result;
use event_store::{MasterKey, MasterKeys, Options, Store, Vault};
use schemas::{Chance, Clock, Ids};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use waybill::embedded::Servers;

/// One log in a database of its own.
pub(crate) struct Log {
    pub(crate) url: String,
    pub(crate) owner: PgPool,
    pub(crate) store: Store,
    pub(crate) vault: Vault,
}

impl Log {
    pub(crate) async fn open(
        servers: &Servers,
        name: &str,
        nats: &async_nats::Client,
        tasks: &mut JoinSet<()>,
        drain: &CancellationToken,
    ) -> Result<Self> {
        let url = servers.postgres.database(name).await?;
        Store::migrate(&url).await?;
        projections::migrate(&url).await?;
        let options =
            Options { database_url: url.clone(), log: name.to_owned(), connections_max: 24 };
        let (store, writer) = Store::open(&options, Some(nats.clone())).await?;
        tasks.spawn(writer.run(drain.clone()));
        let owner = PgPool::connect(&url).await?;
        let chance = Chance::system();
        let masters = MasterKeys::new(MasterKey::generate(chance).parse()?, Vec::new());
        let vault = Vault::new(store.pool().clone(), masters, chance);
        vault.introduce().await?;
        Ok(Self { url, owner, store, vault })
    }

    pub(crate) fn command_api(&self) -> command_api::Config {
        command_api::Config {
            store: self.store.clone(),
            vault: self.vault.clone(),
            clock: Clock::system(),
            ids: Ids::system(),
            gate: web::Gate::off(web::Caller::new("bench", None, &[])),
            payment_webhook_secret: "unused".to_owned(),
            find_payment: command_api::FindPayment::nothing(),
            carrier_webhook_secret: "unused".to_owned(),
            health: web::health::Checks::none(),
        }
    }
}
