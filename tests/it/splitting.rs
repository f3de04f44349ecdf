//! Who gets which arm: shares, stickiness, and what an edit of the weights moves.
//!
//! Users of a canary notice two things: whether the share is what was written, and whether they
//! stay where they are. Both are counted here over real requests. These tests must never accept
//! "roughly sticky": one moved user is a failure.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::crowd::{self, ask_with};
use crate::support::nginx::Nginx;
use crate::support::{Origin, Proxy, Request, Site, ask, get, needs, share_is, upstreams, users};

fn as_user(user: &str) -> Request {
    get("/").header("x-user-id", user)
}

fn by_user(upstreams: &str, split: &str) -> String {
    format!(
        "{upstreams}routes: [{{ name: all, split: {split}, sticky: {{ by: [{{ header: x-user-id }}] }} }}]\n"
    )
}

/// The arm of every user, in the users' order.
fn arms(proxy: &Proxy, users: &[String]) -> Vec<String> {
    ask(proxy.web(), users.len(), |index| as_user(&users[index]))
}

fn members<'a>(users: &'a [String], arms: &[String], arm: &str) -> BTreeSet<&'a String> {
    let pairs = users.iter().zip(arms);
    pairs.filter(|(_, have)| *have == arm).map(|(user, _)| user).collect()
}

#[test]
fn a_five_percent_canary_gets_five_percent_of_a_hundred_thousand_users() {
    needs!("nginx");
    let nginx = Nginx::start(&["stable", "canary"]);
    let proxy = Proxy::start(&by_user(&nginx.upstreams(), "{ stable: 95, canary: 5 }"));
    let users = users(100_000);

    let arms = arms(&proxy, &users);

    let canary = crowd::count(&arms, "canary");
    assert_eq!(canary + crowd::count(&arms, "stable"), users.len());
    share_is("canary", canary, users.len(), 0.05, 3.0);
    // The metric agrees with the servers.
    proxy.settles("switchback_requests_total", &[("arm", "canary")], canary as u64);
}

#[test]
fn a_user_keeps_the_arm_across_a_restart_and_on_a_second_instance() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let text = by_user(&upstreams(&[&stable, &canary]), "{ stable: 70, canary: 30 }");
    let users = users(2_000);
    let site = Site::new(&text);
    let first = site.start();
    let before = arms(&first, &users);
    share_is("canary", crowd::count(&before, "canary"), users.len(), 0.3, 4.0);

    assert_eq!(arms(&first, &users), before, "asked again");
    let restarted = first.stop().start();
    assert_eq!(arms(&restarted, &users), before, "after a restart");
    let second = site.twin().start();
    assert_eq!(arms(&second, &users), before, "on a second instance");
}

#[test]
fn raising_a_canary_moves_users_only_into_it_and_lowering_gives_back_the_same_ones() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let upstreams = upstreams(&[&stable, &canary]);
    let text = |split| by_user(&upstreams, split);
    let users = users(5_000);
    let proxy = Proxy::start(&text("{ stable: 95, canary: 5 }"));

    let at_5 = arms(&proxy, &users);
    proxy.reload(&text("{ stable: 90, canary: 10 }"));
    let at_10 = arms(&proxy, &users);
    // The same 5 %, written as a ratio.
    proxy.reload(&text("{ stable: 19, canary: 1 }"));
    let back_at_5 = arms(&proxy, &users);

    let (five, ten) = (members(&users, &at_5, "canary"), members(&users, &at_10, "canary"));
    assert!(five.is_subset(&ten), "left the canary: {:?}", five.difference(&ten));
    share_is("canary at 10 %", ten.len(), users.len(), 0.1, 4.0);
    assert_eq!(back_at_5, at_5);
}

#[test]
fn growing_a_third_arm_moves_nobody_between_the_other_two() {
    let origins = ["stable", "a", "b", "c"].map(Origin::start);
    let upstreams = upstreams(&origins.each_ref());
    let split = |stable: u32, a: u32, b: u32, c: u32| {
        by_user(
            &upstreams,
            &format!(
                "{{ stable: {stable}, a: {{ weight: {a}, slot: 1 }}, b: {{ weight: {b}, slot: 2 }}, \
                 c: {{ weight: {c}, slot: 3 }} }}"
            ),
        )
    };
    let users = users(4_000);
    let proxy = Proxy::start(&split(80, 10, 10, 0));
    let mut before = arms(&proxy, &users);

    // Each row: the new weights and the only arm that may gain or lose users against stable.
    for (weights, moving) in [
        ((60, 10, 30, 0), "b"),
        ((50, 20, 30, 0), "a"),
        ((40, 20, 30, 10), "c"),
        ((60, 0, 30, 10), "a"),
        ((50, 0, 30, 20), "c"),
    ] {
        let (stable, a, b, c) = weights;
        proxy.reload(&split(stable, a, b, c));
        let after = arms(&proxy, &users);
        for (user, (old, new)) in users.iter().zip(before.iter().zip(&after)) {
            let moved_alone = [old.as_str(), new.as_str()].iter().all(|arm| [moving, "stable"].contains(arm));
            assert!(old == new || moved_alone, "{weights:?}: {user} went from {old} to {new}");
        }
        assert_ne!(before, after, "{weights:?} moves somebody");
        before = after;
    }
}

