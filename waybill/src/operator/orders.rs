//! `waybill orders place | show | cancel`: orders from the command line, through the APIs.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use schemas::{Currency, CustomerId, Money, OrderId, Quantity, Sku};
use serde_json::{Value, json};

use crate::client::Client;
use crate::endpoints::{DATA_DIR_DEFAULT, Endpoints};
use crate::exit::{Ending, Misconfigured};
use crate::options::Hidden;
use crate::output::Output;
use crate::timeline;

/// Place, show or cancel an order.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Place an order.
    Place(Box<Place>),
    /// Show an order and everything that happened about it.
    Show {
        /// As `ord_0197…`.
        order: OrderId,
        #[command(flatten)]
        at: At,
    },
    /// Ask for an order to be undone.
    Cancel {
        /// As `ord_0197…`.
        order: OrderId,
        /// Why: customer, fraud, inventory, staff or other.
        #[arg(long, default_value = "customer")]
        reason: String,
        #[command(flatten)]
        at: At,
    },
}

/// Where the APIs are.
#[derive(Debug, Args)]
pub(super) struct At {
    /// Base address of the command API. [default: that of the `waybill up` in --data-dir]
    #[arg(long, env = "WAYBILL_COMMAND_URL", value_name = "URL")]
    command_url: Option<String>,
    /// Base address of the query API. [default: that of the `waybill up` in --data-dir]
    #[arg(long, env = "WAYBILL_QUERY_URL", value_name = "URL")]
    query_url: Option<String>,
    /// The data folder of a running `waybill up`.
    #[arg(long, env = "WAYBILL_DATA_DIR", value_name = "FOLDER",
          default_value = DATA_DIR_DEFAULT)]
    data_dir: PathBuf,
    /// Who one is. [default: the token that the `waybill up` in --data-dir issues to itself]
    #[arg(long, env = "WAYBILL_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<Hidden>,
}

impl At {
    /// A caller of both.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let running = Endpoints::read(&self.data_dir);
        let missing = |what: &str| {
            Misconfigured::error(format!(
                "no {what} API: give its address ({}), or the data folder of a running \
                 `waybill up` (--data-dir); none runs in {}",
                format_args!("--{what}-url, WAYBILL_{}_URL", what.to_uppercase()),
                self.data_dir.display()
            ))
        };
        let given = |given: &Option<String>, found: fn(&Endpoints) -> &String| {
            given.clone().or_else(|| running.as_ref().map(|running| found(running).clone()))
        };
        let command = given(&self.command_url, |running| &running.command_url);
        let query = given(&self.query_url, |running| &running.query_url);
        let own = running.as_ref().and_then(|running| running.token.as_deref());
        let token = self.token.as_ref().map(Hidden::as_str).filter(|token| !token.is_empty());
        let token = token.or(own);
        Client::new(
            &command.ok_or_else(|| missing("command"))?,
            &query.ok_or_else(|| missing("query"))?,
            token,
        )
    }
}

#[derive(Debug, Args)]
struct Place {
    /// What, how many and for how much each, as `mug:2:12.50`; again for every further line.
    #[arg(long = "line", value_name = "SKU:QUANTITY:PRICE", required = true)]
    lines: Vec<Line>,
    /// ISO 4217 code of all prices.
    #[arg(long, default_value = "EUR")]
    currency: Currency,
    /// Who orders, as `usr_0197…`. [default: a new customer]
    #[arg(long)]
    customer: Option<CustomerId>,
    /// The payment provider's token. In the sandbox
    /// `pm_card_chargeDeclined` is declined, and `pm_card_threeDSecure2Required` asks first.
    #[arg(long, default_value = "pm_card_visa")]
    payment_method: String,
    /// Where it goes: a file with an address as the command API takes it. [default: an
    /// address in Berlin that nobody lives at]
    #[arg(long, value_name = "FILE")]
    address: Option<PathBuf>,
    #[command(flatten)]
    at: At,
}

/// A line as it is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    sku: Sku,
    quantity: Quantity,
    price: String,
}

