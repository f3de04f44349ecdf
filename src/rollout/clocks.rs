//! How long a rollout has been at what it does: accumulated, so that they survive a restart.
//!
//! Moments of a monotonic clock mean nothing to the next process, and wall clocks step; sums of
//! what passed between two events do neither. They must never run backwards, and never charge the
//! time the process was away.

use serde::{Deserialize, Serialize};

use super::state::{Hold, Phase};

/// A longer gap between two events says that the process was stopped, in milliseconds: nothing that
/// happened in it can be charged or counted toward the canary.
pub const LONGEST_GAP: u64 = 5_000;

/// Milliseconds spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Clocks {
    /// Since the run began, everything.
    pub all: u64,
    /// In the present phase.
    pub phase: u64,
    /// Toward the minimum time of the step; stops while it holds or is paused.
    pub dwell: u64,
    /// Toward the deadline of the step; stops while people, a window or the
    /// error budget are waited for.
    pub step: u64,
    /// Toward the deadline of the rollout; stops while a person paused it or a window is closed.
    pub rollout: u64,
    /// Paused.
    pub paused: u64,
}

impl Clocks {
    /// Charges what passed to the phase it passed in. `patient`: pending for people or a window.
    pub fn charge(&mut self, phase: &Phase, patient: bool, millis: u64) {
        let mut add = |clock: fn(&mut Self) -> &mut u64| {
            let clock = clock(self);
            *clock = clock.saturating_add(millis);
        };
        add(|clocks| &mut clocks.all);
        add(|clocks| &mut clocks.phase);
        match phase {
            Phase::Pending if !patient => add(|clocks| &mut clocks.step),
            Phase::Shadow | Phase::Stage | Phase::Bake => {
                add(|clocks| &mut clocks.dwell);
                add(|clocks| &mut clocks.step);
                add(|clocks| &mut clocks.rollout);
            }
            Phase::Hold { reason: Hold::Window | Hold::Gate, .. } => {}
            Phase::Hold { reason: Hold::Budget, .. } => add(|clocks| &mut clocks.rollout),
            Phase::Hold { .. } => {
                add(|clocks| &mut clocks.step);
                add(|clocks| &mut clocks.rollout);
            }
            Phase::Paused { cause, .. } => {
                add(|clocks| &mut clocks.paused);
                if !cause.is_wanted() {
                    add(|clocks| &mut clocks.rollout);
                }
            }
            _ => {}
        }
    }

    /// Begins the step's clocks again.
    pub fn enter_step(&mut self) {
        (self.phase, self.dwell, self.step) = (0, 0, 0);
    }
}

/// Whole seconds of the policy in milliseconds; below 0 is 0.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a policy; `as` saturates"
)]
pub fn millis(seconds: f64) -> u64 {
    (seconds * 1_000.0).round() as u64
}
