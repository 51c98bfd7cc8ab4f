//! A private Postgres.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::migrate::MigrateDatabase as _;
use sqlx::{ConnectOptions as _, Connection as _};
use tracing::{info, warn};

use super::find::find_postgres;
use super::folder::Folder;
use super::logins::{READING, SERVING, add_login};
use super::process::{Process, Program, tied};

/// The superuser of the cluster.
const USER: &str = "waybill";
/// How long a start may take; recovery after a crash is part of it.
const START_MAX: Duration = Duration::from_mins(2);
/// How long a server of an earlier process, which died, may take to stop: looks, and the wait
/// between them.
const LEFTOVER_LOOKS: (u32, Duration) = (400, Duration::from_millis(50));
/// How long one attempt to connect may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Where servers of our own listen: below the ports that systems give to whoever connects, so that
/// nobody's connection takes one between the look and the start.
const PORTS: Range<u16> = 20_000..32_000;
/// How many were tried: each is another one.
static PORTS_TRIED: AtomicUsize = AtomicUsize::new(0);

/// Settings besides where it listens. Durable as Postgres is by default, said aloud so that
/// nobody's environment changes it.
const SETTINGS: [&str; 11] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=256MB",
    "max_wal_size=2GB",
    "checkpoint_timeout=15min",
    "log_checkpoints=off",
    "timezone=UTC",
];

/// A running Postgres of ours.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    password: String,
    serving_password: String,
    reading_password: String,
}

impl Postgres {
    /// Starts the cluster in `folder`, which is made where there is none.
    ///
    /// # Errors
    /// Where no Postgres is found, or it does not start; with the last lines of its log.
    pub async fn start(folder: &Folder) -> anyhow::Result<Self> {
        let binaries = find_postgres()?;
        let data = folder.path().join("postgres");
        if !data.join("PG_VERSION").is_file() {
            info!("making a Postgres {} cluster in {}", binaries.major, data.display());
            make(folder, &binaries.bin, &data)?;
        }
        settle(&data)?;
        let port = free_port()?;
        let mut arguments = vec!["-D".to_owned(), data.display().to_string()];
        for setting in SETTINGS {
            arguments.extend(["-c".to_owned(), setting.to_owned()]);
        }
        arguments.extend(["-p".to_owned(), port.to_string()]);
        let process = Process::start(Program {
            name: "postgres",
            file: binaries.bin.join("postgres"),
            arguments,
            environment: Vec::new(),
            alone: false,
            log: folder.path().join("postgres.log"),
            // Fast: sessions are ended and nothing is lost. TERM would wait for the sessions.
            stop: Signal::SIGINT,
            servant: folder.servant().cloned(),
            restart: true,
        })?;
        let mut postgres = Self {
            process,
            port,
            password: folder.password().to_owned(),
            serving_password: folder.password_of(SERVING.name)?,
            reading_password: folder.password_of(READING.name)?,
        };
        let url = postgres.url("postgres");
        postgres.process.ready(START_MAX, || answers(&url)).await?;
        add_login(&url, SERVING.name, &postgres.serving_password, SERVING.member_of).await?;
        add_login(&url, READING.name, &postgres.reading_password, READING.member_of).await?;
        Ok(postgres)
    }

    /// The URL of a database of this server, for its owner, who may do anything.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_of(USER, &self.password, database)
    }

    /// The same for the login of the roles that write, which cannot change history.
    #[must_use]
    pub fn serving_url(&self, database: &str) -> String {
        self.url_of(SERVING.name, &self.serving_password, database)
    }

    /// The same for the login of the query API, which can only read.
    #[must_use]
    pub fn reading_url(&self, database: &str) -> String {
        self.url_of(READING.name, &self.reading_password, database)
    }

    fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes a database where there is none, and gives its URL.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub async fn database(&self, name: &str) -> anyhow::Result<String> {
        let url = self.url(name);
        if !sqlx::Postgres::database_exists(&url).await? {
            sqlx::Postgres::create_database(&url).await?;
        }
        Ok(url)
    }

    /// Kills the server on the spot; it is started again as after any crash.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Stops the server and waits until it is gone.
    pub async fn stop(self) {
        self.process.stop().await;
    }
}

