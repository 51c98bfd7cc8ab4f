//! Every saga there is.

use event_store::{FeedHandle, Store, run_projector, run_reactor};
use schemas::Clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::journal::{Heard, What};
use crate::timers::Firing;
use crate::{Runner, Saga, TimerPoller, Timers, runner};

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
    };
}

registry! {
    crate::fulfilment::Fulfilment,
}

async fn fire_one<S: Saga>(
    store: &Store,
    clock: Clock,
    firing: Firing,
) -> Result<(), event_store::ExecuteError> {
    let source = firing.source();
    let what = What::TimerFired { name: firing.name, epoch: firing.epoch };
    let heard = Heard { key: firing.key, source, at: firing.at, what };
    runner::hear::<S>(store, clock, &heard, "timer", None).await
}

/// Runs every saga, their timers' table and one poller, until `drain` is cancelled.
pub async fn run_all(store: Store, feed: FeedHandle, clock: Clock, drain: CancellationToken) {
    let mut set = JoinSet::new();
    spawn_runners(&mut set, &store, &feed, clock, &drain);
    set.spawn(run_projector(store.clone(), feed, Timers, drain.clone()));
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
