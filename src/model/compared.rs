//! What of two answers is compared, as the file says it.
//!
//! It exists so that the request path, which keeps what is needed, and the comparison, which reads
//! it, agree without knowing each other. It must never compare anything itself.

use http::HeaderName;

/// What of two answers is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompareRules {
    /// The status.
    pub status: bool,
    /// Headers, by name.
    pub headers: Box<[HeaderName]>,
    /// The body.
    pub body: BodyRule,
    /// Places in a JSON body that may differ.
    pub ignore: Box<[Box<[PathStep]>]>,
}

/// How bodies are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyRule {
    /// Not at all.
    #[default]
    None,
    /// Byte for byte.
    Bytes,
    /// As JSON: order of keys and spaces do not matter.
    Json,
}

/// One step from a JSON value to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStep {
    /// The value of a key: `.name`, `["name"]`.
    Key(Box<str>),
    /// The element of an array, from 0: `[3]`.
    Index(u32),
    /// Every key and every element: `.*`, `[*]`.
    Any,
}
