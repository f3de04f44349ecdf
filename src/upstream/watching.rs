//! Watches endpoints and breakers of the plan in force: probes what is due, looks at what workers
//! counted, says what changed.
//!
//! It runs beside the request path. Nothing runs for a plan that watches nothing. It must never have
//! more than a bounded number of probes under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::probe::Question;
use crate::ledger::EndpointGuard;
use crate::ledger::guard::breaker::Turn;
use crate::ledger::guard::{Millis, ProbeRules, Told};
use crate::model::Generation;
use crate::plan::{Plan, Plans, Upstream};

/// Time between two looks.
const BEAT: Duration = Duration::from_millis(100);
/// Probes under way at once; what is due beyond that waits for the next look.
pub const MAX_PROBES: usize = crate::model::bounds::PROBES;

/// A breaker opened or closed by itself.
#[derive(Clone, Debug)]
pub struct Turned {
    /// Name of its upstream.
    pub upstream: Arc<str>,
    /// How.
    pub turn: Turn,
}

/// One answered probe.
struct Answered {
    upstream: Arc<str>,
    guard: Arc<EndpointGuard>,
    rules: ProbeRules,
    bad: Option<String>,
}

/// What watches.
struct Watcher {
    started: Instant,
    /// The plan of the start: its endpoints are not new.
    first: Generation,
    running: usize,
    answers: mpsc::Sender<Answered>,
    turned: mpsc::Sender<Turned>,
}

/// Watches until it is dropped; breakers that turn are told to `turned`, as far as it has room.
pub async fn keep_watching(
    plans: Plans,
    mut published: watch::Receiver<Generation>,
    turned: mpsc::Sender<Turned>,
) {
    let (sender, mut answers) = mpsc::channel(MAX_PROBES);
    let first = plans.load_full().generation;
    let mut watcher = Watcher { started: Instant::now(), first, running: 0, answers: sender, turned };
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let plan = plans.load_full();
        let idle = !plan.upstreams.iter().any(|one| one.watch.is_some() || one.breaker.is_some());
        watcher.look(&plan);
        drop(plan);
        tokio::select! {
            Some(answered) = answers.recv() => watcher.heard(answered),
            changed = published.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            _ = beat.tick(), if !idle => {}
        }
    }
}

impl Watcher {
    fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn look(&mut self, plan: &Plan) {
        let now = self.now();
        for upstream in &plan.upstreams {
            self.look_at(upstream, plan.generation != self.first, now);
        }
    }

    fn look_at(&mut self, upstream: &Arc<Upstream>, new_ramp: bool, now: Millis) {
        if let Some(watch) = &upstream.watch {
            let guards = || upstream.endpoints.iter().filter_map(|endpoint| endpoint.guard.as_ref());
            let mut told = Vec::new();
            let all: Vec<&EndpointGuard> = guards().map(|guard| &**guard).collect();
            watch.cell.step(&all, &watch.rules(new_ramp), now, &mut told);
            for one in &told {
                tell(&upstream.name, one);
            }
            self.probe(upstream, now);
        }
        if let Some(breaker) = &upstream.breaker
            && let Some(turn) = breaker.cell.step(&breaker.rules, now)
        {
            tell_turn(&upstream.name, turn);
            // A journal that cannot keep up loses a line, the log has it.
            let _ = self.turned.try_send(Turned { upstream: Arc::clone(&upstream.name), turn });
        }
    }

    fn probe(&mut self, upstream: &Arc<Upstream>, now: Millis) {
        let Some(probe) = upstream.watch.as_ref().and_then(|watch| watch.probe.as_ref()) else { return };
        for endpoint in &upstream.endpoints {
            let Some(guard) = &endpoint.guard else { continue };
            if self.running >= MAX_PROBES || !guard.probe_is_due(now) {
                continue;
            }
            self.running += 1;
            let question = Question::of(upstream, endpoint, probe);
            let (answers, guard) = (self.answers.clone(), Arc::clone(guard));
            let (upstream, rules) = (Arc::clone(&upstream.name), probe.rules);
            tokio::spawn(async move {
                let bad = question.ask().await;
                // Who no longer watches needs no answer.
                let _ = answers.send(Answered { upstream, guard, rules, bad }).await;
            });
        }
    }

    fn heard(&mut self, answered: Answered) {
        self.running = self.running.saturating_sub(1);
        let Answered { upstream, guard, rules, bad } = answered;
        let why = bad.clone();
        if guard.probed(bad, rules, self.now(), fastrand::u64(..)) {
            let endpoint = &guard.url;
            match why {
                Some(why) => tracing::warn!(%upstream, %endpoint, "endpoint is unhealthy: {why}"),
                None => tracing::info!(%upstream, %endpoint, "endpoint is healthy"),
            }
        }
    }
}

fn tell(upstream: &str, told: &Told) {
    match told {
        Told::Ejected(endpoint, reason, millis) => {
            tracing::warn!(upstream, %endpoint, %reason, millis, "endpoint ejected: it failed too often in a row");
        }
        Told::OnTrial(endpoint) => tracing::info!(upstream, %endpoint, "endpoint on trial"),
        Told::Returned(endpoint) => tracing::info!(upstream, %endpoint, "endpoint returned"),
        Told::FailsOpen => {
            tracing::error!(
                upstream,
                "every endpoint is out: requests that no other arm takes go to all of them"
            );
        }
        Told::Recovered => tracing::info!(upstream, "an endpoint is left again"),
    }
}

fn tell_turn(upstream: &str, turn: Turn) {
    match turn {
        Turn::Opened(why, attempts, failed) => {
            let why = why.label();
            tracing::warn!(upstream, why, attempts, failed, "breaker opened");
        }
        Turn::HalfOpen => tracing::info!(upstream, "breaker half open: a few requests are let through"),
        Turn::Closed => tracing::info!(upstream, "breaker closed"),
    }
}
