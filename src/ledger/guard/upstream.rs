//! All endpoints of one upstream: who is taken out, who returns, and whether anybody is left.
//!
//! One step looks at all of them, so that the last one is never taken out for its answers, and no
//! more than the share that is allowed. It must never be stepped by two at once.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_utils::CachePadded;

use super::outlier::{Outlier, OutlierRules, Stage, Step, TRIALS};
use super::probed::Probed;
use super::{EndpointGuard, Millis};
use crate::ledger::Counter;
use crate::model::{FailureReason, WorkerId};

/// What is watched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether endpoints are probed.
    pub probes: bool,
    /// Passive ejection.
    pub outlier: Option<OutlierRules>,
    /// Length of the ramp of an endpoint that is new or returns; 0 is none.
    pub slow_start: Millis,
    /// Whether endpoints never seen before are new; not so at the start of the process.
    pub new_ramp: bool,
}

/// What a step changed, to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// An endpoint is out for milliseconds, for its failures.
    Ejected(Arc<str>, FailureReason, Millis),
    /// An endpoint gets a few requests to show that it is well.
    OnTrial(Arc<str>),
    /// An endpoint stood its trial.
    Returned(Arc<str>),
    /// Nobody is left: everybody is asked.
    FailsOpen,
    /// Somebody is left again.
    Recovered,
}

/// What is known of an upstream's endpoints together.
#[derive(Debug)]
pub struct UpstreamGuard {
    /// Endpoints that may be asked.
    alive: AtomicU32,
    fail_open: Box<[CachePadded<Counter>]>,
}

impl UpstreamGuard {
    pub(super) fn new(workers: usize) -> Self {
        let fail_open = (0..workers).map(|_| CachePadded::default()).collect();
        Self { alive: AtomicU32::new(u32::MAX), fail_open }
    }

    /// Whether every endpoint is out.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.alive.load(Relaxed) == 0
    }

    /// A request goes to an endpoint although all are out.
    pub fn failed_open(&self, worker: WorkerId) {
        if let Some(counter) = self.fail_open.get(worker.0) {
            counter.add(1);
        }
    }

    /// Requests that went to an endpoint although all were out.
    #[must_use]
    pub fn fail_open(&self) -> u64 {
        self.fail_open.iter().map(|counter| counter.get()).sum()
    }

    /// Looks at all endpoints, given in the order of the plan, and puts in force what follows.
    pub fn step(&self, endpoints: &[&EndpointGuard], rules: &Rules, now: Millis, told: &mut Vec<Told>) {
        let mut out = 0;
        for guard in endpoints {
            let mut watched = guard.watched();
            if !rules.probes {
                watched.probed = Probed::default();
            }
            if rules.outlier.is_none() {
                watched.outlier = Outlier::default();
            }
            if !std::mem::replace(&mut watched.known, true) && rules.new_ramp {
                watched.ramp = Some(now);
            }
            out += usize::from(watched.outlier.stage != Stage::In);
        }
        if let Some(outlier) = rules.outlier {
            for guard in endpoints {
                let others = endpoints.iter().filter(|other| !std::ptr::eq(**other, *guard));
                let left = others.filter(|other| other.is_healthy()).count();
                let may = left > 0 && out < most_out(endpoints.len(), outlier.share);
                out += usize::from(look(guard, outlier, now, may, told));
            }
        }
        let mut alive = 0;
        for guard in endpoints {
            let mut watched = guard.watched();
            let was = guard.is_healthy();
            let is = watched.probed.is_healthy() && watched.outlier.stage == Stage::In;
            if is && !was {
                watched.ramp = Some(now);
            }
            guard.admit(&mut watched, rules.slow_start, now);
            drop(watched);
            alive += u32::from(guard.is_healthy());
        }
        let before = self.alive.swap(alive, Relaxed);
        if (before == 0) != (alive == 0) {
            told.push(if alive == 0 { Told::FailsOpen } else { Told::Recovered });
        }
    }
}

/// One endpoint's answers; true when it was taken out.
fn look(guard: &EndpointGuard, rules: OutlierRules, now: Millis, may: bool, told: &mut Vec<Told>) -> bool {
    guard.turn(now);
    let reason = guard.tripped();
    let mut watched = guard.watched();
    let before = watched.outlier.stage;
    let step = watched.outlier.step(rules, now, reason.is_some(), guard.answered(), may);
    let url = || Arc::clone(&guard.url);
    match (step, reason) {
        (Some(Step::Ejected(span)), Some(reason)) => {
            guard.count_ejection(reason);
            told.push(Told::Ejected(url(), reason, span));
            // Its word goes at once: the next one looked at must see who is left.
            guard.admit(&mut watched, 0, now);
            return before == Stage::In;
        }
        (Some(Step::OnTrial), _) => {
            guard.begin_trial(TRIALS);
            told.push(Told::OnTrial(url()));
        }
        (Some(Step::Again), _) => guard.begin_trial(TRIALS),
        (Some(Step::Returned), _) => told.push(Told::Returned(url())),
        _ => {}
    }
    false
}

