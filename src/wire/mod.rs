//! JSON types of the admin API, shared by the server and the command line.
//!
//! They exist so that both sides agree on every name. They must never hold behaviour beyond
//! conversion, and a field that was published is never renamed.

pub mod access;
pub mod config;
pub mod differences;
pub mod guard;
pub mod live;
pub mod rollout;
pub mod route;
pub mod said;
pub mod slo;
pub mod status;
pub mod steering;
pub mod ticks;
pub mod verb;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::model::{Explained, Range};
pub use access::Access;
pub use config::{ConfigEntry, ConfigHistory, Rollback, RollbackRequest};
pub use differences::{Differences, Differing, Discordance, Latency, Mirrored, Mismatch, Quantiles};
pub use guard::{Breaker, BreakerRequest, BreakerState, BreakerTurned};
pub use live::{Act, Past, Point, Tick};
pub use rollout::{
    BetterSteps, Check, Crowded, Dora, Evidence, Failing, Harm, History, Known, Move, PlannedStep, Record,
    Rollout, RolloutMoved, RolloutPlan, RolloutRequest, Samples, Seen, Shifted, StepChange,
};
pub use route::{Arm, BlueGreen, ByHand, Endpoint, Mirror, Places, Route, Routes};
pub use said::{Asked, Said};
pub use slo::{BurnRate, Objective};
pub use status::{Config, Listener, Load, Ready, RolledBack, State, Status};
pub use steering::{Drain, DrainOf, DrainRequest, Override};
pub use ticks::Ticks;
pub use verb::{
    Changed, Flip, FlipRequest, Flipped, PlanChange, Reload, ReloadRequest, Reloaded, Weights,
    WeightsRequest, WeightsSet,
};

/// A refusal, for every status from 400 up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Error {
    /// Stable kebab-case code.
    pub code: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it; empty when the message says it all.
    #[serde(default)]
    pub hint: String,
    /// Generation in force, where one is meant.
    #[serde(default)]
    pub generation: Option<u64>,
    /// State of the rollout that stands against it (409).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Findings about the configuration (422).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
}

/// One finding about the configuration, as it travels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnostic {
    /// Stable kebab-case code.
    pub code: String,
    /// `error` or `warning`.
    pub severity: String,
    /// File as the operator named it.
    pub file: String,
    /// Line, from 1; 0 when unknown.
    pub line: u32,
    /// Column, from 1; 0 when unknown.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl From<&crate::model::Diagnostic> for Diagnostic {
    fn from(found: &crate::model::Diagnostic) -> Self {
        let severity = match found.severity {
            crate::model::Severity::Warning => "warning",
            crate::model::Severity::Error => "error",
        };
        Self {
            code: found.code.to_owned(),
            severity: severity.to_owned(),
            file: found.place.file.clone(),
            line: found.place.line,
            column: found.place.column,
            message: found.message.clone(),
            hint: found.hint.clone(),
        }
    }
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, severity, file, line, column, message, hint } = self;
        if *line > 0 {
            write!(f, "{file}:{line}:{column}: ")?;
        } else if !file.is_empty() {
            write!(f, "{file}: ")?;
        }
        write!(f, "{severity}[{code}]: {message}")?;
        if !hint.is_empty() {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}
