//! The `OpenAPI` document of an API, made from its routes, and a page to read it with.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use serde_json::{Map, Value, json};

use crate::problem::title;
use crate::route::{Access, Answer, Method, Operation};
use crate::{TYPE_BASE, limits};

/// The codes of problems that come from around the routes, and not from any of them.
pub const CODES_AROUND: [&str; 3] = ["method_not_allowed", "not_found", "not_ready"];

/// The page, which loads nothing but the document.
const PAGE: &str = include_str!("openapi.html");

/// The document that `operations` make.
#[must_use]
pub fn document<'a>(
    name: &str,
    description: &str,
    operations: impl Iterator<Item = &'a Operation>,
) -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut scopes = BTreeSet::new();
    for operation in operations {
        scopes.extend(operation.access.scope());
        let method = match operation.method {
            Method::Get => "get",
            Method::Post => "post",
        };
        paths.entry(&operation.path).or_default().insert(method.to_owned(), told(operation));
    }
    let scopes: Vec<_> = scopes.into_iter().map(|scope| format!("`{scope}`")).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": "1",
            "description": description,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": {
                "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                "description": format!(
                    "A JSON Web Token with the scope that the operation names, one of {}. A token \
                     with the claim `customer` sees what is that customer's and nothing else.",
                    scopes.join(", ")
                ),
            } },
            "parameters": parameters(),
            "headers": headers(),
            "schemas": { "Problem": problem() },
        },
    })
}

fn told(operation: &Operation) -> Value {
    let Operation { id, summary, access, parameters, body, answers, problems, path, .. } =
        operation;
    let group = path.split('/').nth(2).unwrap_or_default();
    let mut told = json!({
        "operationId": id, "summary": summary, "tags": [group],
        "parameters": with_request_id(parameters),
    });
    match access {
        Access::Signature => told["security"] = json!([]),
        Access::Customers(scope) => told["security"] = json!([{ "token": [scope] }]),
        Access::Staff(scope) => {
            told["security"] = json!([{ "token": [scope] }]);
            told["description"] = json!("Not for customers.");
        }
    }
    if let Some(body) = body {
        told["requestBody"] = json!({
            "required": body.required,
            "content": { "application/json": { "schema": body.schema, "example": body.example } },
        });
    }
    let mut responses = Map::new();
    for (status, answer) in answers {
        responses.insert(status.to_string(), well(answer));
    }
    for (status, codes) in problems {
        responses.insert(status.to_string(), ill(*status, codes));
    }
    told["responses"] = responses.into();
    told
}

fn with_request_id(parameters: &[Value]) -> Vec<Value> {
    let request_id = json!({ "$ref": "#/components/parameters/RequestId" });
    parameters.iter().cloned().chain([request_id]).collect()
}

fn well(Answer { description, headers, content }: &Answer) -> Value {
    let named = headers.iter().copied().chain(["X-Request-Id"]);
    let header = |name: &str| json!({ "$ref": format!("#/components/headers/{name}") });
    let headers: Map<_, _> = named.map(|name| (name.to_owned(), header(name))).collect();
    let mut answer = json!({ "description": description, "headers": headers });
    if !content.is_empty() {
        let media = |(kind, (schema, example)): (&&str, &(Value, Value))| {
            ((*kind).to_owned(), json!({ "schema": schema, "example": example }))
        };
        answer["content"] = content.iter().map(media).collect::<Map<_, _>>().into();
    }
    answer
}

fn ill(status: u16, codes: &BTreeSet<&'static str>) -> Value {
    let example = |code: &&'static str| {
        let value = json!({
            "type": format!("{TYPE_BASE}{code}"), "title": title(code), "status": status,
            "code": code, "detail": "What is wrong with this request, for people.",
            "instance": "/v1/orders", "request_id": "req_0197b0c0000070008000000000000001",
        });
        ((*code).to_owned(), json!({ "value": value }))
    };
    let links: Vec<_> = codes.iter().map(|code| format!("[`{code}`]({TYPE_BASE}{code})")).collect();
    let mut headers = json!({ "X-Request-Id": { "$ref": "#/components/headers/X-Request-Id" } });
    if matches!(status, 429 | 503) {
        headers["Retry-After"] = json!({ "$ref": "#/components/headers/Retry-After" });
    }
    json!({
        "description": links.join(", "),
        "headers": headers,
        "content": { "application/problem+json": {
            "schema": { "$ref": "#/components/schemas/Problem" },
            "examples": codes.iter().map(example).collect::<Map<_, _>>(),
        } },
    })
}

