//! Value objects that cannot be built wrong: they check themselves when they are read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};

/// Why a value was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a stock keeping unit.
    #[error("a sku is 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
    Sku,
    /// Not a quantity.
    #[error("a quantity is a whole number from 1 to 999999")]
    Quantity,
    /// Not a text we keep.
    #[error("a text has 1 to 200 characters, none of them a control character")]
    Text,
}

/// A stock keeping unit: 1 to 64 characters out of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Sku(String);

impl Sku {
    /// Longest sku, in characters.
    pub const LENGTH_MAX: usize = 64;

    /// The sku as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Sku {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let fits = (1..=Self::LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if fits { Ok(Self(text.to_owned())) } else { Err(ValueError::Sku) }
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sku {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// How many units: 1 to 999 999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Quantity(u32);

impl Quantity {
    /// The largest quantity.
    pub const MAX: u32 = 999_999;

    /// Checks a number.
    ///
    /// # Errors
    /// [`ValueError::Quantity`] outside 1 to [`Quantity::MAX`].
    pub const fn new(units: u32) -> Result<Self, ValueError> {
        if units >= 1 && units <= Self::MAX { Ok(Self(units)) } else { Err(ValueError::Quantity) }
    }

    /// The number of units.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u32::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A line of text that people wrote: 1 to 200 characters, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Text(String);

impl Text {
    /// Longest text, in characters.
    pub const LENGTH_MAX: usize = 200;

    /// A text that stands in the source, as the code `voided`.
    ///
    /// # Panics
    /// Where `text` is not a text: a slip of whoever wrote it.
    #[must_use]
    pub fn literal(text: &'static str) -> Self {
        match text.parse() {
            Ok(text) => text,
            Err(error) => panic!("`{text}`: {error}"),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Text {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let length = text.chars().take(Self::LENGTH_MAX + 1).count();
        let fits = (1..=Self::LENGTH_MAX).contains(&length)
            && !text.trim().is_empty()
            && !text.chars().any(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(ValueError::Text) }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Why an address was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a country.
    #[error("country must be an ISO 3166-1 alpha-2 code in capitals")]
    Country,
    /// A region that does not fit the country, or none where one is needed.
    #[error("region must be an ISO 3166-2 code of the country, and is required for US, CA and AU")]
    Region,
    /// Not a telephone number.
    #[error("phone must be in E.164 form, as +4930123456")]
    Phone,
    /// Not an e-mail address.
    #[error("email must contain one @ between two parts")]
    Email,
}

/// Where something is sent. Orders keep a copy, never a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
#[non_exhaustive]
pub struct Address {
    /// The person.
    pub name: Text,
    /// The firm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company: Option<Text>,
    /// Street and number.
    pub line1: Text,
    /// Floor, entrance, care of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line2: Option<Text>,
    /// City.
    pub city: Text,
    /// ISO 3166-2, as `DE-BE`; required for US, CA and AU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Text>,
    /// Postal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<Text>,
    /// ISO 3166-1 alpha-2, as `DE`.
    pub country: Text,
    /// E.164, as `+4930123456`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<Text>,
    /// E-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    name: Text,
    company: Option<Text>,
    line1: Text,
    line2: Option<Text>,
    city: Text,
    region: Option<Text>,
    postal_code: Option<Text>,
    country: Text,
    phone: Option<Text>,
    email: Option<Text>,
}

impl TryFrom<Unchecked> for Address {
    type Error = AddressError;

    fn try_from(given: Unchecked) -> Result<Self, AddressError> {
        let country = given.country.as_str();
        if country.len() != 2 || celes::Country::from_alpha2(country).is_err() {
            return Err(AddressError::Country);
        }
        let region_fits = match &given.region {
            Some(region) => region.as_str().strip_prefix(country).is_some_and(is_subdivision),
            None => !matches!(country, "US" | "CA" | "AU"),
        };
        if !region_fits {
            return Err(AddressError::Region);
        }
        if given.phone.as_ref().is_some_and(|phone| !is_e164(phone.as_str())) {
            return Err(AddressError::Phone);
        }
        if given.email.as_ref().is_some_and(|email| !is_email(email.as_str())) {
            return Err(AddressError::Email);
        }
        let Unchecked {
            name,
            company,
            line1,
            line2,
            city,
            region,
            postal_code,
            country,
            phone,
            email,
        } = given;
        Ok(Self { name, company, line1, line2, city, region, postal_code, country, phone, email })
    }
}

fn is_subdivision(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|code| {
        (1..=3).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

fn is_e164(phone: &str) -> bool {
    phone.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

fn is_email(email: &str) -> bool {
    email.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty() && !domain.is_empty() && !domain.contains('@') && !email.contains(' ')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(change: &str, to: &str) -> Result<Address, serde_json::Error> {
        let json = r#"{"name":"Ada","line1":"Weg 1","city":"Berlin","country":"DE","region":"DE-BE","phone":"+4930123456","email":"ada@example.org"}"#;
        assert!(json.contains(change));
        serde_json::from_str(&json.replace(change, to))
    }

    #[test]
    fn a_good_address_is_taken() {
        assert!(address("Ada", "Ada").is_ok());
    }

    #[test]
    fn a_wrong_part_is_named() {
        for (change, to, word) in [
            (r#""DE""#, r#""de""#, "country"),
            (r#""DE""#, r#""QQ""#, "country"),
            ("DE-BE", "FR-BE", "region"),
            ("+4930123456", "030123456", "phone"),
            ("ada@example.org", "ada", "email"),
            ("Berlin", "", "text"),
            ("Berlin", r"\u0000", "text"),
        ] {
            let error = address(change, to).unwrap_err().to_string();
            assert!(error.contains(word), "{change} -> {to}: {error}");
        }
    }

    #[test]
    fn quantities_and_skus_have_bounds() {
        assert!(serde_json::from_str::<Quantity>("0").is_err());
        assert!(serde_json::from_str::<Quantity>("999999").is_ok());
        assert!(serde_json::from_str::<Quantity>("1000000").is_err());
        assert!("mug-1.blue_L".parse::<Sku>().is_ok());
        assert!("".parse::<Sku>().is_err());
        assert!("a b".parse::<Sku>().is_err());
    }
}
