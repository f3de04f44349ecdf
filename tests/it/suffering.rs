//! Who suffered, and did it help: what failed is named with ids that users saw, in status, history,
//! log, metrics and postmortem.
//!
//! A short policy and a canary that answers 500 on one path alone. That stable recovered is said a
//! minute after the revert: the long form waits for it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::load::Load;
use crate::support::origin::Behaviour;
use crate::support::tools::{cli, long};
use crate::support::wait::{PATIENCE, becomes_true};
use crate::support::{Conn, Origin, Proxy, Request, eventually, get, post, upstreams};

const QUICK: &str = "analysis: { confidence: low, minRequests: 5, bursts: 1, dwell: 1s, warmup: { errors: 0, latency: 0 } }, bake: 1s";

fn origins() -> [Origin; 2] {
    let origins = ["stable", "canary"].map(Origin::start);
    origins[1].on("/pay", Behaviour::Answer(500, "broken"));
    origins
}

/// One route with two matches and this rollout block.
fn text(origins: &[Origin; 2], block: &str) -> String {
    format!(
        "{}routes: [{{ name: all, matches: [{{ path: /pay, method: POST }}, {{ path: / }}], \
         split: {{ stable: 95, canary: 5 }}, rollout: {{ version: v2, {QUICK}, {block} }} }}]\n",
        upstreams(&origins.each_ref())
    )
}

fn history(proxy: &Proxy) -> Value {
    proxy.read("/api/v1/routes/all/history")
}

/// The first record that says so.
fn record(proxy: &Proxy, key: &str, value: &str) -> Option<Value> {
    let told = history(proxy);
    told["records"].as_array()?.iter().find(|one| one[key] == value).cloned()
}

/// Pays until the rollout is in a state, and gives the ids of requests that were answered 500.
fn pay_until(proxy: &Proxy, state: &str) -> BTreeSet<String> {
    let (mut conn, mut failed) = (Conn::open(proxy.web()), BTreeSet::new());
    let mut number = 0;
    let reached = becomes_true(2 * PATIENCE, || {
        for _ in 0..10 {
            number += 1;
            let id = format!("shop-{number}");
            if conn.ask(&pay().header("x-request-id", &id)).status == 500 {
                failed.insert(id);
            }
            assert_eq!(conn.ask(&get("/")).status, 200);
        }
        proxy.read("/api/v1/routes/all")["rollout"]["state"] == state
    });
    assert!(reached, "never {state}: {:#}", history(proxy));
    failed
}

fn pay() -> Request {
    post("/pay", "card")
}

#[track_caller]
fn names_what_failed(failing: &Value, canary: &Origin, seen: &BTreeSet<String>) {
    let first = &failing[0];
    assert_eq!(
        (&first["arm"], &first["match"], &first["method"], &first["status"], &first["endpoint"]),
        (&json!("canary"), &json!("POST /pay"), &json!("POST"), &json!(500), &json!(canary.url())),
        "{failing:#}"
    );
    let ids: Vec<&str> =
        first["requestIds"].as_array().expect("ids").iter().filter_map(Value::as_str).collect();
    assert!((1..=5).contains(&ids.len()), "{failing:#}");
    assert!(first["count"].as_u64() >= u64::try_from(ids.len()).ok(), "{failing:#}");
    for id in ids {
        assert!(seen.contains(id), "nobody was answered {id}: {seen:?}");
    }
    let others = failing.as_array().expect("a list").len();
    assert_eq!(others, 1, "nothing else failed: {failing:#}");
}

#[test]
fn a_revert_names_what_failed_with_ids_that_users_saw() {
    let origins = origins();
    let proxy = Proxy::start(&text(&origins, "steps: [50, 100]"));
    let failed = pay_until(&proxy, "REVERTED");
    let canary = &origins[1];
    let revert = record(&proxy, "to", "REVERTING").expect("a record of the revert");
    names_what_failed(&revert["failing"], canary, &failed);
    names_what_failed(&proxy.read("/api/v1/routes/all")["rollout"]["failing"], canary, &failed);
    let count = revert["failing"][0]["count"].as_u64().expect("a count");
    // One that fails while both are read may be in the one that is read later alone.
    let bad = revert["samples"]["canary"]["e"].as_u64().expect("bad ones");
    let all = u64::try_from(failed.len()).expect("few");
    assert!((bad..=all.max(bad)).contains(&count), "{count} of {bad}, {all} in all");
    // The notice is in the log, whoever else is told.
    let words = format!("failing: POST /pay: 500 from {}", canary.url());
    eventually("the notice names what failed", || {
        proxy
            .err()
            .iter()
            .chain(&proxy.out())
            .any(|line| line.contains("REVERTING:") && line.contains(&words))
    });
    let id = revert["failing"][0]["requestIds"][0].as_str().expect("an id").to_owned();
    for line in [vec!["history", "all"], vec!["status", "all"], vec!["rollout", "wait", "all", "--markdown"]]
    {
        let told = cli(&proxy.site, &line);
        let names = told.out.contains("/pay: 500 from") && told.out.contains(&id);
        assert!(names, "{line:?}: {told:?}");
    }
    figures(&proxy, &revert);
    postmortem(&proxy, &revert, &id);
}

