//! Runs the tasks of a process and stops them in order.
//!
//! Every task has a name and a [`Stage`]. A task that ends or panics while nobody asked it to
//! is logged, and the process stops in order: what runs here either waits out the faults
//! around it or cannot go on, and a process that half works is worse than one that is started
//! again.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::exit::Ending;

/// When a task is asked to stop: stage by stage, each waited for before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Takes requests from outside: no new work from here on.
    Http,
    /// Acts on events: finishes the batch in hand.
    Consumer,
    /// What the consumers lean on: relay, feed, the servers of the sandbox.
    Support,
    /// Writes to the log: empties its queue.
    Writer,
    /// Sends on what the others left to be told.
    Telemetry,
}

impl Stage {
    /// In the order of stopping.
    const ALL: [Self; 5] =
        [Self::Http, Self::Consumer, Self::Support, Self::Writer, Self::Telemetry];
}

/// The signals that ask the process to stop: TERM, INT and HUP.
#[derive(Debug)]
pub(crate) struct Signals([Signal; 3]);

impl Signals {
    /// Takes them over from now on.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self([
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// The tasks of this process.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, (Stage, String)>,
    drains: HashMap<Stage, CancellationToken>,
}

impl Supervisor {
    /// Starts a task; `make` is given the token that asks it to stop.
    pub(crate) fn run<F>(
        &mut self,
        stage: Stage,
        name: impl Into<String>,
        make: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let drain = self.drains.entry(stage).or_default().clone();
        let handle = self.tasks.spawn(make(drain));
        self.names.insert(handle.id(), (stage, name.into()));
    }

    /// Waits for a signal, or for a task that ends by itself; then stops everything, stage by
    /// stage, within `drain_max`. A second signal stops everything at once.
    pub(crate) async fn supervise(mut self, signals: &mut Signals, drain_max: Duration) -> Ending {
        let ending = tokio::select! {
            () = signals.next() => {
                info!("stopping: finishing what was begun (a second signal stops at once)");
                Ending::Orderly
            }
            () = self.ended() => Ending::Failed,
        };
        let finished = tokio::select! {
            () = self.drain() => true,
            () = signals.next() => {
                warn!("second signal: stopping at once");
                false
            }
            () = tokio::time::sleep(drain_max) => {
                warn!(drain_seconds = drain_max.as_secs(), "the drain time is over");
                false
            }
        };
        if finished {
            return ending;
        }
        let unfinished: Vec<_> = self.names.values().map(|(_, name)| name.as_str()).collect();
        warn!(tasks = ?unfinished, "not finished");
        self.tasks.shutdown().await;
        Ending::Cut
    }

    /// Waits for a task that ends although nobody asked it to.
    async fn ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            None => info!("nothing is left to run"),
            Some(ended) => {
                let (name, how) = self.forget(ended);
                let why = how.unwrap_or_else(|| "it returned without having been asked".into());
                error!(task = %name, "{name} ended: {why}; stopping the rest in order");
            }
        }
    }

    /// Asks stage after stage to stop, and waits for each.
    async fn drain(&mut self) {
        for stage in Stage::ALL {
            if let Some(drain) = self.drains.get(&stage) {
                drain.cancel();
            }
            while self.names.values().any(|(of, _)| *of == stage) {
                let Some(ended) = self.tasks.join_next_with_id().await else { return };
                if let (name, Some(how)) = self.forget(ended) {
                    warn!(task = %name, "{name} failed while stopping: {how}");
                }
            }
        }
    }

    /// The name of a task that ended, and what went wrong.
    fn forget(
        &mut self,
        ended: Result<(Id, anyhow::Result<()>), JoinError>,
    ) -> (String, Option<String>) {
        let (id, how) = match ended {
            Ok((id, Ok(()))) => (id, None),
            Ok((id, Err(error))) => (id, Some(format!("{error:#}"))),
            Err(error) => (error.id(), Some(format!("{error}"))),
        };
        (self.names.remove(&id).map_or_else(String::new, |(_, name)| name), how)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn stages_stop_in_order_after_a_task_ends_by_itself() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut supervisor = Supervisor::default();
        for (stage, name) in
            [(Stage::Writer, "writer"), (Stage::Consumer, "consumer"), (Stage::Http, "http")]
        {
            let order = Arc::clone(&order);
            supervisor.run(stage, name, |drain| async move {
                drain.cancelled().await;
                order.lock().unwrap().push(name);
                Ok(())
            });
        }
        supervisor.run(Stage::Consumer, "fickle", |_| async { anyhow::bail!("enough") });
        let ending = supervisor.supervise(&mut Signals::listen().unwrap(), SECOND).await;
        assert_eq!(ending, Ending::Failed);
        assert_eq!(*order.lock().unwrap(), ["http", "consumer", "writer"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_stops_the_rest_in_order() {
        let mut supervisor = Supervisor::default();
        supervisor.run(Stage::Http, "http", |drain| async move {
            drain.cancelled().await;
            Ok(())
        });
        supervisor.run(Stage::Consumer, "broken", |_| async { panic!("on purpose") });
        let ending = supervisor.supervise(&mut Signals::listen().unwrap(), SECOND).await;
        assert_eq!(ending, Ending::Failed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_cut_off() {
        let mut supervisor = Supervisor::default();
        supervisor.run(Stage::Consumer, "deaf", |_| std::future::pending());
        supervisor.run(Stage::Http, "fickle", |_| async { Ok(()) });
        let ending = supervisor.supervise(&mut Signals::listen().unwrap(), SECOND).await;
        assert_eq!(ending, Ending::Cut);
    }
}
