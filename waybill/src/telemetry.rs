//! Logs: to standard error, readable, or one JSON object a line.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::exit::Misconfigured;

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
}

/// Starts logging. Once per process.
///
/// # Errors
/// [`Misconfigured`] where the filter cannot be understood.
pub(crate) fn start(options: &Options) -> anyhow::Result<()> {
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
