//! Weights set by hand: the whole split of a route, until they are given back.
//!
//! It must never leave a weight of the file in force beside one that was set.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::command::{By, Expected, WeightsDone};
use super::controller::{Candidate, Controller};
use super::order::{self, Direction};
use super::refusal::{Refusal, RefusalKind, find, mismatch, refused, whole_split};
use crate::model::{Provenance, RouteOverlay};
use crate::plan::Route;

impl Controller {
    pub(super) async fn set_weights(
        &mut self,
        name: &str,
        weights: Option<BTreeMap<String, u32>>,
        by: By,
        expected: Expected,
    ) -> Result<WeightsDone, Refusal> {
        let current = self.publisher.current();
        let route = find(&current, name)?;
        let mut overlay = self.overlay.clone();
        let what = if weights.is_some() { "weights" } else { "weights-reset" };
        match weights {
            Some(weights) => {
                let entry = RouteOverlay {
                    weights: whole_split(route, &weights)?,
                    split_fingerprint: route.split_fingerprint,
                    by: Provenance {
                        actor: by.actor.clone(),
                        reason: by.reason.clone(),
                        at_millis: self.clock.now().0,
                    },
                };
                overlay.routes.insert(name.to_owned(), entry);
            }
            None => {
                if overlay.routes.remove(name).is_none() {
                    return Ok(WeightsDone { generation: route.generation, changed: Vec::new() });
                }
            }
        }
        let compiled = self.compile(Arc::clone(&self.loaded), overlay.clone()).await?;
        let Candidate { plan, .. } =
            compiled.map_err(|diagnostics| refused(current.generation, diagnostics))?;
        let after = find(&plan, name)?;
        let weights_of = |route: &Route| route.arms.iter().map(|arm| arm.weight).collect::<Vec<_>>();
        let direction = order::direction(&weights_of(route), &weights_of(after), route.default_arm.at());
        order::check(direction, expected, route.generation)
            .map_err(|found| mismatch(found, route.generation))?;
        let done = WeightsDone { generation: after.generation, changed: order::changed(route, after) };
        let (before, now) = (weights_json(route), weights_json(after));
        if direction == Direction::TowardCanary {
            self.save(overlay.clone()).await.map_err(|why| {
                Refusal::new(RefusalKind::Conflict, "state-not-writable", why)
                    .hint("more weight for a canary must survive a restart; repair the state folder")
                    .generation(route.generation)
            })?;
        }
        self.publish(plan);
        self.overlay = overlay;
        if direction == Direction::TowardStable {
            self.remember().await;
        }
        tracing::info!(route = name, actor = %by.actor, reason = ?by.reason, before = %before, after = %now, what);
        self.journal(what, name, &by, before, now);
        Ok(done)
    }

    pub(super) fn weights_ended(&mut self, route: &str) {
        tracing::warn!(route, "operator weights ended: the split was edited or the route is gone");
        self.journal("weights-ended", route, &By::actor("file"), Value::Null, Value::Null);
    }
}

fn weights_json(route: &Route) -> Value {
    route
        .arms
        .iter()
        .map(|arm| (arm.name.to_string(), json!(arm.weight)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