#[test]
fn adversarial_arm_names_and_sequential_ids_keep_their_shares() {
    let origin = Origin::start("app");
    let names = [("appv1", "appv2"), ("a", "b"), ("canary-0001", "canary-0002"), ("x", "xx")];
    let ids: [(&str, fn(usize) -> String); 5] = [
        ("sequential", |index| index.to_string()),
        ("padded", |index| format!("{index:012}")),
        ("last byte", |index| format!("tenant/eu-west-1/account/{index:05}")),
        ("round", |index| (index * 1_000).to_string()),
        ("hex", |index| format!("{:032x}", index as u128 * 0x1_0000_0000_0000)),
    ];
    let routes: String = names
        .iter()
        .map(|(heavy, light)| {
            format!(
                "  - {{ name: \"{heavy}-{light}\", hostnames: [{heavy}.test], armHeader: {{ client: x-arm }}, \
                 defaultArm: {heavy}, sticky: {{ by: [{{ header: x-user-id }}] }}, \
                 split: {{ {heavy}: {{ weight: 75, upstream: app }}, {light}: {{ weight: 25, upstream: app }} }} }}\n"
            )
        })
        .collect();
    let proxy = Proxy::start(&format!("{}routes:\n{routes}", upstreams(&[&origin])));
    let count = 2_000;

    for (heavy, light) in names {
        for (family, id) in ids {
            let arms = ask_with(
                proxy.web(),
                count,
                |index| as_user(&id(index)).host(&format!("{heavy}.test")),
                |response| response.header("x-arm").unwrap_or_default().to_owned(),
            );
            let what = format!("{light} of {heavy} for {family} ids");
            share_is(&what, crowd::count(&arms, light), count, 0.25, 4.5);
            assert_eq!(crowd::count(&arms, light) + crowd::count(&arms, heavy), count);
        }
    }
}

#[test]
fn the_order_of_keys_in_the_file_moves_no_user() {
    let origins = ["stable", "a", "b"].map(Origin::start);
    let [stable, a, b] = origins.each_ref().map(Origin::url);
    let tree = json!({
        "listeners": [{ "name": "web", "address": "127.0.0.1:@web@" }],
        "admin": { "address": "127.0.0.1:@admin@" },
        "stateDir": "@state@",
        "upstreams": { "stable": stable, "a": a, "b": b },
        "routes": [{
            "name": "all",
            "sticky": { "by": [{ "header": "x-user-id" }], "salt": "pepper" },
            "split": {
                "stable": { "weight": 60, "upstream": "stable" },
                "a": { "weight": 20, "upstream": "a" },
                "b": { "weight": 20, "upstream": "b" },
            },
        }],
    });
    let users = users(2_000);
    let proxy = Proxy::start(&emit(&tree, &|keys| keys.rotate_left(1)));
    let before = arms(&proxy, &users);
    for arm in ["a", "b"] {
        share_is(arm, crowd::count(&before, arm), users.len(), 0.2, 4.0);
    }

    let orders: [(&str, &dyn Fn(&mut [&String])); 3] = [
        ("sorted", &|keys| keys.sort()),
        ("reversed", &|keys| keys.reverse()),
        ("by length", &|keys| keys.sort_by_key(|key| key.len())),
    ];
    for (name, order) in orders {
        proxy.reload(&emit(&tree, order));
        assert_eq!(arms(&proxy, &users), before, "{name}");
    }
}

/// Writes a tree as JSON, which is YAML too, with the keys of every map in the order given.
fn emit(value: &Value, order: &dyn Fn(&mut [&String])) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            order(&mut keys);
            let entries: Vec<_> =
                keys.iter().map(|key| format!("{key:?}: {}", emit(&map[*key], order))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| emit(item, order)).collect();
            format!("[{}]", items.join(", "))
        }
        leaf => leaf.to_string(),
    }
}
