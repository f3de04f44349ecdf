//! What a page that stays open is told: a picture once a second, and what happened.
//!
//! It exists so that nobody has to poll. It must never hold what `/routes` and `/history` would not
//! tell as well.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Load, Route};

/// Event `tick` of `GET /api/v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tick {
    /// Now, in milliseconds since the Unix epoch.
    pub at_millis: u64,
    /// Version of the program.
    pub version: String,
    /// `starting`, `ready` or `draining`; after the last, nothing more comes.
    pub status: String,
    /// `ok` or what is wrong, by part.
    pub checks: BTreeMap<String, String>,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Generation of the configuration.
    pub generation: u64,
    /// The last attempt to load it.
    pub last_reload: Load,
    /// Breakers that are not closed, by upstream: `open`, `half_open` or `held`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub breakers: BTreeMap<String, String>,
    /// Upstreams whose endpoints are all out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all_out: Vec<String>,
    /// Routes there are; a tick holds a bounded number of them.
    pub total: usize,
    /// Routes with rollouts first, then in file order.
    pub routes: Vec<Route>,
    /// By route and arm: the last whole point of the past, and the one that is being filled.
    pub points: BTreeMap<String, BTreeMap<String, Vec<Point>>>,
}

/// `GET /api/v1/routes/{r}/past`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// The route.
    pub route: String,
    /// How far back it goes.
    pub span_millis: u64,
    /// Points by arm, oldest first; a time without traffic has none.
    pub arms: BTreeMap<String, Vec<Point>>,
}

/// What one arm saw in a few seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// When they ended, in milliseconds since the Unix epoch.
    pub at_millis: u64,
    /// How long they were.
    pub millis: u64,
    /// Exchanges ended.
    pub requests: u64,
    /// Exchanges it failed.
    pub errors: u64,
    /// Median duration in milliseconds; `None` without requests.
    pub p50_ms: Option<f64>,
    /// 95th percentile.
    pub p95_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
    /// The share its weight gave it at the end, 0 to 1.
    pub share: f64,
}

/// Event `config` of `GET /api/v1/events`: something was done to the configuration or by hand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Act {
    /// Its number since the start: whoever saw it before need not show it again.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_millis: u64,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What: `start`, `reload`, `reload-refused`, `weights`, `weights-reset`, `drain`, …
    pub what: String,
    /// Route it concerns; empty for the rest.
    pub route: String,
    /// How it was.
    pub before: Value,
    /// How it is.
    pub after: Value,
    /// Generation of the configuration after it.
    pub generation: u64,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
