//! A rollout's policy as plain data: everything the analyzer and the state machine ask it.
//!
//! Written text becomes a policy in `analysis::compile`, and nowhere else: what is here can decide.
//! It must never hold a place in a file or a value nobody checked.

use crate::spec::rollout::{Day, HookEvent, OnClientErrors, OnDeadline, OnFail, OnHarm, OnStepDeadline};

use super::thresholds::Limits;

/// What is judged and how. [`Policy::default`] is the policy of a block that writes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Name of the new version.
    pub version: String,
    /// The arm that serves the old version.
    pub from: String,
    /// The arm that serves the new one.
    pub to: String,
    /// Steps with live traffic, rising, the last at 1; a shadow step is apart.
    pub steps: Vec<Step>,
    /// Share of traffic mirrored before the first step, 0 to 1.
    pub shadow: Option<f64>,
    /// Chance of reverting a healthy version by the comparison, above 0 and below 1.
    pub alpha: f64,
    /// Share of bad outcomes the guard always tolerates.
    pub max_bad: f64,
    /// Chance of reverting a healthy version by the guard.
    pub guard_alpha: f64,
    /// Minimum seconds of a step.
    pub dwell: f64,
    /// Seconds of a step whose errors are not compared.
    pub warmup_errors: u64,
    /// Seconds after the canary's first traffic whose latency is not compared.
    pub warmup_latency: u64,
    /// Largest number of failures one cause makes within a second; `None` is all of them.
    pub bursts: Option<u32>,
    /// What `confidence` says; `None` is auto.
    pub preset: Option<Preset>,
    /// Canary requests a step needs, when written.
    pub written_min_requests: Option<u64>,
    /// Availability of the route's objective, 0 to 1.
    pub availability: f64,
    /// Statuses that are bad.
    pub bad_statuses: Vec<Status>,
    /// gRPC status codes that are bad.
    pub bad_grpc: Vec<u8>,
    /// Fixed limits, when any is written.
    pub limits: Option<Limits>,
    /// Numbers from outside.
    pub checks: Vec<Check>,
    /// What evidence in 4xx shares does.
    pub client_errors: OnClientErrors,
    /// What the state machine does with it all.
    pub conduct: Conduct,
}

impl Default for Policy {
    fn default() -> Self {
        let weights = [0.01, 0.05, 0.25, 0.5, 1.0];
        Self {
            version: String::new(),
            from: "stable".into(),
            to: "canary".into(),
            steps: weights.map(|weight| Step { weight, dwell: 60.0, pause: false }).into(),
            shadow: None,
            alpha: 0.001,
            max_bad: 0.05,
            guard_alpha: 0.001,
            dwell: 60.0,
            warmup_errors: 15,
            warmup_latency: 60,
            bursts: None,
            preset: None,
            written_min_requests: None,
            availability: 0.999,
            bad_statuses: vec![Status::Class(5)],
            bad_grpc: vec![2, 4, 13, 14, 15],
            limits: None,
            checks: Vec::new(),
            client_errors: OnClientErrors::Hold,
            conduct: Conduct::default(),
        }
    }
}

impl Policy {
    /// Canary requests a step needs.
    #[must_use]
    pub fn min_requests(&self, preset: Preset) -> u64 {
        self.written_min_requests.unwrap_or(preset.min_requests())
    }

    /// Mirrored requests with both answers that the shadow phase needs.
    #[must_use]
    pub fn min_pairs(&self, preset: Preset) -> u64 {
        self.written_min_requests.unwrap_or(preset.min_pairs())
    }

    /// A step's minimum seconds; the common one when there is no such step.
    #[must_use]
    pub fn dwell_of(&self, step: u32) -> f64 {
        self.steps.get(step as usize).map_or(self.dwell, |step| step.dwell)
    }

    /// `ln` of what evidence must reach.
    #[must_use]
    pub fn ln_threshold(&self) -> f64 {
        -self.alpha.ln()
    }
}

/// One step with live traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The canary's share of both arms' traffic, above 0, at most 1.
    pub weight: f64,
    /// Its minimum seconds.
    pub dwell: f64,
    /// Waits for a person before the step after it.
    pub pause: bool,
}

/// How small an effect must have been detectable before a step is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Preset {
    /// Small effects.
    High,
    /// Middling effects.
    Normal,
    /// Gross effects.
    Low,
}

