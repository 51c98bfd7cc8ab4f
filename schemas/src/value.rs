//! Value objects that cannot be built wrong: they check themselves when they are read.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// Why a value was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a stock keeping unit.
    #[error("a sku is 1 to 64 of the characters A-Z a-z 0-9 . _ -, not only the last three")]
    Sku,
    /// Not a quantity.
    #[error("a quantity is a whole number from 1 to 999999")]
    Quantity,
    /// Not a text we keep.
    #[error("a text has 1 to 200 characters, none of them a control character")]
    Text,
    /// Not an address on the web.
    #[error("a link starts with https:// or http:// and has at most 2000 visible characters")]
    Link,
}

/// A stock keeping unit: 1 to 64 characters out of `A-Z a-z 0-9 . _ -`, at least one of them a
/// letter or digit.
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
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            && text.bytes().any(|b| b.is_ascii_alphanumeric());
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
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Sku {
    fn schema_name() -> Cow<'static, str> {
        "Sku".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": Self::LENGTH_MAX,
            "pattern": "^[._-]*[A-Za-z0-9][A-Za-z0-9._-]*$",
            "description": "A stock keeping unit: at least one of the characters is a letter or digit.",
        })
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

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer",
            "minimum": 1,
            "maximum": Self::MAX,
            "description": "How many units.",
        })
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
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": Self::LENGTH_MAX,
            // No control characters, and not only spaces.
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$",
            "description": "A line of text without control characters, not only of spaces.",
        })
    }
}

/// An address on the web that a person is sent to: at most 2000 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Link(String);

impl Link {
    /// Longest link, in characters.
    pub const LENGTH_MAX: usize = 2000;

    /// The link.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Link {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let web = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let fits = web.is_some_and(|rest| !rest.is_empty())
            && text.len() <= Self::LENGTH_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(ValueError::Link) }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Link {
    fn schema_name() -> Cow<'static, str> {
        "Link".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": Self::LENGTH_MAX,
            "pattern": "^https?://[!-~]+$",
            "description": "An address on the web that a person is sent to.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_and_skus_have_bounds() {
        assert!(serde_json::from_str::<Quantity>("0").is_err());
        assert!(serde_json::from_str::<Quantity>("999999").is_ok());
        assert!(serde_json::from_str::<Quantity>("1000000").is_err());
        assert!("mug-1.blue_L".parse::<Sku>().is_ok());
        // A sku stands in URLs, where `..` leads elsewhere.
        for text in ["", "a b", ".", "..", "-_-", "ä"] {
            assert!(text.parse::<Sku>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_link_leads_to_the_web() {
        assert!("https://provider.example/3ds?pi=1".parse::<Link>().is_ok());
        let long = format!("https://{}", "x".repeat(Link::LENGTH_MAX));
        for text in ["", "https://", "javascript:alert(1)", "https://a b", "https://ä", &long] {
            assert!(text.parse::<Link>().is_err(), "{text}");
        }
    }
}
