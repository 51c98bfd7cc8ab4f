//! `waybill schemas write`: the JSON Schemas and the AsyncAPI document of this release, as files.

mod asyncapi;
mod plan;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use schemas::catalogue;

use crate::exit::Ending;
use crate::output::{Output, Style};
use plan::Plan;

/// Describe the events and commands of this release.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a JSON Schema for each type of event and each command, and an AsyncAPI document of
    /// all events. What is stored is never edited: an event's schema is only written over by one
    /// that accepts the same values, and a type that is no longer written keeps its own.
    Write {
        /// The folder, with the example of every type in `golden`.
        #[arg(value_name = "FOLDER", default_value = "schemas")]
        folder: PathBuf,
        /// A type of event that nobody has stored yet, whose schema may change or go.
        #[arg(long, value_name = "TYPE")]
        replace: Vec<String>,
    },
}

/// Runs the command.
pub(crate) fn run(options: Options) -> anyhow::Result<Ending> {
    let Command::Write { folder, replace } = options.command;
    let replace = replace.into_iter().collect();
    let plan = Plan::make(&folder, catalogue::events(), &catalogue::commands(), &replace)?;
    let output = Output::standard();
    for path in plan.carry_out()? {
        output.line(output.paint(Style::Key, path.display()));
    }
    Ok(Ending::Orderly)
}
