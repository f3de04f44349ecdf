//! The `rollout` block of a route as written: steps, what is judged, deadlines, gates, hooks.
//!
//! It is shape only: every key is optional here, and `analysis::Policy::compile` says what is
//! missing or cannot decide. It must never hold a default that is not the documented one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::scalar::{Number, Percent, Span};
use super::spot::{Short, ShortOr, Spot};

/// Guarded progress to a new version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Rollout {
    /// The new version; another name is another rollout. Required.
    pub version: Option<Spot<String>>,
    /// The arm that serves the old version; with `blueGreen` the active slot, and not to be written. Default:
    /// the arm named `stable`.
    pub from: Option<Spot<String>>,
    /// The arm that serves the new one; with `blueGreen` the idle slot, and not to be written. Default: the
    /// other arm.
    pub to: Option<Spot<String>>,
    /// The canary's percent of both arms' traffic, rising: `5`, or `{ weight, dwell, pause }`; 100 is added
    /// when it is not the last. First may come `{ shadow: 10 }`, which copies requests instead.
    pub steps: Vec<Spot<ShortOr<Step>>>,
    /// What is judged, and how surely.
    pub analysis: Analysis,
    /// How long a step and the whole may take.
    pub deadline: Deadline,
    /// What becomes of a step that could not decide: `pause`, `hold`, `revert`, `promote`.
    pub on_step_deadline: OnStepDeadline,
    /// When weights may rise: `{ days, between: ["09:00", "16:00"], zone }`, at most 32. The second time is
    /// excluded; before the first it is the next day's. `zone` is an IANA name that the machine knows, `UTC` by
    /// default. A state of waiting says when the next opens. Default: always.
    pub windows: Vec<Spot<Window>>,
    /// What a harmful verdict does: `revert`, `pause`, `observe`.
    pub on_harm: OnHarm,
    /// What evidence in 4xx shares does: `hold`, `revert`, `ignore`.
    pub client_errors: OnClientErrors,
    /// How long the comparison goes on at 100 %; above 50 % and in the bake a step that is materially worse
    /// than stable was over the rollout is held, never passed.
    pub bake: Span,
    /// How weights return.
    pub revert: Revert,
    /// Whether a new version starts by itself.
    pub auto_start: bool,
    /// Whom to ask and tell: `{ name, event, url, timeout, deadline, onDeadline, metadata, secretFile }`.
    pub hooks: Vec<Spot<Hook>>,
}

impl Default for Rollout {
    fn default() -> Self {
        let step = |weight| Step { weight: Some(Percent::whole(weight)), ..Step::default() };
        Self {
            version: None,
            from: None,
            to: None,
            steps: [1, 5, 25, 50, 100].map(|weight| Spot::unwritten(ShortOr(step(weight)))).into(),
            analysis: Analysis::default(),
            deadline: Deadline::default(),
            on_step_deadline: OnStepDeadline::Pause,
            windows: Vec::new(),
            on_harm: OnHarm::Revert,
            client_errors: OnClientErrors::Hold,
            bake: Span::seconds(600),
            revert: Revert::default(),
            auto_start: true,
            hooks: Vec::new(),
        }
    }
}

/// One step: a share of live traffic, or of mirrored traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Step {
    /// The canary's share of both arms' traffic.
    pub weight: Option<Percent>,
    /// Share of the traffic copied to the canary instead; first step only.
    pub shadow: Option<Percent>,
    /// Its minimum time; default: `analysis.dwell`.
    pub dwell: Option<Spot<Span>>,
    /// Waits for a person before the step after it.
    pub pause: bool,
}

/// As the default steps are told: a weight alone.
impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.weight.serialize(serializer)
    }
}

impl Short for Step {
    const EXPECTED: &'static str = "a weight in percent";
    fn from_short(text: &str) -> Result<Self, String> {
        Ok(Self { weight: Some(Percent::from_text(text)?), ..Self::default() })
    }
}