fn parameters() -> Value {
    let header = |name: &str, required: bool, schema: Value, description: &str, example: &str| {
        json!({ "name": name, "in": "header", "required": required, "schema": schema,
                "description": description, "example": example })
    };
    let key_length = limits::IDEMPOTENCY_KEY_LENGTH_MAX;
    json!({
        "IdempotencyKey": header(
            "Idempotency-Key",
            true,
            json!({ "type": "string", "pattern": "^[!#-\\[\\]-~]+$", "minLength": 1,
                    "maxLength": key_length }),
            "Names the request: the same key with the same request is answered the same way.",
            "8e03978e-40d5-43e8-bc93-6894a57f9324"
        ),
        "IfMatch": header(
            "If-Match",
            false,
            json!({ "type": "string", "pattern": "^(\\*|\"[0-9]+\")$" }),
            "The `ETag` of the version that the command is meant for.",
            "\"1\""
        ),
        "IfNoneMatch": header(
            "If-None-Match",
            false,
            json!({ "type": "string", "pattern": "^(\\*|\"[0-9]+\")$" }),
            "The `ETag` that the caller has.",
            "\"1\""
        ),
        "MinPosition": header(
            "Min-Position",
            false,
            json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX }),
            "The `Commit-Position` that the answer must have seen.",
            "81234"
        ),
        "Prefer": header(
            "Prefer",
            false,
            json!({ "type": "string", "pattern": "^(wait=[0-2]|handling=lenient)$" }),
            "`wait=1`: how many seconds to wait for the position; `handling=lenient`: an older \
             answer is better than none.",
            "wait=1"
        ),
        "LastEventId": header(
            "Last-Event-ID",
            false,
            json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX }),
            "The position up to which a follower has heard.",
            "81234"
        ),
        "RequestId": header(
            "X-Request-Id",
            false,
            json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:/+=@-]+$",
                    "maxLength": limits::REQUEST_ID_LENGTH_MAX }),
            "The caller's name for the request, which stands in answers and logs.",
            "req-7"
        ),
    })
}

fn headers() -> Value {
    let text = json!({ "type": "string" });
    let number = json!({ "type": "integer", "minimum": 0 });
    json!({
        "ETag": { "description": "The version of what is shown.", "schema": text },
        "Location": { "description": "Where it is, or where it tells what becomes of it.",
                      "schema": text },
        "Link": { "description": "Further pages, as rel=\"next\" and rel=\"prev\".",
                  "schema": text },
        "X-Request-Id": { "description": "The id of the request.", "schema": text },
        "Commit-Position": { "description": "Where in the log the change stands.",
                             "schema": number },
        "Projection-Position": { "description": "How much of the log the answer has seen.",
                                 "schema": number },
        "Retry-After": { "description": "When to ask again, in seconds.", "schema": number },
    })
}

/// RFC 9457, with what ours have besides.
fn problem() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "description": "What is wrong (RFC 9457). Members besides these belong to the code.",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": { "type": "string", "format": "uri" },
            "title": text,
            "status": { "type": "integer" },
            "code": { "type": "string", "description": "A stable name, to be matched on." },
            "detail": { "type": "string", "description": "For people." },
            "instance": text,
            "request_id": text,
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["code", "detail"],
                    "properties": {
                        "pointer": { "type": "string",
                                     "description": "Where in the body, as `#/lines/0/quantity`." },
                        "parameter": { "type": "string",
                                       "description": "Which parameter or header." },
                        "code": text,
                        "detail": text,
                    },
                },
            },
        },
    })
}

/// `/openapi.json`, and `/docs` to read it in a browser without any network.
pub(crate) fn routes(document: &Value) -> Router {
    let text: axum::body::Bytes = format!("{document:#}\n").into();
    let json = HeaderValue::from_static("application/json");
    let document = move || async move { ([(header::CONTENT_TYPE, json)], text).into_response() };
    let page = || async {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        let policy = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; \
                      script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
        let policy = HeaderValue::from_static(policy);
        let headers = [(header::CONTENT_TYPE, html), (header::CONTENT_SECURITY_POLICY, policy)];
        (headers, PAGE).into_response()
    };
    Router::new().route("/openapi.json", get(document)).route("/docs", get(page))
}
