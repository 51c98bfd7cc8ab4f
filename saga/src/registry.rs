//! Every saga there is.

use event_store::{
    Done, Error, ExecuteError, FeedHandle, History, Meta, Store, run_projector, run_reactor,
};
use schemas::{Clock, SagaId, Version};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::journal::{Act, Heard, Legal, What};
use crate::operate::{Begun, act_on, verbs_of};
use crate::timers::Firing;
use crate::{Name, Runner, Saga, TimerPoller, Timers, runner};

macro_rules! registry {
    ($($saga:ty,)+) => {
        /// The names of every saga.
        #[must_use]
        pub fn names() -> Vec<&'static str> {
            vec![$(<$saga as Saga>::NAME,)+]
        }

        fn spawn_runners(
            set: &mut JoinSet<()>,
            store: &Store,
            feed: &FeedHandle,
            clock: Clock,
            drain: &CancellationToken,
        ) {
            $({
                let runner = Runner::<$saga>::new(store.clone(), clock);
                set.spawn(run_reactor(store.clone(), feed.clone(), runner, drain.clone()));
            })+
        }

        /// Tells a saga that its timer went off.
        pub(crate) async fn fire(
            store: &Store,
            clock: Clock,
            definition: &str,
            firing: Firing,
        ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            match definition {
                $(<$saga as Saga>::NAME => fire_one::<$saga>(store, clock, firing).await?,)+
                unknown => return Err(format!("no saga is called {unknown}").into()),
            }
            Ok(())
        }

        /// Does something about a saga that is parked.
        pub(crate) async fn act(
            store: &Store,
            begun: &Begun,
            act: Act,
            meta: &Meta,
        ) -> Result<Done, ExecuteError> {
            match begun.definition.as_str() {
                $(<$saga as Saga>::NAME => act_on::<$saga>(store, begun.key, act, meta).await,)+
                unknown => Err(ExecuteError::Store(strange(unknown))),
            }
        }

        /// What may be done about a saga.
        pub(crate) async fn verbs(
            history: &History,
            definition: &str,
            saga: SagaId,
            version: Version,
        ) -> Result<Vec<Legal>, Error> {
            match definition {
                $(<$saga as Saga>::NAME => verbs_of::<$saga>(history, saga, version).await,)+
                unknown => Err(strange(unknown)),
            }
        }

        /// Why sagas are parked that nobody answers. Their tables have reasons of their own besides.
        #[must_use]
        pub fn park_reasons() -> Vec<&'static str> {
            let mut reasons = Vec::new();
            $(reasons.extend(reasons_of::<$saga>());)+
            reasons.sort_unstable();
            reasons.dedup();
            reasons
        }

        /// What sagas tell people of without waiting for them.
        pub(crate) fn alerts() -> Vec<&'static str> {
            let mut alerts = Vec::new();
            $(alerts.extend(<<$saga as Saga>::Alert as Name>::ALL.iter().map(|name| name.as_str()));)+
            alerts
        }
    };
}

fn reasons_of<S: Saga>() -> impl Iterator<Item = &'static str> {
    let steps = <S::Step as Name>::ALL.iter();
    steps.filter_map(|step| S::patience(*step)).map(|patience| patience.park)
}

fn strange(definition: &str) -> Error {
    Error::Config(format!("no saga is called {definition}"))
}

registry! {
    crate::fulfilment::Fulfilment,
}

async fn fire_one<S: Saga>(
    store: &Store,
    clock: Clock,
    firing: Firing,
) -> Result<(), ExecuteError> {
    let source = firing.source();
    let what = What::TimerFired { name: firing.name, epoch: firing.epoch };
    let heard = Heard { key: firing.key, source, at: firing.at, what };
    runner::hear::<S>(store, clock, &heard, "timer", None).await
}

/// Runs every saga, their timers' table and one poller, until `drain` is cancelled.
pub async fn run_all(store: Store, feed: FeedHandle, clock: Clock, drain: CancellationToken) {
    let mut set = JoinSet::new();
    spawn_runners(&mut set, &store, &feed, clock, &drain);
    set.spawn(run_projector(store.clone(), feed, Timers::new(), drain.clone()));
    set.spawn(TimerPoller::new(store, clock).run(drain));
    while let Some(ended) = set.join_next().await {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            // A bug: let the supervisor see it.
            std::panic::resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// The reasons in `Output::Park("…")` of every table.
    fn written(folder: &Path, reasons: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("tests") {
                    written(&path, reasons);
                }
            } else if !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let parts = text.split("Output::Park(\"").skip(1);
                reasons.extend(parts.filter_map(|part| Some(part.split_once('"')?.0.to_owned())));
            }
        }
    }

    #[test]
    fn every_reason_to_park_or_to_alert_is_explained_to_operators() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut reasons: BTreeSet<String> =
            super::park_reasons().into_iter().map(str::to_owned).collect();
        assert!(reasons.len() > 5, "{reasons:?}");
        written(&root.join("src"), &mut reasons);
        // Found in this very file.
        reasons.remove("…");
        reasons.extend(super::alerts().into_iter().map(str::to_owned));
        assert!(reasons.contains("refund_failed"), "{reasons:?}");
        let manual = fs::read_to_string(root.join("../docs/sagas.md")).unwrap();
        let explained = manual.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let explained: BTreeSet<_> = explained.map(|(reason, _)| reason.to_owned()).collect();
        let missing: Vec<_> = reasons.difference(&explained).collect();
        assert!(missing.is_empty(), "docs/sagas.md does not explain {missing:?}");
    }
}
