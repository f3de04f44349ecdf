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
    /// Path, as `/shop` or `{ prefix: /shop }`: whole segments from the start; `{ exact: /shop }`; `{ regex:
    /// "/item/[0-9]+" }`: the whole path. Default: `/`.
    pub path: Option<Spot<ShortOr<PathMatch>>>,
    /// Method, upper case. Default: any.
    pub method: Option<Spot<String>>,
    /// Conditions on headers: a list of `{ name, … }` with the tests of the next table; the first value of a
    /// name counts.
    pub headers: Vec<Spot<Predicate>>,
    /// Conditions on query parameters in the same way.
    pub query_params: Vec<Spot<Predicate>>,
    /// Conditions on cookies in the same way.
    pub cookies: Vec<Spot<Predicate>>,
    /// Networks the client must be in. Default: everybody.
    #[serde(rename = "clientIP")]
    pub client_ip: Vec<Network>,
    /// Instead of the route's `priority`, for this match. Default: the route's.
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
    /// Name of the header, parameter or cookie.
    pub name: Spot<String>,
    /// Equal to this.
    pub value: Option<String>,
    /// The whole text matches this regular expression.
    pub regex: Option<Spot<String>>,
    /// Begins with this.
    pub prefix: Option<String>,
    /// Ends with this.
    pub suffix: Option<String>,
    /// Has this in it.
    pub contains: Option<String>,
    /// Is one of a list.
    #[serde(rename = "in")]
    pub one_of: Option<Vec<String>>,
    /// Is a line of a file beside the configuration.
    pub in_file: Option<Spot<String>>,
    /// Is one of 1 to 16 secrets of at least 16 bytes in a file, a line each, compared in constant time.
    pub secret_file: Option<Spot<String>>,
    /// `true`: is there, whatever it says; `false`: is not.
    pub present: Option<bool>,
    /// Is a number above this.
    pub greater_than: Option<Spot<String>>,
    /// Is a number below this.
    pub less_than: Option<Spot<String>>,
}

/// What must be true of the sticky key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct KeyPredicate {
    /// Equal to this.
    pub value: Option<String>,
    /// The whole text matches this regular expression.
    pub regex: Option<Spot<String>>,
    /// Begins with this.
    pub prefix: Option<String>,
    /// Ends with this.
    pub suffix: Option<String>,
    /// Has this in it.
    pub contains: Option<String>,
    /// Is one of a list.
    #[serde(rename = "in")]
    pub one_of: Option<Vec<String>>,
    /// Is a line of a file beside the configuration.
    pub in_file: Option<Spot<String>>,
    /// `true`: is there, whatever it says; `false`: is not.
    pub present: Option<bool>,
    /// Is a number above this.
    pub greater_than: Option<Spot<String>>,
    /// Is a number below this.
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
