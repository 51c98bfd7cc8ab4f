//! The command line: one documented structure for each role, each option also a variable.

use clap::{Parser, Subcommand};

use crate::exit::{self, Ending};
use crate::{demo, operator, role, telemetry};

/// Waybill: an event-sourced order platform.
///
/// `waybill up` runs all of it in one process, on servers it brings along. In production every
/// role is a process of its own, as many of each as the load asks for.
#[derive(Debug, Parser)]
#[command(version, after_help = exit::HELP, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub telemetry: telemetry::Options,
    #[command(subcommand)]
    pub command: Choice,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Choice {
    /// Run everything in one process, on a private Postgres and NATS unless told otherwise.
    Up(Box<role::up::Options>),
    /// Take commands: over HTTP, and from sagas.
    CommandApi(Box<role::command_api::Options>),
    /// Answer queries, from read models only.
    QueryApi(Box<role::query_api::Options>),
    /// Publish the log to JetStream.
    Relay(Box<role::relay::Options>),
    /// Maintain, list, rebuild or roll back the read models.
    Projections(Box<operator::projections::Options>),
    /// Show who follows the log, or spread a consumer over more workers.
    Consumers(operator::standing::Options),
    /// Run the sagas and their timers; show those that are parked, and act on them.
    Sagas(Box<operator::sagas::Options>),
    /// Talk to the payment provider and the carrier.
    Adapters(Box<role::adapters::Options>),
    /// Run a payment provider and a carrier to try Waybill against.
    Sandbox(Box<role::sandbox::Options>),
    /// Bring the database up to date: tables, roles, grants.
    Migrate(operator::migrate::Options),
    /// Look after the log: its partitions and its seals.
    Log(Box<operator::log::Options>),
    /// Watch the whole story in a terminal, on a platform that is started for it.
    Demo(Box<demo::Options>),
    /// Place, show or cancel an order through the APIs.
    Orders(operator::orders::Options),
    /// Show what consumers could not take, try it again, or leave it out.
    Parked(operator::parked::Options),
    /// Look into a stream of the log, now or at a moment of the past.
    Streams(operator::streams::Options),
    /// Show or destroy the key of a person's data, or change the master key.
    Subjects(operator::subjects::Options),
    /// Make keys and tokens, where there is no identity provider.
    Tokens(operator::tokens::Options),
    /// Describe the events, commands and APIs of this release: JSON Schemas, AsyncAPI, `OpenAPI`.
    Schemas(operator::schemas::Options),
    /// Ask a running role how it is.
    Health(operator::health::Options),
}

impl Choice {
    /// Does it.
    pub(crate) async fn run(self) -> anyhow::Result<Ending> {
        match self {
            Self::Up(options) => Box::pin(role::up::run(*options)).await,
            Self::CommandApi(options) => role::command_api::run(*options).await,
            Self::QueryApi(options) => role::query_api::run(*options).await,
            Self::Relay(options) => role::relay::run(*options).await,
            Self::Projections(options) => operator::projections::run(*options).await,
            Self::Consumers(options) => operator::standing::run(options).await,
            Self::Sagas(options) => Box::pin(operator::sagas::run(*options)).await,
            Self::Adapters(options) => role::adapters::run(*options).await,
            Self::Sandbox(options) => role::sandbox::run(*options).await,
            Self::Migrate(options) => operator::migrate::run(&options).await,
            Self::Log(options) => Box::pin(operator::log::run(*options)).await,
            Self::Demo(options) => Box::pin(demo::run(*options)).await,
            Self::Orders(options) => operator::orders::run(options).await,
            Self::Parked(options) => operator::parked::run(options).await,
            Self::Streams(options) => operator::streams::run(options).await,
            Self::Subjects(options) => operator::subjects::run(options).await,
            Self::Tokens(options) => operator::tokens::run(options),
            Self::Schemas(options) => operator::schemas::run(options),
            Self::Health(options) => operator::health::run(&options).await,
        }
    }
}
