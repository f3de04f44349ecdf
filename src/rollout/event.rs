//! Everything that can happen to a rollout: a closed set, and the scene it happens in.
//!
//! An event says what happened, a scene what is true at the moment and will not be remembered. They
//! must never say what to do.

use std::collections::BTreeMap;

use super::failing::Suffered;
use super::state::{Identity, Share};
use super::windows::Opening;
use crate::analysis::finding::Seen;
use crate::analysis::{Finding, Verdict};
use crate::model::time::UnixMillis;
use crate::spec::rollout::OnFail;

/// Who asks, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// A person or a part of the program.
    pub actor: String,
    /// Free text.
    pub reason: String,
    /// Notes for the record.
    pub annotations: BTreeMap<String, String>,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Begin what `autoStart: false` left waiting.
    Start,
    /// Wait for a person.
    Pause,
    /// Go on.
    Resume,
    /// Take the next step now.
    Advance,
    /// Give it everything: the bake from a step, the end from the bake.
    Promote,
    /// Walk back to `from`, which has the new version by now.
    Finish,
    /// Put it back.
    Abort,
    /// Begin again a version that was put back.
    Retry,
}

impl Verb {
    /// As it is written.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Advance => "advance",
            Self::Promote => "promote",
            Self::Finish => "finish",
            Self::Abort => "abort",
            Self::Retry => "retry",
        }
    }

    /// Whether the caller must say what it saw: it moves toward the canary, or lets that happen.
    #[must_use]
    pub const fn needs_generation(&self) -> bool {
        !matches!(self, Self::Pause | Self::Abort)
    }
}

/// One of the two arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The arm the rollout comes from.
    From,
    /// The arm it goes to.
    To,
}

/// What a hook said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookAnswer {
    /// The hook.
    pub name: String,
    /// Of the call that is answered.
    pub key: u64,
    /// Any 2xx; anything else, and no answer after all attempts, is not.
    pub good: bool,
    /// What was wrong with it, in a few words; empty when it is good.
    pub why: String,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A second passed; `None` when nothing was counted in it.
    Tick(Option<Box<Finding>>),
    /// An operator asks.
    Operator {
        /// For what.
        verb: Verb,
        /// The version the operator means, when said.
        version: Option<String>,
        /// Despite what speaks against it.
        force: bool,
        /// Who and why.
        by: By,
    },
    /// An operator set the weights of the route by hand.
    Weights {
        /// The `to` arm's share of what `from` and `to` have together.
        canary: Share,
        /// Who and why.
        by: By,
    },
    /// The weights set by hand are gone: reset, or their split was edited.
    WeightsReset {
        /// Who and why.
        by: By,
    },
    /// The file has a rollout block, with this identity; also the first event of a block. The same
    /// one again changes nothing, but for its policy when the fingerprint is another.
    Version(Identity),
    /// The file's policy has changed for the same version; it comes with the policy of this call.
    PolicyChanged {
        /// Its fingerprint.
        fingerprint: u64,
    },
    /// The target of an arm has changed (not merely its endpoints).
    ArmEdited(Role),
    /// The `to` arm's weight in the file's own split was edited.
    SplitEdited {
        /// Its share before, of what `from` and `to` have together.
        before: Share,
        /// Its share now.
        after: Share,
    },
    /// The file has no rollout block any more.
    BlockRemoved,
    /// The process began, with this rollout as it was written down.
    Restarted,
    /// The process began, and what was written down cannot be understood; comes with a new rollout.
    StateLost {
        /// What is wrong with it.
        why: String,
    },
    /// A hook answered.
    Hook(HookAnswer),
    /// The wall clock stepped by so many milliseconds.
    ClockJump(i64),
}

/// What is said about the numbers from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CheckWord {
    /// Within bounds, or there are none.
    #[default]
    Fine,
    /// This one was asked and has not answered yet: nothing rises, and nothing is wrong so far.
    Waiting(String),
    /// This one does not answer.
    Silent(String),
    /// This one is out of bounds.
    Failing(String, OnFail),
}

