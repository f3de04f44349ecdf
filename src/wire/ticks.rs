//! What the analyzer saw of a route lately, as it travels.
//!
//! It exists so that a live rollout can be recorded. It must never hold counts of its own: each line
//! is one of a recording, as `simulate --counts` reads it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::verb::is_false;

/// `GET /api/v1/routes/{r}/ticks?after=NUMBER`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ticks {
    /// Numbers mean nothing under another one: the process was started again.
    pub source: u64,
    /// What to ask for next as `after`.
    pub next: u64,
    /// There are more lines already.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
    /// Lines that were asked for and are no longer kept.
    #[serde(default)]
    pub missing: u64,
    /// State of the rollout.
    pub state: String,
    /// Whether it is under way, or could begin.
    #[serde(default)]
    pub live: bool,
    /// Lines of a recording, oldest first.
    pub lines: Vec<String>,
}