/// Whether the server takes a connection.
async fn answers(url: &str) -> bool {
    let Ok(options) = url.parse::<sqlx::postgres::PgConnectOptions>() else { return false };
    let options = options.disable_statement_logging();
    match tokio::time::timeout(CONNECT_MAX, options.connect()).await {
        Ok(Ok(connection)) => connection.close().await.is_ok(),
        _ => false,
    }
}

/// Makes a cluster beside its place and moves it there: a half made one is never used.
fn make(folder: &Folder, bin: &Path, data: &Path) -> anyhow::Result<()> {
    let new = data.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    }
    fs::create_dir(&new).with_context(|| format!("cannot make {}", new.display()))?;
    let password_file = new.with_extension("password");
    fs::write(&password_file, folder.password()).context("cannot write the password")?;
    if let Some(servant) = folder.servant() {
        for path in [&new, &password_file] {
            std::os::unix::fs::chown(path, Some(servant.uid.as_raw()), Some(servant.gid.as_raw()))
                .with_context(|| format!("cannot give {} to {}", path.display(), servant.name))?;
        }
    }
    private(&password_file, 0o600)?;
    private(&new, 0o700)?;
    let mut initdb: Command = tied(&bin.join("initdb"), Signal::SIGTERM, folder.servant());
    let output = initdb
        .arg("-D")
        .arg(&new)
        .args(["-U", USER, "--encoding=UTF8", "--locale=C", "--no-instructions"])
        .args(["--auth-local=reject", "--auth-host=password", "--pwfile"])
        .arg(&password_file)
        // Root's working folder may be closed to whoever runs this.
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run initdb of {}", bin.display()))?;
    let _ = fs::remove_file(&password_file);
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    fs::rename(&new, data).with_context(|| format!("cannot make {}", data.display()))
}

fn private(path: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot protect {}", path.display()))
}

/// Makes sure that no server of an earlier process still uses the cluster.
///
/// The folder's lock is ours, so whoever started such a server is dead. It was told to stop
/// when that happened; it is waited for, and told again. A `postmaster.pid` whose process is
/// something else by now would keep Postgres from starting, and is removed.
fn settle(data: &Path) -> anyhow::Result<()> {
    let file = data.join("postmaster.pid");
    let (looks, wait) = LEFTOVER_LOOKS;
    for look in 0..looks {
        let Ok(text) = fs::read_to_string(&file) else { return Ok(()) };
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else {
            return Ok(()); // Postgres says best what it thinks of such a file.
        };
        if !serves(pid, data) {
            info!(pid, "removing the postmaster.pid of a server that is gone");
            return fs::remove_file(&file).context("cannot remove a stale postmaster.pid");
        }
        if look == looks / 2 {
            warn!(pid, "a Postgres of an earlier process still runs; stopping it");
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        }
        thread::sleep(wait);
    }
    bail!("a Postgres of an earlier process still runs on {} and does not stop", data.display())
}

/// Whether the process `pid` is a server that works in `data`. Where that cannot be told, any
/// living process is taken for one.
fn serves(pid: i32, data: &Path) -> bool {
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(folder) => folder == data,
        Err(_) if Path::new("/proc/self/cwd").exists() => {
            Path::new(&format!("/proc/{pid}")).exists() && kill(Pid::from_raw(pid), None).is_ok()
        }
        Err(_) => kill(Pid::from_raw(pid), None).is_ok(),
    }
}

/// A TCP port on the loopback interface that nobody uses now.
pub(super) fn free_port() -> anyhow::Result<u16> {
    let begin = usize::try_from(std::process::id()).unwrap_or_default();
    for _ in PORTS {
        let step = begin.wrapping_add(PORTS_TRIED.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from(step % PORTS.len()).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of {} to {} is free", PORTS.start, PORTS.end - 1)
}
