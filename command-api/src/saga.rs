//! What operators do about parked sagas: `POST /v1/sagas/{saga_id}/{verb}`.
//!
//! Whoever acts has looked: `If-Match` names the version of the saga that they saw.

use ::saga::{Act, Outcome};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use schemars::JsonSchema;
use schemas::saga::Verb;
use schemas::{SagaId, Text, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use web::{Access, Json, Operation, PathId, Problem, Routes};

use crate::answer::{Answer, DONE};
use crate::examples::SAGA;
use crate::execute::{Api, NOWHERE, problem};
use crate::post::Post;

pub(crate) fn routes() -> Routes<Api> {
    Verb::ALL.into_iter().fold(Routes::new(), |routes, verb| {
        let handler =
            move |state: State<Api>, asked: Versioned, saga: PathId<SagaId>, body: Json<Body>| {
                act(verb, state, asked, saga, body)
            };
        routes.route(operation(verb), handler)
    })
}

fn operation(verb: Verb) -> Operation {
    let (name, summary) = match verb {
        Verb::Retry => ("retrySaga", "Send the step that it is parked at again"),
        Verb::Resume => ("resumeSaga", "Let it go on where it was"),
        Verb::Skip => ("skipSagaStep", "Leave a step out"),
        Verb::SetOutcome => ("setSagaOutcome", "Say what came of a step"),
        Verb::Compensate => ("compensateSaga", "Give back what was taken"),
        Verb::Abandon => ("abandonSaga", "End it as it is"),
    };
    let links = json!({ "self": format!("/v1/sagas/{SAGA}"),
                        "journal": format!("/v1/sagas/{SAGA}/journal") });
    let acted = json!({ "id": SAGA, "version": 19, "verb": verb.as_str(), "links": links });
    let path = format!("/v1/sagas/{{saga_id}}/{}", verb.as_str());
    Operation::post(path, name, Access::Staff("ops:write"), summary)
        .path::<SagaId>("saga_id", SAGA)
        .command()
        .body::<Body>(example(verb))
        .answers::<Acted>(200, "It is done.", &DONE, acted)
        .refuses(409, &["not_parked", "verb_not_legal", "still_held", "journal_unreadable"])
        .refuses(422, &["step_not_legal", "outcome_not_legal"])
        .refuses(428, &["precondition_required"])
}

/// A body that the verb takes.
fn example(verb: Verb) -> Value {
    let mut body = json!({ "reason": "the bank called" });
    match verb {
        Verb::Retry | Verb::Resume | Verb::Compensate => {}
        Verb::Skip => body["step"] = json!("return_money"),
        Verb::SetOutcome => {
            body["step"] = json!("return_money");
            body["outcome"] = json!("done");
            body["evidence"] = json!("transfer 4711");
        }
        Verb::Abandon => body["force"] = json!(true),
    }
    body
}

/// A request that says which version it is about.
struct Versioned(Post);

impl FromRequestParts<Api> for Versioned {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Api) -> Result<Self, Problem> {
        if !parts.headers.contains_key(header::IF_MATCH) {
            let detail = "send the ETag of the saga as you saw it as If-Match";
            let status = StatusCode::PRECONDITION_REQUIRED;
            return Err(Problem::new(status, "precondition_required", detail));
        }
        Post::from_request_parts(parts, state).await.map(Self)
    }
}

/// Why, and what about. Who does it is whose token it is.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Body {
    reason: Text,
    /// What shows that it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Text>,
    /// For `skip` and `set-outcome`.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<Text>,
    /// For `set-outcome`.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    /// For `abandon`.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Acted {
    id: SagaId,
    version: Version,
    verb: Verb,
    links: Links,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Links {
    #[serde(rename = "self")]
    saga: String,
    journal: String,
}

