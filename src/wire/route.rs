//! A route as operators see it: its arms, their weights, and what the last minute showed.
//!
//! Shared by the API, the page and the command line. A field once published keeps its name and meaning; it
//! must never be computed here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Drain, Objective, Override, Rollout};

/// `GET /api/v1/routes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Routes {
    /// Generation of the configuration.
    pub generation: u64,
    /// Routes in file order.
    pub routes: Vec<Route>,
}

/// `GET /api/v1/routes/{r}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// Name.
    pub name: String,
    /// Generation of the plan in which it last changed.
    pub generation: u64,
    /// Arms in name order; empty when a filter answers.
    pub arms: Vec<Arm>,
    /// Who set the weights in force by hand; `None` when the file or a rollout says them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<ByHand>,
    /// Guarded progress to a new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// What it promises, and what is left of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slo: Vec<Objective>,
    /// Who is steered past the split, and how often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// Who gets copies of its requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// Slots of a blue-green route.
    #[serde(default, rename = "blueGreen", skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreen>,
}

/// Who set weights by hand, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ByHand {
    /// A person or a program, as named by the caller.
    pub actor: String,
    /// Why, when said.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_millis: u64,
}

/// Copies of a route's requests for one upstream; numbers are since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// Upstream that gets them.
    pub to: String,
    /// Percent of the users, or of the requests without a sticky key.
    pub percent: f64,
    /// Requests drawn: all of them are sent, dropped, or under way.
    pub sampled: u64,
    /// Copies sent that ended.
    pub sent: u64,
    /// Requests drawn and not copied, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// 99th percentile to the shadow's response head in milliseconds; `None` without answers.
    pub p99_ms: Option<f64>,
    /// Pairs of answers: both good, only the primary bad, only the shadow bad, both bad; absent
    /// where answers are not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<[u64; 4]>,
    /// Places that differ; absent where answers are not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differing: Option<Places>,
}

/// Places in which answers differ, by what is known of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Places {
    /// More often than by themselves.
    pub confirmed: usize,
    /// Nothing is known yet.
    pub unconfirmed: usize,
    /// By themselves.
    pub noise: usize,
}

/// One arm; numbers are of the last minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Arm {
    /// Name.
    pub name: String,
    /// Upstream that serves it.
    pub upstream: String,
    /// Relative weight in force.
    pub weight: u32,
    /// Where the weight comes from: `spec`, `rollout` or `operator`.
    pub source: String,
    /// Share of the route's requests, 0 to 1; `None` when there were none.
    pub observed: Option<f64>,
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
    /// Exchanges running now.
    pub in_flight: u64,
    /// Exchanges whose arm a pin named; `None` on a route without pins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<u64>,
    /// How it gets empty; `None` when it is not drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Addresses of its upstream.
    pub endpoints: Vec<Endpoint>,
    /// Its upstream's breaker: `closed`, `open`, `half_open`, or `held` open by hand; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    /// What answers its requests while that is open: `upstream NAME` or `respond STATUS` by the file,
    /// `others` (the other arms), or `fail`; `None` without a breaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_open: Option<String>,
}

/// One address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// `scheme://host:port`.
    pub address: String,
    /// Whether it is used; one that is on trial is not yet.
    pub healthy: bool,
    /// What the last probe found wrong; empty when it was good, or there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Slots of a blue-green route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BlueGreen {
    /// The slot that serves.
    pub active: String,
    /// The other.
    pub idle: String,
    /// What is going on between them: `STEADY`, `SMOKE`, `VERIFYING` or `FLIPPED_BACK`.
    pub state: String,
    /// Why it is so, in a sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The same from a closed set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Whether `flip --back` leads to the idle slot.
    pub way_back: bool,
    /// Seconds for which the active slot is still watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watched_for: Option<f64>,
    /// Requests and connections of the idle slot that are waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draining: Option<u64>,
    /// What a flip that is under way waits for, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
    /// The last flip in the history, such as `flip-3`; empty before the first.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
}
