//! Evidence that the canary's share of bad outcomes is higher than the router's chance explains.
//!
//! If the version does not matter, each bad outcome is the canary's with the probability `w` the
//! router used, whatever the outcomes are. For a ratio r, `ln F = ec ln r - m ln(1 + w(r-1))` has
//! mean 1 under any error rate, drift, outage or change of weight (Lindon and Malek 2022, section
//! 3, with the label as the trial). It must never estimate `w` from what arrived.

use serde::{Deserialize, Serialize};

use super::mixture::{Grant, Mixture};

/// Ratios of bad shares that are looked for.
pub const RATIOS: [f64; 8] = [1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// Bad outcomes of one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bad {
    /// The canary's.
    pub canary: u64,
    /// Both arms'.
    pub both: u64,
}

impl Bad {
    /// From each arm's.
    #[must_use]
    pub const fn of(stable: u64, canary: u64) -> Self {
        Self { canary, both: stable + canary }
    }

    /// `ln F` for one ratio, before tempering.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "outcomes of one second")]
    pub fn ln_factor(&self, w: f64, ratio: f64) -> f64 {
        self.canary as f64 * ratio.ln() - self.both as f64 * (w * (ratio - 1.0)).ln_1p()
    }
}

/// By what one tick's evidence is divided so that a burst is one trial: valid for any dependence
/// within the tick, because the divided factor is a geometric mean of factors of mean 1.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "outcomes of one second")]
pub fn divisor(both: u64, bursts: Option<u32>) -> f64 {
    both.min(bursts.map_or(u64::MAX, u64::from)).max(1) as f64
}

/// The restarted mixture over [`RATIOS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Excess(Mixture);

impl Default for Excess {
    fn default() -> Self {
        Self(Mixture::new(RATIOS.len()))
    }
}

impl Excess {
    /// Requests of a route without a key: one tick is one trial.
    pub fn requests(&mut self, grant: &Grant, w: f64, bad: Option<Bad>, bursts: Option<u32>) {
        self.0.fund(grant.total());
        let Some(bad) = bad.filter(|bad| bad.both > 0) else { return };
        let divisor = divisor(bad.both, bursts);
        self.0.grow(|index| bad.ln_factor(w, RATIOS[index]) / divisor);
    }

    /// Newly bad slots of a sticky route: each is a trial, and the count starts anew at each step.
    pub fn slots(&mut self, grant: &Grant, w: f64, bad: Option<Bad>) {
        if grant.entered {
            self.0.clear();
        }
        self.0.fund(grant.after_drop());
        let Some(bad) = bad.filter(|bad| bad.both > 0) else { return };
        self.0.grow(|index| bad.ln_factor(w, RATIOS[index]));
    }

    /// `ln` of the mean over the ratios.
    #[must_use]
    pub fn ln(&self) -> f64 {
        self.0.ln_mean()
    }
}

/// Bad and good outcomes of both arms in one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The canary's bad ones.
    pub bad_canary: u64,
    /// Stable's bad ones.
    pub bad_stable: u64,
    /// The canary's good ones.
    pub good_canary: u64,
    /// Stable's good ones.
    pub good_stable: u64,
}

/// `ln F` of "the canary's bad share is `p1` where stable's is `p0`": each outcome's label, given
/// whether it is bad, has the mean factor 1 for every `p0`, right or wrong.
#[must_use]
pub fn two_sided(seen: &Outcomes, w: f64, p0: f64, p1: f64, divisor: f64) -> f64 {
    let pb = w * p1 + (1.0 - w) * p0;
    let bad = times_ln(seen.bad_canary, p1 / pb) + times_ln(seen.bad_stable, p0 / pb);
    let good = times_ln(seen.good_canary, (1.0 - p1) / (1.0 - pb))
        + times_ln(seen.good_stable, (1.0 - p0) / (1.0 - pb));
    bad / divisor + good
}

/// `count` times the logarithm of a positive number, which is not taken for nothing: in most seconds
/// most kinds of outcomes do not occur.
#[expect(clippy::cast_precision_loss, reason = "outcomes of one second")]
pub(super) fn times_ln(count: u64, of: f64) -> f64 {
    if count == 0 { 0.0 } else { count as f64 * of.ln() }
}

/// The share whose odds are `odds` times those of `p0`.
#[must_use]
pub fn at_odds(odds: f64, p0: f64) -> f64 {
    odds * p0 / (1.0 - p0 + odds * p0)
}

