//! How a rollout is, for whoever shows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
    /// Decisions, the latest last; of each route the last [`MAX_RECORDS`].
    pub history: BTreeMap<String, Vec<Record>>,
    /// Decisions ever made by route, state before, state after, kind of actor and code.
    pub transitions: BTreeMap<[String; 5], u64>,
}

/// A decision as the journal keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// The route.
    pub route: String,
    /// The decision.
    pub record: Record,
}

impl Conducted {
    /// Adds a decision.
    pub fn add(&mut self, route: &str, record: Record) {
        let actor = serde_json::to_value(record.actor).ok();
        let actor = actor.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let labels = [
            route.to_owned(),
            record.from.to_string(),
            record.to.to_string(),
            actor,
            record.code.to_string(),
        ];
        *self.transitions.entry(labels).or_default() += 1;
        let records = self.history.entry(route.to_owned()).or_default();
        if records.len() >= MAX_RECORDS {
            records.remove(0);
        }
        records.push(record);
    }
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
    /// The same over the last fifteen minutes.
    pub steady_rate: f64,
}

impl RolloutReport {
    /// Of one under way.
    #[must_use]
    pub fn of(live: &Live) -> Self {
        Self {
            rollout: live.rollout.clone(),
            policy: Arc::clone(&live.policy),
            finding: live.finding.clone(),
            rate: live.rate.lately(),
            steady_rate: live.rate.steady(),
        }
    }
}
