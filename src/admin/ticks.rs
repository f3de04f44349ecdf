//! What the analyzer saw of a route lately, for whoever records it.
//!
//! It reads what the controller keeps, a bounded number of lines at a time. It must never wait for
//! the controller, nor make it wait for longer than a copy of those lines takes.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;

use super::Shared;
use super::error::Refused;
use crate::control;
use crate::control::rollouts::ring::Page;
use crate::rollout::Phase;
use crate::wire;

pub(super) async fn ticks(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<wire::Ticks>, Refused> {
    let after = after(query.as_deref().unwrap_or(""))?;
    let plan = shared.admin.0.plans.load_full();
    let route = control::find(&plan, &name)?;
    let conducted = shared.admin.0.control.rollouts();
    let report = conducted.rollouts.get(&*route.name).ok_or_else(|| {
        let message = format!("route `{}` has no rollout", route.name);
        Refused::new(StatusCode::CONFLICT, "no-rollout", message).hint("add a `rollout` block to the route")
    })?;
    let rollout = &report.rollout;
    let Page { source, next, more, missing, lines } = report.ticks.read(after);
    let live = rollout.is_live() || rollout.phase == Phase::Idle || rollout.next.is_some();
    let state = rollout.phase.name().to_owned();
    Ok(Json(wire::Ticks { source, next, more, missing, state, live, lines }))
}

/// The number after which lines are wanted.
fn after(query: &str) -> Result<Option<u64>, Refused> {
    let bad = |message: String| Refused::new(StatusCode::BAD_REQUEST, "bad-request", message);
    let mut after = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("after", number)) => {
                let number = number.parse();
                after = Some(number.map_err(|_| bad("after is the `next` of the last answer".to_owned()))?);
            }
            _ => return Err(bad(format!("unknown parameter `{pair}`; the only one is `after`"))),
        }
    }
    Ok(after)
}
