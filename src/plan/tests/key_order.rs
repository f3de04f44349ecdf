//! The order of keys in a map never matters: Helm and Terraform sort them.

use serde_json::Value;

use super::plan;
use crate::plan::Plan;

/// A configuration with a map wherever a map may be.
const RICH: &str = r#"{
  "listeners": [{"name": "web", "address": "0.0.0.0:8080", "limits": {"headerCount": 50, "headerBytes": "16KiB"}}],
  "upstreams": {"stable": "http://10.0.0.1:8080", "canary": {"endpoints": [{"url": "http://10.0.1.1:8080", "weight": 2}]},
                "a": "http://10.0.2.1", "b": "http://10.0.3.1", "c": "http://10.0.4.1"},
  "routes": [
    {"name": "two", "matches": [{"path": {"prefix": "/two"}, "method": "GET"}], "split": {"stable": 95, "canary": 5},
     "sticky": {"by": [{"header": "x-user-id"}, "clientIP"], "salt": "pepper"}},
    {"name": "many", "matches": [{"path": "/many"}], "split": {"stable": 40, "a": 10, "b": {"weight": 20, "slot": 1}, "c": 30, "canary": {"weight": 7, "upstream": "canary"}},
     "overrides": [{"name": "o", "when": {"headers": [{"name": "x", "value": "1"}]}, "split": {"a": 1, "b": 2, "c": 3}}],
     "filters": [{"requestHeaders": {"set": {"x-b": "2", "x-a": "1"}, "add": {"y-b": "2", "y-a": "1"}}}]},
    {"name": "headless", "matches": [{"path": "/less"}], "split": {"a": 1, "b": 1, "c": 1}},
    {"name": "slots", "blueGreen": {"slots": ["a", "b"], "active": "b", "preview": {"headers": [{"name": "p", "present": true}], "hostnames": ["p.test"]}}}
  ]
}"#;

/// Writes a value as YAML's flow style with the keys of every map in the order `arrange` gives.
fn write(value: &Value, arrange: &mut impl FnMut(&mut Vec<&String>)) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            arrange(&mut keys);
            let pairs: Vec<String> =
                keys.iter().map(|key| format!("{key}: {}", write(&map[*key], arrange))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| write(item, arrange)).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// Everything of a plan that decides about users.
fn meaning(plan: &Plan) -> Vec<String> {
    plan.routes
        .iter()
        .map(|route| {
            format!(
                "{} {:x} {:x} {:?} {:?} {:?} {:?} {:?}",
                route.name,
                route.fingerprint,
                route.split_fingerprint,
                route.bucket_ranges(),
                route
                    .arms
                    .iter()
                    .map(|arm| (&*arm.name, &*arm.upstream.name, arm.weight))
                    .collect::<Vec<_>>(),
                route.default_arm,
                route.split.overrides.iter().map(|rule| format!("{:?}", rule.segment)).collect::<Vec<_>>(),
                route.filters.request,
            )
        })
        .collect()
}

#[test]
fn keys_in_any_order_mean_the_same() {
    let value: Value = serde_json::from_str(RICH).unwrap();
    let expected = meaning(&plan(&write(&value, &mut |keys| keys.sort())));
    assert!(expected[1].contains("(\"b\", 0, "), "slot 1 grows from 0: {}", expected[1]);
    assert_eq!(meaning(&plan(&write(&value, &mut |keys| keys.sort_by(|a, b| b.cmp(a))))), expected);
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..50 {
        assert_eq!(meaning(&plan(&write(&value, &mut |keys| random.shuffle(keys)))), expected);
    }
}

#[test]
fn files_of_a_folder_may_be_cut_anywhere() {
    let value: Value = serde_json::from_str(RICH).unwrap();
    let part = |key: &str| write(&serde_json::json!({ key: value[key] }), &mut |_| {});
    let (listeners, upstreams, routes) = (part("listeners"), part("upstreams"), part("routes"));
    let files = [("1.yaml", routes.as_str()), ("2.yaml", &upstreams), ("3.yaml", &listeners)];
    let overlay = crate::model::Overlay::default();
    let book = crate::ledger::Book::new(1, 64);
    let cut = super::load_files(&files, &overlay, &book, None).unwrap().plan;
    assert_eq!(meaning(&cut), meaning(&plan(RICH)));
}
