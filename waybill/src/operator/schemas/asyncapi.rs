//! The AsyncAPI 3.0 document of all events, as the relay publishes them.
//!
//! Source: AsyncAPI Specification 3.0.0, asyncapi.com.

use anyhow::{Context as _, ensure};
use event_store::{HEADERS, HeaderValue};
use schemas::catalogue::Catalogue;
use serde_json::{Map, Value, json};

/// Describes `events`, with what stands in `golden` as examples.
pub(super) fn document(events: &Catalogue, golden: &Catalogue) -> anyhow::Result<Value> {
    let mut shared = Map::new();
    shared.insert("EventHeaders".to_owned(), headers());
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for (name, schema) in events {
        let example = golden.get(name).with_context(|| {
            format!("golden/{name}.json is missing: an example of the event as it is stored")
        })?;
        messages.insert(name.clone(), message(name, schema, example, &mut shared)?);
        channels.insert(
            name.clone(),
            json!({
                "address": format!("evt.{{log}}.{name}"),
                "description": schema["description"],
                "parameters": { "log": { "$ref": "#/components/parameters/log" } },
                "messages": { name: { "$ref": format!("#/components/messages/{name}") } },
            }),
        );
        operations.insert(
            name.clone(),
            json!({
                "action": "send",
                "channel": { "$ref": format!("#/channels/{name}") },
                "messages": [{ "$ref": format!("#/channels/{name}/messages/{name}") }],
            }),
        );
    }
    Ok(json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Waybill events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything that happens, in the order of the log, over NATS JetStream \
                            in CloudEvents 1.0 binary mode: attributes are headers, the body is \
                            the event's JSON. The stream `WAYBILL_<log>` holds the subjects \
                            `evt.<log>.>`. An event may come more than once; `ce-position` tells.",
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "parameters": {
                "log": { "description": "The name of the log.", "default": "main" },
            },
            "messages": messages,
            "schemas": shared,
        },
    }))
}

fn message(
    name: &str,
    schema: &Value,
    example: &Value,
    shared: &mut Map<String, Value>,
) -> anyhow::Result<Value> {
    let mut payload = schema.clone();
    let definitions = payload.as_object_mut().and_then(|payload| {
        payload.remove("$schema");
        payload.remove("title");
        payload.remove("$defs")
    });
    relocate(&mut payload);
    for (key, mut definition) in definitions.iter().filter_map(Value::as_object).flatten().map(own)
    {
        relocate(&mut definition);
        let same = shared.get(&key).is_none_or(|before| *before == definition);
        ensure!(same, "two types are called {key}, one of them in {name}: rename one for schemas");
        shared.insert(key, definition);
    }
    Ok(json!({
        "name": name,
        "title": name,
        "summary": schema["description"],
        "contentType": "application/json",
        "correlationId": { "location": "$message.header#/ce-correlationid" },
        "headers": {
            "type": "object",
            "allOf": [{ "$ref": "#/components/schemas/EventHeaders" }],
            "properties": { "ce-type": { "type": "string", "const": name } },
        },
        "payload": payload,
        "examples": [{ "name": "golden", "payload": example }],
    }))
}

fn own((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

/// Makes references lead to the document's components. Beside a reference nothing else counts in
/// AsyncAPI, so that what stands there moves out.
fn relocate(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            keywords.values_mut().for_each(relocate);
            let target = keywords.get("$ref").and_then(Value::as_str);
            let Some(name) = target.and_then(|target| target.strip_prefix("#/$defs/")) else {
                return;
            };
            let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
            keywords.remove("$ref");
            if keywords.is_empty() {
                *schema = reference;
            } else {
                keywords.insert("allOf".to_owned(), json!([reference]));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(relocate),
        _ => {}
    }
}

fn headers() -> Value {
    let describe = |header: &event_store::Header| {
        let mut schema = match header.value {
            HeaderValue::Text => json!({ "type": "string" }),
            HeaderValue::Uuid => json!({ "type": "string", "format": "uuid" }),
            HeaderValue::Time => json!({ "type": "string", "format": "date-time" }),
            HeaderValue::Number => json!({ "type": "string", "pattern": "^[0-9]+$" }),
            HeaderValue::Always(text) => json!({ "type": "string", "const": text }),
        };
        schema["description"] = header.what.into();
        (header.name.to_owned(), schema)
    };
    let required = HEADERS.iter().filter(|header| !header.optional).map(|header| header.name);
    json!({
        "type": "object",
        "description": "The headers of every event.",
        "properties": HEADERS.iter().map(describe).collect::<Map<_, _>>(),
        "required": required.collect::<Vec<_>>(),
    })
}
