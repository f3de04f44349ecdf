//! A rollout as data: everything that must be known to go on after a restart.
//!
//! It is written down as it is, so fields are only ever added, each with a default. It must never
//! hold what is only true of this process: who is alive, whether the disk works, what second it is.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::clocks::Clocks;
use super::gates::Wait;
use super::moves::Summary;
use crate::analysis::Policy;

/// Versions that were put back and are remembered, so that none of them restarts by itself.
pub const MAX_SPOILED: usize = 1_000;

/// A share of both arms' traffic in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(pub u32);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(1_000_000);

    /// From 0 to 1.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    pub fn of(ratio: f64) -> Self {
        Self((ratio.clamp(0.0, 1.0) * 1_000_000.0).round() as u32)
    }

    /// From 0 to 1.
    #[must_use]
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / 1_000_000.0
    }

    /// What the other arm has.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(Self::ALL.0.saturating_sub(self.0))
    }
}

/// What happens to the two arms after a promotion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scheme {
    /// `from` and `to` stay what they are; `finish` walks back once `from` has the new version.
    #[default]
    Arms,
    /// Blue and green: the roles swap.
    Slots,
}

/// What makes two rollouts the same one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Name of the new version.
    pub version: String,
    /// The arm with the old version.
    pub from: String,
    /// The arm with the new one.
    pub to: String,
    /// What a promotion does to the arms.
    #[serde(default)]
    pub scheme: Scheme,
    /// Fingerprint of the policy, for whoever compares it with the file.
    #[serde(default)]
    pub policy: u64,
}

impl Identity {
    /// Whether it is about the same version on the same arms; the policy may differ.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let key = |one: &Self| (one.version.clone(), one.from.clone(), one.to.clone(), one.scheme);
        key(self) == key(other)
    }
}

/// Which way traffic is walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// `to` is the candidate, `from` the reference.
    #[default]
    Forward,
    /// `finish`: `from`, deployed anew, is the candidate and the promoted `to` the reference.
    Back,
}

/// What a hold or a pause interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Base {
    /// Before the first traffic.
    Pending,
    /// Mirrored traffic.
    Shadow,
    /// A step.
    Stage,
    /// The last step.
    Bake,
}

impl Base {
    /// The phase it is a name of.
    #[must_use]
    pub const fn phase(self) -> Phase {
        match self {
            Self::Pending => Phase::Pending,
            Self::Shadow => Phase::Shadow,
            Self::Stage => Phase::Stage,
            Self::Bake => Phase::Bake,
        }
    }
}

/// Why it does not go on by itself, for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hold {
    /// Too little has been seen to say.
    LowData,
    /// Something speaks against it.
    Suspicious,
    /// The reference arm fails too, or has no endpoint.
    StableUnhealthy,
    /// The candidate has no endpoint.
    CanaryDown,
    /// Traffic does not arrive as the router says.
    SampleRatio,
    /// It answers clients differently.
    Behaviour,
    /// A number from outside is out of bounds.
    Check,
    /// A number from outside cannot be had.
    CheckSilent,
    /// The error budget is spent.
    Budget,
    /// What is done cannot be written down.
    Store,
    /// Not at this time.
    Window,
    /// Somebody is asked.
    Gate,
}

impl Hold {
    /// As it is printed; a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::LowData => "low-data",
            Self::Suspicious => "suspicious",
            Self::StableUnhealthy => "stable-unhealthy",
            Self::CanaryDown => "canary-down",
            Self::SampleRatio => "sample-ratio",
            Self::Behaviour => "behaviour",
            Self::Check => "check",
            Self::CheckSilent => "check-silent",
            Self::Budget => "budget",
            Self::Store => "store",
            Self::Window => "window",
            Self::Gate => "gate",
        }
    }
}

/// Who or what paused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PauseCause {
    /// A person.
    Operator,
    /// A person set the weights.
    Weights,
    /// The step says so.
    Step,
    /// It is harmful, and a person decides about that.
    Harm,
    /// The step could not decide in time.
    StepDeadline,
    /// The rollout took too long, and nothing is put back by itself.
    RolloutDeadline,
    /// Nobody let it through in time.
    Gate,
    /// What was remembered is lost.
    StateLost,
}

