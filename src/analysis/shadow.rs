//! Mirrored requests: each leaves a pair of outcomes, and only pairs that differ say anything.
//!
//! If the version does not matter, the canary is the bad one of a differing pair half of the time
//! (progressive delivery notes, 4d). Pairs of one moment are one trial: a connection that breaks
//! takes all it carried with it. It must never count a pair of which one side was not measured.

use serde::{Deserialize, Serialize};

use super::differences::Paired;
use super::effect::{Effect, Rates};
use super::evidence::{Share, divisor};
use super::finding::{Arms, ByMetric, Evidence, Finding, Rule, Seen, Verdict, Waiting, known};
use super::judge::CAUTION;
use super::mixture::Mixture;
use super::policy::{Policy, Preset};

/// Chances of the canary being the bad one that are looked for.
const CHANCES: [f64; 5] = [0.6, 0.7, 0.8, 0.9, 0.98];

/// Evidence from pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pairs(Mixture);

impl Default for Pairs {
    fn default() -> Self {
        let mut evidence = Mixture::new(CHANCES.len());
        evidence.fund(1.0);
        Self(evidence)
    }
}

impl Pairs {
    /// Takes the differing pairs of one moment: where only the canary was bad, and where only stable
    /// was. At most `bursts` of them have one cause; without a number all of them may.
    #[expect(clippy::cast_precision_loss, reason = "pairs of one moment")]
    pub fn moment(&mut self, canary_bad: u64, stable_bad: u64, bursts: Option<u32>) {
        let divisor = divisor(canary_bad + stable_bad, bursts);
        self.0.grow(|index| {
            let chance = CHANCES[index];
            let canary = canary_bad as f64 * (chance * 2.0).ln();
            (canary + stable_bad as f64 * ((1.0 - chance) * 2.0).ln()) / divisor
        });
    }

    /// `ln` of the evidence against the canary.
    #[must_use]
    pub fn ln(&self) -> f64 {
        self.0.ln_mean()
    }
}

/// The shadow phase of a rollout so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    evidence: Pairs,
    effect: Effect,
    seen: Paired,
    /// Stable's share of bad outcomes, lately.
    stable: Share,
    seconds: u64,
}

impl Default for Phase {
    fn default() -> Self {
        let (evidence, effect) = (Pairs::default(), Effect::default());
        Self { evidence, effect, seen: Paired::default(), stable: Share::new(0.0), seconds: 0 }
    }
}

impl Phase {
    /// Judges one second: its pairs by the moments they ended in, and the places of which it is
    /// confirmed that the canary answers differently there.
    pub fn tick(
        &mut self,
        policy: &Policy,
        second: u64,
        moments: &[Paired],
        differing: &[String],
    ) -> Finding {
        self.seconds += 1;
        for moment in moments {
            self.count(second, moment);
            self.evidence.moment(moment.shadow_bad, moment.stable_bad, policy.bursts);
        }
        let preset = self.preset(policy);
        let waiting_for = self.waiting(policy, preset);
        let (verdict, rule) = self.judge(policy, differing, waiting_for.is_empty());
        let log = known(self.evidence.ln());
        Finding {
            at_second: second,
            step: 0,
            weight: 0.0,
            verdict,
            rule,
            stable: Seen { n: self.seen.all(), e: self.seen.stable_bad + self.seen.both_bad },
            canary: Seen { n: self.seen.all(), e: self.seen.shadow_bad + self.seen.both_bad },
            refused: Arms::default(),
            slow: None,
            evidence: Evidence {
                log,
                threshold: policy.ln_threshold(),
                guard_threshold: -policy.guard_alpha.ln(),
                by_metric: ByMetric { pairs: log, ..ByMetric::default() },
                unnoticed: [false; 3],
            },
            effect: self.effect.matters(),
            breach: None,
            cuts: None,
            worse: None,
            detectable_ratio: None,
            eta_seconds: self.eta(&waiting_for),
            waiting_for,
            confidence: preset,
            few_clients: false,
            differing: differing.to_vec(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "pairs of one moment")]
    fn count(&mut self, second: u64, moment: &Paired) {
        let (all, both) = (moment.all(), moment.both_bad);
        let (stable, canary) = (moment.stable_bad + both, moment.shadow_bad + both);
        self.seen.merge(moment);
        self.stable.add(second, stable, all - stable);
        let rates = |bad: u64| (all as f64, bad as f64);
        self.effect.add(second, &Rates { stable: rates(stable), canary: rates(canary) });
    }

    fn judge(&self, policy: &Policy, differing: &[String], shown: bool) -> (Verdict, Rule) {
        let ln = self.evidence.ln();
        if ln >= policy.ln_threshold() && self.effect.matters() {
            (Verdict::Harmful, Rule::Pairs)
        } else if self.stable.now() > policy.max_bad {
            (Verdict::Suspect, Rule::StableUnhealthy)
        } else if ln >= CAUTION.ln() {
            (Verdict::Suspect, Rule::Pairs)
        } else if !differing.is_empty() {
            (Verdict::Suspect, Rule::Differences)
        } else if shown {
            (Verdict::Healthy, Rule::None)
        } else {
            (Verdict::Undecided, Rule::None)
        }
    }

    fn waiting(&self, policy: &Policy, preset: Preset) -> Vec<Waiting> {
        let (least, seen) = (policy.min_pairs(preset), self.seen.all());
        let more = least.saturating_sub(seen);
        if more > 0 { vec![Waiting::Pairs { more }] } else { Vec::new() }
    }

    /// Pairs per second.
    #[expect(clippy::cast_precision_loss, reason = "pairs of one phase")]
    fn rate(&self) -> f64 {
        self.seen.all() as f64 / self.seconds.max(1) as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "pairs of one phase")]
    fn eta(&self, waiting: &[Waiting]) -> Option<f64> {
        let more = waiting.iter().find_map(|one| match one {
            Waiting::Pairs { more } => Some(*more as f64),
            _ => None,
        });
        let seconds = more.unwrap_or(0.0) / self.rate();
        if more.is_none() { Some(0.0) } else { Some(seconds).filter(|seconds| seconds.is_finite()) }
    }

