//! `waybill schemas write`: the JSON Schemas, the AsyncAPI and the `OpenAPI` documents of this
//! release, as files.

mod asyncapi;
mod breaking;
mod plan;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use schemas::catalogue::{self, Catalogue};

use crate::exit::Ending;
use crate::output::{Output, Style};
use plan::Plan;

/// Describe the events, commands and APIs of this release.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a JSON Schema for each type of event and each command, an AsyncAPI document of all
    /// events, and an `OpenAPI` document of each API. What is stored is never edited: an event's schema is only written over by one
    /// that accepts the same values, and a type that is no longer written keeps its own.
    Write {
        /// The folder, with the example of every type in `golden`.
        #[arg(value_name = "FOLDER", default_value = "schemas")]
        folder: PathBuf,
        /// A type of event that nobody has stored yet, whose schema may change or go.
        #[arg(long, value_name = "TYPE")]
        replace: Vec<String>,
        /// Also write the document of an API whose callers are let down by it.
        #[arg(long)]
        breaking: bool,
    },
}

/// The `OpenAPI` documents by name.
fn apis() -> Catalogue {
    let documents =
        [("command-api", command_api::document()), ("query-api", query_api::document())];
    documents.into_iter().map(|(name, document)| (name.to_owned(), document)).collect()
}

/// Runs the command.
pub(crate) fn run(options: Options) -> anyhow::Result<Ending> {
    let Command::Write { folder, replace, breaking } = options.command;
    let replace = replace.into_iter().collect();
    let commands = catalogue::commands();
    let mut plan = Plan::make(&folder, catalogue::events(), &commands, &apis(), &replace)?;
    if breaking {
        plan.broken.clear();
    }
    let output = Output::standard();
    for path in plan.carry_out()? {
        output.line(output.paint(Style::Key, path.display()));
    }
    Ok(Ending::Orderly)
}
