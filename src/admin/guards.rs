//! What is watched of upstreams, as operators see it, and the verb that turns a breaker.
//!
//! It must never turn one itself: that is the controller's.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;

use super::Shared;
use super::asked::{Asked, Empty, asked};
use super::error::Refused;
use crate::control::BreakerAsk;
use crate::ledger::BreakerCell;
use crate::plan::guard::{Breaker, Fallback};
use crate::plan::{Endpoint, Plan};
use crate::telemetry::guards::GuardSeries;
use crate::wire;

/// `POST /api/v1/upstreams/{upstream}/breaker`.
pub(super) async fn breaker(
    State(shared): State<Shared>,
    Path(upstream): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::BreakerTurned>, Refused> {
    let Asked { what, by, expected, _turn } =
        asked::<wire::Breaker>(&shared, &headers, body, Empty::Refused).await?;
    let (open, reason) = (what.state == wire::BreakerState::Open, by.reason.clone());
    let done = shared.admin.0.control.breaker(BreakerAsk { upstream, open, by, expected }).await?;
    Ok(Json(wire::BreakerTurned {
        generation: done.generation.0,
        before: done.before.to_owned(),
        state: done.after.to_owned(),
        reason,
    }))
}

pub(super) fn series(plan: &Plan) -> Vec<GuardSeries> {
    let watched = plan.upstreams.iter().filter(|one| one.watch.is_some() || one.breaker.is_some());
    let series = watched.map(|one| GuardSeries {
        upstream: Arc::clone(&one.name),
        watch: one.watch.as_ref().map(|watch| Arc::clone(&watch.cell)),
        endpoints: one.endpoints.iter().filter_map(|endpoint| endpoint.guard.clone()).collect(),
        breaker: one.breaker.as_ref().map(|breaker| Arc::clone(&breaker.cell)),
    });
    series.collect()
}

/// The state of every breaker, by upstream; `held` where an operator holds it open.
pub(super) fn breakers(plan: &Plan) -> BTreeMap<String, String> {
    let breakers = plan.upstreams.iter().filter_map(|one| Some((&one.name, &one.breaker.as_ref()?.cell)));
    breakers.map(|(name, cell)| (name.to_string(), state(cell).to_owned())).collect()
}

/// How a breaker is: `held` where an operator holds it open.
pub(super) fn state(cell: &BreakerCell) -> &'static str {
    if cell.is_held() { "held" } else { cell.state() }
}

/// What answers while a breaker is open, of a route that lets other arms answer or not.
pub(super) fn when_open(breaker: &Breaker, redistribute: bool) -> String {
    match &breaker.fallback {
        Fallback::Upstream(name) => format!("upstream {name}"),
        Fallback::Respond(answer) => format!("respond {}", answer.status.as_u16()),
        Fallback::None if redistribute => "others".to_owned(),
        Fallback::None => "fail".to_owned(),
    }
}

/// Upstreams whose endpoints are all out.
pub(super) fn dead(plan: &Plan) -> Vec<String> {
    let dead =
        plan.upstreams.iter().filter(|one| one.watch.as_ref().is_some_and(|watch| watch.cell.is_dead()));
    dead.map(|one| one.name.to_string()).collect()
}

pub(super) fn endpoint(endpoint: &Endpoint) -> wire::Endpoint {
    let guard = endpoint.guard.as_ref();
    let healthy = guard.is_none_or(|guard| guard.is_healthy());
    let why = guard.map(|guard| guard.why()).unwrap_or_default();
    wire::Endpoint { address: endpoint.cell.url.to_string(), healthy, why }
}