/// What is judged, and how surely.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Analysis {
    /// How small an effect must have been detectable before a step is passed: `high`, `normal`, `low`, or the
    /// highest that traffic allows in half a step's deadline: by the route's last 15 minutes, anew at each step
    /// (on a sticky route by the new users of the step before). `auto` leaves out leading steps that even `low`
    /// could not pass in time, as `rollout plan` shows.
    pub confidence: Confidence,
    /// Chance of ever reverting a healthy version by comparison.
    pub alpha: Spot<Number>,
    /// The fast rule: a canary worse than this and worse than stable goes at once.
    pub guard: Guard,
    /// Minimum time of a step.
    pub dwell: Spot<Span>,
    /// What is not compared: errors from each step's entry, latency from the canary's first traffic.
    pub warmup: Warmup,
    /// What is bad beside failures to connect, timeouts and resets, by status and by gRPC status.
    pub bad: Bad,
    /// Canary requests a step needs (200, 100, 30); on a sticky route as many users, and a look at `thresholds`
    /// (20). Default: the confidence's.
    pub min_requests: Option<Spot<u64>>,
    /// Most failures one cause makes in a second; 1 makes every failure a trial of its own. Default: a
    /// second's.
    pub bursts: Option<Spot<u32>>,
    /// Fixed limits: `maxErrorRate`, `maxErrorPoints`, `maxErrorRatio`, `minSuccessRate`, `maxP99`,
    /// `maxLatencyRatio` over `window` (`60s`), looked at every `interval` (`30s`), harmful after `failures`
    /// (`3`) looks, `count: consecutive` or `cumulative`.
    pub thresholds: Spot<Thresholds>,
    /// Numbers from a Prometheus: `{ name, prometheus: { url, query }, min, max, interval, onFail }`.
    pub checks: Vec<Spot<Check>>,
}

impl Default for Analysis {
    fn default() -> Self {
        Self {
            confidence: Confidence::Auto,
            alpha: Spot::unwritten(Number(0.001)),
            guard: Guard::default(),
            dwell: Spot::unwritten(Span::seconds(60)),
            warmup: Warmup::default(),
            bad: Bad::default(),
            min_requests: None,
            bursts: None,
            thresholds: Spot::default(),
            checks: Vec::new(),
        }
    }
}

/// How small an effect must have been detectable before a step is passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Confidence {
    /// The highest that the measured traffic allows in time.
    #[default]
    Auto,
    /// Small effects.
    High,
    /// Middling effects.
    Normal,
    /// Gross effects.
    Low,
}

/// The fast absolute rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Guard {
    /// Share of bad outcomes that is always tolerated.
    pub max_bad: Spot<Percent>,
    /// Chance of reverting a healthy version by the guard.
    pub alpha: Spot<Number>,
}

impl Default for Guard {
    fn default() -> Self {
        Self { max_bad: Spot::unwritten(Percent::whole(5)), alpha: Spot::unwritten(Number(0.001)) }
    }
}

/// Seconds of a step that do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Warmup {
    /// For the comparison of errors, from the entry of a step.
    pub errors: Spot<Span>,
    /// For the comparison of latency, from the canary's first traffic.
    pub latency: Spot<Span>,
}

impl Default for Warmup {
    fn default() -> Self {
        Self { errors: Spot::unwritten(Span::seconds(15)), latency: Spot::unwritten(Span::seconds(60)) }
    }
}

/// What a bad outcome is, beyond connect failures, timeouts, resets and having no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Bad {
    /// Statuses: a class such as `5xx`, or a code such as `429`.
    pub statuses: Vec<Spot<String>>,
    /// gRPC status names.
    pub grpc: Vec<Spot<String>>,
}

impl Default for Bad {
    fn default() -> Self {
        let words = |list: &[&str]| list.iter().map(|word| Spot::unwritten((*word).to_owned())).collect();
        Self {
            statuses: words(&["5xx"]),
            grpc: words(&["UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]),
        }
    }
}

/// Fixed limits on the canary, as other controllers have them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Thresholds {
    /// Share of bad outcomes.
    pub max_error_rate: Option<Spot<Percent>>,
    /// Points of bad outcomes above stable's.
    pub max_error_points: Option<Spot<Percent>>,
    /// Times stable's share of bad outcomes.
    pub max_error_ratio: Option<Spot<Number>>,
    /// Share of good outcomes.
    pub min_success_rate: Option<Spot<Percent>>,
    /// 99th percentile of latency.
    #[serde(rename = "maxP99")]
    pub max_p99: Option<Spot<Span>>,
    /// Times stable's 99th percentile.
    pub max_latency_ratio: Option<Spot<Number>>,
    /// What is looked back over.
    pub window: Spot<Span>,
    /// How often it is looked.
    pub interval: Spot<Span>,
    /// Failed looks that make it harmful.
    pub failures: Spot<u32>,
    /// Whether a passed look starts the count again.
    pub count: Count,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_error_rate: None,
            max_error_points: None,
            max_error_ratio: None,
            min_success_rate: None,
            max_p99: None,
            max_latency_ratio: None,
            window: Spot::unwritten(Span::seconds(60)),
            interval: Spot::unwritten(Span::seconds(30)),
            failures: Spot::unwritten(3),
            count: Count::Consecutive,
        }
    }
}

/// Whether a passed look starts the count again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Count {
    /// It does.
    #[default]
    Consecutive,
    /// It does not, over the whole rollout.
    Cumulative,
}