impl std::str::FromStr for Line {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().context("a line looks like SKU:QUANTITY:PRICE");
        let (sku, quantity, price) = (part()?, part()?, part()?);
        Ok(Self {
            sku: sku.parse()?,
            quantity: Quantity::new(quantity.parse().context("the quantity is no number")?)?,
            price: price.to_owned(),
        })
    }
}

/// Runs the command.
pub(crate) async fn run(options: Options) -> anyhow::Result<Ending> {
    let output = Output::standard();
    match options.command {
        Command::Place(place) => {
            let client = place.at.client()?;
            let placed = client.post("/v1/orders", &place.body()?).await?.succeeded()?;
            output.line(placed.text("/id")?);
        }
        Command::Show { order, at } => {
            let client = at.client()?;
            let detail = client.get(&format!("/v1/orders/{order}")).await?;
            timeline::summary(output, &detail);
            let events = client.list(&format!("/v1/orders/{order}/events")).await?;
            timeline::print(output, &events);
        }
        Command::Cancel { order, reason, at } => {
            let (path, body) = (format!("/v1/orders/{order}/cancel"), json!({ "reason": reason }));
            let pending = at.client()?.post(&path, &body).await?.succeeded()?;
            output.line(pending.text("/status")?);
        }
    }
    Ok(Ending::Orderly)
}

impl Place {
    fn body(&self) -> anyhow::Result<Value> {
        let customer =
            self.customer.unwrap_or_else(|| CustomerId::new(schemas::Ids::system().next()));
        let lines = self.lines.iter().map(|line| {
            let unit_price = parse_money(&line.price, self.currency)?;
            Ok(json!({ "sku": line.sku, "title": line.sku, "quantity": line.quantity,
                       "unit_price": unit_price }))
        });
        let address = match &self.address {
            None => sample_address(),
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                serde_json::from_str(&text)
                    .with_context(|| format!("{} holds no JSON", file.display()))?
            }
        };
        Ok(json!({
            "customer": customer,
            "lines": lines.collect::<anyhow::Result<Vec<_>>>()?,
            "shipping_address": address,
            "payment_method": self.payment_method,
        }))
    }
}

/// An address that nobody lives at.
pub(crate) fn sample_address() -> Value {
    json!({ "name": "Ada Lovelace", "line1": "Teststraße 1", "city": "Berlin",
            "region": "DE-BE", "postal_code": "10115", "country": "DE" })
}

/// Reads `12.50` as 1250 minor units, by the digits of the currency.
pub(crate) fn parse_money(text: &str, currency: Currency) -> anyhow::Result<Money> {
    let digits = currency.exponent() as usize;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let numeric = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !numeric(whole) || !numeric(fraction) || fraction.len() > digits {
        anyhow::bail!(
            "`{text}` is no amount of {currency}: it looks like 12 or has at most {digits} decimal digits"
        );
    }
    let minor = format!("{whole}{fraction:0<digits$}");
    Ok(Money::new(minor.parse().context("the amount is too large")?, currency))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_without_fractions() {
        let yen: Currency = "JPY".parse().unwrap();
        for (text, currency, minor) in [
            ("12.5", Currency::EUR, Some(1250)),
            ("12", Currency::EUR, Some(1200)),
            ("0.07", Currency::EUR, Some(7)),
            ("12.505", Currency::EUR, None),
            ("120", yen, Some(120)),
            ("1.5", yen, None),
            ("-1", Currency::EUR, None),
            ("", Currency::EUR, None),
        ] {
            let read = parse_money(text, currency).ok().map(|money| money.amount);
            assert_eq!(read, minor, "{text} {currency}");
        }
    }

    #[test]
    fn a_line_is_three_parts() {
        let line: Line = "mug:2:12.50".parse().unwrap();
        assert_eq!((line.quantity.get(), line.price.as_str()), (2, "12.50"));
        assert!("mug:2".parse::<Line>().is_err());
        assert!("mug:0:1".parse::<Line>().is_err());
    }
}
