//! The decision of every second: all rules over one tick, in their order of precedence.
//!
//! Guard, comparison behind its effect gate, fixed limits, suspicion, and only then whether the
//! step has shown what it must. The chance that a healthy version is ever called Harmful by the
//! first two is at most `guard.alpha + alpha`, however long it runs. State is bounded and can be
//! written down; it must never depend on anything but policy and ticks.

use serde::{Deserialize, Serialize};

use super::behaviour::Behaviour;
use super::counts::{ArmCounts, Tick};
use super::effect::{Effect, Rates};
use super::evidence::{Bad, Excess};
use super::finding::{
    Arms, ByMetric, CUT_PART, ERRORS_PART, Evidence, Finding, Rule, Seen, Verdict, Waiting, eta, known,
    strongest, sum,
};
use super::guard::{Guard, Word};
use super::holdback::{Holdback, Worse};
use super::latency::Latency;
use super::logs::NOTHING;
use super::mixture::{Grant, Schedule};
use super::policy::{Policy, Preset};
use super::power::{self, Power, Reach};
use super::slots::{NewSlots, Slots};
use super::srm::SampleRatio;
use super::thresholds::{Breach, Look, Thresholds};
use crate::spec::rollout::OnClientErrors;

/// Evidence that is worth waiting for more.
pub(super) const CAUTION: f64 = 10.0;

/// Everything remembered of one rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Analyzer {
    preset: Preset,
    step: u32,
    weight: f64,
    entered_at: Option<u64>,
    warm_errors_at: u64,
    warm_latency_at: u64,
    last_second: u64,
    schedule: Schedule,
    errors: Excess,
    effect: Effect,
    latency: Latency,
    guard: Guard,
    arrivals: SampleRatio,
    behaviour: Behaviour,
    power: Power,
    thresholds: Thresholds,
    /// Failures and 4xx answers against what stable was before.
    #[serde(default)]
    holdback: [Holdback; 2],
    /// New users per second in the step before, on a sticky route.
    #[serde(default)]
    users: Option<f64>,
    stable: Seen,
    canary: Seen,
    #[serde(default)]
    refused: Arms,
    slots: Slots,
}

/// All rules' words on one tick.
struct Words {
    guard: Word,
    look: Look,
    known: Known,
    /// Weighted `ln` evidence of errors and the three cuts, and of all together.
    metrics: [f64; 4],
    all: f64,
    open: [bool; 4],
    reach: Reach,
    /// Users are told apart by a key.
    sticky: bool,
}

/// `ln` evidence of each rule by itself, taken once a tick: means over alternatives are not free.
#[derive(Clone, Copy)]
struct Known {
    errors: f64,
    cuts: [Option<f64>; 3],
    behaviour: f64,
    arrivals: f64,
}

impl Analyzer {
    /// For one rollout. `rate` is both arms' requests per second, which `confidence: auto` needs.
    #[must_use]
    pub fn new(policy: &Policy, rate: f64) -> Self {
        Self {
            preset: power::choose(policy, rate).0,
            step: 0,
            weight: 0.0,
            entered_at: None,
            warm_errors_at: 0,
            warm_latency_at: 0,
            last_second: 0,
            schedule: Schedule::new(policy.steps.len()),
            errors: Excess::default(),
            effect: Effect::default(),
            latency: Latency::default(),
            guard: Guard::new(policy.max_bad, policy.availability),
            arrivals: SampleRatio::default(),
            behaviour: Behaviour::default(),
            power: Power::default(),
            thresholds: Thresholds::default(),
            holdback: Default::default(),
            users: None,
            stable: Seen::default(),
            canary: Seen::default(),
            refused: Arms::default(),
            slots: Slots::default(),
        }
    }

    /// Says that from this second on the router uses this weight, 0 to 1, for this step.
    pub fn enter_step(&mut self, policy: &Policy, step: u32, weight: f64, at_second: u64) {
        let first = self.entered_at.is_none() || self.weight <= 0.0;
        self.warm_up(policy, at_second, first);
        (self.step, self.weight, self.entered_at) = (step, weight, Some(at_second));
        self.schedule.enter(step);
        if self.slots.seen != (0, 0) {
            self.users = self.power.rate();
        }
        self.effect.enter();
        self.behaviour.enter();
        self.power.enter();
        self.thresholds.enter();
        self.holdback.iter_mut().for_each(Holdback::enter);
        (self.stable, self.canary, self.slots) = (Seen::default(), Seen::default(), Slots::default());
        self.refused = Arms::default();
    }

