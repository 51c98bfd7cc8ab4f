//! `waybill subjects show | erase | rewrap`: the keys of personal data.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use event_store::{Erasure, KEPT, Subjects, Vault};
use nix::unistd::{Uid, User};
use schemas::{Chance, CustomerId, Text, Timestamp};

use super::projections::Where;
use crate::embedded::existing_master_key;
use crate::exit::{Ending, Misconfigured};
use crate::options;
use crate::output::{Output, Style};
use crate::progress::Progress;

/// Show or destroy the key of a person's data, or wrap all keys with another master key.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show which keys a person was given, and when and why they were destroyed.
    Show {
        /// As `usr_0197…`.
        subject: CustomerId,
        #[command(flatten)]
        at: Where,
    },
    /// Destroy the key of a person's data: nothing that was sealed for them opens ever again, in
    /// the log, in read models, in messages, in exports. This cannot be undone. Ends with 1 where
    /// nothing was ever sealed for them. Needs no master key.
    Erase(Erase),
    /// Wrap every key with the current master key, so that the previous one is needed no more.
    /// Stopped and started again, it goes on.
    Rewrap {
        #[command(flatten)]
        master: options::Master,
        #[command(flatten)]
        at: Where,
    },
}

#[derive(Debug, Args)]
struct Erase {
    /// As `usr_0197…`.
    subject: CustomerId,
    /// Why, as `request of 2026-11-23, ticket 4711`. Is kept: no personal data in here.
    #[arg(long)]
    reason: Text,
    /// Who erases. [default: the user that runs this]
    #[arg(long)]
    actor: Option<Text>,
    /// Do not ask whether this is meant.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    at: Where,
}

/// Runs the command.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let output = Output::standard();
    match options.command {
        Command::Show { subject, at } => {
            let subjects = Subjects::new(at.store().await?.pool().clone());
            show(output, &subjects, subject).await
        }
        Command::Erase(options) => erase(output, options).await,
        Command::Rewrap { master, at } => {
            rewrap(output, &master, &at).await?;
            Ok(Ending::Orderly)
        }
    }
}

async fn show(output: Output, subjects: &Subjects, subject: CustomerId) -> anyhow::Result<Ending> {
    let keys = subjects.show(subject).await.context("cannot read the keys")?;
    if keys.is_empty() {
        output.line(format!("{subject}: nothing was ever sealed"));
        return Ok(Ending::Failed);
    }
    let time = |at: Timestamp| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    output.line(output.paint(Style::Bold, subject));
    for key in keys {
        let (number, made) = (key.generation, time(key.made_at));
        output.line(match (key.erased_at, key.master) {
            (Some(at), _) => format!(
                "  key {number}  made {made}  erased {} by {}: {}",
                time(at),
                key.erased_by.unwrap_or_default(),
                key.reason.unwrap_or_default()
            ),
            (None, master) => format!(
                "  key {number}  made {made}  wrapped by master key {}",
                master.unwrap_or_default()
            ),
        });
    }
    Ok(Ending::Orderly)
}

async fn erase(output: Output, options: Erase) -> anyhow::Result<Ending> {
    let Erase { subject, reason, actor, yes, at } = options;
    let store = at.store().await?;
    if !yes {
        confirm(subject)?;
    }
    let actor = actor.map_or_else(user, |actor| actor.to_string());
    let erased = Subjects::new(store.pool().clone()).erase(subject, &actor, reason.as_str()).await;
    let erased = erased.with_context(|| {
        format!("whether {subject} was erased is not known; run the same command again")
    })?;
    Ok(match erased {
        Erasure::Erased => {
            output.line(format!(
                "{subject}: erased. A process that hears of it forgets the key at once, any other \
                 within {} s. Backups hold the wrapped key until they are gone.",
                KEPT.as_secs()
            ));
            Ending::Orderly
        }
        Erasure::AlreadyErased => {
            output.line(format!("{subject}: was erased before; see `waybill subjects show`"));
            Ending::Orderly
        }
        Erasure::Unknown => {
            output
                .line(format!("{subject}: nothing was ever sealed, so there is nothing to erase"));
            Ending::Failed
        }
    })
}

/// Asks whoever sits at the terminal.
fn confirm(subject: CustomerId) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        return Err(Misconfigured::error(
            "an erasure cannot be undone: say --yes, or run this at a terminal to be asked",
        ));
    }
    write!(io::stderr(), "This cannot be undone. Type {subject} to erase: ")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("cannot read the answer")?;
    if line.trim() == subject.to_string() {
        return Ok(());
    }
    Err(Misconfigured::error("not confirmed, so nothing was erased"))
}

/// The user that runs this.
fn user() -> String {
    let uid = Uid::current();
    let named = User::from_uid(uid).ok().flatten();
    named.map_or_else(|| format!("uid {uid}"), |user| user.name)
}

async fn rewrap(output: Output, master: &options::Master, at: &Where) -> anyhow::Result<()> {
    let own = existing_master_key(at.data_dir());
    let masters = master.keys(own.as_ref().map(|key| key.as_str()))?;
    let vault = Vault::new(at.store().await?.pool().clone(), masters, Chance::system());
    vault.introduce().await.map_err(|error| match error {
        event_store::Error::Config(why) => Misconfigured::error(why),
        error => anyhow::Error::new(error).context("cannot check the master key"),
    })?;
    let mut bar = Progress::new("keys", 0);
    let rewrapped = vault.rewrap(|progress| bar.set(progress.done, progress.total)).await;
    drop(bar);
    let rewrapped = rewrapped.context("not all keys were wrapped anew; run this again")?;
    output.line(format!(
        "{} keys were wrapped with the current master key; no other one is needed any more",
        rewrapped.done
    ));
    Ok(())
}
