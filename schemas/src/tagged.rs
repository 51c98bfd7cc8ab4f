//! Reads the stored form of an event, a name and the JSON beside it, as the variant of an enum.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer as _,
    VariantAccess, Visitor,
};
use serde_json::de::StrRead;

/// Why it could not be read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The enum has no variant of this name.
    UnknownName,
    /// The JSON does not fit the variant.
    Data(serde_json::Error),
}

/// The variant of `E` that is called `name`, with `json` as its content: as if
/// `{"name":json}` had been read, without writing that down first.
///
/// # Errors
/// See [`Fault`].
pub(crate) fn read<E: DeserializeOwned>(name: &str, json: &str) -> Result<E, Fault> {
    E::deserialize(Tagged { name, json })
}

#[derive(Clone, Copy)]
struct Tagged<'a> {
    name: &'a str,
    json: &'a str,
}

impl<'a> Tagged<'a> {
    /// Reads the content, all of it.
    fn content<T>(
        self,
        read: impl FnOnce(&mut serde_json::Deserializer<StrRead<'a>>) -> serde_json::Result<T>,
    ) -> Result<T, Fault> {
        let mut reader = serde_json::Deserializer::from_str(self.json);
        read(&mut reader).and_then(|value| reader.end().map(|()| value)).map_err(Fault::Data)
    }
}

impl<'de> Deserializer<'de> for Tagged<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

impl<'de> EnumAccess<'de> for Tagged<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name: StrDeserializer<'de, Fault> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Tagged<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        self.content(|reader| de::Deserialize::deserialize(reader))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        self.content(|reader| seed.deserialize(reader))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.content(|reader| reader.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.content(|reader| reader.deserialize_struct("", fields, visitor))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownName => f.write_str("there is no variant of this name"),
            Self::Data(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Data(de::Error::custom(message))
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Self::UnknownName
    }
}
