//! Money: whole minor units and a currency. No fractions, anywhere.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An ISO 4217 currency, written as its three letters. One that has no minor unit, as gold
/// (`XAU`) or no currency (`XXX`), is none that anything is paid in.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// The euro.
    pub const EUR: Self = Self(iso_currency::Currency::EUR);
    /// The dollar of the United States.
    pub const USD: Self = Self(iso_currency::Currency::USD);

    /// The three letters.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// How many decimal digits the minor unit has: 2 for EUR, 0 for JPY.
    #[must_use]
    pub fn exponent(self) -> u32 {
        self.0.exponent().map_or(2, u32::from)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let known = iso_currency::Currency::from_code(text);
        let counted = known.filter(|currency| currency.exponent().is_some());
        counted.map(Self).ok_or(MoneyError::UnknownCurrency)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Not the list of codes: it grows with the world, and what is stored under it does not change.
impl JsonSchema for Currency {
    fn schema_name() -> Cow<'static, str> {
        "Currency".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[A-Z]{3}$",
            "description": "The ISO 4217 code of a currency that has a minor unit.",
        })
    }
}

/// Why an amount cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Amounts of two currencies were combined.
    #[error("amounts of different currencies cannot be combined")]
    CurrencyMismatch,
    /// The result does not fit 64 bits of minor units.
    #[error("the amount is too large")]
    Overflow,
    /// No such ISO 4217 code.
    #[error("not the ISO 4217 code of a currency with a minor unit")]
    UnknownCurrency,
}

/// An amount in minor units: `{"amount": 1999, "currency": "EUR"}` is 19.99 euro.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units: cents for EUR, yen for JPY.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
}

impl Money {
    /// So many minor units.
    #[must_use]
    pub const fn new(amount: i64, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Nothing, in `currency`.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self { amount: 0, currency }
    }

    /// Whether this is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.amount == 0
    }

    /// The sum.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`] or [`MoneyError::Overflow`].
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_add)
    }

    /// The difference, which may be negative.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`] or [`MoneyError::Overflow`].
    pub fn minus(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_sub)
    }

    /// This amount `count` times.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn times(self, count: u32) -> Result<Self, MoneyError> {
        let amount = self.amount.checked_mul(i64::from(count)).ok_or(MoneyError::Overflow)?;
        Ok(Self { amount, ..self })
    }

    /// This amount in `parts` shares that differ by one minor unit at most and sum to it
    /// exactly, larger shares first; none for no parts.
    #[must_use]
    pub fn split(self, parts: u32) -> Vec<Self> {
        self.allocate(&vec![1; parts as usize])
    }

    /// This amount in shares after `weights`: each is its exact share or less than one minor
    /// unit away from it, and they sum to the amount (largest remainder, earlier shares first).
    /// Where no weight is above zero all weigh the same; none for no weights.
    #[must_use]
    pub fn allocate(self, weights: &[u32]) -> Vec<Self> {
        let even = weights.iter().all(|weight| *weight == 0);
        let weight = |weight: &u32| if even { 1 } else { i128::from(*weight) };
        let total: i128 = weights.iter().map(weight).sum();
        // 64 bits of amount and 32 of weight fit 128.
        let exact = |at: &u32| i128::from(self.amount) * weight(at);
        let mut shares: Vec<i128> = weights.iter().map(|at| exact(at).div_euclid(total)).collect();
        let missing = i128::from(self.amount) - shares.iter().sum::<i128>();
        let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
        by_remainder.sort_by_key(|at| std::cmp::Reverse(exact(&weights[*at]).rem_euclid(total)));
        for (at, _) in by_remainder.into_iter().zip(0..missing) {
            shares[at] += 1;
        }
        // A share is never further from zero than the whole.
        let amount = |share| i64::try_from(share).unwrap_or(self.amount);
        shares.into_iter().map(|share| Self { amount: amount(share), ..self }).collect()
    }

    fn combine(
        self,
        other: Self,
        operation: fn(i64, i64) -> Option<i64>,
    ) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrencyMismatch);
        }
        let amount = operation(self.amount, other.amount).ok_or(MoneyError::Overflow)?;
        Ok(Self { amount, ..self })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.currency.exponent();
        let unit = 10_u64.pow(digits);
        let sign = if self.amount < 0 { "-" } else { "" };
        let minor = self.amount.unsigned_abs();
        if digits == 0 {
            return write!(f, "{sign}{minor} {}", self.currency);
        }
        let width = digits as usize;
        write!(f, "{sign}{}.{:0width$} {}", minor / unit, minor % unit, self.currency)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_sum_to_the_whole() {
        let shares = Money::new(2933, Currency::USD).split(3);
        assert_eq!(shares.iter().map(|share| share.amount).collect::<Vec<_>>(), [978, 978, 977]);
        assert_eq!(Money::new(5, Currency::USD).split(0), []);
    }

    #[test]
    fn shares_follow_their_weights() {
        for (amount, weights, expected) in [
            (100, &[1, 1, 1][..], &[34, 33, 33][..]),
            (100, &[1, 2, 4], &[14, 29, 57]),
            (7, &[0, 3, 0], &[0, 7, 0]),
            (5, &[0, 0], &[3, 2]),
            (-100, &[1, 1, 1], &[-33, -33, -34]),
            (0, &[4, 1], &[0, 0]),
            (1, &[], &[]),
        ] {
            let shares = Money::new(amount, Currency::EUR).allocate(weights);
            let amounts: Vec<_> = shares.iter().map(|share| share.amount).collect();
            assert_eq!(amounts, expected, "{amount} by {weights:?}");
        }
        for amount in [i64::MAX, i64::MIN] {
            let shares = Money::new(amount, Currency::EUR).allocate(&[u32::MAX, 1, u32::MAX]);
            let sum: i128 = shares.iter().map(|share| i128::from(share.amount)).sum();
            assert_eq!(sum, i128::from(amount));
        }
    }

    #[test]
    fn a_currency_counts_in_minor_units() {
        for (code, exponent) in [
            ("EUR", 2),
            ("JPY", 0),
            ("KRW", 0),
            ("CLP", 0),
            ("ISK", 0),
            ("BHD", 3),
            ("KWD", 3),
            ("TND", 3),
            ("CLF", 4),
            ("UYW", 4),
        ] {
            assert_eq!(code.parse::<Currency>().unwrap().exponent(), exponent, "{code}");
        }
        for code in ["eur", "EU", "", "XXX", "XAU", "ZZZ"] {
            assert_eq!(code.parse::<Currency>(), Err(MoneyError::UnknownCurrency), "{code}");
        }
    }

    #[test]
    fn currencies_do_not_mix() {
        let (euro, dollar) = (Money::new(1, Currency::EUR), Money::new(1, Currency::USD));
        assert_eq!(euro.plus(dollar), Err(MoneyError::CurrencyMismatch));
        assert_eq!(Money::new(i64::MAX, Currency::EUR).plus(euro), Err(MoneyError::Overflow));
    }

    #[test]
    fn an_amount_is_written_with_the_digits_of_its_currency() {
        let yen = "JPY".parse::<Currency>().unwrap();
        assert_eq!(Money::new(-5, Currency::EUR).to_string(), "-0.05 EUR");
        assert_eq!(Money::new(120, yen).to_string(), "120 JPY");
    }
}
