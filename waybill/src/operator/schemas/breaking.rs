//! What changed between two `OpenAPI` documents that lets callers of the first down.

use serde_json::Value;

/// What callers who knew `before` would find changed: operations and answers that are gone, scopes
/// that are others, parameters and members that are newly required of them, and members of answers
/// that are gone or of another kind.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<String> {
    let mut changes = Vec::new();
    for (path, methods) in members(&before["paths"]) {
        for (method, old) in members(methods) {
            let at = format!("{} {path}", method.to_uppercase());
            match after["paths"][path].get(method) {
                None => changes.push(format!("{at} is gone")),
                Some(new) => operation(&at, old, new, &mut changes),
            }
        }
    }
    changes
}

fn operation(at: &str, old: &Value, new: &Value, changes: &mut Vec<String>) {
    if old["security"] != new["security"] {
        changes.push(format!("{at} asks for another scope"));
    }
    let required = |operation: &Value| -> Vec<String> {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        // Those that are referred to are the same for all: a new one that is required is new here.
        let required = parameters
            .filter(|parameter| parameter["required"] == true || !parameter["$ref"].is_null());
        let name = |parameter: &Value| {
            let name = parameter["name"].as_str().or_else(|| parameter["$ref"].as_str());
            name.unwrap_or_default().to_owned()
        };
        required.map(name).collect()
    };
    let known = required(old);
    for name in required(new) {
        let optional = ["IfMatch", "IfNoneMatch", "MinPosition", "Prefer", "LastEventId"];
        let harmless = optional.iter().any(|header| name.contains(header));
        if !known.contains(&name) && !harmless && !name.contains("RequestId") {
            changes.push(format!("{at} requires {name}"));
        }
    }
    let body = |operation: &Value| {
        operation["requestBody"]["content"]["application/json"]["schema"].clone()
    };
    sent(&format!("{at}: the body"), &body(old), &body(new), changes);
    for (status, answer) in members(&old["responses"]).filter(|(status, _)| status.starts_with('2'))
    {
        let Some(now) = new["responses"].get(status) else {
            changes.push(format!("{at} is no longer answered with {status}"));
            continue;
        };
        for (media, old) in members(&answer["content"]) {
            let new = &now["content"][media]["schema"];
            told(&format!("{at}: the answer"), &old["schema"], new, changes);
        }
    }
}

/// What is sent may be asked less of, and not more.
fn sent(at: &str, old: &Value, new: &Value, changes: &mut Vec<String>) {
    let names = |schema: &Value| schema["required"].as_array().cloned().unwrap_or_default();
    let known = names(old);
    for name in names(new).iter().filter(|name| !known.contains(name)) {
        changes.push(format!("{at} requires {name}"));
    }
    for (name, part) in members(&old["properties"]) {
        match new["properties"].get(name) {
            None => changes.push(format!("{at} takes no `{name}`")),
            Some(now) => {
                kinds(&format!("{at}/{name}"), part, now, changes);
                sent(&format!("{at}/{name}"), part, now, changes);
            }
        }
    }
    if old.get("items").is_some() {
        sent(&format!("{at}/*"), &old["items"], &new["items"], changes);
    }
}

/// What is told may be more, and not less.
fn told(at: &str, old: &Value, new: &Value, changes: &mut Vec<String>) {
    kinds(at, old, new, changes);
    for (name, part) in members(&old["properties"]) {
        match new["properties"].get(name) {
            None => changes.push(format!("{at} has no `{name}`")),
            Some(now) => told(&format!("{at}/{name}"), part, now, changes),
        }
    }
    if old.get("items").is_some() {
        told(&format!("{at}/*"), &old["items"], &new["items"], changes);
    }
}

fn kinds(at: &str, old: &Value, new: &Value, changes: &mut Vec<String>) {
    if old["type"] != new["type"] {
        changes.push(format!("{at} was {} and is {}", old["type"], new["type"]));
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({ "paths": { "/v1/mugs": { "post": {
            "security": [{ "token": ["mugs:write"] }],
            "parameters": [{ "name": "colour", "required": false }],
            "requestBody": { "content": { "application/json": { "schema": {
                "type": "object", "required": ["a"],
                "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
            } } } },
            "responses": {
                "200": { "content": { "application/json": { "schema": {
                    "type": "object",
                    "properties": { "c": { "type": "array", "items": { "type": "integer" } } },
                } } } },
                "404": {},
            },
        } } } })
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Value), told: Option<&str>) {
        let mut after = document();
        change(&mut after["paths"]["/v1/mugs"]["post"]);
        let changes = changes(&document(), &after);
        assert_eq!(changes.first().map(String::as_str), told, "{changes:?}");
    }

    #[test]
    fn what_lets_callers_down_is_told() {
        let schema = |operation: &mut Value, change: &dyn Fn(&mut Value)| {
            change(&mut operation["requestBody"]["content"]["application/json"]["schema"]);
        };
        check(|_| {}, None);
        check(|operation| operation["responses"]["409"] = json!({}), None);
        check(
            |operation| operation["security"] = json!([{ "token": ["mugs:*"] }]),
            Some("POST /v1/mugs asks for another scope"),
        );
        check(
            |operation| operation["parameters"][0]["required"] = json!(true),
            Some("POST /v1/mugs requires colour"),
        );
        check(
            |operation| schema(operation, &|schema| schema["required"] = json!(["a", "b"])),
            Some("POST /v1/mugs: the body requires \"b\""),
        );
        check(
            |operation| {
                schema(operation, &|schema| {
                    schema["properties"] = json!({ "a": { "type": "string" } });
                });
            },
            Some("POST /v1/mugs: the body takes no `b`"),
        );
        check(
            |operation| {
                let schema = &mut operation["responses"]["200"]["content"]["application/json"];
                schema["schema"]["properties"]["c"]["items"]["type"] = json!("string");
            },
            Some("POST /v1/mugs: the answer/c/* was \"integer\" and is \"string\""),
        );
        check(
            |operation| operation["responses"] = json!({}),
            Some("POST /v1/mugs is no longer answered with 200"),
        );
        let gone = changes(&document(), &json!({ "paths": {} }));
        assert_eq!(gone, ["POST /v1/mugs is gone"]);
    }
}
