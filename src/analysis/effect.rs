//! Is what the evidence shows large enough to matter?
//!
//! Evidence grows without end on differences nobody would revert for, so a revert also needs an
//! effect: 1.5 times stable's share of bad outcomes and 0.05 points above it. A closed gate must
//! never be the reason to promote: it makes a verdict Suspect.

use serde::{Deserialize, Serialize};

/// Ratio from which on an effect matters.
const RATIO: f64 = 1.5;
/// Points above stable from which on it does, as a share.
const POINTS: f64 = 0.000_5;
/// Seconds after which half of the recent counts is forgotten.
const HALF_LIFE: f64 = 300.0;

/// Trials and bad ones of both arms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Stable's trials and bad ones.
    pub stable: (f64, f64),
    /// The canary's.
    pub canary: (f64, f64),
}

impl Rates {
    /// The canary's share over stable's, with half a bad outcome lent to stable; `None` without
    /// trials in both arms.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let (stable, canary) = self.shares()?;
        Some(canary / stable)
    }

    fn shares(&self) -> Option<(f64, f64)> {
        if self.stable.0 <= 0.0 || self.canary.0 <= 0.0 {
            return None;
        }
        Some(((self.stable.1 + 0.5) / self.stable.0, self.canary.1 / self.canary.0))
    }

    fn matter(&self) -> bool {
        self.shares().is_some_and(|(stable, canary)| canary >= RATIO * stable && canary - stable >= POINTS)
    }

    fn scale(&mut self, kept: f64) {
        for arm in [&mut self.stable, &mut self.canary] {
            *arm = (arm.0 * kept, arm.1 * kept);
        }
    }

    fn add(&mut self, more: &Self) {
        for (arm, more) in [(&mut self.stable, more.stable), (&mut self.canary, more.canary)] {
            *arm = (arm.0 + more.0, arm.1 + more.1);
        }
    }
}

/// Effects over the step so far and over the last minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    step: Rates,
    recent: Rates,
    at: u64,
}

impl Effect {
    /// Starts the step's count again.
    pub fn enter(&mut self) {
        self.step = Rates::default();
    }

    /// Takes a second's counts.
    #[expect(clippy::cast_precision_loss, reason = "seconds of a rollout")]
    pub fn add(&mut self, second: u64, rates: &Rates) {
        if second > self.at {
            self.recent.scale((-((second - self.at) as f64) / HALF_LIFE).exp2());
            self.at = second;
        }
        self.recent.add(rates);
        self.step.add(rates);
    }

    /// Says what the step has seen so far, where that is counted elsewhere.
    pub fn set_step(&mut self, rates: Rates) {
        self.step = rates;
    }

    /// Whether the gate is open: in the step, or recently.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.step.matter() || self.recent.matter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_opens_by_ratio_and_points_together() {
        let rows = [
            ("a tenth against nothing", (1_000.0, 0.0), (10.0, 1.0), true),
            ("twice a thousandth", (100_000.0, 100.0), (100_000.0, 200.0), true),
            ("1.4 times", (100_000.0, 1_000.0), (100_000.0, 1_400.0), false),
            ("1.6 times, too few points", (1_000_000.0, 500.0), (1_000_000.0, 800.0), false),
            ("better", (1_000.0, 100.0), (1_000.0, 0.0), false),
            ("no stable", (0.0, 0.0), (1_000.0, 1_000.0), false),
        ];
        for (name, stable, canary, open) in rows {
            let mut effect = Effect::default();
            effect.add(1, &Rates { stable, canary });
            assert_eq!(effect.matters(), open, "{name}");
        }
    }

    #[test]
    fn a_late_effect_is_not_diluted_by_a_long_step() {
        let mut effect = Effect::default();
        (0..50_000)
            .for_each(|second| effect.add(second, &Rates { stable: (95.0, 0.095), canary: (5.0, 0.005) }));
        assert!(!effect.matters());
        (50_000..50_030)
            .for_each(|second| effect.add(second, &Rates { stable: (95.0, 0.095), canary: (5.0, 0.25) }));
        assert!(effect.matters());
    }
}
