//! Weights set by hand: the whole split of a route, until they are given back.
//!
//! It must never leave a weight of the file in force beside one that was set.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::batch::{Asked, Change, Reply};
use super::command::{By, Expected, WeightsDone};
use super::controller::Controller;
use super::order::{self, Direction};
use super::refusal::{Refusal, find, mismatch, whole_split};
use crate::model::{Overlay, Provenance, RouteOverlay};
use crate::plan::Route;

impl Controller {
    /// Sets all weights of a route, or gives them back; the answer goes when it is done.
    pub(super) async fn set_weights(
        &mut self,
        name: &str,
        weights: Option<BTreeMap<String, u32>>,
        by: By,
        expected: Expected,
        reply: Reply,
    ) {
        let what = if weights.is_some() { "weights" } else { "weights-reset" };
        let change = self.weights_change(name, weights, &BTreeMap::new(), &by, expected).await;
        self.weights_changed(name, change, Asked { by, what, words: None, reply }).await;
    }

    /// Carries out what was asked, or says why not.
    pub(super) async fn weights_changed(
        &mut self,
        name: &str,
        change: Result<Option<Change>, Refusal>,
        asked: Asked,
    ) {
        let done = match change {
            Ok(Some(change)) => return self.change(Change { asked: Some(asked), ..change }).await,
            Ok(None) => {
                let generation = self.publisher.current().route_named(name).map(|route| route.generation);
                Ok(WeightsDone {
                    generation: generation.unwrap_or_default(),
                    changed: Vec::new(),
                    flip: None,
                })
            }
            Err(refusal) => Err(refusal),
        };
        // An asker that went away loses only the answer.
        let _ = asked.reply.send(done);
    }

    /// What was asked as a change; `None` when it already is so. Arms of weight 0 that are `draining`
    /// keep the clients pinned to them.
    pub(super) async fn weights_change(
        &mut self,
        name: &str,
        weights: Option<BTreeMap<String, u32>>,
        draining: &BTreeMap<String, u64>,
        by: &By,
        expected: Expected,
    ) -> Result<Option<Change>, Refusal> {
        let current = self.publisher.current();
        let route = find(&current, name)?;
        let mut overlay = self.overlay.clone();
        match weights {
            Some(weights) => {
                let mut drained = overlay.routes.remove(name).map(|entry| entry.drained).unwrap_or_default();
                drained.retain(|arm, since| draining.get(arm) == Some(since));
                let entry = RouteOverlay {
                    weights: whole_split(route, &weights)?,
                    split_fingerprint: route.split_fingerprint,
                    by: Provenance {
                        actor: by.actor.clone(),
                        reason: by.reason.clone(),
                        at_millis: self.clock.now().0,
                    },
                    draining: draining.clone(),
                    drained,
                };
                overlay.routes.insert(name.to_owned(), entry);
            }
            None => {
                if overlay.routes.remove(name).is_none() {
                    return Ok(None);
                }
            }
        }
        let set = overlay.routes.get(name).cloned();
        let same = |old: &RouteOverlay, new: &RouteOverlay| {
            (&old.weights, old.split_fingerprint, &old.draining)
                == (&new.weights, new.split_fingerprint, &new.draining)
        };
        if set.as_ref().zip(self.overlay.routes.get(name)).is_some_and(|(new, old)| same(old, new)) {
            return Ok(None);
        }
        let event = self.weights_event(name, set.as_ref(), by);
        let decided = match event {
            Some(event) => self.decide(&current, name, &event)?.and_then(|change| change.decided),
            None => None,
        };
        let names = BTreeSet::from([name.to_owned()]);
        let guided = self.rollouts.guided_of(&names);
        let plan = self.weigh(Overlay { guided, ..overlay }, names).await?;
        let after = find(&plan, name)?;
        let weights_of = |route: &Route| route.arms.iter().map(|arm| arm.weight).collect::<Vec<_>>();
        let direction = order::direction(&weights_of(route), &weights_of(after), route.default_arm.at());
        order::check(direction, expected, route.generation)
            .map_err(|found| mismatch(found, route.generation))?;
        Ok(Some(Change {
            route: name.to_owned(),
            decided,
            weights: Some(set),
            flip: self.weights_over_flip(name, by),
            ahead: direction == Direction::TowardCanary,
            parcels: Vec::new(),
            asked: None,
        }))
    }

    pub(super) fn weights_ended(&mut self, route: &str) {
        tracing::warn!(route, "operator weights ended: the split was edited or the route is gone");
        self.journal("weights-ended", route, &By::actor("file"), Value::Null, Value::Null);
        self.record_ended(route, &By::actor("file"));
    }
}

pub(super) fn weights_json(route: &Route) -> Value {
    route
        .arms
        .iter()
        .map(|arm| (arm.name.to_string(), json!(arm.weight)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
