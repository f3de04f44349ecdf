//! Objectives as operators and a scrape see them. It must never count: the controller does.

use std::collections::HashMap;
use std::sync::Arc;

use crate::analysis::slo::WINDOWS;
use crate::control::Conducted;
use crate::control::objectives::Standing;
use crate::plan::Plan;
use crate::telemetry::metrics::ObjectiveSeries;
use crate::wire;

/// The objectives of one route.
pub(super) fn of(conducted: &Conducted, route: &str) -> Vec<wire::Objective> {
    conducted.slo.get(route).map(|standings| standings.iter().map(view).collect()).unwrap_or_default()
}

fn view(standing: &Standing) -> wire::Objective {
    let Standing { objective, reading } = standing;
    let burn = WINDOWS.iter().zip(reading.rates);
    wire::Objective {
        objective: objective.name.clone(),
        target: objective.target,
        window: window(standing),
        budget_remaining: reading.budget,
        frozen: reading.frozen,
        burn: burn.map(|((window, _), rate)| wire::BurnRate { window: (*window).to_owned(), rate }).collect(),
        alarm: standing.alarm(),
    }
}

/// Every objective as a scrape shows it.
pub(super) fn series(conducted: &Conducted) -> Vec<ObjectiveSeries> {
    let all = conducted.slo.iter().flat_map(|(route, list)| list.iter().map(move |one| (route, one)));
    let series = all.map(|(route, standing)| ObjectiveSeries {
        route: route.clone(),
        objective: standing.objective.name.clone(),
        rates: WINDOWS
            .iter()
            .zip(standing.reading.rates)
            .map(|((window, _), rate)| (*window, rate))
            .collect(),
        window: window(standing),
        budget: standing.reading.budget,
    });
    series.collect()
}

/// Latency thresholds in nanoseconds by route: further bounds of its histograms.
pub(super) fn bounds(plan: &Plan) -> HashMap<Arc<str>, Vec<u64>> {
    let routes = plan.routes.iter().map(|route| {
        let bounds = route.objectives.iter().filter_map(|objective| objective.slower_than);
        (Arc::clone(&route.name), bounds.collect::<Vec<_>>())
    });
    routes.filter(|(_, bounds)| !bounds.is_empty()).collect()
}

/// What the budget is for as it is written: `30d`, `36h`.
fn window(standing: &Standing) -> String {
    let seconds = standing.objective.window;
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let whole = units.into_iter().find(|(length, _)| seconds.is_multiple_of(*length));
    whole.map_or_else(String::new, |(length, unit)| format!("{}{unit}", seconds / length))
}
