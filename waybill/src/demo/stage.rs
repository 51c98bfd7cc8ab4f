//! The platform under the demo: `waybill up`, a process of its own on a fresh data folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use schemas::Ids;
use tokio::time::Instant;

use super::shop::Shop;
use crate::embedded::{Process, Program, fallback, tail};
use crate::endpoints::Endpoints;

/// How long the platform may take to be ready; recovery after a kill is part of it.
const START_MAX: Duration = Duration::from_mins(3);

/// The platform, running or not.
#[derive(Debug)]
pub(super) struct Stage {
    data_dir: PathBuf,
    log: PathBuf,
    keep: bool,
    process: Option<Process>,
}

impl Stage {
    /// A fresh data folder; nothing runs yet.
    pub(super) fn new(keep: bool) -> anyhow::Result<Self> {
        let id = Ids::system().next().simple().to_string();
        let wanted = env::temp_dir().join(format!("waybill-demo-{id}"));
        let data_dir = fallback(&wanted)?.unwrap_or(wanted);
        fs::create_dir_all(&data_dir)
            .with_context(|| format!("cannot make {}", data_dir.display()))?;
        let log = data_dir.join("up.log");
        Ok(Self { data_dir, log, keep, process: None })
    }

    /// Where the data is.
    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Starts the platform, waits until both APIs are ready, and tells how long it took.
    pub(super) async fn start(&mut self) -> anyhow::Result<(Shop, Duration)> {
        let started = Instant::now();
        Endpoints::remove(&self.data_dir);
        let any = "127.0.0.1:0".to_owned();
        let mut arguments = vec!["up".to_owned()];
        for (option, value) in [
            ("--data-dir", &self.data_dir.display().to_string()),
            ("--command-addr", &any),
            ("--query-addr", &any),
            ("--payment-addr", &any),
            ("--carrier-addr", &any),
        ] {
            arguments.extend([option.to_owned(), value.clone()]);
        }
        if !self.keep {
            arguments.push("--temporary".to_owned());
        }
        let mut process = Process::start(Program {
            name: "waybill up",
            file: env::current_exe().context("where is this program?")?,
            arguments,
            environment: Vec::new(),
            alone: true,
            log: self.log.clone(),
            stop: Signal::SIGTERM,
            servant: None,
            restart: false,
        })?;
        let http = reqwest::Client::builder().timeout(START_MAX).build()?;
        let data_dir = self.data_dir.clone();
        process.ready(START_MAX, || ready(&data_dir, &http)).await?;
        self.process = Some(process);
        Ok((self.shop()?, started.elapsed()))
    }

    /// A caller of the running platform.
    pub(super) fn shop(&self) -> anyhow::Result<Shop> {
        let endpoints = Endpoints::read(&self.data_dir).context("the platform is not running")?;
        Shop::new(&endpoints)
    }

    /// Kills the platform on the spot, and waits until it is dead.
    pub(super) async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
            process.ended().await;
        }
    }

    /// Stops the platform in order, and removes what it kept unless it is to be kept.
    pub(super) async fn close(&mut self) -> anyhow::Result<()> {
        if let Some(process) = self.process.take() {
            process.stop().await;
        }
        if self.keep {
            return Ok(());
        }
        // The platform has removed it already, where it could.
        match fs::remove_dir_all(&self.data_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("cannot remove what the demo kept")
            }
            _ => Ok(()),
        }
    }

    /// The end of the platform's log.
    pub(super) fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

/// Whether both APIs are ready for work.
async fn ready(data_dir: &Path, http: &reqwest::Client) -> bool {
    let Some(endpoints) = Endpoints::read(data_dir) else { return false };
    for url in [&endpoints.command_url, &endpoints.query_url] {
        match http.get(format!("{url}/readyz")).send().await {
            Ok(answer) if answer.status().is_success() => {}
            _ => return false,
        }
    }
    true
}
