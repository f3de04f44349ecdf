//! What is to be done so that a rollout's next state becomes true, and what is told about it.
//!
//! Moves are done in their order. Everything in one outcome that must survive (records, notices,
//! hook calls) goes into the same write as the rollout. They must never need a second decision.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::failing::Failing;
use super::state::{Direction, Rollout, Share};
use crate::analysis::finding::Seen;
use crate::analysis::{Finding, Waiting};
use crate::spec::rollout::HookEvent;

/// When the rollout is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Toward the candidate: when it cannot be written, nothing of the outcome happens, and the old
    /// rollout stays in force.
    BeforePublish,
    /// Toward the reference, or no weight moves: a failed write is tried again each tick.
    AfterPublish,
}

/// What the analyzer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Analyze {
    /// A new run: forget everything. Roles are the rollout's `candidate()` and `reference()`.
    Begin,
    /// A step began, with the candidate's share of the router.
    EnterStep {
        /// The step.
        step: u32,
        /// The candidate's share.
        share: Share,
    },
    /// The process began again.
    Resume,
    /// The policy changed.
    Policy,
}

/// How loud a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// To know.
    Info,
    /// To look at.
    Warning,
    /// Users are or were hurt.
    Error,
}

/// A message for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// Tells repetitions apart, with the route and the run.
    pub key: u64,
    /// How loud.
    pub level: Level,
    /// From the reason's closed set.
    pub code: Cow<'static, str>,
    /// A sentence.
    pub text: String,
}

/// A hook to be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its name in the policy.
    pub name: String,
    /// Why.
    pub event: HookEvent,
    /// Tells repetitions apart, with the route and the run; comes back with the answer.
    pub key: u64,
    /// Its answer is waited for: send it back as an event.
    pub answer: bool,
}

/// Who made a decision; a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Actor {
    /// The analyzer's verdict.
    Analyzer,
    /// A deadline or a minimum time.
    Timer,
    /// A person.
    Operator,
    /// An edit of the file.
    Config,
    /// A hook's answer.
    Hook,
    /// The start of the process.
    Restart,
}

/// What was known of a finding, as far as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// The verdict's label.
    pub verdict: Cow<'static, str>,
    /// The rule's label.
    pub rule: Cow<'static, str>,
    /// `ln E` of the rule that spoke.
    pub log: Option<f64>,
    /// What it must reach; 0 when the rule goes by no evidence.
    pub threshold: f64,
    /// The reference in the step.
    pub stable: Seen,
    /// The candidate in the step.
    pub canary: Seen,
    /// Smallest ratio that would have shown.
    pub detectable_ratio: Option<f64>,
    /// Seconds until the step could be passed.
    pub eta_seconds: Option<f64>,
}

impl Summary {
    /// What is kept of a finding.
    #[must_use]
    pub fn of(finding: &Finding) -> Self {
        let (log, threshold) = finding.evidence.of_rule(&finding.rule);
        Self {
            verdict: finding.verdict.label().into(),
            rule: Cow::Owned(finding.rule.label().to_owned()),
            log,
            threshold,
            stable: finding.stable,
            canary: finding.canary,
            detectable_ratio: finding.detectable_ratio,
            eta_seconds: finding.eta_seconds,
        }
    }
}

/// What a step still lacks, as words.
#[must_use]
pub fn lacks(waiting: &Waiting) -> String {
    match waiting {
        Waiting::Dwell { seconds } => format!("{} more of its minimum time", span(*seconds)),
        Waiting::Requests { more } => format!("{more} more canary requests"),
        Waiting::Users { more } => format!("{more} more canary users"),
        Waiting::Pairs { more } => format!("{more} more mirrored requests"),
        Waiting::Detectable { target, more } => {
            // Less than one is still one.
            let more = more.ceil().max(1.0);
            format!("{more:.0} more requests until failing {target} times as often would show")
        }
        Waiting::Stable => "stable to be healthy".to_owned(),
        Waiting::Evidence => "less evidence against it".to_owned(),
    }
}

/// The same of a rollout: on a walk back it is another arm that is on trial.
#[must_use]
pub fn lacks_of(rollout: &Rollout, waiting: &Waiting) -> String {
    let text = lacks(waiting);
    match rollout.direction {
        Direction::Forward => text,
        Direction::Back => text.replace("canary", rollout.candidate()),
    }
}

