//! Logs, to standard error: readable, or one JSON object a line. Spans, to a collector.

mod export;

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::exit::Misconfigured;
use crate::supervisor::{Stage, Supervisor};
use export::Exporter;
pub(crate) use export::describe_metrics;

/// Where spans are sent, as it was asked for at the start.
static TRACES: OnceLock<Traces> = OnceLock::new();

/// What is logged where nothing else is asked for: ours, and of others only what is wrong.
const FILTER_DEFAULT: &str = "info,sqlx=warn,async_nats=warn,hyper=warn,reqwest=warn,h2=warn";

/// How a log line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How log lines are written to standard error.
    #[arg(long, env = "WAYBILL_LOG_FORMAT", value_enum, default_value_t, global = true)]
    pub log_format: Format,
    /// What is logged, in the syntax of `RUST_LOG`: `warn`, or `info,event_store=debug`.
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = FILTER_DEFAULT,
          hide_default_value = true, global = true)]
    pub log_level: String,
    #[command(flatten)]
    traces: Traces,
}

/// Which spans are made, and where they go.
#[derive(Debug, Clone, clap::Args)]
struct Traces {
    /// A collector that takes spans as OTLP over HTTP, as `http://127.0.0.1:4318`: they are sent to
    /// `/v1/traces` there. No span is made unless it is given.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", global = true)]
    otlp_endpoint: Option<String>,
    /// How many of the traces that begin here are recorded, from 0 to 1. Those that a caller began
    /// are recorded where the caller says so.
    #[arg(long, env = "WAYBILL_TRACE_RATIO", value_name = "RATIO", default_value_t = 1.0,
          value_parser = ratio, global = true)]
    trace_ratio: f64,
    /// Whose spans they are, for the collector.
    #[arg(
        long,
        env = "OTEL_SERVICE_NAME",
        value_name = "NAME",
        default_value = "waybill",
        global = true
    )]
    service_name: String,
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "not a number from 0 to 1".to_owned())
}

/// Starts logging, and keeps in mind where spans go. Once per process.
///
/// # Errors
/// [`Misconfigured`] where the filter cannot be understood.
pub(crate) fn start(options: &Options) -> anyhow::Result<()> {
    TRACES.get_or_init(|| options.traces.clone());
    let filter = EnvFilter::try_new(&options.log_level).map_err(|error| {
        Misconfigured::error(format!(
            "--log-level (RUST_LOG) `{}` is not a filter: {error}; try `info` or \
             `info,event_store=debug`",
            options.log_level
        ))
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(true).init(),
        Format::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Makes spans from now on and sends them on, where a collector is named: for roles.
///
/// # Errors
/// [`Misconfigured`] where the collector's address cannot be read.
pub(crate) fn trace(supervisor: &mut Supervisor) -> anyhow::Result<()> {
    let Some(traces) = TRACES.get() else { return Ok(()) };
    // A variable that is set to nothing names no collector.
    let Some(endpoint) = traces.otlp_endpoint.as_deref().filter(|url| !url.is_empty()) else {
        return Ok(());
    };
    if let Some(exporter) = Exporter::start(endpoint, &traces.service_name, traces.trace_ratio)? {
        supervisor.run(Stage::Telemetry, "spans", |drain| async move {
            exporter.run(drain).await;
            Ok(())
        });
    }
    Ok(())
}
