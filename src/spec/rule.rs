//! Conditions as written: predicates over text, matches of routes, `when` of overrides.
//!
//! Values stay text as it was written: `no` is "no". It must never compile or compare anything.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::Network;
use super::spot::{Short, ShortOr, Spot};

/// Conditions that must all hold for a request to belong to a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Match {
    /// Path; default: the prefix `/`.
    pub path: Option<Spot<ShortOr<PathMatch>>>,
    /// Method, upper case.
    pub method: Option<Spot<String>>,
    /// Conditions on headers.
    pub headers: Vec<Spot<Predicate>>,
    /// Conditions on query parameters.
    pub query_params: Vec<Spot<Predicate>>,
    /// Conditions on cookies.
    pub cookies: Vec<Spot<Predicate>>,
    /// Networks the client may be in.
    #[serde(rename = "clientIP")]
    pub client_ip: Vec<Network>,
    /// Overrides the route's priority for this match.
    pub priority: Option<i32>,
}

/// One way to match a path; exactly one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct PathMatch {
    /// Whole segments from the start.
    pub prefix: Option<String>,
    /// The whole path.
    pub exact: Option<String>,
    /// The whole path against a regular expression.
    pub regex: Option<String>,
}

impl Short for PathMatch {
    const EXPECTED: &'static str = "a path prefix such as /shop";
    fn from_short(text: &str) -> Result<Self, String> {
        Ok(Self { prefix: Some(text.to_owned()), ..Self::default() })
    }
}

/// A named piece of text and what must be true of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Predicate {
    /// Header, parameter or cookie name.
    pub name: Spot<String>,
    /// Equal to.
    pub value: Option<String>,
    /// The whole text against a regular expression.
    pub regex: Option<Spot<String>>,
    /// Starts with.
    pub prefix: Option<String>,
    /// Ends with.
    pub suffix: Option<String>,
    /// Contains.
    pub contains: Option<String>,
    /// One of.
    #[serde(rename = "in")]
    pub one_of: Option<Vec<String>>,
    /// One of the lines of a file beside the configuration.
    pub in_file: Option<Spot<String>>,
    /// One of the secrets in a file, a line each.
    pub secret_file: Option<Spot<String>>,
    /// Present at all, or absent.
    pub present: Option<bool>,
    /// A number above.
    pub greater_than: Option<Spot<String>>,
    /// A number below.
    pub less_than: Option<Spot<String>>,
}

/// What must be true of the sticky key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct KeyPredicate {
    /// Equal to.
    pub value: Option<String>,
    /// The whole key against a regular expression.
    pub regex: Option<Spot<String>>,
    /// Starts with.
    pub prefix: Option<String>,
    /// Ends with.
    pub suffix: Option<String>,
    /// Contains.
    pub contains: Option<String>,
    /// One of.
    #[serde(rename = "in")]
    pub one_of: Option<Vec<String>>,
    /// One of the lines of a file beside the configuration.
    pub in_file: Option<Spot<String>>,
    /// Present at all, or absent.
    pub present: Option<bool>,
    /// A number above.
    pub greater_than: Option<Spot<String>>,
    /// A number below.
    pub less_than: Option<Spot<String>>,
}

impl KeyPredicate {
    /// The same conditions as a predicate on something named.
    #[must_use]
    pub fn named(&self, name: Spot<String>) -> Predicate {
        Predicate {
            name,
            value: self.value.clone(),
            regex: self.regex.clone(),
            prefix: self.prefix.clone(),
            suffix: self.suffix.clone(),
            contains: self.contains.clone(),
            one_of: self.one_of.clone(),
            in_file: self.in_file.clone(),
            secret_file: None,
            present: self.present,
            greater_than: self.greater_than.clone(),
            less_than: self.less_than.clone(),
        }
    }
}

/// When an override applies: all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct When {
    /// Conditions on headers.
    pub headers: Vec<Spot<Predicate>>,
    /// Conditions on cookies.
    pub cookies: Vec<Spot<Predicate>>,
    /// Conditions on query parameters.
    pub query_params: Vec<Spot<Predicate>>,
    /// Condition on the sticky key.
    pub sticky_key: Option<Spot<KeyPredicate>>,
    /// Networks the client may be in.
    #[serde(rename = "clientIP")]
    pub client_ip: Vec<Network>,
}

impl When {
    /// Every predicate, whatever it looks at.
    pub fn predicates(&self) -> impl Iterator<Item = &Spot<Predicate>> {
        self.headers.iter().chain(&self.cookies).chain(&self.query_params)
    }
}
