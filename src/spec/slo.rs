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
    /// Share of exchanges that no arm fails.
    pub availability: Spot<Percent>,
    /// Shares of exchanges that are fast enough.
    pub latency: Vec<Spot<Latency>>,
    /// What the error budget is for, one hour to 31 days.
    pub window: Spot<Span>,
    /// Share of the budget below which no weight rises; 0 is never.
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
