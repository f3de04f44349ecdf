//! A list of steps looked at before it is walked: what each can see, which are worth their time, and
//! whether the canary has machines enough for them.
//!
//! It exists so that nobody learns on the third day that the first step takes a week. It must never
//! change a policy: what it says is advice.

use super::policy::{Policy, Preset, Step};
use super::power::{GRID, needed, step_seconds};

/// Weights that are offered where no written one fits.
const LADDER: [f64; 6] = [0.01, 0.02, 0.05, 0.1, 0.25, 0.5];
/// Growth of the weight below which a step must show more than the one before, to be worth its time.
const GROWTH: f64 = 1.5;
/// How many times what one of stable's endpoints carries one of the canary's may get.
const SLACK: f64 = 1.25;

/// Seconds a step takes at `rate` requests of both arms a second; the last one's are the bake.
#[must_use]
pub fn seconds(policy: &Policy, preset: Preset, step: &Step, rate: f64) -> f64 {
    if step.weight >= 1.0 {
        policy.conduct.bake
    } else {
        step_seconds(policy, preset, step.weight, rate).max(step.dwell)
    }
}

/// The smallest ratio of bad shares that shows after so many seconds at this weight; `None` when even
/// 200 times does not, or nothing is compared.
#[must_use]
pub fn sees(policy: &Policy, w: f64, rate: f64, seconds: f64) -> Option<f64> {
    if w <= 0.0 || w >= 1.0 || !seconds.is_finite() {
        return None;
    }
    let p0 = 1.0 - policy.availability;
    let tempered = (policy.bursts != Some(1)).then_some(rate);
    // A step takes exactly as long as its proof: rounding must not lose it.
    let enough = rate * seconds * (1.0 + 1e-9);
    GRID.into_iter().find(|ratio| needed(policy.alpha, p0.min(1.0 / ratio), w, *ratio, tempered) <= enough)
}

/// A list of steps that takes less time and sees as much.
#[derive(Clone, Debug, PartialEq)]
pub struct Better {
    /// Weights, rising, the last at 1.
    pub weights: Vec<f64>,
    /// Seconds it takes in all, the bake included.
    pub seconds: f64,
    /// What is different, and why.
    pub changes: Vec<Change>,
}

/// One difference to the list as written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Without this weight: it takes more than half of what a step may take.
    TooLong(f64, f64),
    /// Without this weight: it must show no more than the one before, with hardly more traffic.
    AddsNothing(f64, f64),
    /// With this weight, as no written one fits.
    Instead(f64),
}

/// A better list than the written one from its step `first` on; `None` when there is none.
/// A step that waits for a person stays.
#[must_use]
pub fn better(policy: &Policy, preset: Preset, first: usize, rate: f64) -> Option<Better> {
    if rate <= 0.0 {
        return None;
    }
    let longest = policy.conduct.step_deadline / 2.0;
    let (mut kept, mut changes) = (Vec::<Step>::new(), Vec::new());
    for step in policy.steps.iter().skip(first).filter(|step| step.weight < 1.0) {
        let took = seconds(policy, preset, step, rate);
        let before = kept.last().copied();
        let target = |step: &Step| preset.target(step.weight);
        let idle = before.filter(|one| step.weight < GROWTH * one.weight && target(step) >= target(one));
        if step.pause {
            kept.push(*step);
        } else if took > longest.max(step.dwell) {
            changes.push(Change::TooLong(step.weight, took));
        } else if let Some(before) = idle {
            changes.push(Change::AddsNothing(step.weight, before.weight));
        } else {
            kept.push(*step);
        }
    }
    if changes.is_empty() {
        return None;
    }
    if kept.is_empty() {
        let step = |weight| Step { weight, dwell: policy.dwell, pause: false };
        let fits = |step: &Step| seconds(policy, preset, step, rate) <= longest;
        let instead = LADDER.into_iter().map(step).find(fits)?;
        changes.push(Change::Instead(instead.weight));
        kept.push(instead);
    }
    let compared: f64 = kept.iter().map(|step| seconds(policy, preset, step, rate)).sum();
    let weights = kept.iter().map(|step| step.weight).chain([1.0]).collect();
    Some(Better { weights, seconds: compared + policy.conduct.bake, changes })
}

/// A step whose share is more than the canary's endpoints should get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crowded {
    /// The first such step, from 0.
    pub step: usize,
    /// Endpoints the canary has, and those it needs for this step.
    pub endpoints: (usize, usize),
    /// Requests a second that each of the canary's would get, and that each of stable's carries alone.
    pub each: (f64, f64),
}

