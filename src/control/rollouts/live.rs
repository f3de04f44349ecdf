//! One rollout under way: its state, its analyzer, and what its route's weights are because of it.
//!
//! It must never decide anything: [`crate::rollout::transition`] does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::after::After;
use super::counts::{Counts, Epoch};
use super::ring::Ring;
use super::sampled::Sampled;
use crate::analysis::recording::{Said, Told};
use crate::analysis::{Analyzer, Finding, Policy, Tick};
use crate::control::checks::Checks;
use crate::model::{Compared, Guided};
use crate::plan::Route;
use crate::rollout::moves::Analyze;
use crate::rollout::{Identity, Phase, Rollout, Scene, Scheme};

/// What is remembered of a rollout over a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Remembered {
    /// Its state.
    pub rollout: Rollout,
    /// What the analyzer knows.
    pub analyzer: Option<Analyzer>,
    /// Number of the last weight epoch.
    #[serde(default)]
    pub epoch: u64,
    /// The analyzer's second at the time of writing.
    #[serde(default)]
    pub second: u64,
}

/// One rollout under way.
#[derive(Debug)]
pub struct Live {
    /// Its state.
    pub rollout: Rollout,
    /// How it is judged and conducted.
    pub policy: Arc<Policy>,
    /// What is known so far.
    pub analyzer: Option<Analyzer>,
    /// What was found last.
    pub finding: Option<Finding>,
    /// Number of the weight epoch.
    pub epoch: u64,
    /// Requests per second of both arms, lately.
    pub rate: f64,
    /// Numbers from outside.
    pub checks: Checks,
    /// What the analyzer saw lately.
    pub ticks: Arc<Ring>,
    pub(super) counts: Counts,
    /// What failed in the present step.
    pub(super) sampled: Sampled,
    /// What comes after a return.
    pub(super) after: After,
    pub(super) seed: u64,
}

/// Part of a new second in the average of the rate.
const RATE_PART: f64 = 0.1;

