//! Configurations that were in force, and the way back to one.
//!
//! Shared by the API and the command line, so that both say the same. It must never carry a secret.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Asked;

/// `GET /api/v1/config/history`, oldest first; the last is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigHistory {
    /// Configurations that can be gone back to, and the one in force.
    pub entries: Vec<ConfigEntry>,
}

/// One configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigEntry {
    /// Generation with which it came into force.
    pub generation: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_millis: u64,
    /// Who loaded it.
    pub actor: String,
    /// Why, when said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Generation it was brought back from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u64>,
    /// What it changed, a sentence each.
    pub changes: Vec<String>,
}

/// `POST /api/v1/config/rollback`.
pub type RollbackRequest = Asked<Rollback>;

/// Where to go back to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Any generation at which the configuration was in force.
    pub generation: u64,
}
