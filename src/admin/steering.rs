//! Who is steered past a split, as operators see it: overrides with what they caught, arms that are drained.
//!
//! It must never show what a condition looks for: lists and secrets are users'.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Admin;
use super::scrape::ratio;
use crate::ledger::{Cell, RuleCell};
use crate::model::ArmIx;
use crate::plan::{Arm, Route};
use crate::split::{BUCKETS, Override, Ranges, Segment};
use crate::wire;

/// Requests of a route after which an override that caught none of them is called stale.
const NEVER_AFTER: u64 = 10_000;
/// Requests of a route after which an override that caught nearly all of them is called stale.
const ALWAYS_AFTER: u64 = 1_000;
/// Nearly all, of a thousand.
const ALWAYS_OF_1000: u64 = 999;

/// The overrides of a route in their order.
pub(super) fn overrides(admin: &Admin, route: &Route, cells: &[Arc<Cell>]) -> Vec<wire::Override> {
    let requests = cells.iter().map(|cell| cell.requests_and_errors().0).sum();
    let now = admin.0.clock.now().seconds();
    let rules = route.split.overrides.iter().zip(&route.rule_cells);
    rules.map(|(rule, counts)| one(route, rule, counts, requests, now)).collect()
}

fn one(route: &Route, rule: &Override, counts: &[Arc<RuleCell>], requests: u64, now: i64) -> wire::Override {
    let hits: u64 = counts.iter().map(|cell| cell.hits()).sum();
    let since = counts.iter().map(|cell| cell.since()).filter(|since| *since > 0).min().unwrap_or(0);
    let since = i64::try_from(since).unwrap_or(0);
    let before = counts.iter().map(|cell| cell.before).min().unwrap_or(0);
    let state = state(route, rule, now);
    // While it was not active, nobody could be caught.
    let counted = state == "active" && rule.active_from.is_none_or(|from| from <= since);
    let by_arm = counts.iter().filter(|cell| cell.hits() > 0);
    let (arm, split) = match &rule.segment {
        Segment::Arm(arm) => (Some(route.arm_name(*arm).to_owned()), None),
        Segment::Split(ranges) => (None, Some(ranges)),
    };
    let mut shares = BTreeMap::<String, f64>::new();
    for (first, last, arm) in split.into_iter().flat_map(Ranges::iter) {
        let percent = ratio(u64::from(last - first) + 1, u64::from(BUCKETS)) * 100.0;
        *shares.entry(route.arm_name(arm).to_owned()).or_default() += percent;
    }
    wire::Override {
        name: rule.name.to_string(),
        owner: rule.owner.as_deref().map(str::to_owned),
        arm,
        split: shares,
        active_from: rule.active_from.map(moment),
        active_until: rule.active_until.map(moment),
        state: state.to_owned(),
        off: off(route, rule),
        trusted: rule.trusted,
        force: rule.force,
        since: moment(since),
        hits,
        last_minute: counts.iter().map(|cell| cell.lately()).sum(),
        hits_by_arm: by_arm.map(|cell| (cell.arm.to_string(), cell.hits())).collect(),
        stale: stale(hits, requests.saturating_sub(before)).filter(|_| counted).map(str::to_owned),
    }
}

fn is_void(route: &Route, arm: ArmIx) -> bool {
    route.split.arms.get(arm.at()).is_some_and(|state| state.void)
}

/// The arms an override no longer leads to.
fn off(route: &Route, rule: &Override) -> Vec<String> {
    let arms: BTreeSet<&str> = match &rule.segment {
        _ if rule.force => return Vec::new(),
        Segment::Arm(arm) => is_void(route, *arm).then(|| route.arm_name(*arm)).into_iter().collect(),
        Segment::Split(ranges) => {
            let void = ranges.iter().filter(|(_, _, arm)| is_void(route, *arm));
            void.map(|(_, _, arm)| route.arm_name(arm)).collect()
        }
    };
    arms.into_iter().map(str::to_owned).collect()
}

fn state(route: &Route, rule: &Override, now: i64) -> &'static str {
    let all_void = match &rule.segment {
        Segment::Arm(arm) => is_void(route, *arm),
        Segment::Split(ranges) => ranges.iter().all(|(_, _, arm)| is_void(route, arm)),
    };
    match rule {
        _ if rule.active_until.is_some_and(|until| until <= now) => "expired",
        _ if rule.active_from.is_some_and(|from| now < from) => "pending",
        _ if all_void && !rule.force => "void",
        _ => "active",
    }
}

/// What the counts say against an override.
fn stale(hits: u64, requests: u64) -> Option<&'static str> {
    match hits {
        0 => (requests >= NEVER_AFTER).then_some("never hit"),
        _ => (requests >= ALWAYS_AFTER && hits.saturating_mul(1_000) >= requests * ALWAYS_OF_1000)
            .then_some("always hit"),
    }
}

/// How an arm that is drained gets empty.
pub(super) fn drain(admin: &Admin, route: &Route, arm: &Arm, running: u64) -> Option<wire::Drain> {
    let drain = route.drain(arm)?;
    let state = if drain.is_over(running, admin.0.clock.now().0) { "drained" } else { "draining" };
    Some(wire::Drain {
        state: state.to_owned(),
        since_millis: drain.since,
        until_millis: drain.pins_until,
        in_flight: running,
        tunnels_until_millis: drain.tunnels_until,
    })
}

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_is_stale_when_enough_traffic_says_so() {
        let rows = [
            (0, NEVER_AFTER - 1, None),
            (0, NEVER_AFTER, Some("never hit")),
            (1, u64::MAX / 1_000, None),
            (ALWAYS_AFTER - 1, ALWAYS_AFTER - 1, None),
            (ALWAYS_AFTER, ALWAYS_AFTER, Some("always hit")),
            (9_990, 10_000, Some("always hit")),
            (9_989, 10_000, None),
            // What runs is not counted among the requests yet.
            (1_007, 1_000, Some("always hit")),
        ];
        for (hits, requests, expected) in rows {
            assert_eq!(stale(hits, requests), expected, "{hits} of {requests}");
        }
    }
}
