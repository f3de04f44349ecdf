//! What changes between two plans, in the operator's words, and how many users it moves.
//!
//! It must never compare text: only what was compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Plan, Route};
use crate::split::BUCKETS;

/// What rounding shares to buckets may move beyond the exact shares, in percent.
const ROUNDING: f64 = 0.05;

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

impl Change {
    fn plain(route: &str, text: impl Into<String>) -> Self {
        Self { route: route.into(), text: text.into(), moved_percent: 0.0, excessive: false }
    }
}

/// Every difference between two plans: routes in name order, upstreams, then what only a restart
/// applies.
#[must_use]
pub fn diff(old: &Plan, new: &Plan) -> Vec<Change> {
    let mut changes = routes(old, new);
    changes.extend(upstreams(old, new));
    changes.extend(settings(old, new));
    changes
}

fn routes(old: &Plan, new: &Plan) -> Vec<Change> {
    let by_name = |plan: &Plan| -> BTreeMap<Arc<str>, Arc<Route>> {
        plan.routes.iter().map(|route| (Arc::clone(&route.name), Arc::clone(route))).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    let mut changes: Vec<Change> = removed.map(|name| Change::plain(name, "removed")).collect();
    for (name, route) in &after {
        match before.get(name) {
            None => changes.push(Change::plain(name, "added")),
            Some(was) if was.fingerprint != route.fingerprint => changes.push(route_change(was, route)),
            Some(_) => {}
        }
    }
    changes
}

fn upstreams(old: &Plan, new: &Plan) -> Vec<Change> {
    let addresses = |plan: &Plan| -> BTreeMap<Arc<str>, Vec<String>> {
        let urls = |one: &super::Upstream| {
            one.endpoints.iter().map(|endpoint| endpoint.cell.url.to_string()).collect()
        };
        plan.upstreams.iter().map(|one| (Arc::clone(&one.name), urls(one))).collect()
    };
    let (was, is) = (addresses(old), addresses(new));
    let mut texts = Vec::new();
    for (name, urls) in &is {
        match was.get(name) {
            None => texts.push(format!("upstream {name} added: {}", urls.join(", "))),
            Some(before) if before != urls => {
                texts.push(format!("upstream {name}: {} becomes {}", before.join(", "), urls.join(", ")));
            }
            Some(_) => {}
        }
    }
    let removed = was.keys().filter(|name| !is.contains_key(*name));
    texts.extend(removed.map(|name| format!("upstream {name} removed")));
    texts.into_iter().map(|text| Change::plain("", text)).collect()
}

/// What becomes of a file whose listeners are others.
const REFUSED: &str = "a reload refuses this file; restart, or SIGUSR2 upgrade if that takes it";

/// Listeners and process-wide settings; sockets never move in a reload.
fn settings(old: &Plan, new: &Plan) -> Vec<Change> {
    let sockets = |plan: &Plan| -> BTreeMap<Arc<str>, String> {
        plan.listeners.iter().map(|one| (Arc::clone(&one.name), one.address.to_string())).collect()
    };
    let (was, is) = (sockets(old), sockets(new));
    let mut texts = Vec::new();
    for (name, address) in &is {
        match was.get(name) {
            None => texts.push(format!("listener {name} added on {address}: {REFUSED}")),
            Some(before) if before != address => {
                texts.push(format!("listener {name}: {before} becomes {address}: {REFUSED}"));
            }
            Some(_) => {}
        }
    }
    let removed = was.keys().filter(|name| !is.contains_key(*name));
    texts.extend(removed.map(|name| format!("listener {name} removed: {REFUSED}")));
    for one in new.listeners.iter() {
        let rules = |one: &super::Listener| (one.h2c, one.limits, one.paths, one.via, one.timeouts);
        if old.listeners.iter().any(|before| before.name == one.name && rules(before) != rules(one)) {
            texts.push(format!("listener {}: protocol, limits, paths or timeouts change", one.name));
        }
    }
    let edited = new.process.restarts(&old.process);
    if !edited.is_empty() {
        texts.push(format!("{} changed: needs a restart", edited.join(", ")));
    }
    let shutdown = |plan: &Plan| (plan.process.shutdown_delay, plan.process.shutdown_grace);
    if shutdown(old) != shutdown(new) {
        texts.push("shutdown changes: the next one is so, without a restart".to_owned());
    }
    if old.trusted_proxies != new.trusted_proxies {
        texts.push("trustedProxies change: clients may be known by other addresses".to_owned());
    }
    if old.access_log != new.access_log {
        texts.push("the access log changes".to_owned());
    }
    if (old.trace_sample, &old.otlp) != (new.trace_sample, &new.otlp) {
        texts.push("tracing changes".to_owned());
    }
    texts.into_iter().map(|text| Change::plain("", text)).collect()
}

fn route_change(was: &Route, is: &Route) -> Change {
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
    let moved_percent = moved_percent(was, is);
    if is.split.keys.is_empty() && !was.split.keys.is_empty() {
        texts.push("users no longer stick to an arm".to_owned());
    }
    let text = match (texts.is_empty(), moved_percent > 0.0) {
        (false, _) => texts.join(", "),
        (true, true) => "buckets move".to_owned(),
        (true, false) => "changed, its split did not".to_owned(),
    };
    Change { route: is.name.to_string(), text, moved_percent, excessive: moved_percent > needed + ROUNDING }
}

/// Share of sticky users that change arm; a new salt moves everybody who is not lucky.
fn moved_percent(was: &Route, is: &Route) -> f64 {
    let (Some(before), Some(after)) = (&was.split.ranges, &is.split.ranges) else { return 0.0 };
    if was.split.keys.is_empty() {
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
