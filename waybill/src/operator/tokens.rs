//! `waybill tokens`: keys and tokens for a platform that has no identity provider.

use std::path::PathBuf;

use chrono::TimeDelta;
use clap::{Args, Subcommand};
use event_store::MasterKey;
use schemas::{Chance, Clock, CustomerId};
use web::Grant;

use crate::access;
use crate::embedded::token_key;
use crate::endpoints::DATA_DIR_DEFAULT;
use crate::exit::{Ending, Misconfigured};
use crate::options::{Hidden, TokenNames};
use crate::output::Output;

/// Make keys, key sets and tokens, where there is no identity provider to do so.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a new key to sign tokens with. Whoever has it can be anybody.
    NewKey,
    /// Print the key set that `WAYBILL_JWKS` takes.
    KeySet {
        #[command(flatten)]
        key: Key,
    },
    /// Print a token.
    Issue {
        /// Who brings it.
        #[arg(long, value_name = "NAME", default_value = "developer")]
        subject: String,
        /// The customer that they are, who then sees what is theirs and nothing else.
        #[arg(long)]
        customer: Option<CustomerId>,
        /// What they may do, with commas between. [default: everything]
        #[arg(long, value_name = "SCOPE,…", value_delimiter = ',')]
        scopes: Vec<String>,
        /// How long it is good for, in hours.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..))]
        hours: u16,
        #[command(flatten)]
        key: Key,
    },
}

/// What signs.
#[derive(Debug, Args)]
struct Key {
    /// What `waybill tokens new-key` printed. [default: that of the `waybill up` in --data-dir]
    #[arg(
        long = "token-key",
        env = "WAYBILL_TOKEN_KEY",
        value_name = "BASE64",
        hide_env_values = true
    )]
    signing: Option<Hidden>,
    /// The data folder of a `waybill up`.
    #[arg(long, env = "WAYBILL_DATA_DIR", value_name = "FOLDER",
          default_value = DATA_DIR_DEFAULT)]
    data_dir: PathBuf,
    #[command(flatten)]
    names: TokenNames,
}

impl Key {
    fn issuer(&self) -> anyhow::Result<web::Issuer> {
        match &self.signing {
            Some(key) => access::issuer(key.as_str(), &self.names),
            None if self.data_dir.is_dir() => {
                access::issuer(&token_key(&self.data_dir)?, &self.names)
            }
            None => Err(Misconfigured::error(format!(
                "no key: give one (--token-key, WAYBILL_TOKEN_KEY), or the data folder of a \
                 `waybill up` (--data-dir); there is none at {}",
                self.data_dir.display()
            ))),
        }
    }
}

/// Runs the command.
pub(crate) fn run(options: Options) -> anyhow::Result<Ending> {
    let output = Output::standard();
    match options.command {
        // A key is 32 bytes of chance, as a master key is.
        Command::NewKey => output.line(MasterKey::generate(Chance::system()).as_str()),
        Command::KeySet { key } => output.line(key.issuer()?.key_set()),
        Command::Issue { subject, customer, scopes, hours, key } => {
            let all = access::scopes();
            let scopes: Vec<_> = match scopes.as_slice() {
                [] => all.into_iter().collect(),
                named => named.iter().map(String::as_str).collect(),
            };
            let customer = customer.map(|customer| customer.to_string());
            let expires_at = (Clock::system().now() + TimeDelta::hours(hours.into())).timestamp();
            let customer = customer.as_deref();
            let grant = Grant { subject: &subject, customer, scopes: &scopes, expires_at };
            output.line(key.issuer()?.issue(&grant));
        }
    }
    Ok(Ending::Orderly)
}
