//! A rollout as operators see it: where it is, why, what is known, and what it waits for.
//!
//! It exists so that pipelines and people read the same numbers. It must never hold a judgement of
//! its own: verdicts and times come from the analyzer.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asked, Changed, verb::is_false};

/// The rollout of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Name of the new version.
    pub version: String,
    /// `IDLE`, `PENDING`, `SHADOW`, `STAGE`, `HOLD`, `PAUSED`, `BAKE`, `REVERTING`, or an end:
    /// `PROMOTED`, `REVERTED`, `ABORTED`, `SUPERSEDED`, `FINISHED`.
    pub state: String,
    /// The step, from 0.
    pub step: u32,
    /// The canary's share at each step, in percent.
    pub steps: Vec<f64>,
    /// Why it is where it is, in a sentence.
    pub reason: String,
    /// The same as a word of a closed set.
    #[serde(default)]
    pub code: String,
    /// `healthy`, `suspect`, `undecided` or `harmful`; `None` before anything was judged.
    pub verdict: Option<String>,
    /// The rule that spoke.
    #[serde(default)]
    pub rule: Option<String>,
    /// What speaks against it; `None` before anything was judged.
    pub evidence: Option<Evidence>,
    /// Smallest ratio of bad shares that would have shown by now.
    pub detectable_ratio: Option<f64>,
    /// What it waits for, in words.
    pub waiting_for: Vec<String>,
    /// Seconds until the step could be passed at the measured rate.
    pub eta: Option<f64>,
    /// The arm it comes from.
    #[serde(default)]
    pub from: String,
    /// The arm it goes to.
    #[serde(default)]
    pub to: String,
    /// Whether traffic walks back to `from` after a promotion.
    #[serde(default, skip_serializing_if = "is_false")]
    pub back: bool,
    /// Share of `to` of both arms' traffic, 0 to 1; `None` when the file's own split is in force, or
    /// weights by hand after its end.
    #[serde(default)]
    pub share: Option<f64>,
    /// The confidence in force: `high`, `normal` or `low`.
    #[serde(default)]
    pub confidence: Option<String>,
    /// Share of `to` at the last step, 0 to 1: all but what keeps the comparison alive.
    #[serde(default)]
    pub bake_share: f64,
    /// What both arms saw in this step.
    #[serde(default)]
    pub samples: Option<Samples>,
    /// What failed in this step: the most frequent kinds of the canary, then of stable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<Failing>,
    /// Requests per second of both arms, lately.
    #[serde(default)]
    pub rate: f64,
    /// Number of the run: another one has other evidence.
    #[serde(default)]
    pub run: u64,
    /// When the run began, RFC 3339.
    #[serde(default)]
    pub started_at: String,
    /// Seconds the run took so far, or in all.
    #[serde(default)]
    pub duration_seconds: f64,
    /// Seconds since it came to its end; absent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_seconds: Option<f64>,
    /// The version that comes after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Numbers from outside, while the canary has traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

/// A number from outside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The last value in this step; `None` before the first, and for an infinite one.
    pub value: Option<f64>,
    /// `fine`, `waiting`, `silent` or `failing`.
    pub state: String,
    /// Why the last question had no answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// The evidence a verdict rests on, as natural logarithms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// `ln E`, all metrics together that can decide; `None` for none.
    pub log: Option<f64>,
    /// `ln(1/alpha)`: it is harmful from here on.
    pub threshold: f64,
    /// Each metric that has any.
    pub by_metric: BTreeMap<String, f64>,
    /// Metrics of these that differ by less than 1 ms: they are not judged, and not in `log`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_judged: Vec<String>,
}

/// Requests and bad ones of both arms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Samples {
    /// The reference.
    pub stable: Seen,
    /// The candidate.
    pub canary: Seen,
}

/// Requests and bad ones of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// Requests that ended.
    pub n: u64,
    /// Bad ones.
    pub e: u64,
}

/// One kind of failing request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failing {
    /// `canary` or `stable`.
    pub arm: String,
    /// The route's match, as text.
    #[serde(rename = "match")]
    pub rule: String,
    /// The method; `other` for one that is not common.
    pub method: String,
    /// The status that the upstream answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What happened instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Address of the endpoint; empty when there was none.
    pub endpoint: String,
    /// How many failed so in the step.
    pub count: u64,
    /// Ids of the first ones.
    pub request_ids: Vec<String>,
}

/// `POST /api/v1/routes/{r}/rollout/{verb}`; the body may be empty.
pub type RolloutRequest = Asked<Move>;

/// What is asked of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rollout")]
pub struct Move {
    /// The version the caller means; another one is a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Despite what speaks against it; needs a reason.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
}

/// Answer to a rollout verb.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutMoved {
    /// Generation of the route.
    pub generation: u64,
    /// Weights that changed.
    pub changed: Vec<Changed>,
    /// The reason given.
    pub reason: String,
    /// The rollout's version.
    pub version: String,
    /// The state it is in now.
    pub state: String,
}

/// `GET /api/v1/routes/{r}/history`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// Decisions, the latest last.
    pub records: Vec<Record>,
    /// How well versions come out, by these records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dora: Option<Dora>,
}

