//! One trace, from a request to what it came to, as a collector receives it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::world::{World, key, order, until};

/// Where the caller is in a trace of their own.
const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// Somebody who does not want to be recorded.
const UNRECORDED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-00";

/// Takes spans as OTLP says (protobuf over HTTP) and keeps them.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
    _tasks: JoinSet<()>,
}

impl Collector {
    async fn start() -> Self {
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = spans.clone();
        let take = move |headers: HeaderMap, body: Bytes| {
            let kept = kept.clone();
            async move {
                assert_eq!(headers[header::CONTENT_TYPE], "application/x-protobuf");
                let request = ExportTraceServiceRequest::decode(body).unwrap();
                for resource in request.resource_spans {
                    let attributes = resource.resource.unwrap().attributes;
                    assert!(attributes.iter().any(|named| named.key == "service.name"));
                    for scope in resource.scope_spans {
                        kept.lock().unwrap().extend(scope.spans);
                    }
                }
                let taken = ExportTraceServiceResponse::default().encode_to_vec();
                ([(header::CONTENT_TYPE, "application/x-protobuf")], taken)
            }
        };
        let router = axum::Router::new().route("/v1/traces", post(take));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, spans, _tasks: tasks }
    }

    /// The spans of a trace, by their ids.
    fn trace(&self, traceparent: &str) -> BTreeMap<String, Span> {
        let spans = self.spans.lock().unwrap();
        let of = spans.iter().filter(|span| hex::encode(&span.trace_id) == traceparent[3..35]);
        of.map(|span| (hex::encode(&span.span_id), span.clone())).collect()
    }
}

/// What led to `span`, from the latest to the first: parents, or the span that a link names.
fn causes(trace: &BTreeMap<String, Span>, span: &Span) -> Vec<String> {
    let mut causes = vec![span.name.clone()];
    let mut at = span;
    loop {
        let before = match at.links.first() {
            None => hex::encode(&at.parent_span_id),
            Some(link) => {
                assert!(at.parent_span_id.is_empty(), "{} has a parent and a link", at.name);
                hex::encode(&link.span_id)
            }
        };
        if before == CALLER[36..52] {
            causes.push("the caller".to_owned());
            return causes;
        }
        let Some(found) = trace.get(&before) else { return causes };
        causes.push(found.name.clone());
        at = found;
    }
}

/// The causes of the span that is named so and has these.
fn has(trace: &BTreeMap<String, Span>, wanted: &[&str]) -> bool {
    trace.values().any(|span| causes(trace, span) == wanted)
}

const PLACED: [&str; 3] = ["execute order", "POST /v1/orders", "the caller"];
/// From the first step of the saga to the provider's call.
const AUTHORISED: [&str; 12] = [
    "POST create",
    "adapter/payments payment.authorisation_requested.v1",
    "execute payment",
    "inbox saga.command_issued.v1",
    "execute order-fulfilment",
    "saga/order-fulfilment inventory.reserved.v1",
    "execute inventory",
    "inbox saga.command_issued.v1",
    "execute order-fulfilment",
    "saga/order-fulfilment order.placed.v1",
    "execute order",
    "POST /v1/orders",
];

/// An order from its POST to its delivery is one trace: every span of it leads back to the caller,
/// by parents within a process and by links across the log.
#[tokio::test]
async fn an_order_is_one_trace_from_the_request_to_its_delivery() {
    let collector = Collector::start().await;
    let world = World::start_with(&["--otlp-endpoint", &collector.url]).await;
    world.stock("mug", 2).await;
    let place = |traceparent| {
        let body = order(&[("mug", 1)], "pm_card_visa");
        let request = world.post_request(&key(), "/v1/orders", &body);
        world.send(request.header("traceparent", traceparent))
    };
    let placed = place(CALLER).await.expect(201);
    let told = placed.header("traceresponse").unwrap().to_owned();
    let id = placed.body["id"].as_str().unwrap();
    let fulfilment = world.fulfilment(id).await;
    for act in ["pack", "hand-over"] {
        until(act, || async {
            let path = format!("/v1/fulfilment-orders/{fulfilment}/{act}");
            let request = world.post_request(&key(), &path, &json!({}));
            let reply = world.send(request.header("traceparent", CALLER)).await;
            (reply.status == 200).then_some(())
        })
        .await;
    }
    world.order_is(id, "completed").await;
    let unrecorded = place(UNRECORDED).await.expect(201);
    assert!(unrecorded.header("traceresponse").unwrap().ends_with("-00"));
    world.order_is(unrecorded.body["id"].as_str().unwrap(), "confirmed").await;
    world.settle().await;
    let trace = until("the whole trace", || async {
        let trace = collector.trace(CALLER);
        let after = |first: &'static str| [&[first], &PLACED[..]].concat();
        let whole = has(&trace, &after("publish order.placed.v1"))
            && has(&trace, &after("projection/order_summary"))
            && has(&trace, &[&AUTHORISED[..], &["the caller"]].concat())
            && trace.values().any(|span| span.name == "POST buy");
        whole.then_some(trace)
    })
    .await;
    let request = trace.values().find(|span| span.name == "POST /v1/orders").unwrap();
    assert_eq!(request.kind, i32::from(SpanKind::Server as u8));
    assert_eq!(told, format!("00-{}-{}-01", &CALLER[3..35], hex::encode(&request.span_id)));
    for span in trace.values() {
        assert_eq!(causes(&trace, span).last().unwrap(), "the caller", "{span:?}");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
    }
    assert!(collector.trace(UNRECORDED).is_empty());
    // Events carry their place in the trace, for whoever looks at the log.
    let carried: Vec<String> = sqlx::query_scalar(
        "select distinct traceparent from events where event_type like 'order.placed.%'
         and traceparent like '%-01'",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    let span = |traceparent: &String| trace.get(&traceparent[36..52]).map(|span| &*span.name);
    assert_eq!(carried.iter().map(span).collect::<Vec<_>>(), [Some("execute order")]);
    world.end().await;
}
