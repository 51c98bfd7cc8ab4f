//! The one program of Waybill: every role of the platform, the servers it may bring along,
//! and the commands of its operators.
//!
//! It holds no rule, no route and no SQL; it reads options, opens what a role stands on, and
//! looks after the tasks:
//!
//! * [`embedded`] starts a private Postgres and a private nats-server;
//! * `role` has a file for each role, with its documented options;
//! * `operator` has what people do by hand: migrate, look at projections, place an order;
//! * `supervisor` runs the tasks of a process and stops them in order;
//! * `demo` tells the whole story in a terminal.
//!
//! To add one more role: 1. a file in `role/` with its `Options` and its `run`; 2. a variant
//! in `cli.rs`; 3. a service in `compose.yaml`.

mod access;
mod cli;
mod client;
mod demo;
pub mod embedded;
mod endpoints;
mod exit;
mod health;
mod metrics;
pub mod open_files;
mod operator;
mod options;
mod output;
mod platform;
mod progress;
mod role;
mod supervisor;
mod telemetry;
mod timeline;

use std::process::ExitCode;

use clap::Parser as _;

/// The program, from its arguments to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    open_files::raise();
    let ended = telemetry::start(&cli.telemetry).and_then(|()| {
        // Nobody else chooses a TLS provider, so this cannot fail twice.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(cli.command.run())
    });
    match ended {
        Ok(ending) => ending.into(),
        Err(error) => {
            eprintln!("waybill: {error:#}");
            exit::code_of(&error)
        }
    }
}
