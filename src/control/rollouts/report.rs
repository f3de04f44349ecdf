//! How a rollout is, for whoever shows it.
//!
//! One place says it, so that API, page, metrics and notices agree. It must never decide anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::live::Live;
use super::ring::Ring;
use crate::analysis::{Finding, Policy};
use crate::control::checks::CheckReport;
use crate::control::flips::FlipReport;
use crate::control::objectives::Standings;
use crate::rollout::dora::{self, Harm};
use crate::rollout::{Record, Rollout, Suffered};

/// Decisions kept in memory of one route.
pub const MAX_RECORDS: usize = 100;
/// Of these, at most so many about weights by hand: a script that sets them must not push out what
/// was decided.
const MAX_BY_HAND: usize = 30;

/// How every rollout is, and what was decided lately, by route.
#[derive(Clone, Debug, Default)]
pub struct Conducted {
    /// Rollouts.
    pub rollouts: BTreeMap<String, RolloutReport>,
    /// Decisions, the latest last; of each route the last [`MAX_RECORDS`].
    pub history: Arc<BTreeMap<String, Arc<Vec<Record>>>>,
    /// Decisions ever made by route, state before, state after, kind of actor and code.
    pub transitions: Arc<BTreeMap<[String; 5], u64>>,
    /// How objectives stand.
    pub slo: Standings,
    /// Slots, by route.
    pub flips: Arc<BTreeMap<String, FlipReport>>,
    /// What reverts cost, by route.
    pub harms: Arc<BTreeMap<String, Harms>>,
}

/// What the reverts of one route cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Harms {
    /// Failures beyond stable's share, over all reverts.
    pub excess: f64,
    /// Of the last revert: when its canary's first bad outcome came, with its run.
    first_bad: Option<(u64, u64)>,
    /// Of the last revert: seconds from there to the verdict.
    pub detection_seconds: Option<f64>,
    /// And to weight 0 in force.
    pub recovery_seconds: Option<f64>,
}

impl Harms {
    fn add(&mut self, record: &Record) {
        if let Some(harm) = Harm::of(record) {
            self.excess += harm.excess;
            self.first_bad = record.first_bad_at_millis.map(|at| (record.run, at));
            self.detection_seconds = harm.detection_seconds;
            self.recovery_seconds = harm.recovery_seconds;
        } else if self.recovery_seconds.is_none() {
            let first = self.first_bad.filter(|(run, _)| *run == record.run);
            self.recovery_seconds = dora::recovery(record, first.map(|(_, at)| at));
        }
    }
}

/// A decision as the journal keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// The route.
    pub route: String,
    /// The decision.
    pub record: Record,
}

/// What was decided lately, while more is decided: what is told shares it and is never changed, so
/// that telling once after many decisions copies each list once.
#[derive(Debug, Default)]
pub struct Decisions {
    history: Arc<BTreeMap<String, Arc<Vec<Record>>>>,
    transitions: Arc<BTreeMap<[String; 5], u64>>,
    harms: Arc<BTreeMap<String, Harms>>,
    /// Decisions that were not told yet.
    untold: bool,
}

impl Decisions {
    /// What is to be told of them; rollouts and objectives are left to fill in.
    pub fn told(&mut self) -> Conducted {
        self.untold = false;
        Conducted {
            history: Arc::clone(&self.history),
            transitions: Arc::clone(&self.transitions),
            harms: Arc::clone(&self.harms),
            ..Conducted::default()
        }
    }

    /// Whether there is something that was not told yet.
    #[must_use]
    pub fn is_untold(&self) -> bool {
        self.untold
    }

    /// Adds a decision.
    pub fn add(&mut self, route: &str, record: Record) {
        self.untold = true;
        let actor = serde_json::to_value(record.actor).ok();
        let actor = actor.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let labels = [
            route.to_owned(),
            record.from.to_string(),
            record.to.to_string(),
            actor,
            record.code.to_string(),
        ];
        // What a person sets is no decision of a rollout.
        if !record.is_by_hand() {
            *Arc::make_mut(&mut self.transitions).entry(labels).or_default() += 1;
        }
        Arc::make_mut(&mut self.harms).entry(route.to_owned()).or_default().add(&record);
        let records = Arc::make_mut(&mut self.history).entry(route.to_owned()).or_default();
        let records = Arc::make_mut(records);
        let by_hand = |one: &&Record| one.is_by_hand();
        if record.is_by_hand()
            && records.iter().filter(by_hand).count() >= MAX_BY_HAND
            && let Some(oldest) = records.iter().position(Record::is_by_hand)
        {
            records.remove(oldest);
        }
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
    /// What failed in the present step.
    pub suffered: Suffered,
    /// Numbers from outside.
    pub checks: Vec<CheckReport>,
    /// What the analyzer saw lately.
    pub ticks: Arc<Ring>,
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
            suffered: live.sampled.suffered(),
            checks: live.checks.report(),
            ticks: Arc::clone(&live.ticks),
            rate: live.rate.lately(),
            steady_rate: live.rate.steady(),
        }
    }
}
