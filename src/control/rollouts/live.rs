//! One rollout under way: its state, its analyzer, and what its route's weights are because of it.
//!
//! It must never decide anything: [`crate::rollout::transition`] does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::after::After;
use super::counts::{Counts, Epoch};
use super::rate::Rate;
use super::ring::Ring;
use super::sampled::Sampled;
use crate::analysis::recording::{Said, Told};
use crate::analysis::{Analyzer, Finding, Policy, Tick, shadow};
use crate::control::checks::Checks;
use crate::control::differences::Differences;
use crate::model::{Compared, Guided};
use crate::plan::Route;
use crate::rollout::moves::Analyze;
use crate::rollout::state::Base;
use crate::rollout::{Identity, Phase, Rollout, Scene, Scheme, Share, Suffered};

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
    /// Requests per second of both arms.
    #[serde(default)]
    pub rate: f64,
    /// What mirrored requests have shown, during the shadow phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<shadow::Phase>,
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
    /// What mirrored requests have shown, during the shadow phase.
    pub shadow: Option<shadow::Phase>,
    /// What was found last.
    pub finding: Option<Finding>,
    /// Number of the weight epoch.
    pub epoch: u64,
    /// Numbers from outside.
    pub checks: Checks,
    /// What the analyzer saw lately.
    pub ticks: Arc<Ring>,
    pub(super) rate: Rate,
    pub(super) counts: Counts,
    /// What failed in the present step.
    pub(super) sampled: Sampled,
    /// What comes after a return.
    pub(super) after: After,
    pub(super) seed: u64,
}

impl Live {
    /// A rollout of which nothing is known yet.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        Self {
            rollout: Rollout::default(),
            policy,
            analyzer: None,
            shadow: None,
            finding: None,
            epoch: 0,
            checks: Checks::default(),
            ticks: Arc::new(Ring::new(u64::from(fastrand::u32(..)))),
            rate: Rate::default(),
            counts: Counts::default(),
            sampled: Sampled::default(),
            after: After::default(),
            seed: 0,
        }
    }

    /// The same as it was remembered.
    #[must_use]
    pub fn remembered(policy: Arc<Policy>, known: Remembered) -> Self {
        let Remembered { rollout, analyzer, epoch, rate, shadow, .. } = known;
        Self { rollout, analyzer, shadow, epoch, rate: Rate::remembered(rate), ..Self::new(policy) }
    }

    /// What to remember. `second` is the analyzer's.
    #[must_use]
    pub fn to_remember(&self, second: u64) -> Remembered {
        let (rollout, analyzer) = (self.rollout.clone(), self.analyzer.clone());
        let (rate, shadow) = (self.rate.steady(), self.shadow.clone());
        Remembered { rollout, analyzer, epoch: self.epoch, second, rate, shadow }
    }

    /// What failed in the present step.
    #[must_use]
    pub fn suffered(&self) -> Suffered {
        self.sampled.suffered()
    }

    /// What the plan must be compiled with.
    #[must_use]
    pub fn guided(&self) -> Guided {
        guided(&self.rollout, &self.policy, self.epoch, self.seed)
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
                self.analyzer = Some(Analyzer::new(&self.policy, self.rate.steady()));
                self.finding = None;
                // The run is another one, and so is its first epoch.
                self.counts.begin_run(self.epoch + 1);
            }
            Analyze::EnterStep { step, share } => {
                let (policy, rate) = (Arc::clone(&self.policy), self.rate.steady());
                let analyzer = self.analyzer.get_or_insert_with(|| Analyzer::new(&policy, rate));
                analyzer.enter_step(&self.policy, *step, share.ratio(), second);
                analyzer.choose(&self.policy, rate);
                self.ticks.told(second, Told::Choose { rate });
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
                rate: self.rate.steady(),
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

    /// The state was another one before: a shadow phase that begins knows nothing yet, and what was
    /// copied before it is not of its version.
    pub fn entered(&mut self, was: &Rollout, route: &str, differences: &Differences) {
        if is_shadow(&self.rollout) && (!is_shadow(was) || was.run != self.rollout.run) {
            self.shadow = None;
            differences.begin(route);
        }
    }

    /// Judges one second of the shadow phase; `None` in any other.
    pub fn judge_shadow(&mut self, route: &str, second: u64, differences: &Differences) -> Option<Finding> {
        if !is_shadow(&self.rollout) {
            self.shadow = None;
            return None;
        }
        let phase = self.shadow.get_or_insert_default();
        let (moments, differing) = (differences.take(route), differences.confirmed(route));
        let finding = phase.tick(&self.policy, second, &moments, &differing);
        self.finding = Some(finding.clone());
        Some(finding)
    }

    /// Judges one second; `None` when nothing is compared.
    pub fn judge(&mut self, ticks: Vec<Tick>) -> Option<Finding> {
        // What comes after a decision, on the way back or at the end, is no evidence for it.
        self.rollout.phase.base()?;
        let analyzer = self.analyzer.as_mut()?;
        if let Some(first) = ticks.first()
            && !self.rate.is_settled()
        {
            let (rate, before) = (self.rate.steady(), analyzer.preset());
            analyzer.choose(&self.policy, rate);
            if analyzer.preset() != before {
                self.ticks.told(first.at_second, Told::Choose { rate });
            }
        }
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
///
/// Copies go to the candidate from [`Move::Mirror`](crate::rollout::Move::Mirror) with a share to the
/// one with none: for as long as the phase is the shadow's, held and paused included. That is read off
/// the state, so that a restart and an edit of the share need no move to be remembered.
#[must_use]
pub fn guided(rollout: &Rollout, policy: &Policy, epoch: u64, seed: u64) -> Guided {
    let Guide { from, to, share, void, candidate, run, shadow } = guide(rollout, policy);
    let compared = candidate.map(|candidate| Compared { candidate: candidate.to_owned(), epoch, seed });
    let (from, to, void) = (from.to_owned(), to.to_owned(), void.map(str::to_owned));
    Guided { from, to, share, void, compared, run, shadow }
}

/// The same within one weight epoch, without a copy: asked every second.
#[derive(PartialEq)]
pub(super) struct Guide<'a> {
    from: &'a str,
    to: &'a str,
    share: Option<u32>,
    void: Option<&'a str>,
    /// The arm that is compared.
    candidate: Option<&'a str>,
    run: u64,
    shadow: Option<u32>,
}

pub(super) fn guide<'a>(rollout: &'a Rollout, policy: &Policy) -> Guide<'a> {
    let Identity { from, to, .. } = &rollout.identity;
    let nothing =
        Guide { from, to, share: None, void: None, candidate: None, run: rollout.run, shadow: None };
    // Between two rollouts the slots alone say which of them serves.
    if rollout.identity.scheme == Scheme::Slots && !rollout.is_live() {
        return nothing;
    }
    let share = rollout.canary_share();
    let compares = rollout.is_live() && share.is_some_and(|share| share.0 > 0 && share.0 < 1_000_000);
    Guide {
        share: share.map(|share| share.0),
        void: rollout.void_arm(),
        candidate: compares.then(|| rollout.candidate()),
        shadow: policy.shadow.filter(|_| is_shadow(rollout)).map(|share| Share::of(share).0),
        ..nothing
    }
}

