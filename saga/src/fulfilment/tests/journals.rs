//! Journals that earlier releases wrote, in `journals/`: this one reads them and would write the
//! same, input by input.

use std::path::Path;

use schemas::saga::Event;
use schemas::{Decider as _, Event as _};
use serde_json::Value;
use uuid::Uuid;

use super::{Fulfilment, Input, dawn};
use crate::{Heard, Journal, What};

fn read(line: &str) -> Event {
    let line: Value = serde_json::from_str(line).unwrap();
    Event::decode(line["type"].as_str().unwrap(), &line["data"].to_string()).unwrap()
}

#[test]
fn recorded_journals_of_every_version_are_written_the_same_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fulfilment/tests/journals");
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let story: Vec<Event> = text.lines().map(read).collect();
        let Some(begun @ Event::Started { business_key, .. }) = story.first() else {
            panic!("{} has no beginning", path.display())
        };
        let again = replay(begun, *business_key, &story);
        assert_eq!(again, story, "{}", path.display());
        files += 1;
    }
    assert!(files > 0);
}

/// What this release writes where it hears the same, by the version that `begun` names.
fn replay(begun: &Event, key: Uuid, story: &[Event]) -> Vec<Event> {
    let mut journal = Journal::<Fulfilment>::default().evolve(begun);
    let mut written = vec![begun.clone()];
    for event in story {
        let (source, input, at) = match event {
            Event::InputReceived { source, input, at, .. } => (*source, input, *at),
            Event::InputDeferred { source, input } | Event::InputIgnored { source, input, .. } => {
                (*source, input, dawn())
            }
            _ => continue,
        };
        let what: What<Input> = serde_json::from_value(input.clone()).unwrap();
        let answer = journal.decide(&Heard { key, source, at, what }).unwrap();
        journal = answer.iter().fold(journal, Journal::evolve);
        written.extend(answer);
    }
    written
}