async fn act(
    verb: Verb,
    State(api): State<Api>,
    Versioned(asked): Versioned,
    PathId(saga): PathId<SagaId>,
    Json(body): Json<Body>,
) -> Result<Answer<Acted>, Problem> {
    body.check(verb)?;
    let store = api.store();
    let begun = ::saga::begun(store, saga).await;
    let begun = begun.map_err(|error| problem(error.into(), NOWHERE))?;
    let begun = begun.ok_or_else(|| Problem::not_found("there is no such saga"))?;
    let meta = asked.meta(&body, begun.key, api.clock().now())?;
    let actor = meta.actor.parse().map_err(|error| Problem::internal(&error))?;
    let done = ::saga::act(store, &begun, body.act(verb, actor), &meta).await;
    let done = done.map_err(|error| problem(error, &pointer))?;
    let links =
        Links { saga: format!("/v1/sagas/{saga}"), journal: format!("/v1/sagas/{saga}/journal") };
    Ok(Answer::done(done, Acted { id: saga, version: done.version, verb, links }))
}

/// Which part of the body a refusal is about.
fn pointer(code: &str) -> Option<String> {
    match code {
        "step_not_legal" => Some("#/step".to_owned()),
        "outcome_not_legal" => Some("#/outcome".to_owned()),
        _ => None,
    }
}

impl Body {
    /// Whether it has what the verb needs, and nothing else.
    fn check(&self, verb: Verb) -> Result<(), Problem> {
        let (names, says) = match verb {
            Verb::Skip => (true, false),
            Verb::SetOutcome => (true, true),
            Verb::Retry | Verb::Resume | Verb::Compensate | Verb::Abandon => (false, false),
        };
        fits("#/step", self.step.is_some(), names)?;
        fits("#/outcome", self.outcome.is_some(), says)?;
        if says && self.evidence.is_none() {
            fits("#/evidence", false, true)?;
        }
        if self.force && verb != Verb::Abandon {
            fits("#/force", true, false)?;
        }
        Ok(())
    }

    fn act(self, verb: Verb, actor: Text) -> Act {
        Act {
            verb,
            step: self.step.map(|step| step.as_str().to_owned()),
            outcome: self.outcome,
            force: self.force,
            actor,
            reason: self.reason,
            evidence: self.evidence,
        }
    }
}

fn fits(pointer: &str, given: bool, wanted: bool) -> Result<(), Problem> {
    match (given, wanted) {
        (false, true) => Err(Problem::invalid_field(pointer, "missing", "this verb needs it")),
        (true, false) => {
            Err(Problem::invalid_field(pointer, "not_allowed", "this verb does not take it"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(verb: Verb, rest: &str) -> Option<(String, String)> {
        let body = format!(r#"{{"reason":"the bank said so"{rest}}}"#);
        let body: Body = serde_json::from_str(&body).unwrap();
        let problem = body.check(verb).err()?;
        assert_eq!((problem.status().as_u16(), problem.code()), (422, "validation_failed"));
        let error = &problem.errors()[0];
        Some((error.pointer.clone().unwrap(), error.code.clone().into_owned()))
    }

    #[test]
    fn a_verb_takes_what_it_needs_and_nothing_else() {
        let step = r#","step":"return_money""#;
        let said = r#","step":"return_money","outcome":"done""#;
        let all = r#","step":"return_money","outcome":"done","evidence":"transfer 4711""#;
        for (verb, rest, wrong) in [
            (Verb::Retry, "", None),
            (Verb::Retry, r#","evidence":"a call""#, None),
            (Verb::Retry, step, Some(("#/step", "not_allowed"))),
            (Verb::Resume, r#","outcome":"done""#, Some(("#/outcome", "not_allowed"))),
            (Verb::Compensate, r#","force":true"#, Some(("#/force", "not_allowed"))),
            (Verb::Abandon, r#","force":true"#, None),
            (Verb::Skip, "", Some(("#/step", "missing"))),
            (Verb::Skip, step, None),
            (Verb::Skip, said, Some(("#/outcome", "not_allowed"))),
            (Verb::SetOutcome, step, Some(("#/outcome", "missing"))),
            (Verb::SetOutcome, said, Some(("#/evidence", "missing"))),
            (Verb::SetOutcome, all, None),
        ] {
            let wrong = wrong.map(|(pointer, code)| (pointer.to_owned(), code.to_owned()));
            assert_eq!(checked(verb, rest), wrong, "{verb:?} {rest}");
        }
    }
}