/// Whether copies go to the candidate and are compared.
fn is_shadow(rollout: &Rollout) -> bool {
    rollout.phase.base() == Some(Base::Shadow)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::state::{Hold, PauseCause};
    use crate::rollout::{By, Event, Move, Phase, Verb, transition};

    #[test]
    fn copies_go_to_the_candidate_for_as_long_as_the_phase_is_the_shadows() {
        let policy = Policy { shadow: Some(0.1), ..Policy::default() };
        let shadow = |phase| {
            let mut rollout = Rollout::default();
            rollout.phase = phase;
            guided(&rollout, &policy, 0, 0).shadow
        };
        let (over, cause) = (Base::Shadow, PauseCause::Operator);
        for phase in
            [Phase::Shadow, Phase::Hold { reason: Hold::Behaviour, over }, Phase::Paused { cause, over }]
        {
            assert_eq!(shadow(phase), Some(100_000), "{phase:?}");
        }
        for phase in [Phase::Idle, Phase::Pending, Phase::Stage, Phase::Reverting, Phase::Promoted] {
            assert_eq!(shadow(phase), None, "{phase:?}");
        }
    }

    /// What is read off the state is what the moves say.
    #[test]
    fn the_share_is_the_one_of_the_last_move() {
        let policy = Policy { version: "v2".into(), shadow: Some(0.1), ..Policy::default() };
        let (mut rollout, mut told) = (Rollout::default(), None);
        let verb = |verb| Event::Operator {
            verb,
            version: None,
            force: true,
            by: By { reason: "why".into(), ..By::default() },
        };
        let events = [
            Event::Version(identity(&policy, 0, false)),
            Event::Tick(None),
            verb(Verb::Pause),
            verb(Verb::Resume),
            Event::Restarted,
            Event::Tick(None),
            verb(Verb::Advance),
            verb(Verb::Abort),
        ];
        for (event, at) in events.iter().zip(1..) {
            let scene = Scene { monotonic: at * 1_000, ..Scene::default() };
            let done = transition(&rollout, &policy, event, &scene).expect("a step");
            rollout = done.next;
            let moved = done.moves.iter().filter_map(|one| match one {
                Move::Mirror(share) => Some(*share),
                _ => None,
            });
            told = moved.fold(told, |_, share| Some(share));
            let share = guided(&rollout, &policy, 0, 0).shadow.unwrap_or(0);
            assert_eq!(share, told.map_or(0, |share| share.0), "{event:?}");
        }
        assert_eq!(told, Some(Share::NONE));
    }
}
