//! A server process of ours: it dies with us, and is started again when it dies alone.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;
use tracing::{info, warn};

use super::find::find_on_path;
use super::folder::Servant;

/// How often a running server is looked after.
const LOOK: Duration = Duration::from_millis(20);
/// How long a server may take to stop after it was asked, in looks: 20 s.
const STOP_LOOKS_MAX: u32 = 1_000;
/// Waits before a server is started again: doubling from the first to the second.
const RESTART_DELAYS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How much of a log is shown when a server does not start, in bytes.
const LOG_TAIL_BYTES: usize = 2_000;

/// The variables that say where the server programs are.
const SERVER_PROGRAMS: [&str; 2] = ["WAYBILL_POSTGRES_BIN", "WAYBILL_NATS_SERVER"];

/// What to run, and how it is stopped.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// For logs, as `postgres`.
    pub(crate) name: &'static str,
    /// The program file.
    pub(crate) file: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// Additions to its environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Whether the settings of this process (`DATABASE_URL`, `NATS_URL`, `WAYBILL_…`) are kept
    /// from it, but for where the server programs are.
    pub(crate) alone: bool,
    /// Where its output goes.
    pub(crate) log: PathBuf,
    /// What it is sent to stop, and when we die.
    pub(crate) stop: Signal,
    /// Who runs it, where that is not us.
    pub(crate) servant: Option<Servant>,
    /// Whether it is started again when it dies alone.
    pub(crate) restart: bool,
}

impl Program {
    /// The command that runs it: in a group of its own, so that Ctrl-C in the terminal
    /// reaches only us; tied to the life of the thread that spawns it, where `setpriv` can.
    fn command(&self) -> anyhow::Result<Command> {
        let mut command = tied(&self.file, self.stop, self.servant.as_ref());
        let open = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = open.with_context(|| format!("cannot open {}", self.log.display()))?;
        let errors = log.try_clone().context("cannot share a log file")?;
        if self.alone {
            for (name, _) in std::env::vars_os() {
                let text = name.to_string_lossy();
                let ours = text.starts_with("WAYBILL_") && !SERVER_PROGRAMS.contains(&&*text);
                if ours || text == "DATABASE_URL" || text == "NATS_URL" {
                    command.env_remove(name);
                }
            }
        }
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(errors));
        Ok(command)
    }
}

/// `program`, run by `servant`, in its own process group, sent `signal` when the calling
/// thread ends.
pub(crate) fn tied(program: &Path, signal: Signal, servant: Option<&Servant>) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command;
    if let Some(setpriv) = find_on_path("setpriv") {
        command = Command::new(setpriv);
        let signal = signal.as_str().trim_start_matches("SIG");
        command.args(["--pdeathsig", signal]);
        if let Some(servant) = servant {
            command.args(["--reuid", &servant.uid.to_string(), "--regid"]);
            command.args([&servant.gid.to_string(), "--clear-groups"]);
        }
        command.arg("--").arg(program);
    } else {
        command = Command::new(program);
        if let Some(servant) = servant {
            command.uid(servant.uid.as_raw()).gid(servant.gid.as_raw());
        }
    }
    command.process_group(0);
    command
}

/// How a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It runs under this id.
    Running(i32),
    /// It is gone, as it said.
    Ended(String),
}

/// A running process. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    log: PathBuf,
    stop: Option<Sender<()>>,
    state: watch::Receiver<Option<State>>,
    keeper: Option<thread::JoinHandle<()>>,
}

impl Process {
    /// Starts it, from a thread that lives as long as it does.
    pub(crate) fn start(program: Program) -> anyhow::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let (say, state) = watch::channel(None);
        let (name, log) = (program.name, program.log.clone());
        let keeper = thread::Builder::new()
            .name(format!("keep-{name}"))
            .spawn(move || keep(&program, &stopped, &say))
            .context("cannot start a thread")?;
        Ok(Self { name, log, stop: Some(stop), state, keeper: Some(keeper) })
    }

    /// Waits until `ready` says so; fails when the process ends first or `limit` is over.
    pub(crate) async fn ready<F: Future<Output = bool>>(
        &mut self,
        limit: Duration,
        ready: impl Fn() -> F,
    ) -> anyhow::Result<()> {
        let polled = async {
            while !ready().await {
                tokio::time::sleep(LOOK).await;
            }
        };
        let mut state = self.state.clone();
        let ended = async {
            match state.wait_for(|state| matches!(state, Some(State::Ended(_)))).await.as_deref() {
                Ok(Some(State::Ended(how))) => how.clone(),
                _ => "it was never started".to_owned(),
            }
        };
        let why = tokio::select! {
            () = polled => return Ok(()),
            how = ended => how,
            () = tokio::time::sleep(limit) => format!("not ready after {} s", limit.as_secs()),
        };
        anyhow::bail!("{} did not start: {why}\n{}", self.name, tail(&self.log))
    }

    /// The process id, where it runs.
    pub(crate) fn pid(&self) -> Option<i32> {
        match *self.state.borrow() {
            Some(State::Running(pid)) => Some(pid),
            _ => None,
        }
    }

    /// Kills it on the spot (SIGKILL); it is not started again where it was not meant to be.
    pub(crate) fn kill(&self) {
        if let Some(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Waits until it has ended by itself, and says how.
    pub(crate) async fn ended(&self) -> String {
        let mut state = self.state.clone();
        match state.wait_for(|state| matches!(state, Some(State::Ended(_)))).await.as_deref() {
            Ok(Some(State::Ended(how))) => how.clone(),
            _ => "gone".to_owned(),
        }
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take() {
            let joined = tokio::task::spawn_blocking(move || keeper.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                warn!(server = self.name, "the keeper of {} panicked", self.name);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Runs the program until the other end of `stopped` goes away.
fn keep(program: &Program, stopped: &Receiver<()>, say: &watch::Sender<Option<State>>) {
    let name = program.name;
    let mut delay = RESTART_DELAYS.0;
    loop {
        let how = match program.command().and_then(|mut command| {
            command.spawn().with_context(|| format!("cannot run {}", program.file.display()))
        }) {
            Ok(mut child) => {
                say.send_replace(i32::try_from(child.id()).ok().map(State::Running));
                match watch_over(&mut child, program.stop, stopped) {
                    Some(how) => how,
                    None => return,
                }
            }
            Err(error) => format!("{error:#}"),
        };
        say.send_replace(Some(State::Ended(how.clone())));
        if !program.restart {
            return;
        }
        warn!(server = name, "{name} ended ({how}) and is started again in {delay:?}");
        if !matches!(stopped.recv_timeout(delay), Err(RecvTimeoutError::Timeout)) {
            return;
        }
        delay = (delay * 2).min(RESTART_DELAYS.1);
        info!(server = name, "starting {name} again");
    }
}

/// Waits until the child has ended by itself, and says how; nothing where it was stopped.
fn watch_over(child: &mut Child, stop: Signal, stopped: &Receiver<()>) -> Option<String> {
    loop {
        match stopped.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) => match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Some(status.to_string()),
                Err(error) => return Some(error.to_string()),
            },
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                end(child, stop);
                return None;
            }
        }
    }
}

/// Asks the child to stop, waits for it, and kills it where it does not listen.
fn end(child: &mut Child, stop: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(pid), stop);
    }
    for _ in 0..STOP_LOOKS_MAX {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(LOOK);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES as u64)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_or_else(|error| format!("{}: {error}", log.display()), |text| text.trim().to_owned())
}