    /// Says that the process was started again: connections and caches are cold, evidence is kept,
    /// but for that on slots, whose sets are new. `down` is how many seconds it was away; they are
    /// not charged to the step.
    pub fn resume(&mut self, policy: &Policy, at_second: u64, down: u64) {
        self.entered_at = self.entered_at.map(|at| (at + down).min(at_second));
        self.slots = Slots::default();
        self.schedule.enter(self.step);
        self.warm_up(policy, at_second, true);
    }

    fn warm_up(&mut self, policy: &Policy, at_second: u64, cold: bool) {
        self.warm_errors_at = at_second + policy.warmup_errors;
        let latency = if cold { policy.warmup_latency } else { policy.warmup_errors };
        self.warm_latency_at = self.warm_latency_at.max(at_second + latency);
    }

    /// Takes the confidence that `auto` means at this rate of both arms' requests; on a sticky route
    /// the users of the step before are what counts. It may be taken anew at any time, upward and
    /// downward: it says what a step must have shown, and never what convicts.
    pub fn choose(&mut self, policy: &Policy, rate: f64) {
        let rate = self.users.map_or(rate, |users| users.min(rate));
        self.preset = power::choose(policy, rate).0;
    }

    /// Whether errors of this second are compared.
    #[must_use]
    pub fn is_warm(&self, second: u64) -> bool {
        self.entered_at.is_some() && second >= self.warm_errors_at
    }