/// What it cost is a metric and a line, and the same after a restart.
fn figures(proxy: &Proxy, revert: &Value) {
    let harm = &revert["harm"];
    let (detection, recovery) = (&harm["detectionSeconds"], &harm["recoverySeconds"]);
    let (detection, recovery) = (detection.as_f64().expect("seconds"), recovery.as_f64().expect("seconds"));
    assert!(0.0 < detection && detection <= recovery, "{harm:#}");
    let excess = harm["excessFailures"].as_f64().expect("a number");
    let bad = revert["samples"]["canary"]["e"].as_f64().expect("a number");
    assert!((excess - bad).abs() < 1e-9, "stable never fails: {revert:#}");
    let metrics = proxy.metrics();
    for (name, value) in [
        ("switchback_rollout_excess_failures_total", excess),
        ("switchback_rollout_detection_seconds", detection),
        ("switchback_rollout_recovery_seconds", recovery),
    ] {
        assert!((metrics.sum(name, &[("route", "all")]) - value).abs() < 1e-9, "{name} is not {value}");
    }
    let dora = history(proxy)["dora"].clone();
    assert_eq!(
        (&dora["promoted"], &dora["putBack"], &dora["changeFailureRate"]),
        (&json!(0), &json!(1), &json!(1.0)),
        "{dora:#}"
    );
    assert_eq!(dora["medianRecoverySeconds"].as_f64(), Some(recovery), "{dora:#}");
    let told = cli(&proxy.site, &["history", "all"]);
    assert!(told.out.contains("DORA all: 0 versions promoted a week, 100% of 1 put back"), "{told:?}");
}

fn postmortem(proxy: &Proxy, revert: &Value, id: &str) {
    let run = revert["id"].as_str().expect("an id");
    assert!(cli(&proxy.site, &["history", "all"]).out.contains(run), "history shows the id");
    let told = cli(&proxy.site, &["history", "all", "--postmortem", run]);
    assert_eq!(told.code, Some(0), "{told:?}");
    for part in
        ["# Postmortem: all v2", "## Impact", "STAGE to REVERTING", "| canary | POST /pay | 500 |", id]
    {
        assert!(told.out.contains(part), "{part} is not in {}", told.out);
    }
    let unknown = cli(&proxy.site, &["history", "all", "--postmortem", "run-99"]);
    assert!(unknown.code == Some(1) && unknown.err.contains(run), "{unknown:?}");
    assert_eq!(cli(&proxy.site, &["history", "--postmortem", run]).code, Some(2), "of which route?");
}

#[test]
fn figures_are_the_same_after_a_crash() {
    let origins = origins();
    let mut proxy = Proxy::start(&text(&origins, "steps: [50, 100]"));
    pay_until(&proxy, "REVERTED");
    let before = proxy.metrics();
    proxy.signal("KILL");
    proxy.await_exit();
    let site = proxy.site.clone();
    drop(proxy);
    let proxy = site.start();
    let after = proxy.metrics();
    for name in [
        "switchback_rollout_excess_failures_total",
        "switchback_rollout_detection_seconds",
        "switchback_rollout_recovery_seconds",
    ] {
        let [before, after] = [&before, &after].map(|one| one.sum(name, &[("route", "all")]));
        assert!(before > 0.0 && (before - after).abs() < 1e-9, "{name}: {before}, {after}");
    }
}

#[test]
fn a_pause_for_harm_and_an_observer_name_it_too() {
    for (on_harm, state) in [("pause", "PAUSED"), ("observe", "HOLD")] {
        let origins = origins();
        let proxy = Proxy::start(&text(&origins, &format!("steps: [50, 100], onHarm: {on_harm}")));
        let failed = pay_until(&proxy, state);
        let now = proxy.read("/api/v1/routes/all")["rollout"].clone();
        names_what_failed(&now["failing"], &origins[1], &failed);
        let words = format!("500 from {}", origins[1].url());
        eventually("the notice names what failed", || {
            let told = [proxy.err(), proxy.out()].concat();
            told.iter().any(|line| line.contains(&words) && line.contains(" such as "))
        });
    }
}

#[test]
fn a_canary_nobody_can_reach_is_named_by_its_cause() {
    let origins = origins();
    let refuses = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let dead = format!("http://{}", refuses.local_addr().expect("an address"));
    drop(refuses);
    let config = text(&origins, "steps: [50, 100], onHarm: pause").replace(&origins[1].url(), &dead);
    let proxy = Proxy::start(&config);
    let load = Load::h1(proxy.web(), 2, Duration::from_millis(5), |_| get("/"));
    let mut last = Value::Null;
    let reached = becomes_true(2 * PATIENCE, || {
        last = proxy.read("/api/v1/routes/all")["rollout"].clone();
        last["failing"][0]["count"].as_u64() >= Some(5)
    });
    load.stop();
    assert!(reached, "{last:#}");
    let first = &last["failing"][0];
    assert_eq!((&first["cause"], &first["status"]), (&json!("connect"), &Value::Null), "{last:#}");
    assert_eq!((&first["endpoint"], &first["match"]), (&json!(dead), &json!("/")), "the arm's own: {last:#}");
}

#[test]
fn a_minute_after_a_revert_it_is_said_whether_stable_recovered() {
    if !long() {
        return;
    }
    let origins = origins();
    let proxy = Proxy::start(&text(&origins, "steps: [50, 100]"));
    pay_until(&proxy, "REVERTED");
    let load = Load::h1(proxy.web(), 2, Duration::from_millis(20), |_| pay());
    let mut found = None;
    let said = becomes_true(Duration::from_secs(90), || {
        found = record(&proxy, "code", "recovered");
        found.is_some()
    });
    load.stop();
    assert!(said, "{:#}", history(&proxy));
    let found = found.expect("a record");
    let run = found["id"].as_str().expect("an id");
    let told = cli(&proxy.site, &["history", "all", "--postmortem", run]);
    assert!(told.out.contains("Stable afterwards: stable recovered"), "{told:?}");
}
