//! Routes, each declared once: the router and the `OpenAPI` document are made from the same words.
//!
//! A route is an [`Operation`] and its handler. The operation cannot be made without saying who
//! may call it, and [`crate::edge()`] takes nothing but [`Routes`], so that there is no way to a
//! handler but through the gate.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, get, post};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::gate::Guards;

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever was granted the scope. Customers are shown what is theirs, which is the handler's
    /// to see to.
    Customers(&'static str),
    /// Whoever was granted the scope and speaks for no customer.
    Staff(&'static str),
    /// Whoever signed the body, which is the handler's to see to.
    Signature,
}

impl Access {
    /// The scope that a token must grant; none where no token is needed.
    #[must_use]
    pub const fn scope(self) -> Option<&'static str> {
        match self {
            Self::Customers(scope) | Self::Staff(scope) => Some(scope),
            Self::Signature => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
}

/// What is to be known of a route without reading its code.
#[derive(Clone)]
pub struct Operation {
    pub(crate) method: Method,
    pub(crate) path: Cow<'static, str>,
    pub(crate) id: Cow<'static, str>,
    pub(crate) access: Access,
    pub(crate) summary: Cow<'static, str>,
    pub(crate) parameters: Vec<Value>,
    pub(crate) body: Option<Body>,
    pub(crate) answers: BTreeMap<u16, Answer>,
    pub(crate) problems: BTreeMap<u16, BTreeSet<&'static str>>,
}

/// What is sent.
#[derive(Clone)]
pub(crate) struct Body {
    pub(crate) required: bool,
    pub(crate) schema: Value,
    pub(crate) example: Value,
    fits: fn(Value) -> Result<(), serde_json::Error>,
}

/// What comes back where all is well.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) description: &'static str,
    pub(crate) headers: Vec<&'static str>,
    /// By media type: schema and example.
    pub(crate) content: BTreeMap<&'static str, (Value, Value)>,
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("id", &self.id)
            .field("path", &self.path)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

const JSON: &str = "application/json";

impl Operation {
    /// A query.
    #[must_use]
    pub fn get(
        path: impl Into<Cow<'static, str>>,
        id: impl Into<Cow<'static, str>>,
        access: Access,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(Method::Get, path.into(), id.into(), access, summary.into())
    }

    /// A change.
    #[must_use]
    pub fn post(
        path: impl Into<Cow<'static, str>>,
        id: impl Into<Cow<'static, str>>,
        access: Access,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(Method::Post, path.into(), id.into(), access, summary.into())
            .refuses(504, &["outcome_unknown"])
    }

    fn new(
        method: Method,
        path: Cow<'static, str>,
        id: Cow<'static, str>,
        access: Access,
        summary: Cow<'static, str>,
    ) -> Self {
        let operation = Self {
            method,
            path,
            id,
            access,
            summary,
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            problems: BTreeMap::new(),
        };
        let operation = operation
            .refuses(500, &["internal"])
            .refuses(503, &["overloaded", "timed_out", "dependency_unavailable"]);
        match access {
            Access::Signature => operation,
            _ => operation
                .refuses(401, &["unauthorised"])
                .refuses(403, &["forbidden"])
                .refuses(429, &["rate_limited"]),
        }
    }

    /// A part of the path.
    #[must_use]
    pub fn path<T: JsonSchema>(mut self, name: &str, example: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "path", "required": true,
            "schema": schema::<T>(Towards::Us), "example": example,
        }));
        self.refuses(400, &["invalid_id"]).refuses(404, &["not_found"])
    }

    /// The query string: every member of `T` is a parameter.
    #[must_use]
    pub fn query<T: JsonSchema>(mut self, examples: &Value) -> Self {
        let schema = schema::<T>(Towards::Us);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let mut parameter = json!({
                "name": name, "in": "query", "required": required.contains(&json!(name)),
                "schema": unlessened(schema),
            });
            if let Some(example) = examples.get(name) {
                parameter["example"] = example.clone();
            }
            self.parameters.push(parameter);
        }
        self.refuses(400, &["invalid_parameter"])
    }

    /// A list that is told in pages.
    #[must_use]
    pub fn paged(self) -> Self {
        self.refuses(400, &["cursor_mismatch"])
    }

    /// A command: sent again under the same key, it is carried out once.
    #[must_use]
    pub fn command(mut self) -> Self {
        self.parameters.push(reference("IdempotencyKey"));
        self.parameters.push(reference("IfMatch"));
        self.refuses(400, &["idempotency_key_required", "invalid_header"])
            .refuses(409, &["invalid_transition"])
            .refuses(412, &["version_conflict"])
            .refuses(422, &["idempotency_key_reused"])
            .refuses(503, &["contended"])
    }

    /// The query may ask how fresh the answer is to be.
    #[must_use]
    pub fn fresh(mut self) -> Self {
        self.parameters.push(reference("MinPosition"));
        self.parameters.push(reference("Prefer"));
        self.refuses(400, &["invalid_header"]).refuses(503, &["projection_behind"])
    }

    /// A body of JSON.
    ///
    /// `example` is checked against `T` by a test.
    #[must_use]
    pub fn body<T: JsonSchema + DeserializeOwned>(self, example: Value) -> Self {
        self.sends::<T>(true, example)
    }

    /// The same, which may be left out.
    #[must_use]
    pub fn optional_body<T: JsonSchema + DeserializeOwned>(self, example: Value) -> Self {
        self.sends::<T>(false, example)
    }

    fn sends<T: JsonSchema + DeserializeOwned>(mut self, required: bool, example: Value) -> Self {
        let fits = |value| serde_json::from_value::<T>(value).map(drop);
        self.body = Some(Body { required, schema: schema::<T>(Towards::Us), example, fits });
        self.refuses(400, &["malformed_json", "body_broken"])
            .refuses(408, &["body_too_slow"])
            .refuses(413, &["body_too_large"])
            .refuses(415, &["unsupported_media_type"])
            .refuses(422, &["validation_failed"])
    }

    /// An answer of JSON, with these headers besides those that all have.
    #[must_use]
    pub fn answers<T: JsonSchema>(
        mut self,
        status: u16,
        description: &'static str,
        headers: &[&'static str],
        example: Value,
    ) -> Self {
        let content = BTreeMap::from([(JSON, (schema::<T>(Towards::Them), example))]);
        self.answers.insert(status, Answer { description, headers: headers.to_vec(), content });
        self
    }

    /// The same, with an `ETag` that `If-None-Match` understands.
    #[must_use]
    pub fn answers_versioned<T: JsonSchema>(
        mut self,
        description: &'static str,
        example: Value,
    ) -> Self {
        self.parameters.push(reference("IfNoneMatch"));
        let headers = vec!["ETag", "Projection-Position"];
        let unchanged = Answer {
            description: "The caller has that version.",
            headers,
            content: BTreeMap::new(),
        };
        self.answers.insert(304, unchanged);
        self.answers::<T>(200, description, &["ETag", "Projection-Position"], example)
    }

    /// Server-sent events, besides or instead of JSON.
    #[must_use]
    pub fn tells_events(mut self, example: &str) -> Self {
        self.parameters.push(reference("LastEventId"));
        let events = (json!({ "type": "string" }), json!(example));
        let none = || Answer {
            description: "Events as they happen.",
            headers: Vec::new(),
            content: BTreeMap::new(),
        };
        let answer = self.answers.entry(200).or_insert_with(none);
        answer.content.insert("text/event-stream", events);
        self.refuses(400, &["invalid_header"]).refuses(429, &["too_many_event_streams"])
    }

    /// Further problems that it may be answered with.
    #[must_use]
    pub fn refuses(mut self, status: u16, codes: &[&'static str]) -> Self {
        self.problems.entry(status).or_default().extend(codes);
        self
    }

    /// The path, as `/v1/orders/{order_id}`.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.path
    }

    /// Whether it is a `POST`; else it is a `GET`.
    #[must_use]
    pub fn is_post(&self) -> bool {
        self.method == Method::Post
    }

    /// Who may call it.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// The name of the operation.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.id
    }

    /// An example of what is sent, where anything is.
    #[must_use]
    pub fn example(&self) -> Option<&Value> {
        self.body.as_ref().map(|body| &body.example)
    }

    /// Whether the example can be read as what is expected.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn check_example(&self) -> Result<(), serde_json::Error> {
        self.body.as_ref().map_or(Ok(()), |body| (body.fits)(body.example.clone()))
    }

    /// The codes of all problems that it may be answered with.
    pub fn problems(&self) -> impl Iterator<Item = &'static str> {
        self.problems.values().flatten().copied()
    }
}

