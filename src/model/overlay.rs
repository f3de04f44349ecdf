//! Run-time intent: what operators asked for since the file was written, keyed by names.
//!
//! It exists because the file is never rewritten by the program: plan = file + overlay + live cells.
//! It must never hold anything derived; deleting it returns to the file's truth.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How long a pin may hold at most, in seconds: that long it is remembered that pins were ended.
pub const MAX_PIN_AGE_SECS: u64 = 30 * 24 * 3_600;

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteOverlay {
    /// Weight by arm name.
    pub weights: BTreeMap<String, u32>,
    /// Fingerprint of the file's split when the weights were set: an edit of that split ends them.
    pub split_fingerprint: u64,
    /// Who and why.
    pub by: Provenance,
    /// Arms of weight 0 whose pins still hold, with the moment that began, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub draining: BTreeMap<String, u64>,
    /// Those of them of which it was told that nothing is left, with the same moment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drained: BTreeMap<String, u64>,
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
    /// Number of the run: pins of its arms end with it.
    pub run: u64,
    /// Share of the traffic copied to `to` before its first step, in parts per million.
    pub shadow: Option<u32>,
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
    /// When pins were last ended, in Unix milliseconds, by route and arm.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins_ended: BTreeMap<String, BTreeMap<String, u64>>,
    /// Exchanged slots by route name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<String, SlotOverlay>,
    /// What rollouts say; remembered as the rollouts themselves.
    #[serde(skip)]
    pub guided: BTreeMap<String, Guided>,
}

impl Overlay {
    /// Ends the pins of some arms of a route; what no pin can outlive any more is forgotten.
    pub fn end_pins(&mut self, route: &str, arms: &[String], now_millis: u64) {
        if arms.is_empty() {
            return;
        }
        let of_route = self.pins_ended.entry(route.to_owned()).or_default();
        of_route.extend(arms.iter().map(|arm| (arm.clone(), now_millis)));
        let matters = |at: &u64| now_millis.saturating_sub(*at) <= MAX_PIN_AGE_SECS * 1_000;
        self.pins_ended.retain(|_, arms| {
            arms.retain(|_, at| matters(at));
            !arms.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_pins_are_remembered_as_long_as_a_pin_holds() {
        let mut overlay = Overlay::default();
        overlay.end_pins("a", &[], 1);
        assert_eq!(overlay, Overlay::default());
        overlay.end_pins("a", &["canary".to_owned()], 1_000);
        overlay.end_pins("b", &["canary".to_owned()], 2_000);
        overlay.end_pins("a", &["canary".to_owned(), "third".to_owned()], 3_000);
        let text = serde_json::to_string(&overlay).expect("JSON");
        assert_eq!(serde_json::from_str::<Overlay>(&text).expect("an overlay"), overlay);
        assert_eq!(overlay.pins_ended["a"]["canary"], 3_000);
        overlay.end_pins("c", &["x".to_owned()], MAX_PIN_AGE_SECS * 1_000 + 2_001);
        assert_eq!(overlay.pins_ended.keys().collect::<Vec<_>>(), ["a", "c"]);
        // What was written before pins were is read.
        let old = r#"{"routes":{"r":{"weights":{"a":1},"split_fingerprint":7,"by":{"actor":"","reason":"","at_millis":1}}}}"#;
        assert!(serde_json::from_str::<Overlay>(old).expect("an overlay").routes["r"].draining.is_empty());
    }
}
