//! Private Postgres and NATS servers: found on this machine, kept in a data folder, reachable
//! on the loopback interface only, gone when this process is gone.
//!
//! ```text
//! DATA/lock            held while the servers run; a second process is refused
//! DATA/password        what both servers ask for, readable by the owner only
//! DATA/password.*      what Postgres asks the logins of the roles for
//! DATA/master.key      what the keys of personal data are wrapped with, readable by the owner only
//! DATA/token.key       what the tokens of a platform for trying are signed with
//! DATA/postgres/       the cluster          DATA/postgres.log
//! DATA/nats/           JetStream's store    DATA/nats.log
//! ```

mod find;
mod folder;
mod logins;
mod nats;
mod postgres;
mod process;

use std::path::Path;

pub use find::{Postgres as PostgresBinaries, find_nats_server, find_postgres};
pub use folder::Folder;
pub(crate) use folder::{existing_master_key, fallback, master_key, token_key};
pub use logins::add_login;
pub use nats::Nats;
pub use postgres::Postgres;
pub(crate) use process::{Process, Program, tail};

/// Both servers.
#[derive(Debug)]
pub struct Servers {
    /// The record.
    pub postgres: Postgres,
    /// The delivery.
    pub nats: Nats,
    // Dropped last: the folder is ours as long as a server may write to it.
    folder: Folder,
}

impl Servers {
    /// Starts both on the data folder `path`, which is made where there is none. After a
    /// crash the servers recover by themselves.
    ///
    /// # Errors
    /// Where a server is not found, too old, or does not start; where another process uses
    /// the folder.
    pub async fn start(path: &Path) -> anyhow::Result<Self> {
        // What is missing is said before anything is made.
        find_postgres()?;
        find_nats_server()?;
        let folder = Folder::open(path)?;
        let (postgres, nats) =
            tokio::try_join!(Postgres::start(&folder), Nats::start(&folder, "nats"))?;
        Ok(Self { postgres, nats, folder })
    }

    /// The folder they live in.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Stops both and waits until they are gone.
    pub async fn stop(self) {
        tokio::join!(self.nats.stop(), self.postgres.stop());
    }
}
