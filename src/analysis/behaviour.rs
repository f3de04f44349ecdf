//! Does the canary refuse its clients more often than stable does? The relative test on 4xx shares.
//!
//! A 4xx is the client's fault until the same clients get it from one version only. Evidence here
//! is a reason to hold, so that a canary that answers 404 to everything is never promoted; it must
//! never revert unless the operator says so.

use serde::{Deserialize, Serialize};

use super::counts::Tick;
use super::effect::{Effect, Rates};
use super::evidence::{Bad, Excess};
use super::mixture::Grant;

/// Evidence and effect of 4xx answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Behaviour {
    evidence: Excess,
    effect: Effect,
}

impl Behaviour {
    /// Starts a step.
    pub fn enter(&mut self) {
        self.effect.enter();
    }

    /// Takes a tick; `slots` are the slots that newly got a 4xx (stable, canary), where counted.
    #[expect(clippy::cast_precision_loss, reason = "requests of one second")]
    pub fn tick(
        &mut self,
        grant: &Grant,
        tick: &Tick,
        warm: bool,
        slots: Option<(u64, u64)>,
        bursts: Option<u32>,
    ) {
        let (stable, canary) = (tick.stable.client_errors, tick.canary.client_errors);
        match slots {
            Some((stable, canary)) => {
                self.evidence.slots(grant, tick.w, warm.then_some(Bad::of(stable, canary)));
            }
            None => self.evidence.requests(grant, tick.w, warm.then_some(Bad::of(stable, canary)), bursts),
        }
        let rates = Rates {
            stable: (tick.stable.n as f64, stable as f64),
            canary: (tick.canary.n as f64, canary as f64),
        };
        self.effect.add(tick.at_second, &rates);
    }

    /// `ln` of the evidence.
    #[must_use]
    pub fn ln(&self) -> f64 {
        self.evidence.ln()
    }

    /// Whether the difference is worth somebody's time.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.effect.matters()
    }
}
