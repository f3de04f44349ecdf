//! Objectives as an operator lives with them: budgets that burn, weights that wait, windows that are shut.
//!
//! What is shown is held against the plain counters of the same scrape. Nothing may depend on how
//! fast anything is.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::load::Load;
use crate::support::origin::Behaviour;
use crate::support::tools::{cli, switchback};
use crate::support::wait::{PATIENCE, becomes_true};
use crate::support::{Origin, Proxy, Scrape, Site, eventually, get, upstreams};

/// Short times, and a confidence that little traffic reaches.
const QUICK: &str = "version: v2, steps: [10, 50, 100], analysis: { confidence: low, minRequests: 5, bursts: 1, \
                     dwell: 1s, warmup: { errors: 0, latency: 0 } }, bake: 1s";

fn pair() -> [Origin; 2] {
    let origins = ["stable", "canary"].map(Origin::start);
    for origin in &origins {
        origin.on("/bad", Behaviour::Answer(500, "broken"));
        origin.on("/slow", Behaviour::Late(Duration::from_millis(400)));
    }
    origins
}

fn text(origins: &[Origin; 2], blocks: &str) -> String {
    let upstreams = upstreams(&origins.each_ref());
    format!("{upstreams}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }}, {blocks} }}]\n")
}

fn ask(proxy: &Proxy, path: &str, count: usize, status: u16) {
    (0..count).for_each(|_| drop(proxy.ask(&get(path)).expect_status(status)));
}

fn route(proxy: &Proxy) -> Value {
    proxy.read("/api/v1/routes/all")
}

fn objective(proxy: &Proxy, name: &str) -> Value {
    let route = route(proxy);
    let found = route["slo"].as_array().and_then(|list| list.iter().find(|one| one["objective"] == name));
    found.unwrap_or_else(|| panic!("no {name} in {route:#}")).clone()
}

fn budget(proxy: &Proxy, name: &str) -> f64 {
    objective(proxy, name)["budgetRemaining"].as_f64().expect("a number")
}

/// Requests, errors and those above 300 ms, as the plain counters have them.
fn counted(metrics: &Scrape) -> [f64; 3] {
    let requests = metrics.sum("switchback_requests_total", &[("route", "all")]);
    let errors = metrics.sum("switchback_requests_total", &[("route", "all"), ("outcome", "error")]);
    let fast = [("route", "all"), ("le", "0.3")];
    [requests, errors, requests - metrics.sum("switchback_request_duration_seconds_bucket", &fast)]
}

#[track_caller]
fn await_rollout(proxy: &Proxy, states: &[&str]) -> Value {
    let mut last = Value::Null;
    let reached = becomes_true(PATIENCE, || {
        last = route(proxy)["rollout"].clone();
        states.iter().any(|state| last["state"] == *state)
    });
    assert!(reached, "never {states:?}: {last:#}");
    last
}

fn canary_weight(proxy: &Proxy) -> Value {
    let route = route(proxy);
    let arm = route["arms"].as_array().expect("arms").iter().find(|arm| arm["name"] == "canary");
    arm.expect("a canary")["weight"].clone()
}

/// Waits until every request that was counted is written down.
#[track_caller]
fn await_written(proxy: &Proxy) {
    let wanted = counted(&proxy.metrics())[0];
    let file = proxy.site.state().join("slo.json");
    let written = || {
        let text = fs::read_to_string(&file).ok()?;
        let whole: Value = serde_json::from_str(&text).ok()?;
        let pieces = whole["state"]["all"]["availability"][0].as_array()?.clone();
        Some(pieces.iter().filter_map(|piece| piece[1].as_f64()).sum::<f64>())
    };
    eventually("every count is on the disk", || written() == Some(wanted));
}

