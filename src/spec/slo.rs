//! Objectives of a route as written: what share of its answers is promised to be good, and fast.
//!
//! It is shape only: which numbers make no objective is said where they are compiled. It must never
//! hold a default that is not the documented one.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{Percent, Span};
use super::spot::Spot;

/// What a route promises.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Slo {
    /// Share of exchanges without the outcome `error`; also how bad stable is expected to be by `rollout`.
    pub availability: Spot<Percent>,
    /// `[{ threshold, target }]`, at most 4, rising: share of exchanges that take no longer from request head
    /// to end of response. A threshold is one that latency is counted to exactly (`300ms`, `750ms`, `1s`; the
    /// refusal names the next) and a bucket of the route's `switchback_request_duration_seconds`.
    pub latency: Vec<Spot<Latency>>,
    /// What the error budget is for, `1h` to `31d`.
    pub window: Spot<Span>,
    /// Share of any objective's budget below which no weight rises: `PENDING` and `HOLD` wait for it; 0 never.
    pub freeze_below: Spot<Percent>,
}

impl Default for Slo {
    fn default() -> Self {
        Self {
            availability: Spot::unwritten(Percent { parts_per_million: 999_000 }),
            latency: Vec::new(),
            window: Spot::unwritten(Span::seconds(30 * 86_400)),
            freeze_below: Spot::unwritten(Percent::whole(0)),
        }
    }
}

/// A share of exchanges that is fast enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Latency {
    /// Longest time from the request head to the end of the response.
    pub threshold: Spot<Span>,
    /// Share of exchanges that take no longer.
    pub target: Spot<Percent>,
}
