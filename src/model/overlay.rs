//! Run-time intent: what operators asked for since the file was written, keyed by names.
//!
//! It exists because the file is never rewritten by the program: plan = file + overlay + live cells.
//! It must never hold anything derived; deleting it returns to the file's truth.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who asked for a change, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// A person or part of the program, as named by the caller.
    pub actor: String,
    /// Free text.
    pub reason: String,
    /// Wall-clock milliseconds since the Unix epoch.
    pub at_millis: u64,
}

/// Operator weights of one route: the whole split, arms not named are 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteOverlay {
    /// Weight by arm name.
    pub weights: BTreeMap<String, u32>,
    /// Fingerprint of the file's split when the weights were set: an edit of that split ends them.
    pub split_fingerprint: u64,
    /// Who and why.
    pub by: Provenance,
}

/// The slots of a blue-green route as they were exchanged: they hold as long as the file has both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotOverlay {
    /// The slot that serves.
    pub active: String,
    /// The other one.
    pub idle: String,
    /// Who and why.
    pub by: Provenance,
}

impl SlotOverlay {
    /// Whether it is about these two slots, in whatever order.
    #[must_use]
    pub fn is_of(&self, one: &str, other: &str) -> bool {
        let pair = (self.active.as_str(), self.idle.as_str());
        pair == (one, other) || pair == (other, one)
    }
}

/// What a rollout says of its route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guided {
    /// The arm it comes from.
    pub from: String,
    /// The arm it goes to.
    pub to: String,
    /// Share of `to` of what both arms have together, in parts per million; `None` leaves the file's.
    pub share: Option<u32>,
    /// The arm that overrides and pins cannot reach.
    pub void: Option<String>,
    /// The comparison under way.
    pub compared: Option<Compared>,
}

/// Two arms that are being compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The arm on trial.
    pub candidate: String,
    /// Weight epoch: outcomes belong to the one of their choice.
    pub epoch: u64,
    /// Random bits of the epoch.
    pub seed: u64,
}

/// All run-time intent, by route name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Operator weights by route name.
    pub routes: BTreeMap<String, RouteOverlay>,
    /// Exchanged slots by route name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<String, SlotOverlay>,
    /// What rollouts say; remembered as the rollouts themselves.
    #[serde(skip)]
    pub guided: BTreeMap<String, Guided>,
}
