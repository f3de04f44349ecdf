//! The last fifteen minutes of a route, for whoever opens a page now. It must never count: the
//! control plane does.

use axum::Json;
use axum::extract::{Path, State};

use super::Shared;
use super::error::Refused;
use super::scrape::ratio;
use crate::control;
use crate::control::past::{self, Point};
use crate::wire;

pub(super) async fn past(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<wire::Past>, Refused> {
    let plan = shared.admin.0.plans.load_full();
    let route = control::find(&plan, &name)?;
    let arms = shared.admin.0.control.past().of_route(&route.name);
    let arms = arms.iter().map(|(arm, points)| (arm.to_string(), points.iter().map(point).collect()));
    Ok(Json(wire::Past {
        route: route.name.to_string(),
        span_millis: past::SPAN_MILLIS,
        arms: arms.collect(),
    }))
}

/// A point as it travels.
pub(super) fn point(of: &Point) -> wire::Point {
    let [p50_ms, p95_ms, p99_ms] = of.quantiles.map(|nanos| nanos.map(|nanos| ratio(nanos, 1_000_000)));
    let Point { at_millis, millis, requests, errors, share, .. } = *of;
    wire::Point { at_millis, millis, requests, errors, p50_ms, p95_ms, p99_ms, share }
}
