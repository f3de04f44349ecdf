//! Two slots as operators see them, and the verb that exchanges them.
//!
//! It must never judge: which slot serves is the plan's to say, how it goes the controller's.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;

use super::Shared;
use super::asked::{Asked, Empty, asked};
use super::error::Refused;
use super::scrape::ratio;
use super::verbs::changed;
use crate::control::flips::waits;
use crate::control::{Conducted, FlipAsk};
use crate::ledger::Cell;
use crate::plan::Route;
use crate::rollout::flip::{Flip, Phase};
use crate::wire;

/// Requests and tunnels that an arm has now.
pub(super) fn flying(cells: &[Arc<Cell>], arm: &str) -> (u64, u64) {
    let own = cells.iter().filter(|cell| *cell.arm == *arm);
    own.fold((0, 0), |(running, tunnels), cell| (running + cell.in_flight(), tunnels + cell.tunnels()))
}

/// The slots of a route, given what each arm has in flight; `None` when it has a split.
pub(super) fn view(conducted: &Conducted, route: &Route, flying: &[(u64, u64)]) -> Option<wire::BlueGreen> {
    let (active, idle) = route.slots?;
    let known = conducted.flips.get(&*route.name).cloned().unwrap_or_default();
    let (flip, millis) = (&known.flip, |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let verify = route.flip.as_ref().map_or(0, |rules| millis(rules.verify));
    let watched = (flip.phase == Phase::Verifying).then(|| verify.saturating_sub(flip.watched_ms));
    let waited = flying.get(idle.at()).map_or(0, |(running, tunnels)| running + tunnels);
    Some(wire::BlueGreen {
        active: route.arm_name(active).to_owned(),
        idle: route.arm_name(idle).to_owned(),
        state: flip.phase.name().to_owned(),
        reason: flip.reason.text.clone(),
        code: flip.reason.code.to_string(),
        way_back: flip.way_back,
        watched_for: watched.map(|left| ratio(left, 1_000)),
        draining: flip.drain_ms.map(|_| waited),
        waiting_for: waits(flip, route),
        id: id(flip),
    })
}

/// As the history names a flip; empty before the first.
fn id(flip: &Flip) -> String {
    if flip.run == 0 { String::new() } else { format!("flip-{}", flip.run) }
}

pub(super) async fn flip(
    State(shared): State<Shared>,
    Path(route): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::Flipped>, Refused> {
    let Asked::<wire::Flip> { what, by, expected, _turn } =
        asked(&shared, &headers, body, Empty::Fine).await?;
    let reason = by.reason.clone();
    let wire::Flip { back, force } = what;
    let control = &shared.admin.0.control;
    let done = control.flip(FlipAsk { route: route.clone(), back, force, by, expected }).await;
    let plan = shared.admin.0.plans.load_full();
    let conducted = control.rollouts();
    let now = plan.route_named(&route).and_then(|route| view(&conducted, route, &[]));
    let state = now.as_ref().map(|pair| pair.state.clone());
    let done = done.map_err(|refusal| Refused::from(refusal).state(state))?;
    // As it left them: what came after it is another's.
    let flip = done.flip.unwrap_or_default();
    let waiting_for = plan.route_named(&route).map(|route| waits(&flip, route)).unwrap_or_default();
    Ok(Json(wire::Flipped {
        generation: done.generation.0,
        changed: done.changed.into_iter().map(changed).collect(),
        reason,
        id: id(&flip),
        waiting_for,
        state: flip.phase.name().to_owned(),
        text: flip.reason.text,
        active: flip.active,
        idle: flip.idle,
    }))
}
