//! Splits as written: arms, sticky keys, overrides, blue-green slots.
//!
//! Maps keep no order, because key order never matters. It must never give an arm a default share.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::filter::HeaderEdit;
use super::rollout::Thresholds;
use super::rule::{Predicate, When};
use super::scalar::{Moment, Span, Weight};
use super::spot::{Short, ShortOr, Spot};

/// The arms of a split by name; the order in the file never matters.
pub type Arms = BTreeMap<Spot<String>, Spot<ShortOr<Arm>>>;

/// One named share of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Arm {
    /// Relative share.
    pub weight: Weight,
    /// Upstream that serves it; default: the one named like the arm.
    pub upstream: Option<Spot<String>>,
    /// Where in the bucket range it grows from, 1 to 4.
    pub slot: Option<Spot<u8>>,
    /// Edits of requests sent to it.
    pub request_headers: Option<Spot<HeaderEdit>>,
    /// Edits of its responses.
    pub response_headers: Option<Spot<HeaderEdit>>,
}

impl Short for Arm {
    const EXPECTED: &'static str = "a weight (a whole number from 0 to 1000000)";
    fn from_short(text: &str) -> Result<Self, String> {
        Ok(Self {
            weight: Weight::from_text(text)?,
            upstream: None,
            slot: None,
            request_headers: None,
            response_headers: None,
        })
    }
}

/// What identifies a user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Sticky {
    /// Keys in order; the first present wins.
    pub by: Spot<Vec<Spot<KeySource>>>,
    /// Seed of the split; default: the route name.
    pub salt: Option<Spot<String>>,
    /// Gives clients without a key a random id.
    pub issue_cookie: Option<Spot<IssueCookie>>,
    /// Signed pin of the arm itself.
    pub pin: Option<Spot<Pin>>,
}

/// Where a sticky key is read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum KeySource {
    /// A header.
    Header(Spot<String>),
    /// A cookie.
    Cookie(Spot<String>),
    /// A query parameter.
    Query(Spot<String>),
    /// The client's address after trusted proxies.
    #[serde(rename = "clientIP")]
    ClientIp,
}

/// An id for clients without a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IssueCookie {
    /// Cookie name.
    pub name: Spot<String>,
    /// How long the client keeps it.
    #[serde(default = "thirty_days")]
    pub max_age: Span,
}

/// A signed cookie that keeps a client on its arm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Pin {
    /// Cookie name.
    pub cookie: Spot<String>,
    /// How long a pin holds.
    #[serde(default = "one_hour")]
    pub max_age: Span,
    /// File with the key that signs, and on a second line the one before it.
    pub key_file: Spot<String>,
}

const fn one_hour() -> Span {
    Span::seconds(3600)
}

const fn thirty_days() -> Span {
    Span::seconds(30 * 24 * 3600)
}

/// Request-level forcing; the first that holds wins.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Override {
    /// Unique name within the route; a metric label.
    pub name: Spot<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// When it applies.
    pub when: Spot<When>,
    /// The arm it forces.
    pub arm: Option<Spot<String>>,
    /// Or a split inside the segment.
    pub split: Option<Spot<BTreeMap<Spot<String>, Spot<Weight>>>>,
    /// Not before.
    pub active_from: Option<Spot<Moment>>,
    /// Not after.
    pub active_until: Option<Spot<Moment>>,
    /// Counts for the guard; needs a client network or a secret.
    #[serde(default)]
    pub trusted: bool,
    /// Holds even when the arm was zeroed by verb.
    #[serde(default)]
    pub force: bool,
    /// Passes its headers upstream.
    #[serde(default)]
    pub pass: bool,
}

/// Two slots of which one serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BlueGreen {
    /// Two arms; upstreams of those names.
    pub slots: Spot<Vec<Spot<String>>>,
    /// The slot that serves at first.
    pub active: Spot<String>,
    /// Who sees the idle slot.
    pub preview: Option<Spot<Preview>>,
    /// Requests sent to every endpoint of the idle slot before a flip.
    pub smoke: Option<Spot<Vec<Spot<Smoke>>>>,
    /// Watch after a flip.
    #[serde(default)]
    pub verify: Verify,
    /// How long tunnels of the old slot stay open after a flip.
    #[serde(default = "a_minute")]
    pub drain: Span,
}

const fn a_minute() -> Span {
    Span::seconds(60)
}

/// A request that every endpoint of a slot must answer well before it serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Smoke {
    /// Path with its query.
    pub path: Spot<String>,
    /// Statuses that are well.
    #[serde(default = "two_hundred")]
    pub expect: Vec<Spot<u16>>,
    /// How often each endpoint is asked.
    #[serde(default = "once")]
    pub count: Spot<u32>,
    /// Method, upper case.
    #[serde(default = "a_get")]
    pub method: Spot<String>,
    /// Host asked for; default: the endpoint's own address.
    pub host: Option<Spot<String>>,
}

fn two_hundred() -> Vec<Spot<u16>> {
    vec![Spot::unwritten(200)]
}

const fn once() -> Spot<u32> {
    Spot::unwritten(1)
}

fn a_get() -> Spot<String> {
    Spot::unwritten("GET".to_owned())
}

/// The watch after a flip.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Verify {
    /// How long; 0 is not at all.
    #[serde(rename = "for")]
    pub span: Spot<Span>,
    /// Fixed limits beside the guard.
    pub thresholds: Spot<Thresholds>,
}

impl Default for Verify {
    fn default() -> Self {
        Self { span: Spot::unwritten(a_minute()), thresholds: Spot::default() }
    }
}

/// Who sees the idle slot: either condition is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Preview {
    /// Conditions on headers, all of them.
    pub headers: Vec<Spot<Predicate>>,
    /// Host names that always show the idle slot.
    pub hostnames: Vec<Spot<String>>,
}