fn reference(parameter: &str) -> Value {
    json!({ "$ref": format!("#/components/parameters/{parameter}") })
}

/// Which way something goes.
#[derive(Clone, Copy)]
enum Towards {
    Us,
    Them,
}

/// The schema of a type, whole in itself.
fn schema<T: JsonSchema>(towards: Towards) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let settings = match towards {
        Towards::Us => settings.for_deserialize(),
        Towards::Them => settings.for_serialize(),
    };
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Value::Object(members) = &mut schema {
        members.remove("title");
    }
    schema
}

/// A parameter is left out or it is there: it is never null.
fn unlessened(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(members) = &mut schema {
        if let Some(Value::Array(kinds)) = members.get_mut("type") {
            kinds.retain(|kind| kind != "null");
            if let [only] = kinds.as_slice() {
                let only = only.clone();
                members.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(kinds)) = members.get_mut("anyOf") {
            kinds.retain(|kind| kind["type"] != "null");
            if let [Value::Object(only)] = kinds.as_slice() {
                let only: Map<String, Value> = only.clone();
                members.remove("anyOf");
                for (name, value) in only {
                    members.entry(name).or_insert(value);
                }
            }
        }
        if let Some(Value::Array(words)) = members.get_mut("enum") {
            words.retain(|word| !word.is_null());
        }
        members.remove("default");
    }
    schema
}

/// Routes of one state, or, once they have it, of none.
pub struct Routes<S = ()>(Vec<(Operation, MethodRouter<S>)>);

impl<S> fmt::Debug for Routes<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.operations()).finish()
    }
}

impl<S> Default for Routes<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    #[must_use]
    pub fn route<T: 'static>(mut self, operation: Operation, handler: impl Handler<T, S>) -> Self {
        let route = match operation.method {
            Method::Get => get(handler),
            Method::Post => post(handler),
        };
        self.0.push((operation, route));
        self
    }

    /// Adds all of another's.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Gives them their state.
    #[must_use]
    pub fn with_state(self, state: &S) -> Routes {
        let with = |(operation, route): (Operation, MethodRouter<S>)| {
            (operation, route.with_state(state.clone()))
        };
        Routes(self.0.into_iter().map(with).collect())
    }
}

impl<S> Routes<S> {
    /// What is to be known of them.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.0.iter().map(|(operation, _)| operation)
    }
}

impl Routes {
    /// The router, with a guard in front of every route.
    pub(crate) fn into_router(self, guards: &Guards) -> Router {
        self.0.into_iter().fold(Router::new(), |router, (operation, route)| {
            let route = guards.guard(&operation.path, operation.access, route);
            router.route(&operation.path, route)
        })
    }
}
