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
        /// What they may do, with commas between. [default: everything, or for a customer
        /// everything that customers may]
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
            let scopes = granted(customer.is_some(), &scopes)?;
            let customer = customer.map(|customer| customer.to_string());
            let expires_at = (Clock::system().now() + TimeDelta::hours(hours.into())).timestamp();
            let customer = customer.as_deref();
            let grant = Grant { subject: &subject, customer, scopes: &scopes, expires_at };
            output.line(key.issuer()?.issue(&grant));
        }
    }
    Ok(Ending::Orderly)
}

/// What a token grants: what was named, or everything. A customer is granted nothing but what is
/// for customers, and to name prices only where somebody says so.
fn granted(customer: bool, named: &[String]) -> anyhow::Result<Vec<&str>> {
    let all = if customer { access::customer_scopes() } else { access::scopes() };
    if named.is_empty() {
        return Ok(all.into_iter().collect());
    }
    let named: Vec<_> = named.iter().map(String::as_str).collect();
    let fits = |scope: &str| all.contains(scope) || scope == command_api::PRICES;
    let foreign: Vec<_> = named.iter().copied().filter(|scope| !fits(scope)).collect();
    if customer && !foreign.is_empty() {
        return Err(Misconfigured::error(format!(
            "{} is not for customers, who may be granted {}",
            foreign.join(", "),
            all.into_iter().collect::<Vec<_>>().join(", ")
        )));
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_are_granted_what_is_for_customers() {
        let named =
            |scopes: &[&str]| scopes.iter().map(|&scope| scope.to_owned()).collect::<Vec<_>>();
        let all = granted(true, &[]).unwrap();
        assert!(all.contains(&"orders:write") && !all.contains(&"orders:import"), "{all:?}");
        assert!(!all.contains(&"prices:write"), "{all:?}");
        assert!(granted(true, &named(&["orders:read", "prices:write"])).is_ok());
        for staff in ["orders:import", "orders:*", "ops:read", "staff"] {
            assert!(granted(true, &named(&["orders:read", staff])).is_err(), "{staff}");
        }
        assert!(granted(false, &[]).unwrap().contains(&"orders:import"));
        assert!(granted(false, &named(&["ops:*"])).is_ok());
    }
}
