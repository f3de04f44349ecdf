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
    /// Relative share; 0 is never.
    pub weight: Weight,
    /// Two arms may name the same. Default: the one named like the arm.
    pub upstream: Option<Spot<String>>,
    /// Where it grows from, 1 to 4: see buckets. Default: filled in name order.
    pub slot: Option<Spot<u8>>,
    /// Edits of requests to this arm alone: `set`, `add`, `remove`.
    pub request_headers: Option<Spot<HeaderEdit>>,
    /// Edits of responses of this arm alone.
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
    /// `{ header: NAME }`, `{ cookie: NAME }`, `{ query: NAME }`, `clientIP`; the first that is present and not
    /// empty wins.
    pub by: Spot<Vec<Spot<KeySource>>>,
    /// Seed: the same users for the same salt, others for another; with a `rollout` the route's name, `/` and
    /// the version, so that other users are first each time. Default: the route's name.
    pub salt: Option<Spot<String>>,
    /// `name`, `maxAge` (`30d`): a random id for clients without a key; it identifies, it pins no arm.
    pub issue_cookie: Option<Spot<IssueCookie>>,
    /// `cookie`, `maxAge` (`1h`, at most `30d`), `keyFile`: a signed cookie that keeps a client on its arm.
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
    /// Unique in the route; a metric label.
    pub name: Spot<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// `headers`, `cookies`, `queryParams`, `clientIP` as in matches, and `stickyKey` with the same tests; all
    /// must hold.
    pub when: Spot<When>,
    /// The arm it forces.
    pub arm: Option<Spot<String>>,
    /// Instead of `arm`: a split inside the segment, over the same buckets.
    pub split: Option<Spot<BTreeMap<Spot<String>, Spot<Weight>>>>,
    /// Moment such as `2026-12-24T00:00:00Z` at which it begins. Default: always.
    pub active_from: Option<Spot<Moment>>,
    /// Moment at which it ends. Default: always.
    pub active_until: Option<Spot<Moment>>,
    /// Its requests count for guards; needs `clientIP`, or a header with `secretFile`.
    #[serde(default)]
    pub trusted: bool,
    /// Holds even for an arm an operator set to 0.
    #[serde(default)]
    pub force: bool,
    /// Passes the headers it looks at upstream; otherwise they are removed.
    #[serde(default)]
    pub pass: bool,
}

/// Two slots of which one serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BlueGreen {
    /// Two arms, upstreams of those names.
    pub slots: Spot<Vec<Spot<String>>>,
    /// The slot that serves at first; from the first flip on the state folder says which, until the slots are
    /// edited.
    pub active: Spot<String>,
    /// Who sees the idle slot.
    pub preview: Option<Spot<Preview>>,
    /// What every endpoint of the idle slot must answer before a flip: `[{ path, expect: [200], count: 1,
    /// method: GET, host }]`, at most 100 requests to each, 5 s an answer, 30 s in all. Asked of the endpoints
    /// themselves, HTTP/1.1.
    pub smoke: Option<Spot<Vec<Spot<Smoke>>>>,
    /// Watch after a flip.
    #[serde(default)]
    pub verify: Verify,
    /// How long tunnels of the old slot stay open after a flip; requests end where they began, however long
    /// they take.
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
    /// How long the slot is watched that was flipped to; 0 is not at all.
    #[serde(rename = "for")]
    pub span: Spot<Span>,
    /// Fixed limits beside the guard, as in a rollout.
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
    /// Who sees the other slot: requests for which all of these tests hold. Default: nobody.
    pub headers: Vec<Spot<Predicate>>,
    /// Hosts whose requests see the other slot as well.
    pub hostnames: Vec<Spot<String>>,
}
