//! Weights set by hand, as the history has them: who, when, why, every arm's weight before and after.
//!
//! The audit journal has them too; the history is what people ask. It must never count as a decision of
//! a rollout, nor be believed as one at a start.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::batch::Asked;
use super::command::By;
use super::controller::Controller;
use super::rollouts::report::Line;
use crate::plan::{Route, WeightSource};
use crate::rollout::Record;
use crate::rollout::moves::{Actor, BY_HAND, Shifted};

/// What of a journal's acts is about weights.
const ACTS: [&str; 3] = ["weights", "weights-reset", "drain"];

impl Controller {
    /// Keeps what an operator did to weights, given the route before and after it.
    pub(super) fn record_by_hand(&mut self, asked: &Asked, old: &Route, new: &Route) {
        if !ACTS.contains(&asked.what) {
            return;
        }
        let record = Record {
            actor: Actor::Operator,
            who: Some(asked.by.actor.clone()),
            code: asked.what.into(),
            reason: asked.by.reason.clone(),
            annotations: asked.by.annotations.clone(),
            weights: Some(Box::new(shifted(old, new))),
            ..blank(self.clock.now().0, origin(old), origin(new))
        };
        self.keep_record(&old.name, record);
    }

    /// Weights by hand ended with an edit of their split.
    pub(super) fn record_ended(&mut self, route: &str, by: &By) {
        let reason = "the split was edited or the route is gone".to_owned();
        let record = Record {
            who: Some(by.actor.clone()),
            code: "weights-ended".into(),
            reason,
            ..blank(self.clock.now().0, BY_HAND, "FILE")
        };
        self.keep_record(route, record);
    }

    /// Into the history, and not into the audit journal, which has it already.
    fn keep_record(&mut self, route: &str, record: Record) {
        self.history.append(&Line { route: route.to_owned(), record: record.clone() });
        self.decisions.add(route, record);
    }
}

/// Every arm's weight before and after.
pub(super) fn shifted(old: &Route, new: &Route) -> Shifted {
    let weights = |route: &Route| -> BTreeMap<String, u32> {
        route.arms.iter().map(|arm| (arm.name.to_string(), arm.weight)).collect()
    };
    Shifted { before: weights(old), after: weights(new) }
}

/// Who says the weights of a route.
fn origin(route: &Route) -> &'static str {
    if route.operator.is_some() {
        return BY_HAND;
    }
    let guided = route.arms.iter().any(|arm| arm.source == WeightSource::Rollout);
    if guided { "ROLLOUT" } else { "FILE" }
}

fn blank(now: u64, from: &'static str, to: &'static str) -> Record {
    Record {
        in_force_at_millis: Some(now),
        ..Record::plain(now, Cow::Borrowed(from), Cow::Borrowed(to), Actor::Config)
    }
}
