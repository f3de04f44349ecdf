//! Who gets an arm by other means than weight: overrides, pins, and what a drain leaves.
//!
//! Shared by the API and the command line. It must never name a user.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asked, verb::is_false};

/// `POST /api/v1/routes/{r}/drain`.
pub type DrainRequest = Asked<DrainOf>;

/// What is asked of an arm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Drain")]
pub struct DrainOf {
    /// The arm.
    pub arm: String,
}

/// How an arm that is drained gets empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// `draining`, or `drained`: no exchange runs and no pin to it holds any more.
    pub state: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub since_millis: u64,
    /// When the last pin is over, in milliseconds since the Unix epoch; `None` on a route without pins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_millis: Option<u64>,
    /// Requests and tunnels it still has.
    #[serde(default)]
    pub in_flight: u64,
    /// When tunnels still open are closed, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub tunnels_until_millis: u64,
}

/// One override and what it did since the start, or since it was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// Name.
    pub name: String,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The arm it forces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
    /// Or the percent of its requests by arm.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub split: BTreeMap<String, f64>,
    /// First moment of its window (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_from: Option<String>,
    /// The moment its window ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_until: Option<String>,
    /// `active`, `pending`, `expired`, or `void`: its arm was taken back.
    pub state: String,
    /// Arms it leads to and that were taken back or set to 0 by hand: whom it would give them is split
    /// like everybody else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub off: Vec<String>,
    /// Its requests count for guards.
    #[serde(default, skip_serializing_if = "is_false")]
    pub trusted: bool,
    /// It holds for an arm that was taken back too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
    /// Since when its requests are counted (RFC 3339).
    pub since: String,
    /// Requests it caught.
    pub hits: u64,
    /// The same by arm, where there were any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hits_by_arm: BTreeMap<String, u64>,
    /// Those of the last minute.
    pub last_minute: u64,
    /// `never hit` or `always hit`, once there was enough traffic to say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<String>,
}