/// A number from outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Check {
    /// Unique name.
    pub name: Spot<String>,
    /// Where it is asked.
    pub prometheus: Spot<Prometheus>,
    /// Smallest allowed value.
    pub min: Option<Spot<Number>>,
    /// Largest allowed value.
    pub max: Option<Spot<Number>>,
    /// How often it is asked.
    #[serde(default = "half_a_minute")]
    pub interval: Spot<Span>,
    /// What a value out of bounds does; no answer is always a hold.
    #[serde(default)]
    pub on_fail: OnFail,
}

const fn half_a_minute() -> Spot<Span> {
    Spot::unwritten(Span::seconds(30))
}

/// A Prometheus query that gives one number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Prometheus {
    /// Base address.
    pub url: Spot<String>,
    /// The query; `{{route}}`, `{{canary}}`, `{{stable}}`, `{{version}}` and `{{interval}}` are filled in.
    pub query: Spot<String>,
}

/// What a value out of bounds does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnFail {
    /// Weights return.
    #[default]
    Revert,
    /// Weights stay.
    Hold,
}

/// How long a step and the whole may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Deadline {
    /// One step.
    pub step: Spot<Span>,
    /// All of it.
    pub rollout: Spot<Span>,
}

impl Default for Deadline {
    fn default() -> Self {
        Self {
            step: Spot::unwritten(Span::seconds(30 * 60)),
            rollout: Spot::unwritten(Span::seconds(24 * 3600)),
        }
    }
}

/// What happens to a step that could not decide in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnStepDeadline {
    /// It waits for a person.
    #[default]
    Pause,
    /// It goes on waiting.
    Hold,
    /// Weights return.
    Revert,
    /// The next step is taken.
    Promote,
}

/// When weights may rise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Window {
    /// Days of the week; default: every day.
    pub days: Option<Spot<Vec<Day>>>,
    /// From and until, `HH:MM`; the second is excluded, and before the first it is the next day's.
    pub between: Spot<Vec<Spot<String>>>,
    /// IANA time zone; default UTC.
    #[serde(default = "utc")]
    pub zone: Spot<String>,
}

fn utc() -> Spot<String> {
    Spot::unwritten("UTC".to_owned())
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// What a harmful verdict does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnHarm {
    /// Weights return.
    #[default]
    Revert,
    /// Weights stay and a person is asked.
    Pause,
    /// It is recorded and told.
    Observe,
}

/// What evidence in 4xx shares does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnClientErrors {
    /// Weights stay and somebody is told.
    #[default]
    Hold,
    /// Weights return.
    Revert,
    /// Nothing.
    Ignore,
}

/// How weights return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Revert {
    /// Time over which weights return when a version is put back; 0 is at once.
    pub ramp: Span,
}

impl Default for Revert {
    fn default() -> Self {
        Self { ramp: Span::seconds(0) }
    }
}

/// Who is asked or told at an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Hook {
    /// Unique name.
    pub name: Spot<String>,
    /// When.
    pub event: HookEvent,
    /// Where; `http://` or `https://`.
    pub url: Spot<String>,
    /// How long an answer may take.
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
    /// How long a confirm event waits for a yes; default: `deadline.step`.
    pub deadline: Option<Spot<Span>>,
    /// What a confirm event takes for an answer when its deadline has passed.
    pub on_deadline: Option<Spot<OnDeadline>>,
    /// Passed along.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// File with the key of the signature.
    pub secret_file: Option<Spot<String>>,
}

/// What is taken for an answer when nobody gave one in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnDeadline {
    /// A no: it waits for a person.
    #[default]
    Pause,
    /// A yes, and somebody is told.
    Allow,
}

const fn ten_seconds() -> Span {
    Span::seconds(10)
}

/// When a hook is called; the `confirm` events can block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HookEvent {
    /// Before the canary gets traffic.
    PreRollout,
    /// Every look at a step.
    Rollout,
    /// May the rollout begin?
    ConfirmRollout,
    /// May the weight rise?
    ConfirmTrafficIncrease,
    /// May the canary be promoted?
    ConfirmPromotion,
    /// After it ended.
    PostRollout,
    /// Must weights return?
    Rollback,
    /// Anything worth telling.
    Event,
    /// It holds.
    OnHold,
    /// It changed state.
    OnTransition,
}

impl HookEvent {
    /// As the file writes it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::PreRollout => "preRollout",
            Self::Rollout => "rollout",
            Self::ConfirmRollout => "confirmRollout",
            Self::ConfirmTrafficIncrease => "confirmTrafficIncrease",
            Self::ConfirmPromotion => "confirmPromotion",
            Self::PostRollout => "postRollout",
            Self::Rollback => "rollback",
            Self::Event => "event",
            Self::OnHold => "onHold",
            Self::OnTransition => "onTransition",
        }
    }

    /// Whether the rollout waits for a yes.
    #[must_use]
    pub const fn is_gate(self) -> bool {
        matches!(self, Self::ConfirmRollout | Self::ConfirmTrafficIncrease | Self::ConfirmPromotion)
    }
}