    /// The confidence in force.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.preset
    }

    /// Judges one tick. Ticks come in the order of their seconds; one of an older weight epoch may
    /// come in the second of the new one.
    pub fn tick(&mut self, policy: &Policy, tick: &Tick) -> Finding {
        if self.entered_at.is_none() {
            self.enter_step(policy, tick.step, tick.w, tick.at_second);
        }
        self.last_second = self.last_second.max(tick.at_second);
        let grant = self.schedule.tick(tick.at_second);
        let current = tick.step == self.step;
        let slots = current.then(|| self.slots.take(tick)).flatten();
        let sticky = tick.stable.slots.is_some() || tick.canary.slots.is_some();
        let warm = tick.at_second >= self.warm_errors_at;
        self.compare(policy, &grant, tick, warm, sticky, slots);
        let bad = sticky.then(|| slots.map_or((0, 0), |new| new.bad));
        let guard = self.guard.tick(&grant, tick, bad, -policy.guard_alpha.ln());
        let look =
            policy.limits.as_ref().filter(|_| current).map(|limits| self.thresholds.tick(limits, tick));
        if current {
            self.count(tick, warm && !guard.stable_breaches, sticky);
        }
        let known = self.known();
        let metrics = known.metrics();
        let all = sum(metrics);
        let open = self.open_gates(policy, all);
        let reach = self.power.reach(policy, self.weight, self.preset.target(self.weight), sticky);
        let words = Words { guard, look: look.unwrap_or_default(), known, metrics, all, open, reach, sticky };
        self.finding(policy, tick, &words)
    }

    /// Feeds every comparison of the two arms.
    fn compare(
        &mut self,
        policy: &Policy,
        grant: &Grant,
        tick: &Tick,
        warm: bool,
        sticky: bool,
        slots: Option<NewSlots>,
    ) {
        let bursts = policy.bursts;
        if sticky {
            let bad = slots.map(|new| Bad::of(new.warm_bad.0, new.warm_bad.1)).filter(|_| warm);
            self.errors.slots(grant, tick.w, bad);
        } else {
            let bad = Bad::of(tick.stable.e, tick.canary.e);
            self.errors.requests(grant, tick.w, warm.then_some(bad), bursts);
        }
        let arrived = if sticky { slots.map(|new| new.seen) } else { Some((tick.stable.n, tick.canary.n)) };
        if let Some((stable, canary)) = arrived {
            self.arrivals.tick(grant, tick.w, stable, canary);
        }
        if policy.client_errors != OnClientErrors::Ignore {
            let slots = slots.and_then(|new| new.client_errors);
            self.behaviour.tick(grant, tick, warm, slots, bursts);
        }
        self.latency.tick(grant, tick, tick.at_second >= self.warm_latency_at, bursts);
    }

    /// Takes the tick into what the step has seen.
    #[expect(clippy::cast_precision_loss, reason = "requests of one second")]
    fn count(&mut self, tick: &Tick, healthy: bool, sticky: bool) {
        let (stable, canary) = (&tick.stable, &tick.canary);
        self.stable = Seen { n: self.stable.n + stable.n, e: self.stable.e + stable.e };
        self.canary = Seen { n: self.canary.n + canary.n, e: self.canary.e + canary.e };
        self.refused.add((stable.n, stable.client_errors), (canary.n, canary.client_errors));
        if sticky {
            let rates = |slots: u64, bad: u64| (slots as f64, bad as f64);
            let (seen, bad) = (self.slots.seen, self.slots.bad);
            self.effect.set_step(Rates { stable: rates(seen.0, bad.0), canary: rates(seen.1, bad.1) });
        } else {
            let rates = Rates {
                stable: (stable.n as f64, stable.e as f64),
                canary: (canary.n as f64, canary.e as f64),
            };
            self.effect.add(tick.at_second, &rates);
        }
        self.remember(tick, sticky);
        if healthy {
            self.power.add(stable.n + canary.n, (stable.n, stable.e));
            if sticky {
                let (seen, bad) = (self.slots.seen, self.slots.bad);
                self.power.set_slots(seen.0 + seen.1, (seen.0, bad.0));
            }
        }
    }

    /// Takes what the step has seen beside what stable was over the rollout.
    fn remember(&mut self, tick: &Tick, sticky: bool) {
        let seen = |n: u64, e: u64| Seen { n, e };
        let [failures, refusals] = &mut self.holdback;
        let (n, refused) = if sticky {
            let (n, bad) = (self.slots.seen, self.slots.bad);
            failures.tick(tick.at_second, seen(n.0, bad.0), seen(n.1, bad.1));
            (n, self.slots.client_errors)
        } else {
            failures.tick(tick.at_second, self.stable, self.canary);
            let (stable, canary) = refusals.seen();
            let of = |arm: &ArmCounts| arm.client_errors;
            ((self.stable.n, self.canary.n), (stable.e + of(&tick.stable), canary.e + of(&tick.canary)))
        };
        refusals.tick(tick.at_second, seen(n.0, refused.0), seen(n.1, refused.1));
    }

    fn worse(&self, policy: &Policy) -> Option<Worse> {
        let [failures, refusals] = &self.holdback;
        let refusals = || refusals.worse(true).filter(|_| policy.client_errors != OnClientErrors::Ignore);
        failures.worse(false).or_else(refusals)
    }

    fn known(&self) -> Known {
        Known {
            errors: self.errors.ln(),
            cuts: std::array::from_fn(|index| self.latency.ln(index)),
            behaviour: self.behaviour.ln(),
            arrivals: self.arrivals.ln(),
        }
    }

    /// Which metrics show an effect that matters; looked at only when there is evidence.
    fn open_gates(&self, policy: &Policy, all: f64) -> [bool; 4] {
        if all < policy.ln_threshold() {
            return [false; 4];
        }
        let cut = |index| self.latency.shows_effect(index);
        [self.effect.matters(), cut(0), cut(1), cut(2)]
    }

    fn finding(&self, policy: &Policy, tick: &Tick, words: &Words) -> Finding {
        let waiting_for = self.waiting(policy, words);
        let (verdict, rule) = self.judge(policy, words, waiting_for.is_empty());
        let threshold = policy.ln_threshold();
        // What speaks against it does not go away with time.
        let against = matches!(verdict, Verdict::Suspect | Verdict::Harmful);
        let eta_seconds = eta(&waiting_for, words.reach.rate, self.weight).filter(|_| !against);
        Finding {
            at_second: tick.at_second,
            step: self.step,
            weight: self.weight,
            verdict,
            rule,
            stable: self.stable,
            canary: self.canary,
            refused: self.refused,
            slow: self.latency.slow(),
            evidence: Evidence {
                log: known(words.all),
                threshold,
                guard_threshold: -policy.guard_alpha.ln(),
                by_metric: words.known.by_metric(&words.guard),
                unnoticed: self.unnoticed(words),
            },
            effect: words.open.contains(&true),
            breach: words.look.breach,
            cuts: self.latency.edges(),
            worse: self.worse(policy),
            detectable_ratio: words.reach.detectable,
            eta_seconds,
            waiting_for,
            confidence: self.preset,
            few_clients: tick.few_clients,
            differing: Vec::new(),
        }
    }

    /// The rules in their order.
    fn judge(&self, policy: &Policy, words: &Words, shown: bool) -> (Verdict, Rule) {
        let threshold = policy.ln_threshold();
        let Words { guard, look, metrics, open, .. } = words;
        let open = std::array::from_fn(|at| if open[at] { metrics[at] } else { NOTHING });
        let through = sum(open);
        let waits = self.worth_waiting(words);
        let evidence = sum(waits);
        let breach = |breach: &Option<Breach>| breach.map_or(Rule::None, Rule::Threshold);
        let refused = words.known.behaviour >= threshold && self.behaviour.matters();
        if guard.fires {
            (Verdict::Harmful, Rule::Guard)
        } else if through >= threshold {
            (Verdict::Harmful, self.strongest(&open))
        } else if look.harmful {
            (Verdict::Harmful, breach(&look.breach))
        } else if refused && policy.client_errors == OnClientErrors::Revert {
            (Verdict::Harmful, Rule::Behaviour)
        } else if guard.stable_breaches {
            (Verdict::Suspect, Rule::StableUnhealthy)
        } else if guard.suspects {
            (Verdict::Suspect, Rule::Guard)
        } else if evidence >= CAUTION.ln() {
            (Verdict::Suspect, self.strongest(&waits))
        } else if look.breach.is_some() {
            (Verdict::Suspect, breach(&look.breach))
        } else if refused {
            (Verdict::Suspect, Rule::Behaviour)
        } else if words.known.arrivals >= threshold {
            (Verdict::Suspect, Rule::SampleRatio)
        } else if shown {
            (Verdict::Healthy, Rule::None)
        } else {
            (Verdict::Undecided, Rule::None)
        }
    }

    /// The rule with the most evidence. Failures count as slow, so a cut may have more for them than
    /// errors do: they are named when errors speak too and most that was slow failed.
    fn strongest(&self, metrics: &[f64; 4]) -> Rule {
        match strongest(metrics) {
            Rule::Latency(cut) if metrics[0] >= CAUTION.ln() && self.latency.mostly_failed(cut) => {
                Rule::Errors
            }
            rule => rule,
        }
    }

    /// Evidence without that of cuts at which nobody could notice the difference.
    fn worth_waiting(&self, words: &Words) -> [f64; 4] {
        // A part of what is below the line is below it too; most seconds end here.
        if words.all < CAUTION.ln() {
            return [NOTHING; 4];
        }
        let waits = |at: usize| at == 0 || self.latency.is_slower(at - 1);
        std::array::from_fn(|at| if waits(at) { words.metrics[at] } else { NOTHING })
    }

    /// Cuts whose evidence can decide nothing now. One below 1 speaks for the canary and is none.
    fn unnoticed(&self, words: &Words) -> [bool; 3] {
        std::array::from_fn(|cut| {
            words.metrics[cut + 1] > 0.0 && !words.open[cut + 1] && !self.latency.is_slower(cut)
        })
    }

    /// What the step has not shown yet.
    #[expect(clippy::cast_precision_loss, reason = "seconds of a step")]
    fn waiting(&self, policy: &Policy, words: &Words) -> Vec<Waiting> {
        let mut waiting = Vec::new();
        let passed = (self.last_second + 1).saturating_sub(self.entered_at.unwrap_or(0)) as f64;
        let dwell = policy.dwell_of(self.step);
        if passed < dwell {
            waiting.push(Waiting::Dwell { seconds: dwell - passed });
        }
        let least = policy.min_requests(self.preset);
        if words.sticky {
            let more = least.saturating_sub(self.slots.seen.1);
            waiting.extend((more > 0).then_some(Waiting::Users { more }));
        } else if self.canary.n < least {
            waiting.push(Waiting::Requests { more: least - self.canary.n });
        }
        let compared = self.weight > 0.0 && self.weight < 1.0;
        if compared && words.reach.more > 0.0 {
            waiting.push(Waiting::Detectable {
                target: self.preset.target(self.weight),
                more: words.reach.more,
            });
        }
        if words.guard.stable_breaches {
            waiting.push(Waiting::Stable);
        }
        if sum(self.worth_waiting(words)) >= CAUTION.ln() {
            waiting.push(Waiting::Evidence);
        }
        waiting
    }
}

impl Known {
    fn metrics(&self) -> [f64; 4] {
        let cut = |ln: Option<f64>| ln.map_or(NOTHING, |ln| ln + CUT_PART.ln());
        let [p50, p90, p99] = self.cuts.map(cut);
        [self.errors + ERRORS_PART.ln(), p50, p90, p99]
    }

    fn by_metric(&self, guard: &Word) -> ByMetric {
        let [latency_p50, latency_p90, latency_p99] = self.cuts.map(|ln| ln.and_then(known));
        ByMetric {
            errors: known(self.errors),
            latency_p50,
            latency_p90,
            latency_p99,
            guard: known(guard.ln),
            guard_control: known(guard.control),
            behaviour: known(self.behaviour),
            sample_ratio: known(self.arrivals),
            pairs: None,
        }
    }
}
