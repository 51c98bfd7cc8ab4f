//! What is stored is never edited. Every type of event ever written has a golden file, and every
//! release must read it: a current type is written the same again, and an old one becomes what
//! `golden/current` says beside it. The commands that a saga keeps in its journal have theirs.

mod sample;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::value::Error;
use serde::{Deserializer, de};
use serde_json::{Value, json};

use crate::{Command, Event, Upcast, inventory, order, payment, saga, shipping};

/// Reads nothing, and notes the variants of the enum that asks to be read.
struct Variants<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Variants<'_> {
    type Error = Error;

    fn deserialize_enum<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = variants;
        Err(de::Error::custom("only the variants are wanted"))
    }

    fn deserialize_any<V: de::Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("not an enum"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

fn types<E: Event>() -> &'static [&'static str] {
    let mut variants: &'static [&'static str] = &[];
    assert!(E::deserialize(Variants(&mut variants)).is_err());
    assert!(!variants.is_empty(), "{} has no events", E::CATEGORY);
    variants
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the golden files in `folder`, without their ending.
fn names(folder: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let golden = files.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    golden.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// Checks every golden of `E` in `folder`, and takes it out of `golden`.
fn check<E: Event>(folder: &Path, golden: &mut BTreeSet<String>) {
    let current = types::<E>();
    for event_type in current {
        let (category, rest) = event_type.split_once('.').expect("context.event.version");
        assert_eq!(category, E::CATEGORY.as_str(), "{event_type} stands in the wrong context");
        let (_, version) = rest.split_once(".v").expect("context.event.version");
        assert!(version.parse::<u16>().is_ok(), "{event_type} has no version");

        let stored = read(&folder.join(format!("{event_type}.json")));
        let event = E::decode(event_type, &stored).unwrap_or_else(|error| panic!("{error:?}"));
        let again = event.encode().unwrap();
        assert_eq!(again.event_type, *event_type);
        let (stored, again) = (parsed(&stored), parsed(&again.payload));
        assert_eq!(again, stored, "{event_type} is not written as it was stored");
        golden.remove(*event_type);
    }
    for step in E::UPCASTS {
        let Upcast { from, to, .. } = *step;
        assert!(!current.contains(&from), "{from} is written, and rewritten when it is read");
        let steps = E::UPCASTS.iter().filter(|step| step.from == from).count();
        assert_eq!(steps, 1, "{steps} steps lead on from {from}");
        let leads_on = E::UPCASTS.iter().any(|step| step.from == to);
        assert!(leads_on || current.contains(&to), "{from} leads to {to}, which is no type");
        assert!(golden.contains(from), "{from} was written once: golden/{from}.json is missing");
        check_old::<E>(folder, from);
    }
    golden.retain(|event_type| E::UPCASTS.iter().all(|step| step.from != event_type.as_str()));
}

/// Checks that a golden of a type which is no longer written is read as what stands beside it.
fn check_old<E: Event>(folder: &Path, event_type: &str) {
    let stored = read(&folder.join(format!("{event_type}.json")));
    let event = E::decode(event_type, &stored).unwrap_or_else(|error| panic!("{error:?}"));
    let now = event.encode().unwrap();
    let now = json!({ "type": now.event_type, "data": parsed(&now.payload) });
    let beside = folder.join("current").join(format!("{event_type}.json"));
    let expected = fs::read_to_string(&beside).unwrap_or_else(|error| {
        panic!("{}: {error}; it should say what becomes of it, as {now:#}", beside.display())
    });
    assert_eq!(now, parsed(&expected), "{event_type} is not read as {}", beside.display());
}

#[test]
fn every_version_of_every_event_ever_stored_is_read() {
    let folder = folder();
    let mut golden = names(&folder);
    check::<order::Event>(&folder, &mut golden);
    check::<payment::Event>(&folder, &mut golden);
    check::<inventory::Event>(&folder, &mut golden);
    check::<shipping::Event>(&folder, &mut golden);
    check::<saga::Event>(&folder, &mut golden);
    assert!(golden.is_empty(), "these were stored, and no step leads on from them: {golden:?}");
}

#[test]
fn every_command_in_a_journal_is_read_and_written_as_it_was_stored() {
    let folder = folder().join("commands");
    for name in names(&folder) {
        let stored: Value =
            serde_json::from_str(&read(&folder.join(format!("{name}.json")))).unwrap();
        let command: Command = serde_json::from_value(stored.clone())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(serde_json::to_value(&command).unwrap(), stored, "{name}");
        assert!(!command.streams().is_empty(), "{name} touches no stream");
    }
}

/// Fields that came later: what was written without them is still read.
#[test]
fn a_field_that_came_later_may_be_missing() {
    let stored = read(&folder().join("payment.declined.v1.json"));
    let mut stored: Value = serde_json::from_str(&stored).unwrap();
    stored.as_object_mut().unwrap().remove("provider_ref").expect("it came later");
    let event = payment::Event::decode("payment.declined.v1", &stored.to_string()).unwrap();
    assert!(matches!(event, payment::Event::Declined { provider_ref: None, .. }), "{event:?}");
    let again: Value = serde_json::from_str(&event.encode().unwrap().payload).unwrap();
    assert_eq!(again, stored);
}
