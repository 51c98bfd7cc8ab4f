//! Fulfilment orders: the warehouse packs and hands over, the carrier reports.

use aggregates::shipping::Shipping;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::SubsecRound as _;
use event_store::Meta;
use schemars::JsonSchema;
use schemas::inventory::Units;
use schemas::shipping::{Command, Scan, Trouble};
use schemas::{CommandId, FulfilmentId, Text, Timestamp, Version, actor};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::{Uuid, uuid};
use web::{
    Access, Json, Operation, OptionalJson, PathId, Problem, RawBody, RequestContext, Routes,
};

use crate::answer::{Answer, DONE};
use crate::examples::FULFILMENT;
use crate::execute::{Api, NOWHERE, problem};
use crate::post::{Post, request_hash};
use crate::signature;
use crate::webhook::{self, Heard};

/// What the ids of the carrier's notices are derived from.
const NOTICES: Uuid = uuid!("5c0b3f1a-7a0e-4a55-9f0c-7b1b1b6f4d02");

pub(crate) fn routes() -> Routes<Api> {
    let packed = operation("pack", "packFulfilmentOrder", "The goods are packed");
    let handed_over =
        operation("hand-over", "handOverFulfilmentOrder", "The carrier took the parcel")
            .refuses(409, &["not_packed", "not_released", "no_label"]);
    let summary = "Word from the carrier, signed with X-Hmac-Signature";
    let heard =
        webhook::operation("/v1/webhooks/carrier", "hearCarrier", summary).body::<Notice>(json!({
            "id": "evt_1", "description": "tracker.updated",
            "created_at": "2026-11-23T04:00:00Z",
            "result": { "status": "delivered", "reference": FULFILMENT,
                        "tracking_details": [{ "datetime": "2026-11-23T03:00:00Z" }] },
        }));
    let line = json!([{ "sku": "mug", "quantity": 1 }]);
    let missing = at("short", "shortFulfilmentOrder", "Some of it is not on the shelf")
        .body::<Short>(json!({ "lines": line }))
        .refuses(409, &["cancelled", "not_to_be_sent", "already_packed"])
        .refuses(422, &["duplicate_sku"]);
    Routes::new()
        .route(missing, short)
        .route(packed, pack)
        .route(handed_over, hand_over)
        .route(heard, notice)
}

fn operation(verb: &str, id: &'static str, summary: &'static str) -> Operation {
    at(verb, id, summary)
        .optional_body::<Nothing>(json!({}))
        .refuses(409, &["cancelled", "on_hold"])
}

fn at(verb: &str, id: &'static str, summary: &'static str) -> Operation {
    let path = format!("/v1/fulfilment-orders/{{fulfilment_id}}/{verb}");
    Operation::post(path, id, Access::Staff("shipments:write"), summary)
        .path::<FulfilmentId>("fulfilment_id", FULFILMENT)
        .command()
        .answers::<Changed>(200, "It is done.", &DONE, json!({ "id": FULFILMENT, "version": 3 }))
}

/// A body with nothing in it.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, Serialize, JsonSchema)]
struct Changed {
    id: FulfilmentId,
    version: Version,
}

/// The body of `POST /v1/fulfilment-orders/{fulfilment_id}/short`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Short {
    /// What is not on the shelf, every sku once.
    lines: Vec<Units>,
}

/// `POST /v1/fulfilment-orders/{fulfilment_id}/short`: some of it is not on the shelf. The rest is
/// sent, and only that is paid for; where nothing is left, the order is cancelled.
async fn short(
    State(api): State<Api>,
    asked: Post,
    PathId(fulfilment): PathId<FulfilmentId>,
    Json(body): Json<Short>,
) -> Result<Answer<Changed>, Problem> {
    let command = Command::ReportShort { short: body.lines.clone() };
    change(&api, &asked, fulfilment, &body, &command).await
}