    /// The confidence in force; auto is the highest whose pairs come within half the step deadline.
    #[expect(clippy::cast_precision_loss, reason = "a minimum of pairs")]
    fn preset(&self, policy: &Policy) -> Preset {
        let time = policy.conduct.step_deadline / 2.0;
        let fits = |preset: &Preset| policy.min_pairs(*preset) as f64 <= self.rate() * time;
        let best = || [Preset::High, Preset::Normal].into_iter().find(fits);
        policy.preset.or_else(best).unwrap_or(Preset::Low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sided_differences_convict_and_even_ones_do_not() {
        let mut pairs = Pairs::default();
        (0..13).for_each(|_| pairs.moment(1, 0, None));
        assert!(pairs.ln() >= 1_000_f64.ln(), "{}", pairs.ln());
        let mut pairs = Pairs::default();
        (0..1_000).for_each(|_| pairs.moment(1, 1, None));
        assert!(pairs.ln() < 0.0);
    }

    #[test]
    fn failures_of_one_moment_are_one_unless_it_is_written_otherwise() {
        let after = |bursts| {
            let mut pairs = Pairs::default();
            pairs.moment(1_000, 0, bursts);
            pairs.ln()
        };
        assert!(after(None) < 2_f64.ln());
        assert!(after(Some(20)) > 1_000_f64.ln());
    }

    fn pairs(good: u64, stable_bad: u64, shadow_bad: u64, both_bad: u64) -> Paired {
        Paired { both_good: good, stable_bad, shadow_bad, both_bad }
    }

    /// Verdict, rule and second of the first second that is not undecided, of ten minutes.
    fn first(policy: &Policy, second: impl Fn(u64) -> Paired, differing: &[String]) -> (Verdict, Rule, u64) {
        let mut phase = Phase::default();
        for at in 0..600 {
            let found = phase.tick(policy, at, &[second(at)], differing);
            if found.verdict != Verdict::Undecided {
                return (found.verdict, found.rule, at);
            }
        }
        (Verdict::Undecided, Rule::None, 600)
    }

    #[test]
    fn a_phase_convicts_doubts_waits_and_lets_through() {
        let policy = Policy::default();
        let preset = |preset| Policy { preset: Some(preset), ..Policy::default() };
        let differing = ["json-value $.total".to_owned()];
        let good = |_| pairs(10, 0, 0, 0);
        // Enough pairs of both, by confidence; auto is high at ten a second.
        assert_eq!(first(&policy, good, &[]), (Verdict::Healthy, Rule::None, 149));
        assert_eq!(first(&preset(Preset::Normal), good, &[]), (Verdict::Healthy, Rule::None, 49));
        assert_eq!(first(&preset(Preset::Low), good, &[]), (Verdict::Healthy, Rule::None, 14));
        let written = Policy { written_min_requests: Some(5_000), ..Policy::default() };
        assert_eq!(first(&written, good, &[]), (Verdict::Healthy, Rule::None, 499));
        assert_eq!(first(&policy, |_| Paired::default(), &[]), (Verdict::Undecided, Rule::None, 600));
        assert_eq!(first(&policy, good, &differing), (Verdict::Suspect, Rule::Differences, 0));
        assert_eq!(first(&policy, |_| pairs(5, 0, 0, 5), &[]).1, Rule::StableUnhealthy);
        // It is suspected first, and convicted soon after.
        let bad = |at: u64| pairs(9, 0, 1, 0).with(at.is_multiple_of(2));
        assert_eq!(first(&policy, bad, &[]).1, Rule::Pairs);
        let mut phase = Phase::default();
        let convicted =
            (0..600).find(|at| phase.tick(&policy, *at, &[bad(*at)], &[]).verdict == Verdict::Harmful);
        assert!(convicted.is_some_and(|at| at < 40), "{convicted:?}");
        // Equal shares are nobody's fault, however many.
        let even = |at: u64| pairs(10, u64::from(at.is_multiple_of(5)), u64::from(at % 5 == 2), 0);
        assert_eq!(first(&Policy { max_bad: 0.2, ..Policy::default() }, even, &[]).0, Verdict::Healthy);
    }

    impl Paired {
        /// The same, or as many that are all good.
        fn with(self, bad: bool) -> Self {
            if bad { self } else { Self { both_good: self.all(), ..Self::default() } }
        }
    }

    #[test]
    fn a_phase_survives_being_written_down() {
        let mut phase = Phase::default();
        phase.tick(&Policy::default(), 3, &[pairs(10, 1, 2, 3)], &[]);
        let text = serde_json::to_string(&phase).expect("written");
        assert_eq!(serde_json::from_str::<Phase>(&text).expect("read"), phase);
    }
}
