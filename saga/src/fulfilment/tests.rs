//! The table row by row, the races by name, and the laws on any interleaving.

mod journals;
mod laws;
mod model;
mod provider;
mod races;
mod rows;
mod verbs;
mod world;

use schemas::saga::Event;
use schemas::{Decider as _, SagaId, Timestamp};
use uuid::Uuid;

use super::{Fulfilment, Input};
use crate::{Heard, Journal, Saga as _, What};

/// When the tests begin.
fn dawn() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

/// The journal that comes of `events`.
fn fold(events: &[Event]) -> Journal<Fulfilment> {
    events.iter().fold(Journal::default(), Journal::evolve)
}

/// Puts what a journal heard to an empty one, again and in order, and gives what it writes.
fn replay(events: &[Event]) -> Vec<Event> {
    let (mut journal, mut written) = (Journal::<Fulfilment>::default(), Vec::new());
    if let Some(begun @ Event::Started { definition_version, .. }) = events.first()
        && *definition_version != Fulfilment::VERSION
    {
        // Another release began it; this one goes on by the same version.
        journal = journal.evolve(begun);
        written.push(begun.clone());
    }
    let key = events.iter().find_map(|event| match event {
        Event::Started { business_key, .. } => Some(*business_key),
        _ => None,
    });
    for event in events {
        let (source, input, at) = match event {
            Event::InputReceived { source, input, at, .. } => (*source, Some(input), *at),
            Event::InputDeferred { source, input } | Event::InputIgnored { source, input, .. } => {
                (*source, Some(input), dawn())
            }
            Event::OperatorActed { act, at, .. } => (*act, None, *at),
            _ => continue,
        };
        let what = match input {
            Some(input) => serde_json::from_value::<What<Input>>(input.clone()).unwrap(),
            None => What::Act(verbs::act_of(event).unwrap()),
        };
        let heard = Heard { key: key.unwrap_or_default(), source, at, what };
        let answer = journal.decide(&heard).unwrap();
        journal = answer.iter().fold(journal, Journal::evolve);
        written.extend(answer);
    }
    written
}

/// The id that the firing of a timer has.
fn firing(saga: SagaId, name: &str, epoch: u32) -> Uuid {
    let name = name.to_owned();
    crate::timers::Firing { key: Uuid::nil(), saga, name, epoch, at: dawn() }.source()
}
