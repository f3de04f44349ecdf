//! A value and the place it was written, and the two shapes many keys have (short text, long map).
//!
//! It hides the YAML library's span type from the rest of the program. Equality and order look at
//! the value alone: where something is written must never change what it means.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value with its place; line 0 when it was not written (a default).
#[derive(Clone, Copy, Debug, Default)]
pub struct Spot<T> {
    /// The value.
    pub value: T,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Length in characters; 0 when it spans lines or is unknown.
    pub length: u32,
}

impl<T> Spot<T> {
    /// A value that nobody wrote.
    pub const fn unwritten(value: T) -> Self {
        Self { value, line: 0, column: 0, length: 0 }
    }

    /// Another value at this place.
    pub fn with<U>(&self, value: U) -> Spot<U> {
        Spot { value, line: self.line, column: self.column, length: self.length }
    }
}

impl<T> Deref for Spot<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Spot<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spot<T> {}

impl<T: PartialOrd> PartialOrd for Spot<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<T: Ord> Ord for Spot<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.value.cmp(&other.value)
    }
}

impl<T: Hash> Hash for Spot<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

impl std::borrow::Borrow<str> for Spot<String> {
    fn borrow(&self) -> &str {
        &self.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spot<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        let place = spanned.referenced;
        let small = |number: u64| u32::try_from(number).unwrap_or(0);
        Ok(Self {
            value: spanned.value,
            line: small(place.line()),
            column: small(place.column()),
            length: small(place.span().len()),
        })
    }
}

impl<T: Serialize> Serialize for Spot<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Spot<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A key whose feature is not built yet: whatever is written there is kept out and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Later;

impl<'de> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl JsonSchema for Later {
    fn schema_name() -> Cow<'static, str> {
        "NotYet".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "not": {}, "description": "Not yet: refused until the feature is built." })
    }
}

/// Collects the keys of later features found in a file.
#[derive(Debug, Default)]
pub struct LaterKeys<'a>(Vec<(String, Spot<&'a Later>)>);

impl<'a> LaterKeys<'a> {
    /// Notes a key if it was written; `owner` is a dotted prefix without its trailing dot.
    pub fn add(&mut self, owner: &str, key: &str, value: Option<&'a Spot<Later>>) {
        self.add_read(owner, key, value);
    }

    /// Notes a key whose block is read already, by some verb, but not served yet.
    pub fn add_read<T>(&mut self, owner: &str, key: &str, value: Option<&Spot<T>>) {
        if let Some(spot) = value {
            let dot = if owner.is_empty() { "" } else { "." };
            self.0.push((format!("{owner}{dot}{key}"), spot.with(&Later)));
        }
    }

    /// What was found.
    #[must_use]
    pub fn into_inner(self) -> Vec<(String, Spot<&'a Later>)> {
        self.0
    }
}

/// A long form that can be written as one scalar.
pub trait Short: Sized {
    /// What the scalar may be, for error texts: `an address`.
    const EXPECTED: &'static str;
    /// Reads the scalar as it was written. Errors are one sentence for the operator.
    fn from_short(text: &str) -> Result<Self, String>;
}

/// A value written short (a scalar) or long (a map); the same tree either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShortOr<T>(pub T);

impl<T> Deref for ShortOr<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Short + Deserialize<'de>> Deserialize<'de> for ShortOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShortOrVisitor(PhantomData))
    }
}

struct ShortOrVisitor<T>(PhantomData<T>);

impl<'de, T: Short + Deserialize<'de>> Visitor<'de> for ShortOrVisitor<T> {
    type Value = ShortOr<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} or a map", T::EXPECTED)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        T::from_short(text).map(ShortOr).map_err(E::custom)
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }
    fn visit_bool<E: Error>(self, flag: bool) -> Result<Self::Value, E> {
        self.visit_str(&flag.to_string())
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(ShortOr)
    }
}

impl<T: Serialize> Serialize for ShortOr<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for ShortOr<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrShort", T::schema_name()).into()
    }
    fn schema_id() -> Cow<'static, str> {
        format!("{}OrShort", T::schema_id()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "type": ["string", "number"] }, long] })
    }
}
