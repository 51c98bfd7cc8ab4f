//! Addresses, checked against what is known of their country.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// Why an address was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a country.
    #[error("country must be an ISO 3166-1 alpha-2 code in capitals")]
    Country,
    /// A region that does not fit the country, or none where one is needed.
    #[error("region must be an ISO 3166-2 code of the country, and is required for US, CA and AU")]
    Region,
    /// A postal code that the country does not have.
    #[error("postal_code must have the form of the country's postal codes")]
    PostalCode,
    /// Not a telephone number.
    #[error("phone must be in E.164 form, as +4930123456")]
    Phone,
    /// Not an e-mail address.
    #[error("email must contain one @ between two parts")]
    Email,
}

/// Where something is sent. Orders keep a copy, never a reference, and keep it sealed: see
/// [`Personal`](crate::Personal). Its `Debug` shows nothing, so that no log does.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Unchecked")]
// Its own fields are the schema of both directions: `Unchecked` has the same.
#[schemars(!try_from, deny_unknown_fields)]
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
    #[schemars(extend("pattern" = "^[A-Z]{2}-[A-Z0-9]{1,3}$"))]
    pub region: Option<Text>,
    /// Postal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<Text>,
    /// ISO 3166-1 alpha-2, as `DE`.
    #[schemars(extend("pattern" = "^[A-Z]{2}$"))]
    pub country: Text,
    /// E.164, as `+4930123456`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = r"^\+[1-9][0-9]{6,14}$"))]
    pub phone: Option<Text>,
    /// E-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = "^[^@ ]+@[^@ ]+$"))]
    pub email: Option<Text>,
}

impl crate::PersonalData for Address {
    const LABEL: &'static str = "address";
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").finish_non_exhaustive()
    }
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
        if !region_fits(country, given.region.as_ref().map(Text::as_str)) {
            return Err(AddressError::Region);
        }
        if given.postal_code.as_ref().is_some_and(|code| !postal_code_fits(country, code.as_str()))
        {
            return Err(AddressError::PostalCode);
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

/// Countries whose addresses need a region, with the second parts of their ISO 3166-2 codes.
const REGIONS: [(&str, &[&str]); 3] = [
    ("AU", &["ACT", "NSW", "NT", "QLD", "SA", "TAS", "VIC", "WA"]),
    ("CA", &["AB", "BC", "MB", "NB", "NL", "NS", "NT", "NU", "ON", "PE", "QC", "SK", "YT"]),
    (
        "US",
        &[
            "AK", "AL", "AR", "AS", "AZ", "CA", "CO", "CT", "DC", "DE", "FL", "GA", "GU", "HI",
            "IA", "ID", "IL", "IN", "KS", "KY", "LA", "MA", "MD", "ME", "MI", "MN", "MO", "MP",
            "MS", "MT", "NC", "ND", "NE", "NH", "NJ", "NM", "NV", "NY", "OH", "OK", "OR", "PA",
            "PR", "RI", "SC", "SD", "TN", "TX", "UM", "UT", "VA", "VI", "VT", "WA", "WI", "WV",
            "WY",
        ],
    ),
];

/// Forms of postal codes: `#` is a digit, `@` a letter, all else itself. A country that is not
/// in here may have any.
///
/// Source: Universal Postal Union, addressing systems.
const POSTAL_CODES: [(&str, &[&str]); 23] = [
    ("AT", &["####"]),
    ("AU", &["####"]),
    ("BE", &["####"]),
    ("BR", &["#####-###", "########"]),
    ("CA", &["@#@ #@#", "@#@#@#"]),
    ("CH", &["####"]),
    ("CZ", &["### ##", "#####"]),
    ("DE", &["#####"]),
    ("DK", &["####"]),
    ("ES", &["#####"]),
    ("FI", &["#####"]),
    ("FR", &["#####"]),
    ("GB", &["@# #@@", "@## #@@", "@@# #@@", "@@## #@@", "@#@ #@@", "@@#@ #@@"]),
    ("IN", &["######", "### ###"]),
    ("IT", &["#####"]),
    ("JP", &["###-####", "#######"]),
    ("MX", &["#####"]),
    ("NL", &["#### @@", "####@@"]),
    ("NO", &["####"]),
    ("PL", &["##-###"]),
    ("PT", &["####-###"]),
    ("SE", &["### ##", "#####"]),
    ("US", &["#####", "#####-####"]),
];

fn of<T: Copy>(table: &[(&str, T)], country: &str) -> Option<T> {
    table.iter().find(|(name, _)| *name == country).map(|(_, entry)| *entry)
}

fn region_fits(country: &str, region: Option<&str>) -> bool {
    let known = of(&REGIONS, country);
    let Some(region) = region else { return known.is_none() };
    let part = region.strip_prefix(country).and_then(|rest| rest.strip_prefix('-'));
    let Some(part) = part else { return false };
    let capital = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    let fits = (1..=3).contains(&part.len()) && part.bytes().all(capital);
    fits && known.is_none_or(|parts| parts.contains(&part))
}

fn postal_code_fits(country: &str, code: &str) -> bool {
    let fits = |form: &&str| {
        form.len() == code.len()
            && form.bytes().zip(code.bytes()).all(|(form, byte)| match form {
                b'#' => byte.is_ascii_digit(),
                b'@' => byte.is_ascii_alphabetic(),
                other => byte == other,
            })
    };
    of(&POSTAL_CODES, country).is_none_or(|forms| forms.iter().any(fits))
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
        let json = r#"{"name":"Ada","line1":"Weg 1","city":"Berlin","country":"DE","region":"DE-BE","postal_code":"10117","phone":"+4930123456","email":"ada@example.org"}"#;
        assert!(json.contains(change));
        serde_json::from_str(&json.replace(change, to))
    }

    #[test]
    fn a_good_address_is_taken() {
        assert!(address("Ada", "Ada").is_ok());
    }

    #[test]
    fn a_log_shows_nothing_of_an_address() {
        assert_eq!(format!("{:?}", address("Ada", "Ada").unwrap()), "Address { .. }");
    }

    #[test]
    fn a_wrong_part_is_named() {
        for (change, to, word) in [
            (r#""DE""#, r#""de""#, "country"),
            (r#""DE""#, r#""QQ""#, "country"),
            ("DE-BE", "FR-BE", "region"),
            ("DE-BE", "DE-be", "region"),
            ("10117", "1011", "postal_code"),
            ("10117", "1O117", "postal_code"),
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
    fn some_countries_need_a_region_of_theirs() {
        for (country, region, fits) in [
            ("US", None, false),
            ("US", Some("US-CA"), true),
            ("US", Some("US-XX"), false),
            ("CA", Some("CA-QC"), true),
            ("AU", Some("AU-TAS"), true),
            ("AU", Some("AU-"), false),
            ("FR", None, true),
            ("FR", Some("FR-75C"), true),
            ("FR", Some("FR"), false),
        ] {
            assert_eq!(region_fits(country, region), fits, "{country} {region:?}");
        }
    }

    #[test]
    fn postal_codes_have_the_form_of_their_country() {
        for (country, code, fits) in [
            ("GB", "SW1A 1AA", true),
            ("GB", "sw1a 1aa", true),
            ("GB", "SW1A1AA", false),
            ("US", "94107", true),
            ("US", "94107-1234", true),
            ("US", "9410", false),
            ("NL", "1012 AB", true),
            ("CA", "K1A 0B1", true),
            ("PL", "00-950", true),
            ("PL", "00950", false),
            ("IE", "D02 AF30", true),
        ] {
            assert_eq!(postal_code_fits(country, code), fits, "{country} {code}");
        }
    }
}
