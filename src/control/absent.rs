//! Rollouts of routes that the file does not have at the moment: an edit may come back.
//!
//! Nothing that was put back starts again because its route was away for a while. It must never grow
//! without a bound, and never give anybody weight.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rollouts::Live;
use super::store::Kept;
use crate::analysis::Policy;
use crate::model::time::UnixMillis;
use crate::plan::Plan;
use crate::rollout::{Identity, Rollout};

/// Routes that are remembered although the file does not have them.
pub const MAX_ABSENT: usize = 256;
/// How long they are, in milliseconds.
const KEPT_MILLIS: u64 = 30 * 86_400_000;

/// What is known of the rollouts of a route that is away.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Absent {
    /// Since when, in wall-clock milliseconds.
    pub since_millis: u64,
    /// Number of the last run.
    pub run: u64,
    /// Number of the last thing asked or told.
    pub seq: u64,
    /// Versions that were put back, the last one last.
    pub spoiled: Vec<String>,
}

impl Absent {
    /// The rollout of a route that came back: nothing is under way, and the file says what begins.
    #[must_use]
    pub fn back(self, policy: &Policy, block: bool) -> Rollout {
        let identity = Identity { from: policy.from.clone(), to: policy.to.clone(), ..Identity::default() };
        let mut rollout = Rollout::new(identity);
        (rollout.run, rollout.seq, rollout.spoiled) = (self.run, self.seq, self.spoiled);
        rollout.block = block;
        rollout
    }
}

impl Kept {
    /// Puts every rollout where it belongs by what routes there are, and lets go of what is too old or
    /// too much.
    pub fn sort_out(&mut self, plan: &Plan, now: UnixMillis) {
        let all = std::mem::take(&mut self.by_route).into_iter();
        let (here, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.partition(|(route, _)| plan.route_named(route).is_some());
        self.by_route = here;
        for (route, known) in gone {
            let Rollout { run, seq, spoiled, .. } = known.rollout;
            self.absent.insert(route, Absent { since_millis: now.0, run, seq, spoiled });
        }
        for route in &plan.routes {
            let Some(policy) = &route.policy else { continue };
            let Some(one) = self.absent.remove(&*route.name) else { continue };
            let mut live = Live::new(Arc::clone(policy));
            live.rollout = one.back(policy, true);
            self.by_route.entry(route.name.to_string()).or_insert_with(|| live.to_remember(0));
        }
        bound(&mut self.absent, now);
    }
}

/// Lets go of what is too old, and of the oldest of what is too much.
pub fn bound(absent: &mut BTreeMap<String, Absent>, now: UnixMillis) {
    absent.retain(|_, one| now.0.saturating_sub(one.since_millis) < KEPT_MILLIS);
    while absent.len() > MAX_ABSENT {
        let oldest = absent.iter().min_by_key(|(_, one)| one.since_millis).map(|(route, _)| route.clone());
        let Some(oldest) = oldest else { return };
        absent.remove(&oldest);
    }
}