/// How well the versions of a route come out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dora {
    /// Versions promoted.
    pub promoted: u64,
    /// Versions put back or stopped.
    pub put_back: u64,
    /// Promotions per week over the time the records span, at least a week.
    pub deployments_per_week: f64,
    /// Part of the ended versions that were put back or stopped, 0 to 1.
    pub change_failure_rate: Option<f64>,
    /// Median seconds from a canary's first bad outcome to weight 0.
    pub median_recovery_seconds: Option<f64>,
}

/// One decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Of the run, such as `run-3`: decisions of one route with the same id belong together.
    #[serde(default)]
    pub id: String,
    /// When, RFC 3339.
    pub at: String,
    /// The route.
    pub route: String,
    /// The version it is about.
    pub version: String,
    /// State before.
    pub from: String,
    /// State after.
    pub to: String,
    /// The person, or the part of the program that decided.
    pub actor: String,
    /// `analyzer`, `timer`, `operator`, `config`, `hook` or `restart`.
    #[serde(default)]
    pub kind: String,
    /// Why, in a sentence.
    pub reason: String,
    /// The same as a word of a closed set.
    #[serde(default)]
    pub code: String,
    /// The canary's percent of both arms before; `None` when the file's own split was in force.
    pub before: Option<f64>,
    /// And after.
    pub after: Option<f64>,
    /// Step after, from 0.
    #[serde(default)]
    pub step: u32,
    /// What was known.
    pub evidence: Option<Known>,
    /// What both arms had seen in the step.
    pub samples: Option<Samples>,
    /// What failed in the step: the most frequent kinds of the canary, then of stable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<Failing>,
    /// When the canary's first bad outcome of the step came, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad_at: Option<String>,
    /// When the weights after it were in force, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force_at: Option<String>,
    /// What a revert cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm: Option<Harm>,
    /// A person's notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Every arm's weight before and after; of flips and of weights by hand alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Shifted>,
}

/// Every arm's weight before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shifted {
    /// Before.
    pub before: BTreeMap<String, u32>,
    /// After.
    pub after: BTreeMap<String, u32>,
}

/// What one revert cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Harm {
    /// Failures beyond stable's share.
    pub excess_failures: f64,
    /// Seconds from the canary's first bad outcome of the step to the verdict.
    pub detection_seconds: Option<f64>,
    /// And to weight 0 in force; `None` when weights returned slowly.
    pub recovery_seconds: Option<f64>,
}

/// What was known when a decision was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// The verdict.
    pub verdict: String,
    /// The rule that spoke.
    pub rule: String,
    /// `ln E`.
    pub log: Option<f64>,
    /// What it must reach.
    pub threshold: f64,
    /// Smallest ratio that would have shown.
    pub detectable_ratio: Option<f64>,
}

/// `GET /api/v1/routes/{r}/rollout/plan`: what each step takes at the measured rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutPlan {
    /// Name of the new version.
    pub version: String,
    /// Where the rollout is.
    pub state: String,
    /// The step it is at, from 0.
    pub step: u32,
    /// Requests per second of both arms over the last fifteen minutes.
    pub rate: f64,
    /// The confidence in force: `high`, `normal` or `low`.
    pub confidence: String,
    /// Whether the measured rate chose it.
    pub auto: bool,
    /// The first step that traffic allows in time; a rollout begins there.
    pub first_step: usize,
    /// Steps with live traffic.
    pub steps: Vec<PlannedStep>,
    /// Seconds at the end of the last step before the promotion.
    pub bake_seconds: f64,
    /// Seconds in all; `None` without traffic.
    pub total_seconds: Option<f64>,
    /// Seconds a step may take.
    pub step_deadline_seconds: f64,
    /// Seconds in all with each confidence.
    pub alternatives: BTreeMap<String, Option<f64>>,
    /// A list of steps that takes less time and sees as much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<BetterSteps>,
    /// The first step whose share is more than the canary's endpoints should get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowded: Option<Crowded>,
}

/// A list of steps that takes less time and sees as much.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BetterSteps {
    /// The canary's percent at each step.
    pub steps: Vec<f64>,
    /// Seconds in all.
    pub total_seconds: f64,
    /// What is different, and why.
    pub changes: Vec<StepChange>,
}

/// One difference to the steps as written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepChange {
    /// The percent it is about.
    pub weight: f64,
    /// `too-long` or `adds-nothing`: it is left out; `instead`: it is there in place of those.
    pub change: String,
    /// Seconds it would take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The percent of the step it adds nothing to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<f64>,
}

/// A step for which the canary has too few endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Crowded {
    /// The step, from 0.
    pub step: usize,
    /// Its percent.
    pub weight: f64,
    /// Endpoints the canary has.
    pub endpoints: usize,
    /// Endpoints it needs to get no more than one of stable's.
    pub needed: usize,
    /// Requests per second that each of the canary's would get.
    pub each: f64,
    /// Requests per second that each of stable's carries alone.
    pub carried: f64,
}

/// One step and what it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// The canary's percent of both arms.
    pub weight: f64,
    /// Minimum seconds.
    pub dwell_seconds: f64,
    /// Waits for a person before the step after it.
    pub pause: bool,
    /// The ratio of bad shares that must have been detectable; `None` for the last step.
    pub detectable_target: Option<f64>,
    /// The smallest ratio that shows by its end at the measured rate; `None` where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sees: Option<f64>,
    /// Canary requests it needs.
    pub min_requests: u64,
    /// Seconds it takes at the measured rate; `None` without traffic.
    pub seconds: Option<f64>,
}
