//! Mirrors as written: who gets copies of which requests, and what of the answers is compared.
//!
//! It must never say more than was written: what is too much or contradicts itself is found where
//! it is compiled.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::filter::HeaderEdit;
use super::scalar::{Percent, Size, Span};
use super::spot::Spot;

/// Copies of requests for one upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mirror {
    /// Upstream that gets the copies; requests that go there anyway are not copied.
    pub to: Spot<String>,
    /// Share of the users by their sticky key, so that a session is copied whole or not at all; without a key,
    /// of the requests.
    pub percent: Spot<Percent>,
    /// Methods that are copied; `[any]` is every method: make sure that the shadow may do everything twice.
    #[serde(default = "safe")]
    pub methods: Spot<Vec<Spot<String>>>,
    /// Largest request body that is copied, and as much of an answer is kept to be compared.
    #[serde(default = "max_body")]
    pub max_body: Spot<Size>,
    /// How long the shadow may take, to the end of its answer.
    #[serde(default = "timeout")]
    pub timeout: Spot<Span>,
    /// Edits of copies alone: `set`, `add`, `remove`.
    pub headers: Option<Spot<HeaderEdit>>,
    /// Keeps both answers to hold one against the other: `status`, `{ header: NAME }`, and `body` (bytes) or
    /// `json`.
    pub compare: Option<Spot<Vec<Spot<Compared>>>>,
    /// Places of a JSON body that may differ: `$.requestId`, `$.items[*].id`, `$["a.b"]`, `.*`.
    #[serde(default)]
    pub ignore: Vec<Spot<String>>,
}

fn safe() -> Spot<Vec<Spot<String>>> {
    Spot::unwritten(["GET", "HEAD", "OPTIONS"].map(|name| Spot::unwritten(name.to_owned())).into())
}

const fn max_body() -> Spot<Size> {
    Spot::unwritten(Size(64 << 10))
}

const fn timeout() -> Spot<Span> {
    Spot::unwritten(Span::seconds(2))
}

/// One thing that is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Compared {
    /// The status.
    Status,
    /// The body byte for byte.
    Body,
    /// The body as JSON.
    Json,
    /// A header.
    Header(Spot<String>),
}

/// One mirror, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mirrors(pub Vec<Mirror>);

impl<'de> Deserialize<'de> for Mirrors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Mirrors;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mirror or a list of mirrors")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Mirrors, A::Error> {
                Mirror::deserialize(MapAccessDeserializer::new(map)).map(|one| Mirrors(vec![one]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Mirrors, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Mirrors)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Mirrors {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Mirrors".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Mirror>();
        let list = generator.subschema_for::<Vec<Mirror>>();
        json_schema!({ "anyOf": [one, list] })
    }
}