/// The first step at which one endpoint of the canary gets more than what one of stable's `endpoints`
/// (stable's, the canary's) carries while the canary has nothing.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "endpoints are few"
)]
pub fn crowded(policy: &Policy, rate: f64, endpoints: (usize, usize)) -> Option<Crowded> {
    let (stable, canary) = (endpoints.0 as f64, endpoints.1 as f64);
    if endpoints.0 == 0 || endpoints.1 == 0 {
        return None;
    }
    let over = |step: &Step| step.weight / canary > SLACK / stable;
    let step = policy.steps.iter().position(over)?;
    let weight = policy.steps[step].weight;
    let needed = (weight * stable - 1e-9).ceil() as usize;
    Some(Crowded {
        step,
        endpoints: (endpoints.1, needed.max(endpoints.1 + 1)),
        each: (weight * rate / canary, rate / stable),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(weights: &[f64]) -> Policy {
        let steps = weights.iter().map(|weight| Step { weight: *weight, dwell: 60.0, pause: false });
        Policy { steps: steps.collect(), preset: Some(Preset::Normal), ..Policy::default() }
    }

    #[test]
    fn a_step_sees_by_its_end_what_it_must_and_more_traffic_sees_more() {
        let policy = policy(&[0.05, 1.0]);
        for rate in [1.0, 10.0, 100.0, 1_000.0] {
            let took = seconds(&policy, Preset::Normal, &policy.steps[0], rate);
            let seen = sees(&policy, 0.05, rate, took).expect("something");
            assert!(seen <= Preset::Normal.target(0.05), "{rate}: {seen}");
        }
        let at = |rate| sees(&policy, 0.05, rate, 600.0);
        assert!(at(1_000.0) < at(100.0) && at(100.0).is_some());
        assert_eq!(at(0.001), None);
        assert_eq!(sees(&policy, 1.0, 100.0, 600.0), None, "nothing is left to compare with");
    }

    #[test]
    fn steps_that_wait_for_days_or_add_nothing_are_left_out() {
        assert_eq!(better(&policy(&[0.01, 0.05, 0.25, 1.0]), Preset::Normal, 0, 5_000.0), None);
        // At one request a second a percent takes days.
        let slow = better(&policy(&[0.000_05, 0.5, 1.0]), Preset::Low, 0, 4.0).expect("a better list");
        assert_eq!(slow.weights, [0.5, 1.0]);
        assert!(matches!(slow.changes[..], [Change::TooLong(0.000_05, took)] if took > 86_400.0), "{slow:?}");
        let idle = policy(&[0.06, 0.07, 0.08, 0.25, 1.0]);
        let told = better(&idle, Preset::Normal, 0, 5_000.0).expect("a better list");
        assert_eq!(told.weights, [0.06, 0.25, 1.0]);
        assert_eq!(told.changes, [Change::AddsNothing(0.07, 0.06), Change::AddsNothing(0.08, 0.06)]);
        let all =
            |preset| -> f64 { idle.steps.iter().map(|step| seconds(&idle, preset, step, 5_000.0)).sum() };
        assert!(told.seconds < all(Preset::Normal));
        // A gate is not a matter of time.
        let mut gated = idle.clone();
        gated.steps[1].pause = true;
        gated.steps[2].pause = true;
        assert_eq!(better(&gated, Preset::Normal, 0, 5_000.0), None);
        assert_eq!(better(&idle, Preset::Normal, 0, 0.0), None, "nothing is known without traffic");
    }

    #[test]
    fn where_no_written_weight_fits_the_smallest_that_does_is_offered() {
        let told = better(&policy(&[0.001, 1.0]), Preset::Low, 0, 4.0).expect("a better list");
        assert!(
            matches!(told.changes[1], Change::Instead(weight) if told.weights == [weight, 1.0]),
            "{told:?}"
        );
        assert_eq!(better(&policy(&[0.001, 1.0]), Preset::High, 0, 0.01), None, "none fits");
    }

    #[test]
    fn a_canary_with_too_few_endpoints_is_told_at_its_step() {
        let policy = policy(&[0.05, 0.25, 0.5, 1.0]);
        // Stable's four, the canary's one, the step, and how many it needs there.
        let rows = [
            ((4, 1), Some((2, 2))),
            ((4, 4), None),
            ((1, 1), None),
            ((10, 1), Some((1, 3))),
            ((2, 1), Some((3, 2))),
        ];
        for (endpoints, expected) in rows {
            let told = crowded(&policy, 800.0, endpoints);
            assert_eq!(told.map(|one| (one.step, one.endpoints.1)), expected, "{endpoints:?}");
        }
        let told = crowded(&policy, 800.0, (4, 1)).expect("too few");
        assert_eq!(told.each, (400.0, 200.0));
        assert_eq!(crowded(&policy, 800.0, (0, 1)), None);
    }
}
