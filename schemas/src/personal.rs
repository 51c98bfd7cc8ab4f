//! Personal data as everything but the edges knows it: sealed.
//!
//! There is no clear variant. Who may see what is inside asks `event_store::Vault`, and hears
//! `None` once the person's key has been destroyed.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::CustomerId;

/// What is only ever kept sealed.
pub trait PersonalData: Serialize + DeserializeOwned {
    /// Which kind of data it is. It is sealed in: data of one kind does not open as another. Never
    /// changed, since what is stored would not open any more; it is not the name of the Rust type,
    /// which may be.
    const LABEL: &'static str;
}

/// A `T` about a person, sealed under that person's key.
///
/// Written as `{"subject":"usr_…","sealed":"<base64>"}`. What the bytes are is between them and
/// the vault; nothing here can tell whether they open.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Personal<T> {
    subject: CustomerId,
    sealed: Arc<str>,
    #[serde(skip)]
    of: PhantomData<fn() -> T>,
}

/// What is given as sealed is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed data must be base64")]
pub struct SealedError;

impl<T> Personal<T> {
    /// Takes what a vault sealed under the key of `subject`.
    #[must_use]
    pub fn sealed(subject: CustomerId, bytes: &[u8]) -> Self {
        Self { subject, sealed: STANDARD.encode(bytes).into(), of: PhantomData }
    }

    /// Whose data it is.
    #[must_use]
    pub const fn subject(&self) -> CustomerId {
        self.subject
    }

    /// What a vault made.
    ///
    /// # Errors
    /// [`SealedError`] where it was not a vault that made it.
    pub fn bytes(&self) -> Result<Vec<u8>, SealedError> {
        STANDARD.decode(self.sealed.as_bytes()).map_err(|_| SealedError)
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Personal").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// What stands inside is part of the schema (`x-opened`), for what is sealed has to be read for as
/// long as what is not.
impl<T: PersonalData + JsonSchema> JsonSchema for Personal<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Personal{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Personal data, sealed under a key of its subject; erasing the \
                            subject destroys that key.",
            "properties": {
                "subject": generator.subschema_for::<CustomerId>(),
                "sealed": { "type": "string", "contentEncoding": "base64" },
            },
            "required": ["subject", "sealed"],
            "x-sealed-as": T::LABEL,
            "x-opened": generator.subschema_for::<T>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn it_is_written_as_whose_it_is_and_what_is_sealed() {
        let subject = CustomerId::new(Uuid::from_u128(7));
        let personal = Personal::<crate::Address>::sealed(subject, &[1, 2, 255]);
        let json = serde_json::to_string(&personal).unwrap();
        let written = r#"{"subject":"usr_00000000000000000000000000000007","sealed":"AQL/"}"#;
        assert_eq!(json, written);
        assert_eq!(serde_json::from_str::<Personal<crate::Address>>(&json).unwrap(), personal);
        assert_eq!(personal.bytes(), Ok(vec![1, 2, 255]));
    }

    #[test]
    fn plain_text_is_not_taken_for_it() {
        let plain = r#"{"name":"Ada","line1":"Weg 1","city":"Berlin","country":"DE"}"#;
        assert!(serde_json::from_str::<Personal<crate::Address>>(plain).is_err());
        let text = plain.replace(
            "{\"name\":\"Ada\"",
            "{\"subject\":\"usr_00000000000000000000000000000007\",\"sealed\":\"Ada!\"",
        );
        let personal: Personal<crate::Address> = serde_json::from_str(&text).unwrap();
        assert_eq!(personal.bytes(), Err(SealedError));
    }
}
