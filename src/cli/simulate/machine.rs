//! The state machine of a live rollout over a recording, held to the recording's steps.
//!
//! The recorded traffic came at the recorded weights, so a step is taken when the recording takes it;
//! what the machine would have done instead is said. It must never decide by itself: every decision
//! is [`transition`]'s.

use crate::analysis::{Finding, Policy, Verdict};
use crate::rollout::{By, Event, Identity, Phase, Rollout, Scene, Verb, transition};
use crate::spec::rollout::OnHarm;

/// A rollout that follows a recording.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    rollout: Option<Rollout>,
    /// Where its own last decision would have brought it, when that was not followed.
    wanted: Option<Rollout>,
}

/// What a second brought.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What the machine does, in a word.
    pub moved: &'static str,
    /// Its state afterwards.
    pub state: &'static str,
    /// It is over.
    pub ended: bool,
    /// What the recording does instead.
    pub differs: Option<String>,
}

/// How far a rollout is: 0 before its first traffic, then the number of its step from 1.
pub type Place = u32;

impl Machine {
    /// One that has not begun.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, rollout: None, wanted: None }
    }

    /// Something that is not in the counts made it this.
    pub fn adopt(&mut self, rollout: Rollout) -> Decided {
        let decided =
            Decided { moved: "stay", state: rollout.phase.name(), ended: is_over(&rollout), differs: None };
        (self.rollout, self.wanted) = (Some(rollout), None);
        decided
    }

    /// Begins a run at its first step.
    pub fn begin(&mut self, ms: u64) {
        (self.rollout, self.wanted) = (Some(begun(&self.policy, ms)), None);
    }

    /// A run began: what is known of the one before it is over.
    pub fn forget(&mut self) {
        (self.rollout, self.wanted) = (None, None);
    }

    /// Whether anything is known of a run.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.rollout.is_some()
    }

    /// A second passed. `after` is how far the recording is afterwards, when it says so.
    pub fn second(&mut self, finding: Option<&Finding>, scene: &Scene, after: Option<Place>) -> Decided {
        let mut forced = false;
        if let Some(finding) = finding {
            forced = self.catch_up(finding.step + 1, scene);
        }
        let before = self.rollout.take().unwrap_or_else(|| begun(&self.policy, scene.monotonic));
        let event = Event::Tick(finding.cloned().map(Box::new));
        // A second that passes is never refused.
        let next = transition(&before, &self.policy, &event, scene).map_or(before.clone(), |done| done.next);
        let (from, to, ended) = (place(&before), place(&next), is_over(&next));
        let harmful = finding.is_some_and(|finding| finding.verdict == Verdict::Harmful);
        let mut decided = Decided {
            moved: moved(&self.policy, &next, to > from, harmful),
            state: next.phase.name(),
            ended,
            differs: None,
        };
        if !ended && to > from && after.is_none_or(|after| to > after) {
            decided.state = before.phase.name();
            decided.differs = after.map(|_| "the recording stays where it is".to_owned());
            self.rollout = Some(before.waited(scene.monotonic));
            self.wanted = Some(next);
        } else {
            (self.rollout, self.wanted) = (Some(next), None);
        }
        if let Some(after) = after.filter(|_| !ended) {
            forced |= self.catch_up(after, scene);
        }
        if forced && let Some(rollout) = &self.rollout {
            decided.differs = Some(format!("the recording went to step {} without it", rollout.step));
            decided.state = rollout.phase.name();
        }
        decided
    }

    /// Goes where the recording is; whether it would not have gone there by itself.
    fn catch_up(&mut self, to: Place, scene: &Scene) -> bool {
        let steps = u32::try_from(self.policy.steps.len()).unwrap_or(u32::MAX);
        let (to, at) = (to.min(steps), self.rollout.as_ref().map_or(0, place));
        if at >= to || self.rollout.as_ref().is_some_and(is_over) {
            return false;
        }
        if let Some(wanted) = self.wanted.take().filter(|wanted| place(wanted) == to) {
            self.rollout = Some(wanted);
            return false;
        }
        let unknown = self.rollout.is_none();
        let rollout = self.rollout.take().filter(|rollout| place(rollout) > 0);
        let mut rollout = rollout.unwrap_or_else(|| begun(&self.policy, scene.monotonic));
        for _ in place(&rollout)..to {
            let reason = "the recording is there".to_owned();
            let by = By { actor: "recording".into(), reason, ..By::default() };
            let event = Event::Operator { verb: Verb::Advance, version: None, force: true, by };
            let scene = Scene { store: true, from_alive: true, to_alive: true, ..scene.clone() };
            let Ok(done) = transition(&rollout, &self.policy, &event, &scene) else { break };
            let overruled = rollout.overruled;
            rollout = done.next;
            // Nobody overruled anything.
            rollout.overruled = overruled;
        }
        self.rollout = Some(rollout);
        !unknown
    }
}

/// A run at its first step, whoever would have had to be asked.
fn begun(policy: &Policy, ms: u64) -> Rollout {
    let mut policy = policy.clone();
    policy.conduct.hooks.clear();
    policy.conduct.auto_start = true;
    policy.shadow = None;
    let (version, from, to) = (policy.version.clone(), policy.from.clone(), policy.to.clone());
    let identity = Identity { version, from, to, ..Identity::default() };
    let scene = Scene { monotonic: ms, ..Scene::default() };
    let events = [Event::Version(identity), Event::Tick(None)];
    events.iter().fold(Rollout::default(), |rollout, event| {
        transition(&rollout, &policy, event, &scene).map_or(rollout, |done| done.next)
    })
}

fn place(rollout: &Rollout) -> Place {
    use crate::rollout::state::Base;
    match rollout.phase.base() {
        Some(Base::Pending | Base::Shadow) => 0,
        None if rollout.phase == Phase::Idle => 0,
        _ => rollout.step + 1,
    }
}

fn is_over(rollout: &Rollout) -> bool {
    rollout.phase.base().is_none() && rollout.phase != Phase::Idle
}

fn moved(policy: &Policy, next: &Rollout, rises: bool, harmful: bool) -> &'static str {
    match next.phase {
        Phase::Reverting | Phase::Reverted => "revert",
        Phase::Aborted => "abort",
        Phase::Superseded => "supersede",
        Phase::Promoted | Phase::Finished => "promote",
        Phase::Paused { .. } => "pause",
        Phase::Hold { .. } if harmful && policy.conduct.on_harm == OnHarm::Observe => "observe",
        Phase::Hold { .. } => "hold",
        _ if rises => "advance",
        _ => "stay",
    }
}
