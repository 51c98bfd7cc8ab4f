//! Spans of OpenTelemetry, and the W3C trace context that joins those of many processes.
//!
//! A trace context travels where the work travels: as `traceparent` in a request's head, in the
//! metadata of events, in the messages that bring them, and to whoever is called. Within a task,
//! [`Span::around`] keeps it.
//!
//! * [`Span::child`] is part of what goes on: its parent waits for it.
//! * [`Span::heard`] comes after what is over: a consumer's span has no parent. It belongs to the
//!   same trace, and a link names the span that wrote the event.
//!
//! Nothing is measured unless [`collect()`] was called, and then a span costs one look at that.
#![deny(missing_docs)]

mod collect;
mod context;

use std::future::Future;

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};

pub use collect::{Resource, collect, describe_metrics, lost};
pub use context::is_traceparent;
pub use opentelemetry::trace::SpanKind as Kind;
pub use opentelemetry_sdk::trace::SpanData;

use collect::TRACER;
use context::{parse, written};

/// The most links of a span; a batch of a projector may tell of more traces.
const LINKS_MAX: usize = 32;

tokio::task_local! {
    /// The span that goes on in this task.
    static HERE: SpanContext;
}

/// A span, from its making until it is dropped; nothing at all where nobody collects them.
#[derive(Debug)]
pub struct Span(Option<Box<opentelemetry_sdk::trace::Span>>);

impl Span {
    /// No span.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// A part of the span that goes on in this task; where none does, of the one that `given`
    /// names; the first of a trace where nobody names one.
    pub fn child(kind: Kind, name: impl FnOnce() -> String, given: Option<&str>) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let here = HERE.try_with(Clone::clone).ok();
        Self::begin(tracer, kind, name(), here.or_else(|| given.and_then(parse)), Vec::new())
    }

    /// What somebody does who hears of something that is over, in the trace of the first cause
    /// that is recorded. Nothing where no cause belongs to a trace.
    pub fn heard<'a>(
        kind: Kind,
        name: impl FnOnce() -> String,
        causes: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let mut causes: Vec<_> = causes.into_iter().flatten().filter_map(parse).collect();
        causes.dedup();
        let recorded = causes.iter().find(|cause| cause.is_sampled());
        let Some(first) = recorded.or_else(|| causes.first()).cloned() else { return Self(None) };
        // The first link is to the span that would be the parent: see `collect::orphaned`.
        let others = causes.into_iter().filter(|cause| cause.is_sampled() && *cause != first);
        let links = std::iter::once(first.clone()).chain(others).take(LINKS_MAX);
        let links = links.map(Link::with_context).collect();
        Self::begin(tracer, kind, name(), Some(first), links)
    }

    fn begin(
        tracer: &opentelemetry_sdk::trace::SdkTracer,
        kind: Kind,
        name: String,
        parent: Option<SpanContext>,
        links: Vec<Link>,
    ) -> Self {
        let context = Context::new();
        let context = match parent {
            Some(parent) => context.with_remote_span_context(parent),
            None => context,
        };
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_links(links);
        Self(Some(Box::new(tracer.build_with_context(builder, &context))))
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Says something about it.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Says that it came to nothing.
    pub fn failed(&mut self, why: impl FnOnce() -> String) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(why()));
        }
    }

    /// Its place in its trace, for whoever goes on from here.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        self.0.as_ref().map(|span| written(span.span_context()))
    }

    /// The trace that it belongs to.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        self.0.as_ref().map(|span| span.span_context().trace_id().to_string())
    }

    /// Goes on in this task for as long as `work` does: spans that are begun meanwhile are its
    /// children.
    pub async fn around<F: Future>(&self, work: F) -> F::Output {
        match &self.0 {
            Some(span) => HERE.scope(span.span_context().clone(), work).await,
            None => work.await,
        }
    }
}

/// The place in its trace of the span that goes on in this task.
#[must_use]
pub fn here() -> Option<String> {
    HERE.try_with(written).ok()
}

#[cfg(test)]
mod tests;
