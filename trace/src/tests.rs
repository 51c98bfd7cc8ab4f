use opentelemetry::trace::{SpanId, Status};
use tokio::sync::mpsc;

use super::*;

const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const LEFT_OUT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-00";

/// The tracer of the process, once for all tests: they tell their spans apart by name.
fn all() -> Vec<SpanData> {
    static SPANS: std::sync::Mutex<(Option<mpsc::Receiver<SpanData>>, Vec<SpanData>)> =
        std::sync::Mutex::new((None, Vec::new()));
    let mut spans = SPANS.lock().unwrap();
    let (queue, ended) = &mut *spans;
    if queue.is_none() {
        *queue = collect(Resource::builder_empty().build(), 1.0, 1024);
    }
    while let Ok(span) = queue.as_mut().unwrap().try_recv() {
        ended.push(span);
    }
    ended.clone()
}

fn ended(name: &str) -> SpanData {
    all().into_iter().find(|span| span.name == name).unwrap()
}

#[tokio::test]
async fn what_goes_on_around_a_span_is_its_parent() {
    all();
    let outer = Span::child(Kind::Server, || "outer".to_owned(), Some(GIVEN));
    let inner = async {
        assert_eq!(here(), outer.traceparent());
        let mut inner = Span::child(Kind::Client, || "inner".to_owned(), Some(LEFT_OUT));
        inner.set("mugs", 3_i64);
        inner.failed(|| "no answer".to_owned());
    };
    outer.around(inner).await;
    assert_eq!(here(), None);
    drop(outer);
    let (outer, inner) = (ended("outer"), ended("inner"));
    assert_eq!(outer.parent_span_id.to_string(), "00f067aa0ba902b7");
    assert_eq!(outer.span_context.trace_id().to_string(), &GIVEN[3..35]);
    assert_eq!(inner.parent_span_id, outer.span_context.span_id());
    assert_eq!(inner.attributes, [KeyValue::new("mugs", 3_i64)]);
    assert_eq!(inner.status, Status::error("no answer"));
}

#[test]
fn who_hears_of_it_later_has_a_link_and_no_parent() {
    all();
    let causes = [None, Some(LEFT_OUT), Some(GIVEN), Some(GIVEN), Some("nonsense")];
    drop(Span::heard(Kind::Consumer, || "heard".to_owned(), causes));
    let heard = ended("heard");
    assert_eq!(heard.parent_span_id, SpanId::INVALID);
    assert_eq!(heard.span_context.trace_id().to_string(), &GIVEN[3..35]);
    let links: Vec<_> = heard.links.iter().map(|link| written(&link.span_context)).collect();
    assert_eq!(links, [GIVEN]);
    assert!(!Span::heard(Kind::Consumer, || "none".to_owned(), [None]).is_on());
}

#[test]
fn what_others_leave_out_is_left_out_and_carried_on() {
    all();
    let span = Span::heard(Kind::Consumer, || "left out".to_owned(), [Some(LEFT_OUT)]);
    let carried = span.traceparent().unwrap();
    assert!(carried.starts_with(&LEFT_OUT[..36]) && carried.ends_with("-00"), "{carried}");
    drop(span);
    assert!(all().iter().all(|span| span.name != "left out"));
}

#[test]
fn a_full_queue_loses_spans_and_stops_nobody() {
    let (queue, mut spans) = mpsc::channel(2);
    let tracer = collect::tracer(Resource::builder_empty().build(), 1.0, queue);
    for name in ["first", "second", "third"] {
        drop(Span::begin(&tracer, Kind::Internal, name.to_owned(), None, Vec::new()));
    }
    let kept: Vec<_> = std::iter::from_fn(|| spans.try_recv().ok()).map(|span| span.name).collect();
    assert_eq!(kept, ["first", "second"]);
}
