//! A private nats-server with JetStream.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;

use super::find::find_nats_server;
use super::folder::Folder;
use super::postgres::free_port;
use super::process::{Process, Program};

/// The user of the server.
const USER: &str = "waybill";
/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(30);

/// A running nats-server of ours.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    port: u16,
    password: String,
}

impl Nats {
    /// Starts a server that keeps its streams in the subfolder `name` of `folder`.
    ///
    /// # Errors
    /// Where no nats-server is found, or it does not start; with the last lines of its log.
    pub async fn start(folder: &Folder, name: &str) -> anyhow::Result<Self> {
        let file = find_nats_server()?;
        let port = free_port()?;
        let store = folder.path().join(name);
        let configuration = folder.path().join(format!("{name}.conf"));
        let quoted = serde_json::Value::from(store.display().to_string());
        // Every stream has a bound of its own, and JetStream sets that much aside for each: this is
        // how many logs there may be, not what they take.
        // The password is in a file that only the owner reads, not on the command line.
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\n\
             jetstream {{ store_dir: {quoted}, max_memory_store: 64MB, max_file_store: 64GB }}\n\
             authorization {{ user: \"{USER}\", password: \"{}\" }}\n",
            folder.password()
        );
        let mut options = fs::OpenOptions::new();
        let open = options.create(true).write(true).truncate(true).mode(0o600).open(&configuration);
        let mut written =
            open.with_context(|| format!("cannot make {}", configuration.display()))?;
        std::io::Write::write_all(&mut written, text.as_bytes())
            .with_context(|| format!("cannot write {}", configuration.display()))?;
        let process = Process::start(Program {
            name: "nats-server",
            file,
            arguments: vec!["-c".to_owned(), configuration.display().to_string()],
            environment: Vec::new(),
            alone: false,
            log: folder.path().join(format!("{name}.log")),
            stop: Signal::SIGTERM,
            servant: None,
            restart: true,
        })?;
        let mut nats = Self { process, port, password: folder.password().to_owned() };
        let (user, password) = (USER.to_owned(), nats.password.clone());
        let connect = || {
            let options =
                async_nats::ConnectOptions::with_user_and_password(user.clone(), password.clone());
            async move { options.connect(format!("127.0.0.1:{port}")).await.is_ok() }
        };
        nats.process.ready(START_MAX, connect).await?;
        Ok(nats)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{USER}:{}@127.0.0.1:{}", self.password, self.port)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of the server's process; none while it is started again.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.process.pid()
    }

    /// Stops the server and waits until it is gone.
    pub async fn stop(self) {
        self.process.stop().await;
    }
}
