//! What operators do: weights, rollouts and reload, each as one command to the controller.
//!
//! It must never judge a change; it reads the request and says the answer.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};

use super::Shared;
use super::asked::{Asked, Empty, asked, bad};
use super::error::Refused;
use crate::control::{DrainAsk, ReloadDone, RolloutAsk};
use crate::rollout::Verb;
use crate::wire;

pub(super) async fn weights(
    State(shared): State<Shared>,
    Path(route): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::WeightsSet>, Refused> {
    let Asked::<wire::Weights> { what, by, expected, _turn } =
        asked(&shared, &headers, body, Empty::Refused).await?;
    let weights = match (what.weights, what.reset) {
        (Some(weights), false) if what.force || leaves_somebody(&weights) => Some(weights),
        (Some(_), false) => return Err(nobody(&route)),
        (None, true) => None,
        _ => return Err(bad("say either weights or reset")),
    };
    let reason = by.reason.clone();
    let done = shared.admin.0.control.set_weights(route, weights, by, expected).await?;
    let changed = done.changed.into_iter().map(changed).collect();
    Ok(Json(wire::WeightsSet { generation: done.generation.0, changed, reason }))
}

/// Whether an arm has weight; a request that names none is refused for that.
fn leaves_somebody(weights: &BTreeMap<String, u32>) -> bool {
    weights.is_empty() || weights.values().any(|weight| *weight > 0)
}

/// One typing error must not take everybody down.
fn nobody(route: &str) -> Refused {
    let message = format!("no arm of route `{route}` would have weight, and everybody would get 503");
    Refused::new(StatusCode::CONFLICT, "no-weight-left", message)
        .hint("arms that are not named get 0: name the arm that shall serve; `\"force\": true` (`--force`) does it all the same")
}

pub(super) async fn drain(
    State(shared): State<Shared>,
    Path(route): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::WeightsSet>, Refused> {
    let Asked::<wire::DrainOf> { what, by, expected, _turn } =
        asked(&shared, &headers, body, Empty::Refused).await?;
    let reason = by.reason.clone();
    let done = shared.admin.0.control.drain(DrainAsk { route, arm: what.arm, by, expected }).await?;
    let changed = done.changed.into_iter().map(changed).collect();
    Ok(Json(wire::WeightsSet { generation: done.generation.0, changed, reason }))
}

pub(super) async fn rollout(
    State(shared): State<Shared>,
    Path((route, verb)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::RolloutMoved>, Refused> {
    let verb = verb_named(&verb)?;
    let Asked::<wire::Move> { what, by, expected, _turn } =
        asked(&shared, &headers, body, Empty::Fine).await?;
    let reason = by.reason.clone();
    let wire::Move { version, force } = what;
    let control = &shared.admin.0.control;
    let ask = RolloutAsk { route: route.clone(), verb, version, force, by, expected };
    let done = control.rollout(ask).await;
    let conducted = control.rollouts();
    let now = conducted.rollouts.get(&route).map(|report| &report.rollout);
    let state = now.map(|rollout| rollout.phase.name().to_owned());
    let done = done.map_err(|refusal| Refused::from(refusal).state(state.clone()))?;
    Ok(Json(wire::RolloutMoved {
        generation: done.generation.0,
        changed: done.changed.into_iter().map(changed).collect(),
        reason,
        version: now.map(|rollout| rollout.identity.version.clone()).unwrap_or_default(),
        state: state.unwrap_or_default(),
    }))
}

pub(super) fn changed(one: crate::control::Changed) -> wire::Changed {
    wire::Changed { arm: one.arm, before: one.before, after: one.after }
}

/// A verb as the path names it; `rollback` is what some call an abort.
fn verb_named(name: &str) -> Result<Verb, Refused> {
    const VERBS: [Verb; 8] = [
        Verb::Start,
        Verb::Pause,
        Verb::Resume,
        Verb::Advance,
        Verb::Promote,
        Verb::Finish,
        Verb::Abort,
        Verb::Retry,
    ];
    let name = if name == "rollback" { "abort" } else { name };
    VERBS.into_iter().find(|verb| verb.name() == name).ok_or_else(|| {
        let known = VERBS.map(|verb| verb.name()).join(", ");
        Refused::new(StatusCode::NOT_FOUND, "unknown-verb", "a rollout has no such verb").hint(known)
    })
}

pub(super) async fn reload(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::Reloaded>, Refused> {
    let dry_run = dry_run(query.as_deref())?;
    let Asked::<wire::Reload> { by, expected, _turn, .. } =
        asked(&shared, &headers, body, Empty::Fine).await?;
    let reason = by.reason.clone();
    let done = shared.admin.0.control.reload(dry_run, by, expected).await?;
    Ok(Json(reloaded(done, reason, dry_run)))
}

pub(super) fn reloaded(done: ReloadDone, reason: String, dry_run: bool) -> wire::Reloaded {
    let changed = done.changes.into_iter().map(|change| wire::PlanChange {
        route: change.route,
        text: change.text,
        moved_percent: change.moved_percent,
    });
    wire::Reloaded {
        generation: done.generation.0,
        changed: changed.collect(),
        reason,
        dry_run,
        warnings: done.warnings.iter().map(Into::into).collect(),
    }
}

fn dry_run(query: Option<&str>) -> Result<bool, Refused> {
    let mut dry_run = false;
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        dry_run = match pair {
            "dryRun" | "dryRun=true" | "dryRun=1" => true,
            "dryRun=false" | "dryRun=0" => false,
            other => return Err(bad(format!("`{other}` is not understood")).hint("dryRun=true")),
        };
    }
    Ok(dry_run)
}
