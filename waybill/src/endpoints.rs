//! Where a running `waybill up` can be reached: a file in its data folder.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// The data folder where nothing else is asked for.
pub(crate) const DATA_DIR_DEFAULT: &str = "./.waybill/data";

/// The file in the data folder.
const FILE: &str = "endpoints.json";

/// The addresses of a running platform. Readable by its owner only: the database URL holds a
/// password, and there may be a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Endpoints {
    /// The command API.
    pub command_url: String,
    /// The query API.
    pub query_url: String,
    /// The sandbox payment provider.
    pub payment_url: String,
    /// The sandbox carrier.
    pub carrier_url: String,
    /// Postgres, for the roles that write.
    pub database_url: String,
    /// Postgres, for the query API.
    pub reading_url: String,
    /// Postgres, for its owner.
    pub owner_url: String,
    /// NATS.
    pub nats_url: String,
    /// A token that may do everything, where the platform issues one to itself.
    pub token: Option<String>,
    /// The process that runs it.
    pub pid: u32,
}

impl Endpoints {
    /// Writes the file, whole or not at all.
    pub(crate) fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        let (file, new) = (data_dir.join(FILE), data_dir.join("endpoints.new"));
        let write = || -> anyhow::Result<()> {
            let mut options = OpenOptions::new();
            let mut open =
                options.create(true).write(true).truncate(true).mode(0o600).open(&new)?;
            open.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
            Ok(fs::rename(&new, &file)?)
        };
        write().with_context(|| format!("cannot write {}", file.display()))
    }

    /// Reads the file, where there is one.
    pub(crate) fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(data_dir.join(FILE)).ok()?).ok()
    }

    /// Removes the file: nothing is reached there any more.
    pub(crate) fn remove(data_dir: &Path) {
        let _ = fs::remove_file(data_dir.join(FILE));
    }
}
