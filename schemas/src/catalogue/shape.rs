//! What of a JSON Schema decides which values fit it, and what only explains.

use serde_json::{Map, Value};

/// Keywords that only explain, or that lead elsewhere.
const ANNOTATIONS: [&str; 9] = [
    "$schema",
    "$id",
    "$ref",
    "$defs",
    "$comment",
    "title",
    "description",
    "examples",
    "deprecated",
];

/// Keywords whose lists have no order.
const SETS: [&str; 5] = ["required", "enum", "oneOf", "anyOf", "allOf"];

/// A schema without what only explains: definitions stand where they are referred to, lists that
/// have no order are sorted. Of two schemas with one shape, each accepts what the other does.
#[must_use]
pub fn shape(schema: &Value) -> Value {
    of(schema, schema, &mut Vec::new())
}

/// The definition in `root` that `schema` refers to.
pub(super) fn resolve<'a>(schema: &Value, root: &'a Value) -> Option<&'a Value> {
    root["$defs"].get(definition(schema)?)
}

/// The names of all definitions that are referred to.
pub(super) fn references<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
    found.extend(definition(schema));
    match schema {
        Value::Object(keywords) => keywords.values().for_each(|value| references(value, found)),
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn definition(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// `within` are the definitions that the schema stands in: one that contains itself is named.
fn of<'a>(schema: &'a Value, root: &'a Value, within: &mut Vec<&'a str>) -> Value {
    let Value::Object(keywords) = schema else { return schema.clone() };
    let mut shape = Map::new();
    for (keyword, value) in keywords {
        if ANNOTATIONS.contains(&keyword.as_str()) {
            continue;
        }
        let value = match (keyword.as_str(), value) {
            ("properties" | "patternProperties", Value::Object(named)) => {
                named.iter().map(|(name, s)| (name.clone(), of(s, root, within))).collect()
            }
            ("oneOf" | "anyOf" | "allOf" | "prefixItems", Value::Array(schemas)) => {
                schemas.iter().map(|schema| of(schema, root, within)).collect()
            }
            ("const" | "enum" | "default", _) => value.clone(),
            _ => of(value, root, within),
        };
        shape.insert(keyword.clone(), sorted(keyword, value));
    }
    let Some(name) = definition(schema) else { return shape.into() };
    let target = match root["$defs"].get(name) {
        Some(target) if !within.contains(&name) => {
            within.push(name);
            let target = of(target, root, within);
            within.pop();
            target
        }
        _ => Value::from(name),
    };
    if shape.is_empty() {
        return target;
    }
    shape.insert("$ref".to_owned(), target);
    shape.into()
}

fn sorted(keyword: &str, mut value: Value) -> Value {
    if SETS.contains(&keyword)
        && let Value::Array(values) = &mut value
    {
        values.sort_by_key(Value::to_string);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({
            "title": "order.sample.v1",
            "description": "A sample.",
            "type": "object",
            "properties": { "description": { "$ref": "#/$defs/Text" }, "of": { "type": "integer" } },
            "required": ["description", "of"],
            "$defs": { "Text": { "type": "string", "maxLength": 200 } },
        })
    }

    #[test]
    fn explanations_names_and_order_do_not_change_the_shape() {
        let mut other = schema();
        other["description"] = "Something else.".into();
        other["required"] = json!(["of", "description"]);
        other["properties"]["description"] =
            json!({ "type": "string", "maxLength": 200, "description": "In place." });
        other["$defs"] = json!({});
        assert_eq!(shape(&schema()), shape(&other));
    }

    #[test]
    fn whatever_changes_which_values_fit_changes_the_shape() {
        let changes: [fn(&mut Value); 6] = [
            |schema| schema["$defs"]["Text"]["maxLength"] = 201.into(),
            |schema| schema["required"] = json!(["of"]),
            |schema| schema["properties"]["of"]["minimum"] = 0.into(),
            // A property may be named like a keyword that only explains.
            |schema| schema["properties"]["description"]["maxLength"] = 7.into(),
            |schema| schema["properties"]["title"] = json!({ "type": "string" }),
            |schema| schema["additionalProperties"] = false.into(),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut other = schema();
            change(&mut other);
            assert_ne!(shape(&schema()), shape(&other), "change {at}");
        }
    }

    #[test]
    fn a_definition_that_contains_itself_has_a_shape() {
        let tree = json!({
            "$ref": "#/$defs/Tree",
            "$defs": { "Tree": { "type": "array", "items": { "$ref": "#/$defs/Tree" } } },
        });
        assert_eq!(shape(&tree), json!({ "type": "array", "items": "Tree" }));
    }
}