#[test]
fn a_route_that_fails_burns_its_budget_and_everybody_says_the_same() {
    let origins = pair();
    let slo = "slo: { availability: 99%, latency: [{ threshold: 300ms, target: 90% }], window: 1h }";
    let proxy = Proxy::start(&text(&origins, slo));
    let untouched = objective(&proxy, "availability");
    assert_eq!((&untouched["budgetRemaining"], &untouched["alarm"]), (&json!(1.0), &Value::Null));
    ask(&proxy, "/", 90, 200);
    ask(&proxy, "/bad", 10, 500);
    ask(&proxy, "/slow", 2, 200);
    let metrics = proxy.settles("switchback_requests_total", &[("route", "all")], 102);
    let [n, errors, slow] = counted(&metrics);
    assert!((errors - 10.0).abs() < 1e-9 && slow >= 2.0, "{n} {errors} {slow}");
    let rows = [("availability", 0.99, errors), ("latency_300ms", 0.9, slow)];
    for (name, target, bad) in rows {
        let rate = bad / n / (1.0 - target);
        let near = |value: f64| (value - rate).abs() < 1e-9;
        eventually(&format!("{name} has burnt {rate}"), || near(1.0 - budget(&proxy, name)));
        let shown = objective(&proxy, name);
        assert_eq!((&shown["target"], &shown["window"]), (&json!(target), &json!("1h")), "{shown:#}");
        let metrics = proxy.metrics();
        let labels = [("route", "all"), ("objective", name)];
        let left =
            metrics.sum("switchback_slo_budget_remaining_ratio", &[labels[0], labels[1], ("window", "1h")]);
        assert!(near(1.0 - left), "{left}\n{}", metrics.family("switchback_slo"));
        for window in ["5m", "30m", "1h", "6h", "3d"] {
            let burn = shown["burn"].as_array().expect("rates").iter().find(|burn| burn["window"] == window);
            assert!(near(burn.expect("a window")["rate"].as_f64().expect("a rate")), "{shown:#}");
            let burn = metrics.sum("switchback_slo_burn_rate", &[labels[0], labels[1], ("window", window)]);
            assert!(near(burn), "{window} {burn}\n{}", metrics.family("switchback_slo"));
        }
    }
    // A minute of a new process says nothing of six hours.
    assert_eq!(objective(&proxy, "availability")["alarm"], Value::Null);
    let shown = cli(&proxy.site, &["status", "all"]);
    assert!(shown.out.contains("slo availability 99%: -880.4% of the budget of 1h left"), "{shown:?}");
    assert!(!shown.out.contains("ALARM"), "{shown:?}");
}

#[test]
fn an_outage_alarms_before_the_long_window_is_full() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, "slo: { availability: 99.999%, window: 1h }"));
    ask(&proxy, "/bad", 20, 500);
    eventually("it sounds", || objective(&proxy, "availability")["alarm"] == "14.4x over 1h and 5m");
    let told = || proxy.err().iter().chain(&proxy.out()).any(|line| line.contains("burns too fast"));
    eventually("the alarm is logged", told);
    let shown = cli(&proxy.site, &["status", "all"]);
    assert!(shown.out.contains("ALARM 14.4x over 1h and 5m"), "{shown:?}");
}

#[test]
fn a_spent_budget_keeps_a_rollout_from_its_first_step_over_a_kill() {
    let origins = pair();
    let slo = "slo: { availability: 99%, window: 1h, freezeBelow: 50% }";
    let proxy = Proxy::start(&text(&origins, slo));
    ask(&proxy, "/", 18, 200);
    ask(&proxy, "/bad", 2, 500);
    eventually("it is frozen", || objective(&proxy, "availability")["frozen"] == true);
    proxy.reload(&text(&origins, &format!("{slo}, rollout: {{ {QUICK} }}")));
    let waits = |proxy: &Proxy| {
        let rollout = await_rollout(proxy, &["PENDING"]);
        let mut waiting = rollout["waitingFor"][0].clone();
        eventually("it says what it waits for", || {
            waiting = route(proxy)["rollout"]["waitingFor"][0].clone();
            waiting.is_string()
        });
        waiting.as_str().expect("words").to_owned()
    };
    let words = waits(&proxy);
    let left = "error budget: availability has -900.0 % of its error budget left, below 50 %";
    assert_eq!(words, left);
    assert_eq!(canary_weight(&proxy), 0);
    let before = budget(&proxy, "availability");
    await_written(&proxy);

    let mut proxy = proxy;
    proxy.signal("KILL");
    proxy.await_exit();
    let site = proxy.site.clone();
    drop(proxy);
    let proxy = site.start();
    let after = budget(&proxy, "availability");
    assert!((before - after).abs() < 1e-12, "{before} {after}");
    assert_eq!((waits(&proxy).as_str(), canary_weight(&proxy)), (left, json!(0)));
    assert_eq!(objective(&proxy, "availability")["frozen"], true);

    // What users see from now on fills it again.
    ask(&proxy, "/", 400, 200);
    await_rollout(&proxy, &["STAGE", "HOLD"]);
    assert_ne!(canary_weight(&proxy), 0);
}

