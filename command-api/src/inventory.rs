//! Stock: goods are announced, come in, and are counted again.

use aggregates::inventory::Inventory;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use schemas::inventory::Command;
use schemas::{Quantity, Sku, Text, Version};
use serde::{Deserialize, Serialize};
use web::{Json, PathId, Problem};

use crate::answer::Answer;
use crate::execute::{Api, NOWHERE, Pointer, problem};
use crate::post::Post;

pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/stock/{sku}/expect", post(expect))
        .route("/v1/stock/{sku}/receive", post(receive))
        .route("/v1/stock/{sku}/adjust", post(adjust))
}

/// The body of `POST /v1/stock/{sku}/expect`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// How many are still to come; 0 where nothing is any more.
    quantity: u32,
    /// The delivery note or purchase order.
    reference: Text,
}

/// The body of `POST /v1/stock/{sku}/receive`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Receive {
    quantity: Quantity,
    /// The delivery note or purchase order.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<Text>,
}

/// The body of `POST /v1/stock/{sku}/adjust`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Adjust {
    /// How many more, or fewer.
    delta: i32,
    reason: Text,
}

/// How much there is now is the query API's to tell.
#[derive(Debug, Serialize)]
struct Changed {
    sku: Sku,
    version: Version,
    links: Links,
}

#[derive(Debug, Serialize)]
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
