//! Draining: an arm gets no new users, and keeps those pinned to it until their pins are over.
//!
//! Its counterpart is here too: what ends the pins of an arm at once. It must never end pins of an arm
//! that is drained, nor leave those of one that was put back.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::{Asked, Change, Reply};
use super::command::DrainAsk;
use super::controller::Controller;
use super::refusal::{Refusal, RefusalKind, find, whole_split};
use crate::plan::Route;

impl Controller {
    /// Takes an arm's weight; the answer goes when it is done.
    pub(super) async fn drain(&mut self, ask: DrainAsk, reply: Reply) {
        let DrainAsk { route: name, arm, by, expected } = ask;
        let wanted = find(&self.publisher.current(), &name).and_then(|route| without(route, &arm));
        let change = match wanted {
            Ok((weights, mut draining)) => {
                draining.entry(arm).or_insert(self.clock.now().0);
                self.weights_change(&name, Some(weights), &draining, &by, expected).await
            }
            Err(refusal) => Err(refusal),
        };
        self.weights_changed(&name, change, Asked { by, what: "drain", words: None, reply }).await;
    }

    /// The arms whose pins end with a change: those that a person or a rollout takes back.
    pub(super) fn pins_ended_by(&self, change: &Change) -> Vec<String> {
        let plan = self.publisher.current();
        let pinned = plan.route_named(&change.route).is_some_and(|route| route.split.pin.is_some());
        if !pinned {
            return Vec::new();
        }
        let set = change.weights.as_ref().and_then(Option::as_ref);
        let zeroed = set.into_iter().flat_map(|set| &set.weights).filter(|(_, weight)| **weight == 0);
        let before = self.rollouts.get(&change.route).and_then(|live| live.rollout.void_arm());
        let back = change.outcome().and_then(|outcome| outcome.next.void_arm());
        let mut ended: BTreeSet<&str> = zeroed.map(|(arm, _)| arm.as_str()).collect();
        ended.extend(back.filter(|_| back != before));
        // Nobody is kept on the slot that served before.
        let slots = self.slots_after(change);
        ended.extend(slots.as_ref().map(|slots| slots.idle.as_str()));
        let drained = |arm: &str| set.is_some_and(|set| set.draining.contains_key(arm));
        ended.into_iter().filter(|arm| !drained(arm)).map(str::to_owned).collect()
    }
}

/// Weights by arm, and since when arms are drained.
type Wanted = (BTreeMap<String, u32>, BTreeMap<String, u64>);

/// The weights in force without an arm's, and the arms that are drained already.
fn without(route: &Route, arm: &str) -> Result<Wanted, Refusal> {
    let others = route.arms.iter().filter(|other| *other.name != *arm);
    let mut weights: BTreeMap<String, u32> =
        others.map(|other| (other.name.to_string(), other.weight)).collect();
    let left = weights.values().any(|weight| *weight > 0);
    weights.insert(arm.to_owned(), 0);
    let weights = whole_split(route, &weights)?;
    if !left {
        let message = format!("no other arm of route `{}` has weight", route.name);
        return Err(Refusal::new(RefusalKind::Conflict, "last-arm", message)
            .hint("give another arm weight first")
            .generation(route.generation));
    }
    let draining = route.arms.iter().filter_map(|one| Some((one.name.to_string(), one.draining?)));
    Ok((weights, draining.collect()))
}