/// `POST /v1/fulfilment-orders/{fulfilment_id}/pack`: the goods are packed.
async fn pack(
    State(api): State<Api>,
    asked: Post,
    PathId(fulfilment): PathId<FulfilmentId>,
    OptionalJson(body): OptionalJson<Nothing>,
) -> Result<Answer<Changed>, Problem> {
    change(&api, &asked, fulfilment, &body, &Command::Pack).await
}

/// `POST /v1/fulfilment-orders/{fulfilment_id}/hand-over`: the carrier took the parcel.
async fn hand_over(
    State(api): State<Api>,
    asked: Post,
    PathId(fulfilment): PathId<FulfilmentId>,
    OptionalJson(body): OptionalJson<Nothing>,
) -> Result<Answer<Changed>, Problem> {
    change(&api, &asked, fulfilment, &body, &Command::HandOver).await
}

async fn change(
    api: &Api,
    asked: &Post,
    fulfilment: FulfilmentId,
    body: &impl Serialize,
    command: &Command,
) -> Result<Answer<Changed>, Problem> {
    let conversation = api.conversation(fulfilment.stream()).await?;
    let meta =
        asked.meta(body, conversation.unwrap_or_else(|| fulfilment.uuid()), api.clock().now())?;
    let done = api.store().execute::<Shipping>(&[fulfilment.stream()], command, &meta).await;
    let done = done.map_err(|error| problem(error, NOWHERE))?;
    Ok(Answer::done(done, Changed { id: fulfilment, version: done.version }))
}

