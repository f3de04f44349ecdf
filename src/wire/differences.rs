//! What mirrored requests were answered differently, as operators see it.
//!
//! Shared by the API and the command line. It must never carry a value that was not cleared to be shown.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/routes/{r}/differences`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Differences {
    /// The route.
    pub route: String,
    /// Mirrors of which pairs of answers were seen.
    pub mirrors: Vec<Mirrored>,
    /// Pairs of all routes that were dropped because comparing could not keep up.
    pub dropped: u64,
}

/// One mirror.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mirrored {
    /// Upstream that copies go to.
    pub to: String,
    /// What is compared: `status`, headers, `body` or `json`; empty when only failures are.
    pub compare: Vec<String>,
    /// Whether a rollout's shadow phase goes by it.
    pub live: bool,
    /// Since when it is counted, in wall-clock milliseconds.
    pub since_millis: u64,
    /// Pairs of answers compared.
    pub pairs: u64,
    /// Pairs of two answers of the same upstream.
    pub noise_pairs: u64,
    /// Of these as many are needed before anything is confirmed.
    pub noise_needed: u64,
    /// Pairs whose bodies could not be compared: too long, or encoded.
    pub unread: u64,
    /// Which sides failed.
    pub failures: Discordance,
    /// Latency of the same requests.
    pub latency: Latency,
    /// Differences with the mirror by kind, noise among them.
    pub by_kind: BTreeMap<String, u64>,
    /// Places that differ, confirmed ones first.
    pub differences: Vec<Differing>,
    /// Examples of what is not noise.
    pub samples: Vec<Mismatch>,
}

/// Which sides of pairs failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Discordance {
    /// Neither.
    pub both_good: u64,
    /// What the client got.
    pub primary_bad: u64,
    /// The mirror's.
    pub shadow_bad: u64,
    /// Both.
    pub both_bad: u64,
}

/// Latency of both sides of pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// What the client got.
    pub primary: Quantiles,
    /// The mirror's.
    pub shadow: Quantiles,
}

/// Quantiles in milliseconds; `None` without a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quantiles {
    /// Median.
    pub p50_ms: Option<f64>,
    /// 90th percentile.
    pub p90_ms: Option<f64>,
    /// 99th percentile.
    pub p99_ms: Option<f64>,
}

/// One place that differs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Differing {
    /// `status`, `header`, `body`, `json-missing`, `json-extra`, `json-type`, `json-value`, `length`.
    pub kind: String,
    /// Where; empty for a whole body.
    pub path: String,
    /// `confirmed`, `unconfirmed`, `noise`.
    pub standing: String,
    /// Pairs in which it differed.
    pub pairs: u64,
    /// Their share, 0 to 1.
    pub share: f64,
    /// Pairs of two answers of the same upstream in which it differed.
    pub noise: u64,
    /// Their share, 0 to 1.
    pub noise_share: f64,
}

/// An example of a difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mismatch {
    /// Wall-clock milliseconds.
    pub at_millis: u64,
    /// `x-request-id` of both.
    pub request_id: String,
    /// Method.
    pub method: String,
    /// Path of the request, without its query.
    pub target: String,
    /// What kind.
    pub kind: String,
    /// Where.
    pub path: String,
    /// What the client got, shortened and without secrets.
    pub primary: String,
    /// What the mirror answered, likewise.
    pub shadow: String,
}