impl Preset {
    /// The ratio that must be detectable at a weight, 0 to 1.
    #[must_use]
    pub fn target(self, weight: f64) -> f64 {
        /// Weights up to which each column holds.
        const WEIGHTS: [f64; 4] = [0.01, 0.05, 0.1, 0.25];
        let column = WEIGHTS.iter().position(|most| weight <= most + 1e-9).unwrap_or(WEIGHTS.len());
        let row = match self {
            Self::High => [20.0, 10.0, 5.0, 3.0, 3.0],
            Self::Normal => [50.0, 20.0, 10.0, 5.0, 5.0],
            Self::Low => [100.0, 100.0, 50.0, 30.0, 30.0],
        };
        row[column]
    }

    /// Canary requests a step needs.
    #[must_use]
    pub const fn min_requests(self) -> u64 {
        match self {
            Self::High => 200,
            Self::Normal => 100,
            Self::Low => 30,
        }
    }

    /// Mirrored requests the shadow phase needs: so many that 0.9, 2.6 and 9 points more failures
    /// than stable's would have shown.
    #[must_use]
    pub const fn min_pairs(self) -> u64 {
        match self {
            Self::High => 1_500,
            Self::Normal => 500,
            Self::Low => 150,
        }
    }
}

/// A status or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `5xx` is 5.
    Class(u16),
    /// One code.
    Code(u16),
}

impl Status {
    /// Whether it means this code.
    #[must_use]
    pub const fn holds(self, code: u16) -> bool {
        match self {
            Self::Class(class) => code / 100 == class,
            Self::Code(only) => code == only,
        }
    }
}

/// Checks of one rollout at most: each asks on its own for as long as the rollout lives.
pub const MAX_CHECKS: usize = 16;
/// Hooks of one rollout at most: each may be called at every transition.
pub const MAX_HOOKS: usize = 32;
/// What is filled in between `{{` and `}}` of a query.
pub const PLACEHOLDERS: [&str; 5] = ["route", "canary", "stable", "version", "interval"];

/// A number from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Unique name.
    pub name: String,
    /// Base address of the Prometheus that is asked.
    pub url: String,
    /// What it is asked, with its [`PLACEHOLDERS`].
    pub query: String,
    /// Smallest allowed value.
    pub min: Option<f64>,
    /// Largest allowed value.
    pub max: Option<f64>,
    /// Seconds between two questions.
    pub interval: f64,
    /// What a value out of bounds does; no answer is always a hold.
    pub on_fail: OnFail,
}

/// What the state machine does with what the analyzer says.
#[derive(Clone, Debug, PartialEq)]
pub struct Conduct {
    /// Seconds a step may take.
    pub step_deadline: f64,
    /// Seconds the rollout may take.
    pub rollout_deadline: f64,
    /// What happens to a step that could not decide in time.
    pub on_step_deadline: OnStepDeadline,
    /// When weights may rise; empty is always.
    pub windows: Vec<Window>,
    /// What a harmful verdict does.
    pub on_harm: OnHarm,
    /// Seconds at 100 % before the promotion.
    pub bake: f64,
    /// Seconds over which weights return; 0 is at once.
    pub revert_ramp: f64,
    /// Whether a new version starts by itself.
    pub auto_start: bool,
    /// Who is asked and told.
    pub hooks: Vec<Hook>,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            step_deadline: 1_800.0,
            rollout_deadline: 86_400.0,
            on_step_deadline: OnStepDeadline::Pause,
            windows: Vec::new(),
            on_harm: OnHarm::Revert,
            bake: 600.0,
            revert_ramp: 0.0,
            auto_start: true,
            hooks: Vec::new(),
        }
    }
}

/// When weights may rise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Days of the week; empty is every day.
    pub days: Vec<Day>,
    /// First minute of the day.
    pub from_minute: u16,
    /// The minute after the last, up to 1,440; before `from_minute` it is the next day's.
    pub until_minute: u16,
    /// IANA time zone.
    pub zone: String,
}

/// Who is asked or told at an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// Unique name.
    pub name: String,
    /// When.
    pub event: HookEvent,
    /// Where.
    pub url: String,
    /// Seconds an answer may take.
    pub timeout: f64,
    /// Seconds a gate waits for a yes.
    pub deadline: f64,
    /// What a gate takes for an answer then.
    pub on_deadline: OnDeadline,
    /// Passed along.
    pub metadata: Vec<(String, String)>,
    /// File with the key of the signature.
    pub secret_file: Option<String>,
}
