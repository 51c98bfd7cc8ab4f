//! The Postgres and the NATS that all tests of this process share: private, real, and gone with
//! the process.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;
use waybill::embedded::Servers;

static SERVERS: OnceCell<Servers> = OnceCell::const_new();
static NAMES: AtomicU32 = AtomicU32::new(1);

/// A name that no other test of this run has: for a database, a log, a folder.
pub(crate) fn name() -> String {
    format!("it_{}", NAMES.fetch_add(1, Ordering::Relaxed))
}

/// An empty folder of this process, which the next run removes.
pub(crate) fn folder(name: &str) -> std::path::PathBuf {
    let base = std::env::temp_dir().join("waybill-it");
    let folder = base.join(std::process::id().to_string()).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The URL of an empty database.
pub(crate) async fn database() -> String {
    servers().await.postgres.database(&name()).await.unwrap()
}

/// The URL of the database at `url`, for a login of its own that is a member of `groups` and may do
/// nothing else. `url` is the superuser's.
pub(crate) async fn login(url: &str, groups: &[&str]) -> String {
    let (login, password) = (name(), "secret");
    waybill::embedded::add_login(url, &login, password, groups).await.unwrap();
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{login}:{password}@{place}")
}

/// The URL of the database at `url`, for whoever serves.
pub(crate) async fn serving(url: &str) -> String {
    login(url, &["waybill_write", "waybill_read"]).await
}

/// The URL of the NATS server.
pub(crate) async fn nats() -> String {
    servers().await.nats.url()
}

/// A client of the NATS server at `url`, whose user and password stand in it.
pub(crate) async fn client(url: &str) -> async_nats::Client {
    let address: async_nats::ServerAddr = url.parse().unwrap();
    let mut options = async_nats::ConnectOptions::new();
    if let (Some(user), Some(password)) = (address.username(), address.password()) {
        options = options.user_and_password(user.to_owned(), password.to_owned());
    }
    options.connect(address).await.unwrap()
}

async fn servers() -> &'static Servers {
    SERVERS
        .get_or_init(|| async {
            sweep(&std::env::temp_dir().join("waybill-it"));
            Servers::start(&folder("services")).await.unwrap()
        })
        .await
}

/// Removes what runs of old left behind.
fn sweep(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let owner = entry.file_name();
        if !Path::new("/proc").join(&owner).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
