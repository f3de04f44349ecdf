//! What operators ask for and what the program answers that it did.
//!
//! Unknown keys of a body are refused, so that a misspelt wish is never half obeyed. It must never decide what
//! is allowed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asked, Diagnostic};

/// `POST /api/v1/routes/{r}/weights`: `weights` or `reset`.
pub type WeightsRequest = Asked<Weights>;

/// What is asked of the weights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Weight by arm: the whole split, arms not named get 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<BTreeMap<String, u32>>,
    /// Returns to the file's weights.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reset: bool,
    /// Even if no arm has weight then, and everybody gets 503.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

/// `POST /api/v1/routes/{r}/flip`; the body may be empty.
pub type FlipRequest = Asked<Flip>;

/// What is asked of the slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flip {
    /// To the slot that served before, at once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub back: bool,
    /// Untried, and whether or not anybody answers there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
}

/// Answer to a flip.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Flipped {
    /// Generation of the route.
    pub generation: u64,
    /// Weights that changed.
    pub changed: Vec<Changed>,
    /// The reason given.
    pub reason: String,
    /// The slot that serves.
    pub active: String,
    /// The other.
    pub idle: String,
    /// What is going on between them.
    pub state: String,
    /// What it did, in a sentence.
    pub text: String,
    /// What it waits for now, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
    /// The flip in the history, such as `flip-3`: the one that began, or that was undone.
    pub id: String,
}

/// `POST /api/v1/reload`; the body may be empty.
pub type ReloadRequest = Asked<Reload>;

/// Nothing is asked of a load but to do it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {}

/// One weight that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Arm name.
    pub arm: String,
    /// Weight before.
    pub before: u32,
    /// Weight now.
    pub after: u32,
}

/// Answer to a weights request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightsSet {
    /// Generation of the route.
    pub generation: u64,
    /// Weights that changed.
    pub changed: Vec<Changed>,
    /// The reason given.
    pub reason: String,
}

/// Answer to a reload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    /// Generation of the configuration, the present one for a dry run.
    pub generation: u64,
    /// What changed, or would.
    pub changed: Vec<PlanChange>,
    /// The reason given.
    pub reason: String,
    /// Whether nothing was applied.
    pub dry_run: bool,
    /// What somebody should look at.
    pub warnings: Vec<Diagnostic>,
}

/// One difference between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanChange {
    /// Route it concerns; empty for the rest.
    pub route: String,
    /// One sentence.
    pub text: String,
    /// Share of sticky users that change arm, in percent.
    pub moved_percent: f64,
}