impl PauseCause {
    /// Whether a person, or the file, wanted it: such a pause takes as long as it takes.
    #[must_use]
    pub const fn is_wanted(self) -> bool {
        !matches!(self, Self::StepDeadline | Self::Gate)
    }

    /// As it is printed; a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Weights => "weights",
            Self::Step => "step",
            Self::Harm => "harm",
            Self::StepDeadline => "step-deadline",
            Self::RolloutDeadline => "rollout-deadline",
            Self::Gate => "gate",
            Self::StateLost => "state-lost",
        }
    }
}

/// Where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    /// Nothing has begun.
    #[default]
    Idle,
    /// What must be true before the first traffic.
    Pending,
    /// Mirrored traffic.
    Shadow,
    /// At a step.
    Stage,
    /// Waits, and goes on by itself.
    Hold {
        /// Why.
        reason: Hold,
        /// What is interrupted.
        over: Base,
    },
    /// Waits for a person.
    Paused {
        /// Why.
        cause: PauseCause,
        /// What is interrupted.
        over: Base,
    },
    /// All but a holdback.
    Bake,
    /// On the way back.
    Reverting,
    /// The end: the new version has everything.
    Promoted,
    /// The end: put back.
    Reverted,
    /// The end: a person stopped it, or it never began.
    Aborted,
    /// The end: another took its place.
    Superseded,
    /// The end: promoted, and traffic is back on the arm it came from.
    Finished,
}

impl Phase {
    /// As the API and the metric name it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "IDLE",
            Self::Pending => "PENDING",
            Self::Shadow => "SHADOW",
            Self::Stage => "STAGE",
            Self::Hold { .. } => "HOLD",
            Self::Paused { .. } => "PAUSED",
            Self::Bake => "BAKE",
            Self::Reverting => "REVERTING",
            Self::Promoted => "PROMOTED",
            Self::Reverted => "REVERTED",
            Self::Aborted => "ABORTED",
            Self::Superseded => "SUPERSEDED",
            Self::Finished => "FINISHED",
        }
    }

    /// What it is at, under a hold or a pause; `None` when it is not under way.
    #[must_use]
    pub const fn base(&self) -> Option<Base> {
        match self {
            Self::Pending => Some(Base::Pending),
            Self::Shadow => Some(Base::Shadow),
            Self::Stage => Some(Base::Stage),
            Self::Bake => Some(Base::Bake),
            Self::Hold { over, .. } | Self::Paused { over, .. } => Some(*over),
            _ => None,
        }
    }

    /// Whether a person is waited for.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        matches!(self, Self::Paused { .. })
    }
}

/// Why it is where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// From a closed set; a metric label.
    pub code: Cow<'static, str>,
    /// A sentence.
    pub text: String,
}

/// What a person overruled: the rules still speak, but no longer move anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overruled {
    /// Everything but the guard.
    pub relative: bool,
    /// The guard.
    pub guard: bool,
    /// Windows and the error budget: a hotfix must not wait for either.
    #[serde(default)]
    pub bars: bool,
}

/// What is said once per step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mark {
    /// It held for this.
    Held(Hold),
    /// It would have been put back.
    Observed,
    /// The step's deadline has passed.
    StepDeadline,
    /// The rollout's deadline has passed.
    RolloutDeadline,
    /// Whether the reference arm recovered was asked.
    Recovery,
    /// A hook did not answer well.
    Hook,
}

