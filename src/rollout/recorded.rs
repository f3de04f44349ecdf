//! A rollout's seconds as a recording holds them, and a rollout taken out of one again.
//!
//! It exists so that what a recording says and what the state machine asks stay the same thing. It
//! must never decide: it only turns one form into the other.

use std::borrow::Cow;

use serde_json::Value;

use super::event::{CheckWord, Scene};
use super::state::{Base, Rollout, Share};
use crate::analysis::Policy;
use crate::analysis::recording::Second;
use crate::spec::rollout::OnFail;

/// A check that has not answered yet.
const WAITING: &str = "waiting";
/// A check that does not answer.
const SILENT: &str = "silent";
/// A check that is out of bounds, and holds.
const HOLD: &str = "hold";
/// A check that is out of bounds, and reverts.
const REVERT: &str = "revert";

impl Scene {
    /// As a recording holds it, with where the rollout was afterwards.
    #[must_use]
    pub fn recorded(&self, after: &Rollout) -> Second {
        let check = match &self.checks {
            CheckWord::Fine => None,
            CheckWord::Waiting(name) => Some((name.clone(), Cow::Borrowed(WAITING))),
            CheckWord::Silent(name) => Some((name.clone(), Cow::Borrowed(SILENT))),
            CheckWord::Failing(name, OnFail::Hold) => Some((name.clone(), Cow::Borrowed(HOLD))),
            CheckWord::Failing(name, OnFail::Revert) => Some((name.clone(), Cow::Borrowed(REVERT))),
        };
        Second {
            ms: self.monotonic,
            state: after.phase.name().into(),
            step: after.step,
            rate: self.rate,
            window_closed: !self.window_open,
            from_down: !self.from_alive,
            to_down: !self.to_alive,
            store_down: !self.store,
            budget_frozen: self.budget_frozen,
            check,
        }
    }

    /// Out of a recording; the wall clock is not in it.
    #[must_use]
    pub fn of_recording(second: &Second) -> Self {
        let checks = match &second.check {
            None => CheckWord::Fine,
            Some((name, word)) if word == HOLD => CheckWord::Failing(name.clone(), OnFail::Hold),
            Some((name, word)) if word == REVERT => CheckWord::Failing(name.clone(), OnFail::Revert),
            Some((name, word)) if word == WAITING => CheckWord::Waiting(name.clone()),
            Some((name, _)) => CheckWord::Silent(name.clone()),
        };
        Self {
            monotonic: second.ms,
            window_open: !second.window_closed,
            from_alive: !second.from_down,
            to_alive: !second.to_down,
            store: !second.store_down,
            budget_frozen: second.budget_frozen,
            checks,
            rate: second.rate,
            ..Self::default()
        }
    }
}

impl Rollout {
    /// Out of a recording, last moved at `ms`; `None` when it cannot be read or is not one that this
    /// policy makes.
    #[must_use]
    pub fn of_recording(value: &Value, policy: &Policy, ms: u64) -> Option<Self> {
        let mut rollout: Self = serde_json::from_value(value.clone()).ok()?;
        rollout.last = Some(ms);
        let step = policy.steps.get(rollout.step as usize).map(|step| Share::of(step.weight));
        let fits = match rollout.phase.base() {
            Some(Base::Stage) => step == Some(rollout.share),
            Some(Base::Bake) => step == Some(Share::ALL),
            _ => true,
        };
        fits.then_some(rollout)
    }

    /// The same at a later moment, while a decision of its own was not carried out: nothing is charged.
    #[must_use]
    pub fn waited(&self, ms: u64) -> Self {
        let last = Some(self.last.map_or(ms, |last| last.max(ms)));
        Self { last, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_is_read_as_it_was_written() {
        let fails = |word| CheckWord::Failing("p99".into(), word);
        let rows = [
            Scene::default(),
            Scene { monotonic: 77, rate: 0.3, window_open: false, from_alive: false, ..Scene::default() },
            Scene { to_alive: false, store: false, budget_frozen: true, ..Scene::default() },
            Scene { checks: CheckWord::Silent("p99".into()), ..Scene::default() },
            Scene { checks: fails(OnFail::Hold), ..Scene::default() },
            Scene { checks: fails(OnFail::Revert), ..Scene::default() },
        ];
        for scene in rows {
            assert_eq!(Scene::of_recording(&scene.recorded(&Rollout::default())), scene);
        }
    }
}