/// A notice in the carrier's own words; what we do not use is left out.
#[derive(Debug, Deserialize, JsonSchema)]
struct Notice {
    id: Text,
    description: String,
    #[serde(default)]
    created_at: Option<String>,
    result: Tracker,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Tracker {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    status_detail: Option<String>,
    #[serde(default)]
    reference: Option<String>,
    #[serde(default)]
    tracking_details: Vec<Detail>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Detail {
    #[serde(default)]
    datetime: Option<String>,
}

/// What the notice says about a parcel of ours; none where it is about something else.
fn scan(notice: &Notice, now: Timestamp) -> Option<(FulfilmentId, Command)> {
    if !notice.description.starts_with("tracker.") {
        return None;
    }
    let tracker = &notice.result;
    let fulfilment = tracker.reference.as_deref()?.parse().ok()?;
    let seen = match (tracker.status.as_deref()?, tracker.status_detail.as_deref()) {
        ("pre_transit", _) => Ok(Scan::PreTransit),
        ("in_transit", _) => Ok(Scan::InTransit),
        ("out_for_delivery" | "available_for_pickup", _) => Ok(Scan::OutForDelivery),
        ("delivered", _) => Ok(Scan::Delivered),
        ("return_to_sender", _) => Err(Trouble::Returned),
        ("failure", Some("lost" | "damaged" | "destroyed" | "missing")) => Err(Trouble::Lost),
        ("failure" | "error", _) => Err(Trouble::Exception),
        _ => return None,
    };
    let last = tracker.tracking_details.last().and_then(|detail| detail.datetime.as_deref());
    let said = last.or(notice.created_at.as_deref()).and_then(|text| text.parse().ok());
    let at = said.unwrap_or(now).trunc_subsecs(3);
    let carrier_event = notice.id.clone();
    let command = match seen {
        Ok(scan) => Command::RecordScan { carrier_event, scan, at },
        Err(trouble) => Command::RecordTrouble { carrier_event, trouble, at },
    };
    Some((fulfilment, command))
}

/// `POST /v1/webhooks/carrier`: the carrier saw a parcel. What is not about ours is taken and
/// forgotten, since sending it again would help nobody.
async fn notice(
    State(api): State<Api>,
    context: RequestContext,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Json<Heard>, Problem> {
    let notice = verified(&api, &headers, &body)?;
    let now = api.clock().now();
    let Some((fulfilment, command)) = scan(&notice, now) else {
        return Ok(webhook::ignored("carrier", notice.id.as_str(), &notice.description));
    };
    let Some(conversation) = api.conversation(fulfilment.stream()).await? else {
        return Ok(webhook::ignored("carrier", notice.id.as_str(), "nobody knows its reference"));
    };
    let command_id = CommandId::derive(NOTICES, notice.id.as_str());
    let meta = Meta {
        command_id,
        request_hash: request_hash("carrier", &(fulfilment, &command))
            .map_err(|error| Problem::internal(&error))?,
        correlation_id: conversation,
        causation_id: command_id.uuid(),
        occurred_at: match &command {
            Command::RecordScan { at, .. } | Command::RecordTrouble { at, .. } => *at,
            _ => now,
        },
        actor: actor::CARRIER_ADAPTER.to_owned(),
        traceparent: context.traceparent.as_deref().map(str::to_owned),
        expected: None,
        keep_refusal: false,
    };
    let done = api.store().execute::<Shipping>(&[fulfilment.stream()], &command, &meta).await;
    webhook::heard("carrier", notice.id.as_str(), done)
}

fn verified(api: &Api, headers: &HeaderMap, body: &Bytes) -> Result<Notice, Problem> {
    signature::carrier(headers, body, api.carrier_secret())?;
    web::json::parse(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-23T05:00:00Z";

    fn read(change: &str, to: &str) -> Option<(FulfilmentId, Command)> {
        let json = r#"{"id":"evt_1","object":"Event","description":"tracker.updated",
            "created_at":"2026-11-23T04:00:00Z","result":{"id":"trk_1","tracking_code":"T1",
            "status":"delivered","reference":"ful_00000000000000000000000000000007",
            "tracking_details":[{"status":"in_transit","datetime":"2026-11-23T02:00:00Z"},
            {"status":"delivered","datetime":"2026-11-23T03:00:00.123456Z"}]}}"#;
        assert!(json.contains(change), "{change}");
        let notice = serde_json::from_str(&json.replace(change, to)).unwrap();
        scan(&notice, NOW.parse().unwrap())
    }

    fn seen(scan: Scan, at: &str) -> (FulfilmentId, Command) {
        let carrier_event = "evt_1".parse().unwrap();
        let command = Command::RecordScan { carrier_event, scan, at: at.parse().unwrap() };
        (FulfilmentId::new(Uuid::from_u128(7)), command)
    }

    #[test]
    fn a_scan_is_read_from_a_notice() {
        let at = "2026-11-23T03:00:00.123Z";
        assert_eq!(read("T1", "T1"), Some(seen(Scan::Delivered, at)));
        let on_its_way = read("\"status\":\"delivered\",\"ref", "\"status\":\"in_transit\",\"ref");
        assert_eq!(on_its_way, Some(seen(Scan::InTransit, at)));
        let untimed = read("2026-11-23T03:00:00.123456Z", "soon");
        assert_eq!(untimed, Some(seen(Scan::Delivered, NOW)));
        let undetailed = read("\"tracking_details\"", "\"other_details\"");
        assert_eq!(undetailed, Some(seen(Scan::Delivered, "2026-11-23T04:00:00Z")));
    }

    #[test]
    fn a_notice_says_what_went_wrong() {
        for (status, trouble) in [
            (r#""status":"return_to_sender""#, Trouble::Returned),
            (r#""status":"failure","status_detail":"lost""#, Trouble::Lost),
            (r#""status":"failure","status_detail":"damaged""#, Trouble::Lost),
            (r#""status":"failure""#, Trouble::Exception),
            (r#""status":"error""#, Trouble::Exception),
        ] {
            let to = format!(r#"{status},"ref"#);
            let Some((_, command)) = read("\"status\":\"delivered\",\"ref", &to) else { panic!() };
            let Command::RecordTrouble { trouble: told, .. } = command else { panic!("{status}") };
            assert_eq!(told, trouble, "{status}");
        }
    }

    #[test]
    fn a_notice_about_something_else_says_nothing() {
        assert_eq!(read("tracker.updated", "batch.created"), None);
        assert_eq!(read("\"ful_", "\"shp_"), None);
        assert_eq!(read("\"reference\"", "\"other\""), None);
        assert_eq!(read("\"status\":\"delivered\",\"ref", "\"status\":\"lost\",\"ref"), None);
    }
}