/// Guarded progress of one version on one route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// What it is about.
    pub identity: Identity,
    /// Where it is.
    pub phase: Phase,
    /// Which way it goes.
    pub direction: Direction,
    /// The step, from 0.
    pub step: u32,
    /// The candidate's share, as this rollout has it.
    pub share: Share,
    /// The candidate's share as a person set it, over this rollout's.
    pub manual: Option<Share>,
    /// The candidate's share when it began to return.
    pub ramp_from: Share,
    /// Whether the route has a rollout block.
    pub block: bool,
    /// The block is gone, and its weight stays until the split itself is edited.
    pub kept: bool,
    /// Number of the run: another one has other evidence.
    pub run: u64,
    /// Number of the last thing asked or told, for keys that tell repetitions apart.
    pub seq: u64,
    /// When the run began, in wall-clock milliseconds, for display.
    pub started_at_millis: u64,
    /// When the step was entered, in wall-clock milliseconds, for display.
    pub step_entered_at_millis: u64,
    /// What was spent.
    pub clocks: Clocks,
    /// Hooks whose answer matters.
    pub waits: Vec<Wait>,
    /// What it waits for, for display.
    pub waiting_for: Vec<String>,
    /// Pending for people or a window only.
    pub patient: bool,
    /// A person let this step go on.
    pub released: bool,
    /// What was said in this step.
    pub told: BTreeSet<Mark>,
    /// What a person overruled.
    pub overruled: Overruled,
    /// Why it is where it is.
    pub reason: Reason,
    /// When it would have been put back in this step, in wall-clock milliseconds: `onHarm: observe`.
    pub observed_at_millis: Option<u64>,
    /// What was last found.
    pub found: Option<Summary>,
    /// Versions that were put back, the last one last.
    pub spoiled: Vec<String>,
    /// What begins when this has ended.
    pub next: Option<Identity>,
    /// A person aborted while another version waited: that one, then this one, waits for `start`.
    pub parked: bool,
    /// Monotonic milliseconds of the last event of this process.
    #[serde(skip)]
    pub(super) last: Option<u64>,
}

impl Rollout {
    /// Nothing has begun.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { identity, block: true, ..Self::default() }
    }

    /// The arm that is on trial.
    #[must_use]
    pub fn candidate(&self) -> &str {
        match self.direction {
            Direction::Forward => &self.identity.to,
            Direction::Back => &self.identity.from,
        }
    }

    /// The arm it is compared with.
    #[must_use]
    pub fn reference(&self) -> &str {
        match self.direction {
            Direction::Forward => &self.identity.from,
            Direction::Back => &self.identity.to,
        }
    }

    /// Share of the `to` arm of what `from` and `to` have together, a person's weights aside; `None`
    /// when the file's own split is in force.
    #[must_use]
    pub fn canary_share(&self) -> Option<Share> {
        let in_force = self.block || self.kept || self.phase != Phase::Idle;
        in_force.then(|| self.canary(self.share))
    }

    /// The `to` arm's share for a candidate's share.
    #[must_use]
    pub(super) const fn canary(&self, share: Share) -> Share {
        match self.direction {
            Direction::Forward => share,
            Direction::Back => share.rest(),
        }
    }

    /// The candidate's share that users see.
    #[must_use]
    pub fn seen_share(&self) -> Share {
        self.manual.unwrap_or(self.share)
    }

    /// The arm that overrides and pins cannot reach.
    #[must_use]
    pub fn void_arm(&self) -> Option<&str> {
        let lost = matches!(self.phase, Phase::Paused { cause: PauseCause::StateLost, .. });
        let void = lost || matches!(self.phase, Phase::Reverting | Phase::Reverted | Phase::Aborted);
        void.then(|| self.candidate())
    }

    /// The same with a person's weights over it.
    #[must_use]
    pub fn seen_canary_share(&self) -> Option<Share> {
        self.canary_share().map(|_| self.canary(self.seen_share()))
    }

    /// Whether weights are moved or about to be.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase.base().is_some() || self.phase == Phase::Reverting
    }

    /// Whether this version was put back, so that only `retry` starts it.
    #[must_use]
    pub fn is_spoiled(&self, version: &str) -> bool {
        self.spoiled.iter().any(|spoiled| spoiled == version)
    }

    /// The weight of the present step as the policy says it.
    #[must_use]
    pub fn step_share(&self, policy: &Policy) -> Share {
        policy.steps.get(self.step as usize).map_or(Share::NONE, |step| Share::of(step.weight))
    }

    pub(super) fn spoil(&mut self) {
        let version = self.identity.version.clone();
        self.lock(&version);
    }

    /// A version was put back, now or before: it does not start by itself.
    pub fn lock(&mut self, version: &str) {
        self.spoiled.retain(|spoiled| *spoiled != version);
        self.spoiled.push(version.to_owned());
        let over = self.spoiled.len().saturating_sub(MAX_SPOILED);
        self.spoiled.drain(..over);
    }
}