/// How many of an upstream's endpoints may be out: the share, at least one where any may.
fn most_out(endpoints: usize, share: u32) -> usize {
    let most = endpoints.saturating_mul(share as usize) / 1_000_000;
    if share == 0 { 0 } else { most.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::guard::crowd::tests::address;
    use crate::ledger::guard::{FULL, ProbeRules};

    const OUTLIER: OutlierRules = OutlierRules { errors: 2, base: 1_000, share: 1_000_000 };
    const PROBES: ProbeRules = ProbeRules { interval: 1_000, healthy: 1, unhealthy: 1 };

    fn endpoints(count: usize) -> Vec<EndpointGuard> {
        (0..count).map(|at| EndpointGuard::new(format!("http://a:{at}").into(), 0)).collect()
    }

    fn step(upstream: &UpstreamGuard, all: &[EndpointGuard], rules: Rules, now: Millis) -> Vec<Told> {
        let mut told = Vec::new();
        upstream.step(&all.iter().collect::<Vec<_>>(), &rules, now, &mut told);
        told
    }

    fn fail(guard: &EndpointGuard) {
        (0..2).for_each(|_| guard.failed(FailureReason::Reset, 2, address(1)));
    }

    #[test]
    fn the_last_endpoint_is_never_taken_out_nor_more_than_the_share() {
        // endpoints, share allowed, how many are out when all of them fail
        for (count, share, out) in
            [(1, 1_000_000, 0), (2, 1_000_000, 1), (2, 0, 0), (3, 500_000, 1), (10, 500_000, 5), (3, 1, 1)]
        {
            let (upstream, all) = (UpstreamGuard::new(1), endpoints(count));
            let outlier = Some(OutlierRules { share, ..OUTLIER });
            let rules = Rules { outlier, ..Rules::default() };
            for now in 0..5 {
                all.iter().for_each(fail);
                step(&upstream, &all, rules, now);
            }
            let healthy = all.iter().filter(|guard| guard.is_healthy()).count();
            assert_eq!(count - healthy, out, "{count} {share}");
            assert!(!upstream.is_dead());
        }
    }

    #[test]
    fn the_only_one_that_answers_probes_is_not_taken_out() {
        let (upstream, all) = (UpstreamGuard::new(1), endpoints(2));
        let rules = Rules { probes: true, outlier: Some(OUTLIER), ..Rules::default() };
        all[0].probed(Some("down".to_owned()), PROBES, 0, 0);
        step(&upstream, &all, rules, 0);
        fail(&all[1]);
        assert_eq!(step(&upstream, &all, rules, 1), []);
        assert!(all[1].is_healthy() && !all[0].is_healthy());
    }

    #[test]
    fn an_endpoint_goes_on_trial_and_returns_slowly() {
        let (upstream, all) = (UpstreamGuard::new(1), endpoints(2));
        let rules = Rules { outlier: Some(OUTLIER), slow_start: 1_000, ..Rules::default() };
        fail(&all[0]);
        let url = || Arc::clone(&all[0].url);
        assert_eq!(step(&upstream, &all, rules, 0), [Told::Ejected(url(), FailureReason::Reset, 1_000)]);
        assert_eq!((all[0].share(), all[0].ejections(FailureReason::Reset)), (0, 1));
        assert_eq!(step(&upstream, &all, rules, 1_000), [Told::OnTrial(url())]);
        for _ in 0..TRIALS {
            assert_eq!(all[0].share(), FULL);
            all[0].taken();
            all[0].succeeded(address(1));
        }
        assert_eq!(all[0].share(), 0, "not more than a few");
        assert_eq!(step(&upstream, &all, rules, 1_100), [Told::Returned(url())]);
        assert_eq!(all[0].share(), 102);
        step(&upstream, &all, rules, 1_600);
        assert_eq!(all[0].share(), 563);
        step(&upstream, &all, rules, 2_100);
        assert_eq!(all[0].share(), FULL);
    }

    #[test]
    fn a_new_endpoint_ramps_up_but_not_at_the_start_of_the_process() {
        for (new_ramp, share) in [(false, FULL), (true, 102)] {
            let (upstream, all) = (UpstreamGuard::new(1), endpoints(1));
            let rules = Rules { slow_start: 1_000, new_ramp, ..Rules::default() };
            step(&upstream, &all, rules, 50);
            assert_eq!(all[0].share(), share);
        }
    }

    #[test]
    fn nobody_left_is_told_once_and_so_is_its_end() {
        let (upstream, all) = (UpstreamGuard::new(2), endpoints(2));
        let rules = Rules { probes: true, ..Rules::default() };
        for guard in &all {
            guard.probed(Some("down".to_owned()), PROBES, 0, 0);
        }
        assert_eq!(step(&upstream, &all, rules, 0), [Told::FailsOpen]);
        assert_eq!(step(&upstream, &all, rules, 1), []);
        upstream.failed_open(WorkerId(1));
        assert!(upstream.is_dead() && upstream.fail_open() == 1);
        all[1].probed(None, PROBES, 2, 0);
        assert_eq!(step(&upstream, &all, rules, 2), [Told::Recovered]);
        // Probes that are no longer asked for hold nothing against anybody.
        step(&upstream, &all, Rules::default(), 3);
        assert!(all[0].is_healthy());
    }
}
