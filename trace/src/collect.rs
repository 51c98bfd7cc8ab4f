//! Where spans go when they end: into a queue that never makes anybody wait.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, counter, describe_counter};
use opentelemetry::trace::{SpanId, TracerProvider as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor,
};
use tokio::sync::mpsc;

pub use opentelemetry_sdk::Resource;

/// The spans of this process are begun with it; none are where there is none.
pub(crate) static TRACER: OnceLock<SdkTracer> = OnceLock::new();

const LOST: &str = "waybill_spans_lost_total";

/// Says what the numbers of spans are.
pub fn describe_metrics() {
    describe_counter!(LOST, Unit::Count, "Spans that were made and not taken by the collector");
    for why in ["queue_full", "export_failed"] {
        lost(why, 0);
    }
}

/// Counts spans that nobody will see.
pub fn lost(why: &'static str, spans: usize) {
    counter!(LOST, "why" => why).increment(spans.try_into().unwrap_or(u64::MAX));
}

/// Begins to make spans, of `ratio` of the traces that begin here and of all that others asked to
/// have recorded. They come out of the receiver as they end; where more than `spans_max` wait
/// there, the next is lost, and counted. None where they were collected already.
#[must_use]
pub fn collect(
    resource: Resource,
    ratio: f64,
    spans_max: usize,
) -> Option<mpsc::Receiver<SpanData>> {
    let (queue, spans) = mpsc::channel(spans_max);
    TRACER.set(tracer(resource, ratio, queue)).is_ok().then_some(spans)
}

pub(crate) fn tracer(resource: Resource, ratio: f64, queue: mpsc::Sender<SpanData>) -> SdkTracer {
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_span_processor(Queue(queue))
        .build();
    provider.tracer("waybill")
}

#[derive(Debug)]
struct Queue(mpsc::Sender<SpanData>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if self.0.try_send(orphaned(span)).is_err() {
            lost("queue_full", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Takes the parent from a span that links to it: that one was over before this began.
///
/// A parent is how the library is told which trace a span belongs to and whether it is recorded;
/// it knows no other way.
fn orphaned(mut span: SpanData) -> SpanData {
    if span.links.iter().any(|link| link.span_context.span_id() == span.parent_span_id) {
        span.parent_span_id = SpanId::INVALID;
        span.parent_span_is_remote = false;
    }
    span
}
