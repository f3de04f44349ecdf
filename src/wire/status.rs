//! The process as a whole: ready or not, which configuration, which listeners.
//!
//! Shared by the API, the page and the command line. A field once published keeps its name and meaning; it
//! must never be computed here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Diagnostic, Rollout};

/// `GET /api/v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// `starting`, `ready` or `draining`.
    pub status: String,
    /// Generation of the configuration.
    pub generation: u64,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Data-plane threads.
    pub workers: usize,
    /// `ok` or what is wrong, by part; what `/readyz` says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, String>,
    /// The configuration.
    pub config: Config,
    /// Run-time state.
    pub state: State,
    /// Addresses clients come to.
    pub listeners: Vec<Listener>,
    /// How many routes there are.
    pub routes: usize,
    /// How many upstreams there are.
    pub upstreams: usize,
    /// Breakers by upstream: `closed`, `open`, `half_open`, or `held` open by an operator.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub breakers: BTreeMap<String, String>,
    /// Upstreams whose endpoints are all out, by probes or by their answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all_out: Vec<String>,
    /// Rollouts by route.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rollouts: BTreeMap<String, Rollout>,
}

/// Where the configuration is from and how its last load went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Path given at the start.
    pub path: String,
    /// Files that were read.
    pub files: Vec<String>,
    /// The last attempt to load it.
    pub last_reload: Load,
    /// When an earlier one serves in place of the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
}

/// An earlier configuration that serves again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolledBack {
    /// Generation that was gone back to.
    pub to: u64,
    /// Who asked for it.
    pub actor: String,
    /// Why, when said.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_millis: u64,
}

/// One attempt to load the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// When, in milliseconds since the Unix epoch.
    pub at_millis: u64,
    /// What asked for it.
    pub actor: String,
    /// Whether it was accepted; a refused one leaves the old configuration in force.
    pub ok: bool,
    /// Findings, warnings among them.
    pub diagnostics: Vec<Diagnostic>,
}

/// Run-time state on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// Folder.
    pub dir: String,
    /// `ok`, or what is wrong with it.
    pub detail: String,
}

/// One bound address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// Name.
    pub name: String,
    /// Address.
    pub address: String,
    /// Open client connections.
    pub connections: i64,
}

/// `GET /livez`, `/readyz`, `/startupz`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// `ready`, or why not: `starting`, `draining`.
    pub status: String,
    /// `ok` or what is wrong, by part.
    pub checks: BTreeMap<String, String>,
}