#[test]
fn a_budget_spent_on_the_way_holds_the_step() {
    let origins = pair();
    // Nothing is answered within 10 us: the budget goes while both arms are well.
    let slo = "slo: { latency: [{ threshold: 10us, target: 50% }], freezeBelow: 10% }";
    let proxy = Proxy::start(&text(&origins, &format!("{slo}, rollout: {{ {QUICK} }}")));
    await_rollout(&proxy, &["STAGE", "HOLD"]);
    let load = Load::h1(proxy.web(), 4, Duration::from_millis(4), |_| get("/"));
    eventually("it is held for the budget", || route(&proxy)["rollout"]["code"] == "budget");
    let held = route(&proxy)["rollout"].clone();
    load.stop();
    assert_eq!((&held["state"], held["share"].as_f64()), (&json!("HOLD"), Some(0.1)), "{held:#}");
    let reason = held["reason"].as_str().expect("words");
    assert!(reason.contains("latency_10us has -100.0 % of its error budget left, below 10 %"), "{held:#}");
}

#[test]
fn a_file_of_budgets_that_is_not_understood_is_set_aside() {
    let origins = pair();
    let slo = "slo: { availability: 99%, freezeBelow: 50% }";
    let site = Site::new(&text(&origins, slo));
    fs::create_dir_all(site.state()).expect("a folder");
    fs::write(site.state().join("slo.json"), "{\"schema\":1,\"state\":{},\"checksum\":\"x\"}")
        .expect("written");
    let proxy = site.start();
    assert_eq!(objective(&proxy, "availability")["budgetRemaining"], 1.0);
    let names = || fs::read_dir(site.state()).expect("a folder").flatten().map(|entry| entry.file_name());
    assert!(names().any(|name| name.to_string_lossy().starts_with("slo.json.corrupt-")));
    ask(&proxy, "/bad", 1, 500);
    await_written(&proxy);
}

#[test]
fn a_closed_window_says_when_it_opens_and_an_unknown_zone_is_refused() {
    let origins = pair();
    let with = |window: &str| text(&origins, &format!("rollout: {{ {QUICK}, windows: [{window}] }}"));
    let today = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / 86_400;
    let week = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let day = week[usize::try_from((today + 3) % 7).expect("small")];
    let shut = format!("{{ days: [{}], between: [\"09:00\", \"16:00\"] }}", day.to_lowercase());
    let proxy = Proxy::start(&with(&shut));
    let opens = format!("window: opens {day} 09:00 UTC, in ");
    let waits = || {
        let rollout = route(&proxy)["rollout"].clone();
        rollout["state"] == "PENDING"
            && rollout["waitingFor"][0].as_str().is_some_and(|words| words.starts_with(&opens))
    };
    eventually("it says when it opens", waits);

    let unknown = "{ between: [\"09:00\", \"16:00\"], zone: Europe/Pariss }";
    proxy.site.write(&with(unknown));
    let refused = || {
        let last = proxy.read("/api/v1/status")["config"]["lastReload"].clone();
        last["ok"] == false && last["diagnostics"][0]["code"] == "unknown-zone"
    };
    eventually("the file is refused", refused);
    eventually("what was in force still is", waits);
    let site = Site::new(&with(unknown));
    let file = site.file().display().to_string();
    let checked = switchback(&site.folder(), &["check", &file]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let said = format!("{}{}", checked.out, checked.err);
    assert!(said.contains("unknown-zone") && said.contains("Europe/Pariss"), "{said}");
}
