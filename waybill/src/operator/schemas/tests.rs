use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use schemas::catalogue::{self, Catalogue};
use serde_json::{Value, json};

use super::plan::{EVENTS, GOLDEN, Plan, read};

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("schemas")
}

/// An empty folder, gone with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

fn folder(name: &str) -> Folder {
    let folder = std::env::temp_dir().join(format!("waybill-{}-{name}", std::process::id()));
    fs::create_dir_all(folder.join(GOLDEN)).unwrap();
    Folder(folder)
}

fn event(event_type: &str, schema: &Value) -> Catalogue {
    Catalogue::from([(event_type.to_owned(), schema.clone())])
}

fn first() -> Value {
    json!({ "type": "object", "description": "Said.", "properties": { "a": { "type": "integer" } } })
}

fn second() -> Value {
    json!({ "type": "object", "description": "Said.", "properties": { "a": { "type": "string" } } })
}

/// Writes `events` to `folder`, with an example of each.
fn write(folder: &Path, events: Catalogue, replace: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    for name in events.keys() {
        fs::write(folder.join(GOLDEN).join(format!("{name}.json")), "{}").unwrap();
    }
    let replace: BTreeSet<String> = replace.iter().map(|name| (*name).to_owned()).collect();
    Plan::make(folder, events, &Catalogue::new(), &Catalogue::new(), &replace)?.carry_out()
}

#[test]
fn the_files_in_schemas_say_what_the_code_does() {
    let (events, commands) = (catalogue::events(), catalogue::commands());
    let plan =
        Plan::make(&committed(), events, &commands, &super::apis(), &BTreeSet::new()).unwrap();
    if let Some(refusal) = plan.refusal() {
        panic!("{refusal}");
    }
    let stale: Vec<_> = plan.write.keys().chain(&plan.remove).collect();
    assert!(stale.is_empty(), "run `make schemas`, and commit what it writes: {stale:#?}");
}

#[test]
fn every_schema_of_an_event_has_an_example_and_every_example_a_schema() {
    let schemas: Vec<String> = read(&committed().join(EVENTS)).unwrap().into_keys().collect();
    let golden: Vec<String> = read(&committed().join(GOLDEN)).unwrap().into_keys().collect();
    assert_eq!(schemas, golden);
}

#[test]
fn a_changed_schema_under_an_unchanged_version_is_refused_and_told_what_to_do() {
    let folder = folder("refused");
    write(&folder, event("order.said.v1", &first()), &[]).unwrap();
    let before = read(&folder.join(EVENTS)).unwrap();

    let mut both = event("order.said.v1", &second());
    both.insert("order.new.v1".to_owned(), first());
    let error = write(&folder, both, &[]).unwrap_err().to_string();
    for word in
        ["order.said.v1 changed", "order.said.v2", "upcast from v1", "CONTRIBUTING", "REPLACE="]
    {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert_eq!(read(&folder.join(EVENTS)).unwrap(), before, "nothing is written by halves");
}

#[test]
fn explanations_may_change_under_an_unchanged_version() {
    let folder = folder("explained");
    write(&folder, event("order.said.v1", &first()), &[]).unwrap();
    let mut explained = first();
    explained["description"] = "Said, and heard.".into();
    let written = write(&folder, event("order.said.v1", &explained), &[]).unwrap();
    assert_eq!(written.len(), 2, "the schema and the AsyncAPI document: {written:?}");
    assert_eq!(read(&folder.join(EVENTS)).unwrap()["order.said.v1"], explained);
    let written = write(&folder, event("order.said.v1", &explained), &[]).unwrap();
    assert!(written.is_empty(), "{written:?}");
}

#[test]
fn the_schema_of_a_type_that_is_no_longer_written_stays() {
    let folder = folder("stays");
    write(&folder, event("order.said.v1", &first()), &[]).unwrap();
    write(&folder, event("order.said.v2", &second()), &[]).unwrap();
    let names: Vec<_> = read(&folder.join(EVENTS)).unwrap().into_keys().collect();
    assert_eq!(names, ["order.said.v1", "order.said.v2"]);
}

#[test]
fn what_nobody_has_stored_may_be_replaced_by_name() {
    let folder = folder("replaced");
    write(&folder, event("order.said.v1", &first()), &[]).unwrap();
    write(&folder, event("order.said.v1", &second()), &["order.said.v1"]).unwrap();
    assert_eq!(read(&folder.join(EVENTS)).unwrap()["order.said.v1"], second());
    write(&folder, event("order.told.v1", &second()), &["order.said.v1"]).unwrap();
    let names: Vec<_> = read(&folder.join(EVENTS)).unwrap().into_keys().collect();
    assert_eq!(names, ["order.told.v1"]);
    let error = write(&folder, event("order.told.v1", &second()), &["order.tldo.v1"]).unwrap_err();
    assert!(error.to_string().contains("order.tldo.v1"), "{error}");
}
