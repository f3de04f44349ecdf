//! What an edit is said to move is what it moves.

use proptest::prelude::*;

use super::{BASE, plan};
use crate::model::ArmIx;
use crate::plan::Plan;
use crate::plan::diff::{Change, diff};
use crate::split::BUCKETS;

const STICKY: &str = "sticky: { by: [{ header: x-user-id }] }";

fn route(body: &str) -> Plan {
    plan(&format!("{BASE}routes: [{{ name: a, {body} }}]"))
}

fn only(old: &Plan, new: &Plan) -> Change {
    let mut changes = diff(old, new);
    assert_eq!(changes.len(), 1, "{changes:?}");
    changes.remove(0)
}

/// Buckets whose owner has another name, asked one by one, in percent.
fn counted(old: &Plan, new: &Plan) -> f64 {
    let owner = |plan: &Plan, bucket| {
        let route = &plan.routes[0];
        let arm: ArmIx = route.split.ranges.as_ref().unwrap().owner(bucket);
        route.arm_name(arm).to_owned()
    };
    let moved = (0..BUCKETS).filter(|bucket| owner(old, *bucket) != owner(new, *bucket)).count();
    f64::from(u16::try_from(moved).unwrap()) * 100.0 / f64::from(BUCKETS)
}

#[test]
fn edits_that_move_more_than_they_must_are_told() {
    let before = route(&format!("split: {{ stable: 95, canary: 5 }}, {STICKY}"));
    let rows = [
        ("split: { stable: 90, canary: 10 }", STICKY, 5.0, false),
        ("split: { stable: 0, canary: 10 }", STICKY, 95.0, false),
        ("split: { stable: 95, canary: { weight: 5, slot: 2 } }", STICKY, 10.0, true),
        ("split: { stable: 95, canary: 5 }, defaultArm: canary", STICKY, 10.0, true),
        ("split: { stable: 95, canary: 5 }", "sticky: { by: [{ header: x-user-id }], salt: b }", 9.5, true),
        ("split: { stable: 95, canary: 5 }", "sticky: { by: [{ cookie: uid }] }", 9.5, true),
        ("split: { stable: 95, canary: 5 }", "timeouts: { request: 1s }", 9.5, true),
    ];
    for (split, sticky, moved, excessive) in rows {
        let change = only(&before, &route(&format!("{split}, {sticky}")));
        assert!((change.moved_percent - moved).abs() < 0.01, "{split} {sticky}: {change:?}");
        assert_eq!(change.excessive, excessive, "{split} {sticky}: {change:?}");
    }
    let random = route("split: { stable: 95, canary: 5 }");
    let change = only(&random, &route("split: { stable: 50, canary: 50 }"));
    assert!(change.moved_percent == 0.0 && !change.excessive, "nobody stuck: {change:?}");
    assert!(diff(&before, &before).is_empty());
}

#[test]
fn everything_else_is_named() {
    let before = plan(&format!("{BASE}routes: [{{ name: a, split: {{ stable: 1, canary: 1 }} }}]"));
    let after = plan(
        "listeners: [{ name: web, address: \"0.0.0.0:8081\" }, { name: x, address: \"[::1]:1\" }]\n\
         upstreams: { stable: \"http://10.0.0.9:8080\", third: \"http://a\" }\n\
         trustedProxies: [10.0.0.0/8]\naccessLog: {}\nworkers: 3\ntracing: { sample: 1% }\nshutdown: { grace: 1s }\n\
         routes: [{ name: b, split: { stable: 1, third: 1 } }]",
    );
    let told: Vec<String> =
        diff(&before, &after).into_iter().map(|one| format!("{} {}", one.route, one.text)).collect();
    for part in [
        "a removed",
        "b added",
        "upstream stable: http://10.0.0.1:8080 becomes http://10.0.0.9:8080",
        "upstream third added",
        "upstream canary removed",
        "listener web: 0.0.0.0:8080 becomes 0.0.0.0:8081: a reload refuses this file; restart, or SIGUSR2 upgrade",
        "listener x added",
        "workers changed: needs a restart",
        "shutdown changes: the next one is so, without a restart",
        "trustedProxies",
        "access log",
        "tracing",
    ] {
        assert!(told.iter().any(|one| one.contains(part)), "{part} in {told:#?}");
    }
}

proptest! {
    #[test]
    fn moved_is_what_a_count_over_all_buckets_finds(
        before in prop::array::uniform3(0_u32..100), after in prop::array::uniform3(0_u32..100),
    ) {
        let split = |weights: [u32; 3]| {
            let [stable, canary, third] = weights;
            route(&format!(
                "split: {{ stable: {}, canary: {{ weight: {canary}, slot: 1 }}, \
                 third: {{ weight: {third}, slot: 2, upstream: canary }} }}, {STICKY}",
                stable + 1
            ))
        };
        let (old, new) = (split(before), split(after));
        let moved: f64 = diff(&old, &new).iter().map(|one| one.moved_percent).sum();
        prop_assert!((moved - counted(&old, &new)).abs() < 1e-9);
    }
}
