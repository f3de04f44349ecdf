//! Many runs of one setting, over all cores, each judged by our rule and by the peers'.
//!
//! A run depends on the seed and its number alone, so the result does not depend on the machine.
//! It must never stop a run at our verdict: the peers see the same traffic to its end.

use std::sync::Arc;
use std::thread;

use clap::ValueEnum;

use super::dice::LatencyTable;
use super::peers::{Judge, Peer};
use super::traffic::{Scenario, Setting, Traffic};
use crate::analysis::differences::Paired;
use crate::analysis::evidence::{Bad, Excess};
use crate::analysis::guard::Guard;
use crate::analysis::mixture::Schedule;
use crate::analysis::{Analyzer, Policy, Tick, Verdict, shadow};

/// Which part of the rule judges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// All of it, as it runs live
    #[default]
    Full,
    /// The comparison of errors alone: full alpha, every failure a trial, no warm-up, no gates
    Relative,
    /// The guard and its control alone
    Guard,
}

/// When a rule reverted, and at what price.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hit {
    /// Requests of both arms until then.
    pub requests: f64,
    /// Seconds until then.
    pub seconds: f64,
    /// The canary's bad outcomes beyond the baseline until then.
    pub excess: f64,
}

/// One run: our hit and the peers'.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Run {
    /// Ours.
    pub ours: Option<Hit>,
    /// In the order of [`Peer::ALL`].
    pub peers: [Option<Hit>; Peer::ALL.len()],
}

/// Runs all of them.
#[must_use]
pub fn all(setting: &Setting, rule: Rule, runs: u64, seed: u64) -> Vec<Run> {
    let table = Arc::new(LatencyTable::default());
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64).min(runs.max(1));
    thread::scope(|scope| {
        let start = |first: u64| {
            let table = &table;
            scope.spawn(move || -> Vec<Run> {
                let mine = (first..runs).step_by(usize::try_from(threads).unwrap_or(1));
                mine.map(|run| one(*setting, rule, Traffic::new(*setting, Arc::clone(table), seed, run)))
                    .collect()
            })
        };
        let started: Vec<_> = (0..threads).map(start).collect();
        // A thread that panicked has nothing to give; the count of runs says so.
        started.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

fn one(setting: Setting, rule: Rule, mut traffic: Traffic) -> Run {
    let mut run = Run::default();
    let mut ours = Ours::new(rule);
    let mut peers = Peer::ALL.map(|(_, peer)| Judge::new(peer));
    let mut spent = Hit::default();
    let mut minute = ((0, 0), (0, 0));
    for second in 0..setting.seconds {
        if setting.scenario == Scenario::Shadow {
            if run.ours.is_none() && ours.pairs(second, &mut traffic, &mut spent) {
                run.ours = Some(spent);
                break;
            }
            continue;
        }
        let tick = traffic.tick(second, run.ours.is_none() && rule == Rule::Full);
        if second >= setting.onset {
            spend(&mut spent, &tick, setting.baseline);
        }
        if run.ours.is_none() && ours.reverts(&tick) {
            run.ours = Some(spent);
        }
        for (sum, arm) in [(&mut minute.0, &tick.stable), (&mut minute.1, &tick.canary)] {
            *sum = (sum.0 + arm.n, sum.1 + arm.e);
        }
        if second % 60 == 59 {
            for (judge, hit) in peers.iter_mut().zip(&mut run.peers).filter(|(_, hit)| hit.is_none()) {
                *hit = judge.minute(minute.0, minute.1).then_some(spent);
            }
            minute = ((0, 0), (0, 0));
        }
    }
    run
}

#[expect(clippy::cast_precision_loss, reason = "requests of one second")]
fn spend(spent: &mut Hit, tick: &Tick, baseline: f64) {
    let canary = &tick.canary;
    spent.requests += (tick.stable.n + canary.n) as f64;
    spent.seconds += 1.0;
    spent.excess += canary.e as f64 - baseline * canary.n as f64;
}

/// Our rule, or a part of it.
struct Ours {
    rule: Rule,
    policy: Policy,
    step: Option<u32>,
    analyzer: Analyzer,
    schedule: Schedule,
    errors: Excess,
    guard: Guard,
    shadow: shadow::Phase,
}

impl Ours {
    fn new(rule: Rule) -> Self {
        let policy = Policy::default();
        Self {
            rule,
            step: None,
            analyzer: Analyzer::new(&policy, 0.0),
            schedule: Schedule::new(policy.steps.len()),
            errors: Excess::default(),
            guard: Guard::new(policy.max_bad, policy.availability),
            shadow: shadow::Phase::default(),
            policy,
        }
    }

    fn reverts(&mut self, tick: &Tick) -> bool {
        let entered = self.step != Some(tick.step);
        self.step = Some(tick.step);
        if entered {
            self.analyzer.enter_step(&self.policy, tick.step, tick.w, tick.at_second);
            self.schedule.enter(tick.step);
        }
        if self.rule == Rule::Full {
            return self.analyzer.tick(&self.policy, tick).verdict == Verdict::Harmful;
        }
        let grant = self.schedule.tick(tick.at_second);
        if self.rule == Rule::Guard {
            let threshold = -self.policy.guard_alpha.ln();
            return self.guard.tick(&grant, tick, None, threshold).fires;
        }
        let bad = Bad::of(tick.stable.e, tick.canary.e);
        self.errors.requests(&grant, tick.w, Some(bad), Some(1));
        self.errors.ln() >= self.policy.ln_threshold()
    }

    #[expect(clippy::cast_precision_loss, reason = "pairs of one second")]
    fn pairs(&mut self, second: u64, traffic: &mut Traffic, spent: &mut Hit) -> bool {
        let moments = traffic.pairs();
        spent.requests += moments.iter().map(Paired::all).sum::<u64>() as f64;
        spent.seconds += 1.0;
        self.shadow.tick(&self.policy, second, &moments, &[]).verdict == Verdict::Harmful
    }
}
