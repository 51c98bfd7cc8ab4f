//! Every type of event and every command by name, each with its JSON Schema.
//!
//! The schemas say what is *written*: they are for whoever reads a stored event, or a command in
//! the journal of a saga.

mod shape;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

pub use shape::shape;

use crate::{Command, inventory, order, payment, saga, shipping};

/// The dialect of every schema.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Schemas by name, in the order of the names.
pub type Catalogue = BTreeMap<String, Value>;

/// The payload of every type of event that is written, as `order.placed.v1`.
#[must_use]
pub fn events() -> Catalogue {
    let mut catalogue = Catalogue::new();
    add_events::<order::Event>(&mut catalogue);
    add_events::<payment::Event>(&mut catalogue);
    add_events::<inventory::Event>(&mut catalogue);
    add_events::<shipping::Event>(&mut catalogue);
    add_events::<saga::Event>(&mut catalogue);
    catalogue
}

/// Every command with whom it is for, as `order.place`.
#[must_use]
pub fn commands() -> Catalogue {
    let root = root::<Command>();
    let mut catalogue = Catalogue::new();
    for context in variants(&root) {
        let asked = &context["properties"]["command"];
        let asked = shape::resolve(asked, &root).unwrap_or(asked);
        for command in variants(asked) {
            let mut whole = context.clone();
            whole["properties"]["command"] = command.clone();
            whole["description"] = command["description"].clone();
            let context = text(&context["properties"]["context"]["const"]);
            let name = format!("{context}.{}", text(&command["properties"]["name"]["const"]));
            let schema = document(&name, whole, &root);
            catalogue.insert(name, schema);
        }
    }
    catalogue
}

/// Takes an enum apart whose variants are written as `"type"` or `{"type": payload}`.
fn add_events<E: JsonSchema>(catalogue: &mut Catalogue) {
    let root = root::<E>();
    for variant in variants(&root) {
        let bare = variant["enum"].as_array().into_iter().flatten().chain(variant.get("const"));
        let bare = bare.map(|name| (text(name), json!({ "type": "null" })));
        let filled = variant["properties"].as_object().into_iter().flatten();
        let filled = filled.map(|(name, payload)| (name.as_str(), payload.clone()));
        for (name, mut payload) in bare.chain(filled) {
            if let Some(description) = variant.get("description") {
                payload["description"] = description.clone();
            }
            catalogue.insert(name.to_owned(), document(name, payload, &root));
        }
    }
}

fn root<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The variants of an enum.
fn variants(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["oneOf"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A schema that stands alone, with as many of the definitions in `root` as it needs.
fn document(name: &str, schema: Value, root: &Value) -> Value {
    let mut needed = BTreeSet::new();
    let mut open = vec![&schema];
    let mut found = Vec::new();
    while let Some(value) = open.pop() {
        found.clear();
        shape::references(value, &mut found);
        for name in found.drain(..) {
            if needed.insert(name.to_owned()) {
                open.extend(root["$defs"].get(name));
            }
        }
    }
    let definition = |name: &String| (name.clone(), root["$defs"][name].clone());
    let definitions: Map<String, Value> = needed.iter().map(definition).collect();
    let mut document = schema;
    document["$schema"] = DIALECT.into();
    document["title"] = name.into();
    if !definitions.is_empty() {
        document["$defs"] = definitions.into();
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_and_command_has_a_schema_that_stands_alone() {
        for (name, schema) in events().into_iter().chain(commands()) {
            assert_eq!(schema["$schema"], DIALECT, "{name}");
            assert!(schema["description"].is_string(), "{name}: {schema:#}");
            let mut needed = Vec::new();
            shape::references(&schema, &mut needed);
            for definition in needed {
                assert!(schema["$defs"].get(definition).is_some(), "{name}: {definition}");
            }
        }
    }

    #[test]
    fn events_are_described_by_their_payload_and_commands_with_whom_they_are_for() {
        let events = events();
        assert_eq!(events["order.completed.v1"]["type"], "null");
        let placed = &events["order.placed.v1"];
        assert_eq!(placed["properties"]["total"]["$ref"], "#/$defs/Money", "{placed:#}");
        assert!(placed["$defs"].get("Shortage").is_none(), "no order is placed with a shortage");

        let commands = commands();
        let place = &commands["order.place"];
        assert_eq!(place["properties"]["context"]["const"], "order");
        assert_eq!(place["properties"]["id"]["$ref"], "#/$defs/OrderId");
        assert_eq!(place["properties"]["command"]["properties"]["name"]["const"], "place");
        assert!(commands.contains_key("shipping.pack"));
    }

    #[test]
    fn a_new_command_is_no_new_version_of_the_event_that_keeps_commands() {
        let issued = &events()["saga.command_issued.v1"];
        assert!(!issued.to_string().contains("request_cancellation"), "{issued:#}");
    }
}
