//! What slots wait for, in words: a flip that stays where it is says why.
//!
//! Pure: the slots and the route in force in, sentences out. It must never promise what the watch does
//! not do by itself.

use crate::plan::Route;
use crate::rollout::flip::{Flip, Phase};

/// What an exchange of slots waits for now; nothing when nothing is under way.
#[must_use]
pub fn waits(flip: &Flip, route: &Route) -> Vec<String> {
    match flip.phase {
        Phase::Smoke => vec![tried(flip, route)],
        Phase::Verifying => watched(flip, route),
        Phase::Steady | Phase::FlippedBack => Vec::new(),
    }
}

fn tried(flip: &Flip, route: &Route) -> String {
    let asked = route.flip.as_ref().map_or(0, |rules| rules.smoke.len());
    let more = if asked == 0 { "" } else { ", and its smoke test must pass" };
    format!("somebody must take a connection at {}{more}", flip.idle)
}

fn watched(flip: &Flip, route: &Route) -> Vec<String> {
    let (Some(verifier), Some(rules)) = (&flip.verifier, &route.flip) else { return Vec::new() };
    let (Flip { active, idle, .. }, (n, e)) = (flip, verifier.seen());
    let mut all = Vec::new();
    if up(route, active) == Some(0) {
        all.push(format!("no endpoint of {active} is up: its requests fail until one is"));
    }
    let limits = rules.limits.as_ref();
    all.push(match (n, e) {
        (0, _) => format!("a request to {active}: none has ended since the flip, so nothing is known of it"),
        (_, 0) if verifier.saw_little(limits) => {
            format!("more requests to {active}: {n} went well, too few to say that it is")
        }
        (_, 0) => format!("the end of the watch: {n} requests to {active} went well"),
        _ => format!(
            "{e} of {n} requests to {active} failed since the flip, too few to go back by that: {}",
            needs(verifier.failures_left(limits))
        ),
    });
    if up(route, idle) == Some(0) {
        all.push(format!("no endpoint of {idle} is up: there is nobody to go back to"));
    }
    all
}

fn needs(failures: Option<u64>) -> String {
    let by_hand = "`flip --back` does it at once";
    match failures {
        Some(1) => format!("one more failure would, and {by_hand}"),
        Some(more) => format!("{more} more in a row would, and {by_hand}"),
        None => format!("failures among so many good answers would take long; {by_hand}"),
    }
}

/// Endpoints of a slot that are in use; `None` when nobody watches them, and so nobody knows.
fn up(route: &Route, slot: &str) -> Option<usize> {
    let arm = route.arms.iter().find(|arm| *arm.name == *slot)?;
    let endpoints = &arm.upstream.endpoints;
    if endpoints.iter().any(|one| one.cell.addresses.get().is_empty()) {
        return Some(endpoints.iter().filter(|one| !one.cell.addresses.get().is_empty()).count());
    }
    let watched = endpoints.iter().filter_map(|one| one.guard.as_ref());
    (watched.clone().count() == endpoints.len()).then(|| watched.filter(|guard| guard.is_healthy()).count())
}