/// What is true at the moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Milliseconds of a clock that never steps; starts anywhere.
    pub monotonic: u64,
    /// Wall clock, for display.
    pub wall: UnixMillis,
    /// Whether weights may rise at this time; see [`super::windows::is_open`].
    pub window_open: bool,
    /// The `from` arm has an endpoint.
    pub from_alive: bool,
    /// The `to` arm has an endpoint.
    pub to_alive: bool,
    /// What is done can be written down.
    pub store: bool,
    /// When the next window opens, while none is open.
    pub opens: Option<Opening>,
    /// The error budget is spent below what the objective says.
    pub budget_frozen: bool,
    /// What is left of which objective's, while it is frozen.
    pub budget: String,
    /// Numbers from outside.
    pub checks: CheckWord,
    /// The number of the check that is out of bounds, and which: `0.72, above its max of 0.5`.
    pub check: String,
    /// Requests per second of both arms.
    pub rate: f64,
    /// What failed in the present step.
    pub suffered: Suffered,
    /// After a return: what the reference arm saw lately, see [`super::recovery`].
    pub lately: Seen,
    /// A person's weights are in force on one of the two arms.
    pub weights_by_hand: bool,
}

impl Scene {
    /// What is waited for while no window is open: `window: opens Mon 09:00 Europe/Paris, in 3 h`.
    #[must_use]
    pub fn window_words(&self) -> String {
        let opens = self.opens.as_ref();
        opens.map_or_else(
            || "window".to_owned(),
            |one| format!("window: opens {one}, in {}", one.left(self.wall)),
        )
    }

    /// What is waited for while the budget is frozen.
    #[must_use]
    pub fn budget_words(&self) -> String {
        let colon = if self.budget.is_empty() { "" } else { ": " };
        format!("error budget{colon}{}", self.budget)
    }
}

impl Default for Scene {
    /// Everything is fine, and no time has passed.
    fn default() -> Self {
        Self {
            monotonic: 0,
            wall: UnixMillis::default(),
            window_open: true,
            opens: None,
            from_alive: true,
            to_alive: true,
            store: true,
            budget_frozen: false,
            budget: String::new(),
            checks: CheckWord::Fine,
            check: String::new(),
            rate: 100.0,
            suffered: Suffered::default(),
            lately: Seen::default(),
            weights_by_hand: false,
        }
    }
}

/// How safe it is to do first, the safest least: revert, abort, pause, hold, resume, advance, promote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Safety {
    /// Puts it back.
    Revert,
    /// Stops it.
    Abort,
    /// Waits for a person.
    Pause,
    /// Waits.
    Hold,
    /// Goes on.
    Resume,
    /// Takes a step.
    Advance,
    /// Gives it everything.
    Promote,
}

impl Event {
    /// Its place when several events are there at once.
    #[must_use]
    pub fn safety(&self) -> Safety {
        match self {
            Self::Tick(finding) => match finding.as_ref().map(|finding| finding.verdict) {
                Some(Verdict::Harmful) => Safety::Revert,
                Some(Verdict::Healthy) => Safety::Advance,
                _ => Safety::Hold,
            },
            Self::Operator { verb, .. } => match verb {
                Verb::Abort => Safety::Abort,
                Verb::Pause => Safety::Pause,
                Verb::Start | Verb::Resume | Verb::Retry => Safety::Resume,
                Verb::Advance => Safety::Advance,
                Verb::Promote | Verb::Finish => Safety::Promote,
            },
            Self::Restarted | Self::StateLost { .. } => Safety::Revert,
            Self::Weights { canary: Share::NONE, .. }
            | Self::Version(_)
            | Self::ArmEdited(_)
            | Self::BlockRemoved
            | Self::SplitEdited { .. } => Safety::Abort,
            Self::Weights { .. } => Safety::Pause,
            Self::PolicyChanged { .. } | Self::ClockJump(_) => Safety::Hold,
            Self::WeightsReset { .. } | Self::Hook(_) => Safety::Resume,
        }
    }
}

/// Puts events of one moment into the order in which they are to be taken; the order of arrival
/// breaks ties.
pub fn in_order(events: &mut [Event]) {
    events.sort_by_key(Event::safety);
}