/// A share that is estimated from the past alone: half of it is forgotten every 60 seconds, and 50
/// outcomes of the first guess are always in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    first_guess: f64,
    bad: f64,
    all: f64,
    at: u64,
}

/// Seconds after which half of what was counted is forgotten.
const HALF_LIFE: f64 = 60.0;
/// Outcomes that the first guess is worth.
const PRIOR: f64 = 50.0;
/// A share is never closer to 0 or 1.
const LEAST: f64 = 1e-6;

impl Share {
    /// A first guess from 0 to 1.
    #[must_use]
    pub fn new(first_guess: f64) -> Self {
        Self { first_guess, bad: 0.0, all: 0.0, at: 0 }
    }

    /// The share before this second's outcomes.
    #[must_use]
    pub fn now(&self) -> f64 {
        let share = (self.bad + PRIOR * self.first_guess) / (self.all + PRIOR);
        share.clamp(LEAST, 1.0 - LEAST)
    }

    /// Counts a second.
    #[expect(clippy::cast_precision_loss, reason = "outcomes of one second")]
    pub fn add(&mut self, second: u64, bad: u64, good: u64) {
        if second > self.at {
            let kept = (-((second - self.at) as f64) / HALF_LIFE).exp2();
            self.bad *= kept;
            self.all *= kept;
            self.at = second;
        }
        self.bad += bad as f64;
        self.all += (bad + good) as f64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Chance of each number of canary labels among `n` outcomes.
    fn chances(n: u64, w: f64) -> Vec<f64> {
        let mut chances = vec![1.0];
        for _ in 0..n {
            let stays = chances.iter().map(|chance| chance * (1.0 - w)).chain([0.0]);
            let goes = [0.0].into_iter().chain(chances.iter().map(|chance| chance * w));
            chances = stays.zip(goes).map(|(a, b)| a + b).collect();
        }
        chances
    }

    /// Mean of `exp(ln_factor)` over all labellings of one tick's outcomes.
    fn mean(bad: u64, good: u64, w: f64, ln_factor: impl Fn(u64, u64) -> f64) -> f64 {
        let (bad, good) = (chances(bad, w), chances(good, w));
        let pairs = (0..).zip(&bad).flat_map(|bad| (0..).zip(&good).map(move |good| (bad, good)));
        pairs.map(|((b, p), (g, q))| p * q * ln_factor(b, g).exp()).sum()
    }

    proptest! {
        #[test]
        fn no_tick_gains_on_average_under_shuffled_labels(
            bad in 0_u64..12, good in 0_u64..12, w in 0.001_f64..0.999, p0 in 0.0001_f64..0.9999,
            bursts in prop::option::of(1_u32..20),
        ) {
            for ratio in RATIOS {
                let one = mean(bad, good, w, |b, _| Bad::of(bad - b, b).ln_factor(w, ratio) / divisor(bad, bursts));
                prop_assert!(one <= 1.0 + 1e-9, "{ratio}: {one}");
            }
            for odds in [0.5, 1.2, 5.0, 50.0] {
                let p1 = at_odds(odds, p0);
                for divisor in [1.0, divisor(bad, bursts)] {
                    let one = mean(bad, good, w, |b, g| {
                        let seen = Outcomes { bad_canary: b, bad_stable: bad - b, good_canary: g, good_stable: good - g };
                        two_sided(&seen, w, p0, p1, divisor)
                    });
                    prop_assert!(one <= 1.0 + 1e-9, "{odds}: {one}");
                }
            }
        }

        /// Bursts: all bad outcomes of a tick carry one label.
        #[test]
        fn a_tick_is_one_trial_even_when_its_failures_fall_together(bad in 1_u64..1_000, w in 0.001_f64..0.999) {
            for ratio in RATIOS {
                let factor = |canary| (Bad::of(bad - canary, canary).ln_factor(w, ratio) / divisor(bad, None)).exp();
                prop_assert!(w * factor(bad) + (1.0 - w) * factor(0) <= 1.0 + 1e-9);
            }
        }
    }

    #[test]
    fn a_share_forgets_and_keeps_its_first_guess() {
        let mut share = Share::new(0.1);
        assert!((share.now() - 0.1).abs() < 1e-12);
        share.add(10, 50, 0);
        assert!((share.now() - 0.55).abs() < 1e-12);
        share.add(70, 0, 0);
        assert!((share.now() - 30.0 / 75.0).abs() < 1e-12);
    }
}
