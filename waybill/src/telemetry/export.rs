//! Sends spans to a collector, as OTLP over HTTP: a batch at a time, and what is left at the end.

use std::time::Duration;

use anyhow::Context as _;
use metrics::counter;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::trace::SpanExporter;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use trace::SpanData;
use tracing::{info, warn};

use crate::exit::Misconfigured;

/// Spans that wait to be sent; one more is lost.
const QUEUE_SPANS_MAX: usize = 8 * 1024;
/// Spans that are sent together.
const BATCH_SPANS_MAX: usize = 512;
/// How long the first span of a batch waits for more.
const BATCH_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long sending a batch may take, with all that is tried again.
const SEND_MAX: Duration = Duration::from_secs(5);
/// How long what is left may take at the end.
const FLUSH_MAX: Duration = Duration::from_secs(5);

const EXPORTED: &str = "waybill_spans_exported_total";

/// Says what the numbers of spans are.
pub(crate) fn describe_metrics() {
    trace::describe_metrics();
    metrics::describe_counter!(EXPORTED, "Spans that the collector took");
    counter!(EXPORTED).increment(0);
}

/// What stands between the spans of this process and their collector.
pub(super) struct Exporter<E = opentelemetry_otlp::SpanExporter> {
    spans: mpsc::Receiver<SpanData>,
    collector: E,
    /// Spans that were taken from the queue and not sent.
    held: Vec<SpanData>,
    /// Whether the last batch was not taken, so that only the first and the last are told of.
    failing: bool,
}

impl Exporter {
    /// Begins to make spans. None where they are made already.
    pub(super) fn start(endpoint: &str, service: &str, ratio: f64) -> anyhow::Result<Option<Self>> {
        let client = reqwest::Client::builder()
            .timeout(SEND_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("no client for spans")?;
        let mut collector = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(SEND_MAX)
            .build()
            .map_err(|error| {
                Misconfigured::error(format!(
                    "--otlp-endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) `{endpoint}` is not the address \
                     of a collector, as http://127.0.0.1:4318: {error}"
                ))
            })?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = trace::Resource::builder()
            .with_service_name(service.to_owned())
            .with_attribute(version)
            .build();
        collector.set_resource(&resource);
        let spans = trace::collect(resource, ratio, QUEUE_SPANS_MAX);
        Ok(spans.map(|spans| Self::new(spans, collector)))
    }
}

impl<E: SpanExporter> Exporter<E> {
    fn new(spans: mpsc::Receiver<SpanData>, collector: E) -> Self {
        Self { spans, collector, held: Vec::new(), failing: false }
    }

    /// Sends until `drain` is cancelled, and then what is left, for as long as that may take.
    pub(super) async fn run(mut self, drain: CancellationToken) {
        let too_late = async {
            drain.cancelled().await;
            sleep(FLUSH_MAX).await;
        };
        tokio::select! {
            () = self.send_all(&drain) => {}
            () = too_late => warn!("the collector did not take the last spans in time"),
        }
        trace::lost("export_failed", self.held.len() + self.spans.len());
    }

    async fn send_all(&mut self, drain: &CancellationToken) {
        while let Some(()) = drain.run_until_cancelled(self.gather()).await {
            self.send().await;
        }
        self.spans.close();
        loop {
            let room = BATCH_SPANS_MAX - self.held.len();
            self.spans.recv_many(&mut self.held, room).await;
            if self.held.is_empty() {
                return;
            }
            self.send().await;
        }
    }

    /// Waits for a span, and a little for more.
    async fn gather(&mut self) {
        let Self { spans, held, .. } = self;
        if held.is_empty() {
            spans.recv_many(held, BATCH_SPANS_MAX).await;
        }
        let more = async {
            while held.len() < BATCH_SPANS_MAX
                && spans.recv_many(held, BATCH_SPANS_MAX - held.len()).await > 0
            {}
        };
        let _ = timeout(BATCH_WAIT_MAX, more).await;
    }

    async fn send(&mut self) {
        let count = self.held.len();
        // While they are on their way they count as held, for whoever is cut off.
        let batch = self.held.clone();
        let sent = timeout(SEND_MAX, self.collector.export(batch)).await;
        self.held.clear();
        let why = match sent {
            Ok(Ok(())) => {
                counter!(EXPORTED).increment(count.try_into().unwrap_or(u64::MAX));
                if std::mem::take(&mut self.failing) {
                    info!("the collector takes spans again");
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        trace::lost("export_failed", count);
        if !std::mem::replace(&mut self.failing, true) {
            warn!(why, "the collector does not take spans: they are lost, and counted");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use opentelemetry::InstrumentationScope;
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

    use super::*;

    /// A collector that notes how many it was sent at a time, or never answers.
    #[derive(Debug, Clone, Default)]
    struct Collector {
        took: Arc<Mutex<Vec<usize>>>,
        hangs: bool,
    }

    impl SpanExporter for Collector {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.took.lock().unwrap().push(batch.len());
            if self.hangs {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    }

    fn span() -> SpanData {
        SpanData {
            span_context: SpanContext::empty_context(),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "mug".into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    /// Sends `spans` to `collector`, stops at once, and tells the numbers.
    async fn told(collector: &Collector, spans: usize) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _here = metrics::set_default_local_recorder(&recorder);
        let (queue, waiting) = mpsc::channel(spans);
        for _ in 0..spans {
            queue.try_send(span()).unwrap();
        }
        let drain = CancellationToken::new();
        drain.cancel();
        Exporter::new(waiting, collector.clone()).run(drain).await;
        assert!(queue.try_send(span()).is_err(), "nobody would send it");
        recorder.handle().render()
    }

    #[tokio::test]
    async fn what_is_left_at_the_end_is_sent() {
        let collector = Collector::default();
        let told = told(&collector, BATCH_SPANS_MAX + 7).await;
        assert_eq!(*collector.took.lock().unwrap(), [BATCH_SPANS_MAX, 7]);
        assert!(told.contains(&format!("{EXPORTED} {}", BATCH_SPANS_MAX + 7)), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_hangs_costs_the_spans_and_a_few_seconds() {
        let collector = Collector { hangs: true, ..Collector::default() };
        let spans = 2 * BATCH_SPANS_MAX + 7;
        let told = told(&collector, spans).await;
        let lost = told.lines().find(|line| line.contains("export_failed")).unwrap();
        assert!(lost.ends_with(&format!(" {spans}")), "{told}");
    }
}
