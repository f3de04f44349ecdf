//! An objective as operators see it: what is left of its error budget, and how fast it goes.
//!
//! Shared by the API, the page and the command line. It must never be computed here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One objective of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// `availability`, or `latency_300ms`.
    pub objective: String,
    /// Share of good outcomes, 0 to 1.
    pub target: f64,
    /// What the budget is for, such as `30d`.
    pub window: String,
    /// Share of the budget that is left, at most 1; below 0 when overspent.
    pub budget_remaining: f64,
    /// Whether it keeps weights from rising.
    pub frozen: bool,
    /// How many times faster than allowed it goes, by window.
    pub burn: Vec<BurnRate>,
    /// The alarm that sounds, such as `14.4x over 1h and 5m`.
    pub alarm: Option<String>,
}

/// How fast the budget goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BurnRate {
    /// Over how long: `5m`, `30m`, `1h`, `6h`, `3d`.
    pub window: String,
    /// Times the rate that spends exactly the budget.
    pub rate: f64,
}
