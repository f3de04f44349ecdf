//! Breakers: what operators ask of them, and what they are told.
//!
//! Shared by the API and the command line. It must never know how a breaker works.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Asked;

/// What a breaker is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BreakerState {
    /// Held open until it is closed by the same verb.
    #[default]
    Open,
    /// Closed, with what was counted before forgotten.
    #[serde(alias = "closed")]
    Close,
}

/// `POST /api/v1/upstreams/{u}/breaker`.
pub type BreakerRequest = Asked<Breaker>;

/// What is asked of a breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// `open` or `close`.
    pub state: BreakerState,
}

/// Answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BreakerTurned {
    /// Generation of the configuration.
    pub generation: u64,
    /// `closed`, `open` or `half_open` before.
    pub before: String,
    /// And now.
    pub state: String,
    /// The reason given.
    pub reason: String,
}
