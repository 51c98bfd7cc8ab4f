//! Stock: goods are announced, come in, and are counted again.

use aggregates::inventory::Inventory;
use axum::extract::State;
use schemars::JsonSchema;
use schemas::inventory::Command;
use schemas::{Quantity, Sku, Text, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use web::{Access, Json, Operation, PathId, Problem, Routes};

use crate::answer::{Answer, DONE};
use crate::execute::{Api, NOWHERE, Pointer, problem};
use crate::post::Post;

pub(crate) fn routes() -> Routes<Api> {
    let announced = json!({ "quantity": 100, "reference": "PO-1007" });
    let expected = operation("expect", "expectStock", "Announce goods, or take that back")
        .body::<Expect>(announced.clone())
        .refuses(409, &["too_many_announced"])
        .refuses(422, &["too_many_expected"]);
    let received = operation("receive", "receiveStock", "Goods came in")
        .body::<Receive>(announced)
        .refuses(422, &["stock_overflow"]);
    let adjusted = operation("adjust", "adjustStock", "Somebody counted again")
        .body::<Adjust>(json!({ "delta": -2, "reason": "broken" }))
        .refuses(409, &["insufficient_stock", "stock_overflow"]);
    Routes::new().route(expected, expect).route(received, receive).route(adjusted, adjust)
}

fn operation(verb: &str, id: &'static str, summary: &'static str) -> Operation {
    let changed: Value =
        json!({ "sku": "mug", "version": 2, "links": { "self": "/v1/stock/mug" } });
    let path = format!("/v1/stock/{{sku}}/{verb}");
    Operation::post(path, id, Access::Staff("stock:write"), summary)
        .path::<Sku>("sku", "mug")
        .command()
        .answers::<Changed>(200, "It is done.", &DONE, changed)
}

/// The body of `POST /v1/stock/{sku}/expect`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// How many are still to come; 0 where nothing is any more.
    quantity: u32,
    /// The delivery note or purchase order.
    reference: Text,
}

/// The body of `POST /v1/stock/{sku}/receive`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Receive {
    quantity: Quantity,
    /// The delivery note or purchase order.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<Text>,
}

/// The body of `POST /v1/stock/{sku}/adjust`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Adjust {
    /// How many more, or fewer.
    delta: i32,
    reason: Text,
}

/// How much there is now is the query API's to tell.
#[derive(Debug, Serialize, JsonSchema)]
struct Changed {
    sku: Sku,
    version: Version,
    links: Links,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Links {
    #[serde(rename = "self")]
    stock: String,
}

/// `POST /v1/stock/{sku}/expect`: goods are announced, or no longer.
async fn expect(
    State(api): State<Api>,
    asked: Post,
    PathId(sku): PathId<Sku>,
    Json(body): Json<Expect>,
) -> Result<Answer<Changed>, Problem> {
    let command = Command::Expect {
        sku: sku.clone(),
        quantity: body.quantity,
        reference: body.reference.clone(),
    };
    let too_many = |code: &str| (code == "too_many_expected").then(|| "#/quantity".to_owned());
    change(&api, &asked, sku, &body, &command, &too_many).await
}

/// `POST /v1/stock/{sku}/receive`: goods came in.
async fn receive(
    State(api): State<Api>,
    asked: Post,
    PathId(sku): PathId<Sku>,
    Json(body): Json<Receive>,
) -> Result<Answer<Changed>, Problem> {
    let command = Command::Receive {
        sku: sku.clone(),
        quantity: body.quantity,
        reference: body.reference.clone(),
    };
    let too_much = |code: &str| (code == "stock_overflow").then(|| "#/quantity".to_owned());
    change(&api, &asked, sku, &body, &command, &too_much).await
}

/// `POST /v1/stock/{sku}/adjust`: somebody counted again.
async fn adjust(
    State(api): State<Api>,
    asked: Post,
    PathId(sku): PathId<Sku>,
    Json(body): Json<Adjust>,
) -> Result<Answer<Changed>, Problem> {
    let command =
        Command::Adjust { sku: sku.clone(), delta: body.delta, reason: body.reason.clone() };
    change(&api, &asked, sku, &body, &command, NOWHERE).await
}

async fn change(
    api: &Api,
    asked: &Post,
    sku: Sku,
    body: &impl Serialize,
    command: &Command,
    pointer: Pointer<'_>,
) -> Result<Answer<Changed>, Problem> {
    // Stock belongs to no order: the conversation begins here.
    let meta = asked.meta(body, asked.command_id.uuid(), api.clock().now())?;
    let done = api.store().execute::<Inventory>(&command.streams(), command, &meta).await;
    let done = done.map_err(|error| problem(error, pointer))?;
    let links = Links { stock: format!("/v1/stock/{sku}") };
    Ok(Answer::done(done, Changed { sku, version: done.version, links }))
}