impl Live {
    /// A rollout of which nothing is known yet.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        Self {
            rollout: Rollout::default(),
            policy,
            analyzer: None,
            finding: None,
            epoch: 0,
            rate: 0.0,
            checks: Checks::default(),
            ticks: Arc::new(Ring::new(u64::from(fastrand::u32(..)))),
            counts: Counts::default(),
            sampled: Sampled::default(),
            after: After::default(),
            seed: 0,
        }
    }

    /// The same as it was remembered.
    #[must_use]
    pub fn remembered(policy: Arc<Policy>, known: Remembered) -> Self {
        let Remembered { rollout, analyzer, epoch, .. } = known;
        Self { rollout, analyzer, epoch, ..Self::new(policy) }
    }

    /// What to remember. `second` is the analyzer's.
    #[must_use]
    pub fn to_remember(&self, second: u64) -> Remembered {
        let (rollout, analyzer) = (self.rollout.clone(), self.analyzer.clone());
        Remembered { rollout, analyzer, epoch: self.epoch, second }
    }

    /// What the plan must be compiled with.
    #[must_use]
    pub fn guided(&self) -> Guided {
        guided(&self.rollout, self.epoch, self.seed)
    }

    /// The weights changed, or the step did: what comes from now on is counted apart.
    pub fn next_epoch(&mut self, seed: u64) {
        self.epoch += 1;
        self.seed = seed;
    }

    /// The plan with the present epoch is in force.
    pub fn published(&mut self, route: &Route) {
        let Some(compare) = &route.trial else { return };
        let epoch = Epoch { w: compare.w, step: self.rollout.step, sticky: !route.split.keys.is_empty() };
        self.counts.begin(compare.trial.epoch, epoch);
    }

    /// Does what the state machine tells the analyzer.
    pub fn analyze(&mut self, what: &Analyze, second: u64, down: u64) {
        self.ticks.told(second, self.told(what, down));
        match what {
            Analyze::Begin => {
                self.analyzer = Some(Analyzer::new(&self.policy, self.rate));
                self.finding = None;
            }
            Analyze::EnterStep { step, share } => {
                let (policy, rate) = (Arc::clone(&self.policy), self.rate);
                let analyzer = self.analyzer.get_or_insert_with(|| Analyzer::new(&policy, rate));
                analyzer.enter_step(&self.policy, *step, share.ratio(), second);
                self.finding = None;
            }
            Analyze::Resume => {
                if let Some(analyzer) = &mut self.analyzer {
                    analyzer.resume(&self.policy, second, down);
                }
            }
            // It is asked with the policy in force every second.
            Analyze::Policy => {}
        }
    }

    /// What the analyzer is about to be told, as a recording holds it.
    fn told(&self, what: &Analyze, down: u64) -> Told {
        match what {
            Analyze::Begin => Told::Begin {
                version: self.rollout.identity.version.clone(),
                run: self.rollout.run,
                rate: self.rate,
            },
            Analyze::EnterStep { step, share } => {
                Told::Step { step: *step, w: f64::from(share.0) / 10_000.0 }
            }
            Analyze::Resume => Told::Resume { down, analyzer: self.analyzer.clone().map(Box::new) },
            Analyze::Policy => Told::Policy,
        }
    }

    /// A second was decided in this scene: what a recording must know of it.
    pub fn decided(&self, was: &Rollout, scene: &Scene, second: u64) {
        if was.is_live() {
            self.ticks.told(second, Told::Second(scene.recorded(&self.rollout)));
        }
    }

    /// Something else than a second was taken: what it made of the rollout cannot be found again.
    pub fn moved(&self, was: &Rollout, ms: u64, second: u64) {
        if (was.is_live() || self.rollout.is_live())
            && *was != self.rollout
            && let Ok(rollout) = serde_json::to_value(&self.rollout)
        {
            self.ticks.told(second, Told::State { ms, rollout });
        }
    }

    /// Judges one second; `None` when nothing is compared.
    pub fn judge(&mut self, ticks: Vec<Tick>) -> Option<Finding> {
        let requests: u64 = ticks.iter().map(|tick| tick.stable.n + tick.canary.n).sum();
        #[expect(clippy::cast_precision_loss, reason = "requests of one second")]
        let now = requests as f64;
        self.rate += RATE_PART * (now - self.rate);
        // What comes after a decision, on the way back or at the end, is no evidence for it.
        self.rollout.phase.base()?;
        let analyzer = self.analyzer.as_mut()?;
        let mut last = None;
        for tick in ticks {
            let finding = analyzer.tick(&self.policy, &tick);
            self.ticks.tick(tick, Some(Said::of(&finding)));
            last = Some(finding);
        }
        let finding = last?;
        self.finding = Some(finding.clone());
        Some(finding)
    }
}

impl Live {
    /// The version that came to the slots it is on has not changed its way because they swapped roles.
    pub fn keeps_its_slots(&self, identity: &mut Identity) {
        let own = &self.rollout.identity;
        let began = self.rollout.is_live() || self.rollout.phase == Phase::Promoted;
        let swapped = (&own.from, &own.to) == (&identity.to, &identity.from);
        if began && swapped && own.scheme == Scheme::Slots && own.version == identity.version {
            (identity.from, identity.to) = (own.from.clone(), own.to.clone());
        }
    }
}

/// What a rollout says of its route's weights.
#[must_use]
pub fn guided(rollout: &Rollout, epoch: u64, seed: u64) -> Guided {
    // Between two rollouts the slots alone say which of them serves.
    if rollout.identity.scheme == Scheme::Slots && !rollout.is_live() {
        let Identity { from, to, .. } = rollout.identity.clone();
        return Guided { from, to, share: None, void: None, compared: None };
    }
    let share = rollout.canary_share();
    let compares = rollout.is_live() && share.is_some_and(|share| share.0 > 0 && share.0 < 1_000_000);
    let compared = compares.then(|| Compared { candidate: rollout.candidate().to_owned(), epoch, seed });
    Guided {
        from: rollout.identity.from.clone(),
        to: rollout.identity.to.clone(),
        share: share.map(|share| share.0),
        void: rollout.void_arm().map(str::to_owned),
        compared,
    }
}

/// What makes the rollout of a route the one it is.
#[must_use]
pub fn identity(policy: &Policy, fingerprint: u64, slots: bool) -> Identity {
    Identity {
        version: policy.version.clone(),
        from: policy.from.clone(),
        to: policy.to.clone(),
        scheme: if slots { Scheme::Slots } else { Scheme::Arms },
        policy: fingerprint,
    }
}
