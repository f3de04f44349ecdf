//! Is the canary worse in this step than stable was over the whole rollout?
//!
//! At a high weight the other arm is a holdback too small to compare with, but stable is known from
//! the steps before. What this says delays a step and never convicts, so it needs no part of alpha;
//! it must never be the reason to put a version back, nor speak of what one moment did.

use serde::{Deserialize, Serialize};

use super::finding::Seen;

/// Nats of an exact binomial tail (Chernoff) that the excess must reach: for two arms that fail
/// alike a look speaks by chance in at most 1 of 100.
const NATS: f64 = 4.61;
/// Seconds with a bad outcome of the canary, at least: one moment is no trend.
const SECONDS: u64 = 3;
/// Ratio and points of the effect gate, see [`super::effect`].
const RATIO: f64 = 1.5;
/// See [`RATIO`].
const POINTS: f64 = 0.000_5;

/// The canary in the step, stable over the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Worse {
    /// What is bad are 4xx answers, and not failures.
    pub refusals: bool,
    /// The canary in the step.
    pub canary: Seen,
    /// Stable in this step and all before it.
    pub stable: Seen,
}

/// What is remembered for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Holdback {
    before: Seen,
    stable: Seen,
    canary: Seen,
    /// Seconds of the step with a bad outcome of the canary, and the last of them.
    bad: (u64, Option<u64>),
}

impl Holdback {
    /// Starts a step.
    pub fn enter(&mut self) {
        *self = Self { before: self.all(), ..Self::default() };
    }

    /// Takes what the step has seen so far.
    pub fn tick(&mut self, second: u64, stable: Seen, canary: Seen) {
        if canary.e > self.canary.e && self.bad.1 != Some(second) {
            self.bad = (self.bad.0 + 1, Some(second));
        }
        (self.stable, self.canary) = (stable, canary);
    }

    /// Stable and the canary in the step so far.
    #[must_use]
    pub const fn seen(&self) -> (Seen, Seen) {
        (self.stable, self.canary)
    }

    /// What speaks against it, when anything does.
    #[must_use]
    pub fn worse(&self, refusals: bool) -> Option<Worse> {
        let (canary, stable) = (self.canary, self.all());
        if self.bad.0 < SECONDS || canary.n == 0 || stable.n == 0 {
            return None;
        }
        // A shared incident shows in the step's own holdback.
        let usual = share(stable).max(share(self.stable));
        let matters = share(canary) >= RATIO * usual && share(canary) - usual >= POINTS;
        (matters && nats(canary, stable) >= NATS).then_some(Worse { refusals, canary, stable })
    }

    fn all(&self) -> Seen {
        Seen { n: self.before.n + self.stable.n, e: self.before.e + self.stable.e }
    }
}

#[expect(clippy::cast_precision_loss, reason = "requests of a rollout")]
fn share(seen: Seen) -> f64 {
    if seen.n == 0 { 0.0 } else { seen.e as f64 / seen.n as f64 }
}

/// Of all bad outcomes each is the canary's with its part of all requests, when both arms fail
/// alike: `ln` of the bound `exp(-K·KL(k/K, q))` of the tail from what was seen on.
#[expect(clippy::cast_precision_loss, reason = "requests of a rollout")]
fn nats(canary: Seen, stable: Seen) -> f64 {
    let all = (canary.e + stable.e) as f64;
    let (part, fair) = (canary.e as f64 / all, canary.n as f64 / (canary.n + stable.n) as f64);
    if part.is_nan() || part <= fair {
        return 0.0;
    }
    let rest = if part < 1.0 { (1.0 - part) * ((1.0 - part) / (1.0 - fair)).ln() } else { 0.0 };
    all * (part * (part / fair).ln() + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(n: u64, e: u64) -> Seen {
        Seen { n, e }
    }

    /// Stable over a step before, then both arms over a bake in twenty equal seconds.
    fn bake(before: Seen, stable: Seen, canary: Seen) -> Option<Worse> {
        let mut holdback = Holdback::default();
        holdback.tick(0, before, seen(before.n, 0));
        holdback.enter();
        for second in 1..=20 {
            let part = |all: Seen| seen(all.n * second / 20, all.e * second / 20);
            holdback.tick(second, part(stable), part(canary));
        }
        holdback.worse(false)
    }

    #[test]
    fn stable_is_known_from_the_steps_before() {
        let rows = [
            ("five percent", seen(1_000, 0), seen(100, 0), seen(1_984, 86), true),
            ("as bad as stable is", seen(10_000, 100), seen(100, 1), seen(2_000, 21), false),
            ("more, by chance", seen(10_000, 100), seen(100, 0), seen(2_000, 30), false),
            ("less than anybody minds", seen(1_000_000, 100), seen(5_000, 0), seen(100_000, 50), false),
            ("an incident of both", seen(10_000, 0), seen(100, 5), seen(2_000, 100), false),
            ("nothing known of stable", seen(0, 0), seen(0, 0), seen(2_000, 100), false),
            ("all fail", seen(1_000, 0), seen(100, 0), seen(2_000, 2_000), true),
        ];
        for (name, before, stable, canary, speaks) in rows {
            assert_eq!(bake(before, stable, canary).is_some(), speaks, "{name}");
        }
    }

    #[test]
    fn one_moment_is_no_trend() {
        let mut holdback = Holdback::default();
        holdback.tick(0, seen(10_000, 0), seen(10_000, 0));
        holdback.enter();
        holdback.tick(1, seen(100, 0), seen(1_900, 60));
        assert_eq!(holdback.worse(false), None);
    }

    /// The documented rate, seeded: one look at the end of a bake of two equal arms.
    #[test]
    fn a_healthy_pair_is_rarely_held() {
        let mut dice = fastrand::Rng::with_seed(11);
        for rate in [0.001, 0.01, 0.05] {
            let held = (0..1_000).filter(|_| {
                let mut draw = |n: u64| seen(n, (0..n).map(|_| u64::from(dice.f64() < rate)).sum());
                let (before, stable, canary) = (draw(2_000), draw(100), draw(1_900));
                bake(before, stable, canary).is_some()
            });
            assert!(held.count() <= 10, "of 1000 at {rate}");
        }
    }
}
