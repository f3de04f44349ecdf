//! How a rollout is, for whoever shows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::live::Live;
use crate::analysis::{Finding, Policy};
use crate::rollout::{Record, Rollout};

/// Decisions kept in memory of one route.
pub const MAX_RECORDS: usize = 100;

/// How every rollout is, and what was decided lately, by route.
#[derive(Clone, Debug, Default)]
pub struct Conducted {
    /// Rollouts.
    pub rollouts: BTreeMap<String, RolloutReport>,
    /// Decisions, the latest last.
    pub history: BTreeMap<String, Vec<Record>>,
}

/// How a rollout is.
#[derive(Clone, Debug)]
pub struct RolloutReport {
    /// Its state.
    pub rollout: Rollout,
    /// How it is judged and conducted.
    pub policy: Arc<Policy>,
    /// What was found last.
    pub finding: Option<Finding>,
    /// Requests per second of both arms, lately.
    pub rate: f64,
}

impl RolloutReport {
    /// Of one under way.
    #[must_use]
    pub fn of(live: &Live) -> Self {
        Self {
            rollout: live.rollout.clone(),
            policy: Arc::clone(&live.policy),
            finding: live.finding.clone(),
            rate: live.rate,
        }
    }
}
