//! A purchase log: who bought how much on which day, and what becomes of each purchase.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use chrono::{NaiveDate, NaiveTime};
use schemas::{Currency, CustomerId, Money, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::{Uuid, uuid};

use crate::operator::orders::parse_money;

/// What the customers' ids follow from.
const CUSTOMERS: Uuid = uuid!("3b0c6c5e-7f51-4a58-8f43-0b7c3f1f6a90");
/// One in so many is declined, and one in so many cancelled.
const ONE_IN: usize = 50;

/// What becomes of a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Paid, shipped and delivered.
    Fulfilled,
    /// The card is declined.
    Declined,
    /// The customer cancels.
    Cancelled,
}

impl Fate {
    /// The status that the order ends in.
    pub(super) const fn status(self) -> &'static str {
        match self {
            Self::Fulfilled => "completed",
            Self::Declined => "rejected",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Purchase {
    /// Its place in the log, from 1.
    pub(super) number: usize,
    /// Who.
    pub(super) customer: CustomerId,
    /// When; the log knows only the day.
    pub(super) placed_at: Timestamp,
    /// How many.
    pub(super) units: u32,
    /// For how much in all, in cents.
    pub(super) cents: i64,
    /// What becomes of it.
    pub(super) fate: Fate,
}

impl Purchase {
    /// What stays with the shop, in cents.
    pub(super) const fn kept(&self) -> i64 {
        match self.fate {
            Fate::Fulfilled => self.cents,
            Fate::Declined | Fate::Cancelled => 0,
        }
    }

    /// The units by price, dearer first: the prices sum to the amount exactly.
    pub(super) fn prices(&self) -> Vec<(u32, i64)> {
        let mut groups: Vec<(u32, i64)> = Vec::new();
        for price in Money::new(self.cents, Currency::USD).split(self.units) {
            match groups.last_mut() {
                Some((units, cents)) if *cents == price.amount => *units += 1,
                _ => groups.push((1, price.amount)),
            }
        }
        groups
    }
}

/// Reads a log, and lets `seed` choose what becomes of each purchase.
pub(super) fn read(file: &Path, seed: u64) -> anyhow::Result<Vec<Purchase>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut purchases = lines
        .map(|(index, line)| {
            parse(index + 1, line)
                .with_context(|| format!("line {} of {}: `{line}`", index + 1, file.display()))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(!purchases.is_empty(), "{} holds no purchase", file.display());
    choose(&mut purchases, seed);
    Ok(purchases)
}

/// How many different customers there are.
pub(super) fn customers(purchases: &[Purchase]) -> BTreeSet<CustomerId> {
    purchases.iter().map(|purchase| purchase.customer).collect()
}

/// `00004 0001 19970101  2   29.33`: id, number within the sample, day, units, dollars.
fn parse(number: usize, line: &str) -> anyhow::Result<Purchase> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [id, _, day, units, dollars] = fields[..] else {
        anyhow::bail!("five columns are expected: id, customer, date, units, dollars");
    };
    let day = NaiveDate::parse_from_str(day, "%Y%m%d").context("the date is YYYYMMDD")?;
    let units: u32 = units.parse().context("the units are no number")?;
    ensure!(units > 0, "a purchase has at least one unit");
    Ok(Purchase {
        number,
        customer: CustomerId::derive(CUSTOMERS, id),
        placed_at: day.and_time(NaiveTime::MIN).and_utc(),
        units,
        cents: parse_money(dollars, Currency::USD)?.amount,
        fate: Fate::Fulfilled,
    })
}

/// One in fifty is declined and one in fifty cancelled. Nothing can be declined where nothing
/// is to be paid, so the choice is among purchases that cost something.
fn choose(purchases: &mut [Purchase], seed: u64) {
    let count = purchases.len() / ONE_IN;
    let mut drawn: Vec<usize> = (0..purchases.len()).filter(|&i| purchases[i].cents > 0).collect();
    drawn.sort_by_key(|&index| lot(seed, purchases[index].number));
    for (place, index) in drawn.into_iter().take(2 * count).enumerate() {
        let fate = if place < count { Fate::Declined } else { Fate::Cancelled };
        purchases[index].fate = fate;
    }
}

/// A number that nobody can foresee without the seed, and everybody gets again with it.
fn lot(seed: u64, number: usize) -> [u8; 32] {
    let hash = Sha256::new().chain_update(seed.to_be_bytes());
    hash.chain_update((number as u64).to_be_bytes()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purchase(number: usize, dollars: &str) -> Purchase {
        parse(number, &format!(" 00004 0001 19970101  3   {dollars}")).unwrap()
    }

    #[test]
    fn a_line_is_read_to_the_cent() {
        let read = purchase(1, "29.33");
        assert_eq!((read.units, read.cents), (3, 2933));
        assert_eq!(read.placed_at.to_rfc3339(), "1997-01-01T00:00:00+00:00");
        assert_eq!(read.prices(), [(2, 978), (1, 977)]);
        assert!(parse(1, "00004 0001 19970101 0 29.33").is_err());
        assert!(parse(1, "00004 0001 19970101 2").is_err());
    }

    #[test]
    fn one_in_fifty_each_and_the_same_again() {
        let mut first: Vec<_> =
            (1..=200).map(|n| purchase(n, if n % 4 == 0 { "0.00" } else { "5.00" })).collect();
        let mut again = first.clone();
        choose(&mut first, 7);
        choose(&mut again, 7);
        assert_eq!(first, again);
        let count = |fate| first.iter().filter(|purchase| purchase.fate == fate).count();
        assert_eq!((count(Fate::Declined), count(Fate::Cancelled)), (4, 4));
        assert!(
            first.iter().all(|purchase| purchase.cents > 0 || purchase.fate == Fate::Fulfilled)
        );
    }
}
