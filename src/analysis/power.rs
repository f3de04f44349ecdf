//! What could have been detected by now: the smallest ratio that would have shown, what is still
//! needed, and how long that takes.
//!
//! It exists so that nobody is promoted on silence. It must never count a second in which stable
//! itself was failing: an outage makes any step look proven.

use serde::{Deserialize, Serialize};

use super::policy::{Policy, Preset};

/// Ratios a detectable effect is told by.
pub(super) const GRID: [f64; 22] = [
    1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 65.0,
    80.0, 100.0, 200.0,
];
/// `ln 4` for the share of the total a metric has after restarts, `ln 8` for the alternatives.
const PRICE: f64 = 3.465_735_902_799_726_5;

/// Growth of `ln M` per request when the canary fails `ratio` times as often as stable's `p0`, at
/// canary weight `w` (progressive delivery notes, 4b).
#[must_use]
pub fn growth(p0: f64, w: f64, ratio: f64) -> f64 {
    let mixed = 1.0 + w * (ratio - 1.0);
    p0 * (w * ratio * ratio.ln() - mixed * mixed.ln())
}

/// Requests of both arms until a ratio is detectable; infinite at weight 0 and 1.
/// `per_second` is how many arrive in one tick when one tick is one trial.
#[must_use]
pub fn needed(alpha: f64, p0: f64, w: f64, ratio: f64, per_second: Option<f64>) -> f64 {
    let grown = growth(p0, w, ratio) * tempering(p0, w, ratio, per_second);
    if grown > 0.0 { (PRICE - alpha.ln()) / grown } else { f64::INFINITY }
}

/// The part of the failures that are trials of their own.
fn tempering(p0: f64, w: f64, ratio: f64, per_second: Option<f64>) -> f64 {
    let failures = per_second.unwrap_or(0.0) * p0 * (1.0 + w * (ratio - 1.0));
    if failures > 1e-9 { (1.0 - (-failures).exp()) / failures } else { 1.0 }
}

/// Requests of healthy seconds in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Power {
    seconds: u64,
    requests: u64,
    /// Over the whole rollout: stable's trials and bad ones.
    stable: (u64, u64),
}

/// What is known of a step's power.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// Smallest ratio that would have shown by now; `None` when even 200 would not.
    pub detectable: Option<f64>,
    /// Requests of both arms until the step's target is detectable; 0 when it is.
    pub more: f64,
    /// Requests of both arms per second.
    pub rate: f64,
}

impl Power {
    /// Starts a step.
    pub fn enter(&mut self) {
        (self.seconds, self.requests) = (0, 0);
    }

    /// Takes a second in which stable was healthy.
    pub fn add(&mut self, requests: u64, stable: (u64, u64)) {
        self.seconds += 1;
        self.requests += requests;
        self.stable = (self.stable.0 + stable.0, self.stable.1 + stable.1);
    }

    /// Says on a sticky route how many slots the step has seen, and stable's with the bad ones.
    pub fn set_slots(&mut self, slots: u64, stable: (u64, u64)) {
        (self.requests, self.stable) = (slots, stable);
    }

    /// Requests of both arms per second, or on a sticky route new slots; `None` before any.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "requests of one step")]
    pub fn rate(&self) -> Option<f64> {
        (self.seconds > 0).then(|| self.requests as f64 / self.seconds as f64)
    }

    /// What has been in reach at this weight.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "requests of one rollout")]
    pub fn reach(&self, policy: &Policy, w: f64, target: f64, sticky: bool) -> Reach {
        let bad = self.stable.1 as f64;
        // Users are few: one or two that always fail must not make every ratio look provable.
        let bad = if sticky { (bad - 2.0 * bad.sqrt()).max(0.0) } else { bad };
        let share = if self.stable.0 > 0 { bad / self.stable.0 as f64 } else { 0.0 };
        let p0 = share.max(1.0 - policy.availability).min(1.0);
        let requests = self.requests as f64;
        let rate = self.rate().unwrap_or(0.0);
        // What a burst is worth is only known when one tick is one trial.
        let tempered = (!sticky && policy.bursts != Some(1)).then_some(rate);
        // No share is above everything.
        let need = |ratio: f64| needed(policy.alpha, p0.min(1.0 / ratio), w, ratio, tempered);
        // A larger ratio never needs more.
        let first = GRID.partition_point(|ratio| need(*ratio) > requests);
        let detectable = GRID.get(first).copied();
        Reach { detectable, more: (need(target) - requests).max(0.0), rate }
    }
}

/// Seconds a step of this weight takes under a preset, at `rate` requests of both arms a second.
#[must_use]
pub fn step_seconds(policy: &Policy, preset: Preset, w: f64, rate: f64) -> f64 {
    if w <= 0.0 || w >= 1.0 {
        return policy.dwell;
    }
    if rate <= 0.0 {
        return f64::INFINITY;
    }
    let p0 = 1.0 - policy.availability;
    let tempered = (policy.bursts != Some(1)).then_some(rate);
    let proof = needed(policy.alpha, p0, w, preset.target(w), tempered) / rate;
    #[expect(clippy::cast_precision_loss, reason = "a minimum of requests")]
    let least = policy.min_requests(preset) as f64 / (w * rate);
    proof.max(least).max(policy.dwell)
}

/// The preset that `confidence: auto` means at this rate: the highest whose slowest step fits in
/// half the step deadline, else low; and the first step that fits, of those that compare. At a rate that
/// no such step fits, it is the first: nobody gets everything because there is little traffic.
#[must_use]
pub fn choose(policy: &Policy, rate: f64) -> (Preset, usize) {
    let fits =
        |preset: Preset, w: f64| step_seconds(policy, preset, w, rate) <= policy.conduct.step_deadline / 2.0;
    let weights: Vec<f64> = policy.steps.iter().map(|step| step.weight).collect();
    let all = |preset: &Preset| weights.iter().all(|w| fits(*preset, *w));
    if let Some(preset) = policy.preset {
        return (preset, 0);
    }
    if let Some(preset) = [Preset::High, Preset::Normal].into_iter().find(all) {
        return (preset, 0);
    }
    let first = weights.iter().position(|w| *w < 1.0 && fits(Preset::Low, *w)).unwrap_or(0);
    (Preset::Low, first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Which is why [`Power::reach`] need not look at every ratio.
        #[test]
        fn a_larger_ratio_never_needs_more(
            p0 in prop_oneof![Just(1.0_f64), -6.0_f64..0.0], w in 0.0001_f64..0.9999, per_second in prop::option::of(0.01_f64..1e6),
        ) {
            let p0 = if p0 < 0.0 { 10_f64.powf(p0) } else { p0 };
            let needs = GRID.map(|ratio| needed(0.001, p0.min(1.0 / ratio), w, ratio, per_second));
            for (pair, ratio) in needs.windows(2).zip(GRID) {
                prop_assert!(pair[1] <= pair[0], "{ratio} at {p0}, {w}, {per_second:?}: {pair:?}");
            }
        }
    }
}
