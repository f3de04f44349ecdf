//! `rollout plan`: how long each step takes at the measured rate, what it can see, and what would be
//! better.
//!
//! Every number is the analyzer's. It must never judge.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Shared;
use super::error::Refused;
use super::rollouts::{is_shown, percent, word};
use crate::analysis::forecast::{self, Change};
use crate::analysis::policy::Step;
use crate::analysis::power::choose;
use crate::analysis::{Policy, policy::Preset};
use crate::control::{self, RolloutReport};
use crate::plan::Route;
use crate::rollout::Share;
use crate::wire;

pub(super) async fn plan(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<wire::RolloutPlan>, Refused> {
    let plan = shared.admin.0.plans.load_full();
    let route = control::find(&plan, &name)?;
    let conducted = shared.admin.0.control.rollouts();
    let report = conducted.rollouts.get(&*route.name).filter(|report| is_shown(&report.rollout));
    let report = report.ok_or_else(|| {
        let message = format!("route `{}` has no rollout", route.name);
        Refused::new(StatusCode::CONFLICT, "no-rollout", message).hint("add a `rollout` block to the route")
    })?;
    Ok(Json(planned(report, route)))
}

fn planned(report: &RolloutReport, route: &Route) -> wire::RolloutPlan {
    let RolloutReport { rollout, policy, finding, steady_rate: rate, .. } = report;
    let (chosen, first_step) = choose(policy, *rate);
    let preset = finding.as_ref().map_or(chosen, |finding| finding.confidence);
    let steps = policy.steps.iter().map(|step| planned_step(policy, preset, step, *rate));
    let total = |preset, from: usize| {
        let seconds =
            policy.steps.iter().skip(from).map(|step| forecast::seconds(policy, preset, step, *rate));
        finite(seconds.sum())
    };
    let presets = [Preset::High, Preset::Normal, Preset::Low];
    let endpoints = |name: &str| {
        let arm = route.arms.iter().find(|arm| &*arm.name == name);
        arm.map_or(0, |arm| arm.upstream.endpoints.len())
    };
    let counts = (endpoints(&policy.from), endpoints(&policy.to));
    wire::RolloutPlan {
        version: rollout.identity.version.clone(),
        state: rollout.phase.name().to_owned(),
        step: rollout.step,
        rate: *rate,
        confidence: word(preset),
        auto: policy.preset.is_none(),
        first_step,
        steps: steps.collect(),
        bake_seconds: policy.conduct.bake,
        total_seconds: total(preset, first_step),
        step_deadline_seconds: policy.conduct.step_deadline,
        alternatives: presets.into_iter().map(|preset| (word(preset), total(preset, 0))).collect(),
        better: forecast::better(policy, preset, first_step, *rate).map(better),
        crowded: forecast::crowded(policy, *rate, counts).map(|one| crowded(policy, one)),
    }
}

fn planned_step(policy: &Policy, preset: Preset, step: &Step, rate: f64) -> wire::PlannedStep {
    let last = step.weight >= 1.0;
    let seconds = forecast::seconds(policy, preset, step, rate);
    wire::PlannedStep {
        weight: percent(Share::of(step.weight)),
        dwell_seconds: if last { policy.conduct.bake } else { step.dwell },
        pause: step.pause,
        detectable_target: (!last).then(|| preset.target(step.weight)),
        sees: forecast::sees(policy, step.weight, rate, seconds),
        min_requests: policy.min_requests(preset),
        seconds: finite(seconds),
    }
}

fn better(better: forecast::Better) -> wire::BetterSteps {
    let weight = |weight: f64| percent(Share::of(weight));
    let change = |change: Change| match change {
        Change::TooLong(one, seconds) => wire::StepChange {
            weight: weight(one),
            change: "too-long".to_owned(),
            seconds: finite(seconds),
            ..wire::StepChange::default()
        },
        Change::AddsNothing(one, before) => wire::StepChange {
            weight: weight(one),
            change: "adds-nothing".to_owned(),
            to: Some(weight(before)),
            ..wire::StepChange::default()
        },
        Change::Instead(one) => wire::StepChange {
            weight: weight(one),
            change: "instead".to_owned(),
            ..wire::StepChange::default()
        },
    };
    wire::BetterSteps {
        steps: better.weights.iter().map(|one| weight(*one)).collect(),
        total_seconds: better.seconds,
        changes: better.changes.into_iter().map(change).collect(),
    }
}

fn crowded(policy: &Policy, one: forecast::Crowded) -> wire::Crowded {
    let weight = policy.steps.get(one.step).map_or(0.0, |step| percent(Share::of(step.weight)));
    wire::Crowded {
        step: one.step,
        weight,
        endpoints: one.endpoints.0,
        needed: one.endpoints.1,
        each: one.each.0,
        carried: one.each.1,
    }
}

fn finite(seconds: f64) -> Option<f64> {
    seconds.is_finite().then_some(seconds)
}
