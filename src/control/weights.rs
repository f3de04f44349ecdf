//! The weights verb: a whole split by hand, and its end.
//!
//! It must never lower stable without the route's generation, and never raise a canary that would
//! not survive a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::command::{By, Expected, Refusal, RefusalKind, WeightsDone};
use super::controller::{Candidate, Controller, find, missing, refused, stale};
use super::order::{self, Direction, Mismatch};
use crate::model::{Provenance, RouteOverlay};
use crate::plan::Route;
use crate::spec::parse::guess;

impl Controller {
    /// Sets or resets the weights of a route.
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
                    weights: whole_split(route, weights)?,
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
        match order::check(direction, expected, route.generation) {
            Ok(()) => {}
            Err(Mismatch::Stale) => return Err(stale(route.generation)),
            Err(Mismatch::Missing) => return Err(missing(route.generation)),
        }
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
        tracing::info!(route = name, actor = %by.actor, reason = %by.reason, before = %before, after = %now, what);
        self.journal(what, name, &by, before, now);
        Ok(done)
    }

    /// Tells that weights ended because what they were set for is gone.
    pub(super) fn weights_ended(&mut self, route: &str) {
        tracing::warn!(route, "operator weights ended: the split was edited or the route is gone");
        self.journal("weights-ended", route, &By::actor("file"), Value::Null, Value::Null);
    }
}

/// Weights for every arm of a route: those not named get 0.
fn whole_split(route: &Route, weights: BTreeMap<String, u32>) -> Result<BTreeMap<String, u32>, Refusal> {
    let invalid = |code, message: String| {
        Refusal::new(RefusalKind::Invalid, code, message).generation(route.generation)
    };
    let known: Vec<&str> = route.arms.iter().map(|arm| &*arm.name).collect();
    if known.is_empty() {
        return Err(invalid("no-split", format!("route `{}` answers by itself and has no arms", route.name)));
    }
    if let Some(unknown) = weights.keys().find(|arm| !known.contains(&arm.as_str())) {
        let message = format!("route `{}` has no arm `{unknown}`", route.name);
        return Err(invalid("unknown-arm", message).hint(guess(unknown, &known)));
    }
    if weights.is_empty() {
        let message = "no arm is named, so every arm would get 0".to_owned();
        return Err(invalid("no-weights", message).hint("name at least one arm"));
    }
    let weight = |arm: &&str| ((*arm).to_owned(), weights.get(*arm).copied().unwrap_or(0));
    Ok(known.iter().map(weight).collect())
}

fn weights_json(route: &Route) -> Value {
    route
        .arms
        .iter()
        .map(|arm| (arm.name.to_string(), json!(arm.weight)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