/// Seconds as people say them: never none, for what is waited for has not come.
#[must_use]
pub fn span(seconds: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64(seconds.ceil().max(1.0));
    humantime::format_duration(whole.unwrap_or(std::time::Duration::MAX)).to_string()
}

/// One decision, for the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Number of the record, with the route and the run.
    pub key: u64,
    /// Of the run.
    pub run: u64,
    /// When, in wall-clock milliseconds.
    pub at_millis: u64,
    /// The version it is about.
    pub version: String,
    /// State before.
    pub from: Cow<'static, str>,
    /// State after.
    pub to: Cow<'static, str>,
    /// Step after.
    pub step: u32,
    /// Who decided.
    pub actor: Actor,
    /// The person's name, when it was one.
    pub who: Option<String>,
    /// From the reason's closed set.
    pub code: Cow<'static, str>,
    /// A sentence.
    pub reason: String,
    /// A person's notes.
    pub annotations: BTreeMap<String, String>,
    /// The `to` arm's share before; `None` when the file's own split was in force.
    pub before: Option<Share>,
    /// And after.
    pub after: Option<Share>,
    /// What was known.
    pub found: Option<Summary>,
    /// What failed in the step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<Failing>,
    /// When the candidate's first bad outcome of the step came, in wall-clock milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad_at_millis: Option<u64>,
    /// When the weights after it were in force; told by whoever put them there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force_at_millis: Option<u64>,
    /// Every arm's weight before and after, of a flip and of what was done by hand; told like that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Box<Shifted>>,
}

impl Record {
    /// One that says who, when, and from which state to which; the rest is added.
    #[must_use]
    pub fn plain(at_millis: u64, from: Cow<'static, str>, to: Cow<'static, str>, actor: Actor) -> Self {
        Self {
            key: 0,
            run: 0,
            at_millis,
            version: String::new(),
            from,
            to,
            step: 0,
            actor,
            who: None,
            code: Cow::Borrowed(""),
            reason: String::new(),
            annotations: BTreeMap::new(),
            before: None,
            after: None,
            found: None,
            failing: Vec::new(),
            first_bad_at_millis: None,
            in_force_at_millis: None,
            weights: None,
        }
    }
}

/// Every arm's weight before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shifted {
    /// Before.
    pub before: BTreeMap<String, u32>,
    /// After.
    pub after: BTreeMap<String, u32>,
}

/// Where weights come from that a person set, as a record's state.
pub const BY_HAND: &str = "BY_HAND";

impl Record {
    /// Whether it is about weights that a person set or gave back, and not about a rollout or a flip.
    #[must_use]
    pub fn is_by_hand(&self) -> bool {
        self.from == BY_HAND || self.to == BY_HAND
    }
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Write the rollout down, with everything else of this outcome that must survive.
    Persist(Order),
    /// The `to` arm's share of what `from` and `to` have together, from now on.
    SetShare {
        /// The arm the rollout comes from.
        from: String,
        /// The arm it goes to.
        to: String,
        /// Share of `to`.
        canary: Share,
    },
    /// The file's own split is in force.
    ReleaseShare,
    /// Share of the traffic mirrored to the candidate; nothing ends it.
    Mirror(Share),
    /// Void overrides and pins to this arm, at once.
    VoidOverridesAndPins(String),
    /// They hold again.
    AllowOverridesAndPins(String),
    /// Drop weights that a person set by hand.
    ClearManualWeights,
    /// The active slot is the other one.
    SwapSlots {
        /// The slot that is active now.
        active: String,
    },
    /// Tell the analyzer.
    Analyze(Analyze),
    /// Tell people.
    Notify(Notice),
    /// Call a hook.
    Hook(Call),
    /// Keep a decision.
    Record(Box<Record>),
}

/// What comes of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The rollout from now on.
    pub next: Rollout,
    /// What makes it true, in order.
    pub moves: Vec<Move>,
}

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedKind {
    /// Not possible in the present state (409).
    Conflict,
    /// Something is missing from what was asked (400).
    Invalid,
    /// An edit of the file that cannot be taken (422).
    Edit,
}

/// Why nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What kind.
    pub kind: RefusedKind,
    /// Stable kebab-case code.
    pub code: &'static str,
    /// The state it is in.
    pub state: &'static str,
    /// One sentence.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}
