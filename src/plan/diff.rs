//! What changes between two plans, in the operator's words, and how many users it moves.
//!
//! It must never compare text: only what was compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Plan, Route};
use crate::split::BUCKETS;

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Route it concerns; empty for the rest.
    pub route: String,
    /// One sentence.
    pub text: String,
    /// Share of sticky users that change arm, in percent; 0 when none do.
    pub moved_percent: f64,
    /// Whether more users move than the new weights demand.
    pub excessive: bool,
}

/// Every difference between two plans, routes in name order.
#[must_use]
pub fn diff(old: &Plan, new: &Plan) -> Vec<Change> {
    let by_name = |plan: &Plan| -> BTreeMap<Arc<str>, Arc<Route>> {
        plan.routes.iter().map(|route| (Arc::clone(&route.name), Arc::clone(route))).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    let mut changes = Vec::new();
    let plain = |route: &str, text: &str| Change {
        route: route.into(),
        text: text.into(),
        moved_percent: 0.0,
        excessive: false,
    };
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        changes.push(plain(name, "removed"));
    }
    for (name, route) in &after {
        match before.get(name) {
            None => changes.push(plain(name, "added")),
            Some(was) if was.fingerprint != route.fingerprint => changes.extend(route_changes(was, route)),
            Some(_) => {}
        }
    }
    let upstreams = |plan: &Plan| -> BTreeMap<Arc<str>, Vec<String>> {
        let urls = |one: &super::Upstream| {
            one.endpoints.iter().map(|endpoint| endpoint.cell.url.to_string()).collect()
        };
        plan.upstreams.iter().map(|one| (Arc::clone(&one.name), urls(one))).collect()
    };
    let (was, is) = (upstreams(old), upstreams(new));
    for (name, urls) in &is {
        match was.get(name) {
            None => changes.push(plain("", &format!("upstream {name} added: {}", urls.join(", ")))),
            Some(old_urls) if old_urls != urls => {
                let text = format!("upstream {name}: {} becomes {}", old_urls.join(", "), urls.join(", "));
                changes.push(plain("", &text));
            }
            Some(_) => {}
        }
    }
    changes.extend(
        was.keys()
            .filter(|name| !is.contains_key(*name))
            .map(|name| plain("", &format!("upstream {name} removed"))),
    );
    changes
}

fn route_changes(was: &Route, is: &Route) -> Vec<Change> {
    let mut changes = Vec::new();
    let shares = |route: &Route| -> BTreeMap<String, f64> {
        let total: u64 = route.arms.iter().map(|arm| u64::from(arm.weight)).sum();
        #[expect(clippy::cast_precision_loss, reason = "weights are far below 2^52")]
        let share = |weight: u32| if total == 0 { 0.0 } else { f64::from(weight) * 100.0 / total as f64 };
        route.arms.iter().map(|arm| (arm.name.to_string(), share(arm.weight))).collect()
    };
    let (before, after) = (shares(was), shares(is));
    let mut texts = Vec::new();
    let mut needed = 0.0;
    for (arm, share) in &after {
        let old = before.get(arm).copied();
        needed += (share - old.unwrap_or(0.0)).max(0.0);
        match old {
            None => texts.push(format!("{arm} added with {share:.2}%")),
            Some(old) if (old - share).abs() > f64::EPSILON => {
                texts.push(format!("{arm} {old:.2}% becomes {share:.2}%"));
            }
            Some(_) => {}
        }
    }
    texts.extend(before.keys().filter(|arm| !after.contains_key(*arm)).map(|arm| format!("{arm} removed")));
    let moved = moved_percent(was, is);
    if !texts.is_empty() || moved > 0.0 {
        let text = if texts.is_empty() { "buckets move".to_owned() } else { texts.join(", ") };
        let excessive = moved > needed + 0.05;
        changes.push(Change { route: is.name.to_string(), text, moved_percent: moved, excessive });
    } else {
        let text = "changed, its split did not".to_owned();
        changes.push(Change { route: is.name.to_string(), text, moved_percent: 0.0, excessive: false });
    }
    changes
}

/// Share of sticky users that change arm; a new salt moves everybody who is not lucky.
fn moved_percent(was: &Route, is: &Route) -> f64 {
    let (Some(before), Some(after)) = (&was.split.ranges, &is.split.ranges) else { return 0.0 };
    if was.split.keys.is_empty() || is.split.keys.is_empty() {
        return 0.0;
    }
    let all = f64::from(BUCKETS);
    if was.split.salt == is.split.salt && was.split.keys == is.split.keys {
        return f64::from(before.moved(|arm| was.arm_name(arm), after, |arm| is.arm_name(arm))) * 100.0 / all;
    }
    let share = |ranges: &crate::split::Ranges, wanted: &str, route: &Route| -> f64 {
        let own = ranges.iter().filter(|(_, _, arm)| route.arm_name(*arm) == wanted);
        own.map(|(from, to, _)| f64::from(to - from + 1)).sum::<f64>() / all
    };
    let stay: f64 =
        was.arms.iter().map(|arm| share(before, &arm.name, was) * share(after, &arm.name, is)).sum();
    (1.0 - stay) * 100.0
}
