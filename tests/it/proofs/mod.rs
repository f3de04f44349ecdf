//! The promises of the analyzer, proven live: real nginx origins, real traffic, the real binary.
//!
//! The short forms run with every other test: little traffic, and assertions on counts and states
//! alone, because a busy machine stretches time. `tests/run proofs` runs the long forms with a
//! release binary and prints what was measured. They must never say that something holds which was
//! not seen from outside: the API, the history, the metrics, and what clients and origins saw.

mod causes;
mod crowd;
mod detection;
mod kills;
mod people;
mod policy;
mod promotion;
mod shadows;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::load::Load;
use crate::support::{Proxy, Stranger, get};

/// How long anything here is waited for; only a failing test waits it out.
const LIMIT: Duration = Duration::from_secs(90);
/// Between two looks: the API is served by the machine that carries the traffic.
const LOOK: Duration = Duration::from_millis(50);
/// Short times, and a confidence that little traffic reaches. Latency is judged elsewhere: what a busy
/// machine does to it in seconds is nobody's promise.
const QUICK: &str = "analysis: { confidence: low, minRequests: 5, bursts: 1, dwell: 1s, \
                     warmup: { errors: 0, latency: 1h } }, bake: 1s";

/// An nginx that names itself, fails this share (percent) of its answers, and all of them while the
/// file `down` lies in its folder. `more` stands in its server, `maps` before it.
fn nginx(name: &str, failing: u32, maps: &str, more: &str) -> Stranger {
    let part = match failing {
        0 => "* good;".to_owned(),
        100 => "* bad;".to_owned(),
        share => format!("{share}% bad; * good;"),
    };
    Stranger::nginx(&format!(
        "access_log off;\nsplit_clients $request_id $fate {{ {part} }}\n{maps}\n\
         server {{ listen 127.0.0.1:@port@;\nadd_header x-origin {name} always;\n{more}\n\
         location / {{ if (-f @dir@/down) {{ return 500 \"down\\n\"; }}\n\
         if ($fate = bad) {{ return 500 \"broken\\n\"; }}\nreturn 200 \"{name}\\n\"; }} }}"
    ))
}

/// A healthy stable and a canary that fails this share of its answers.
fn pair(failing: u32) -> [Stranger; 2] {
    [nginx("stable", 0, "", ""), nginx("canary", failing, "", "")]
}

fn upstreams(pair: &[Stranger; 2]) -> String {
    format!("upstreams: {{ stable: \"{}\", canary: \"{}\" }}\n", pair[0].url(), pair[1].url())
}

/// A route `r0`, `r1`, … for each run, on a host of its own, which waits for `rollout start`.
fn routes(count: usize, block: &str, more: &str) -> String {
    let one = |index: usize| {
        format!(
            "  - {{ name: r{index}, hostnames: [r{index}.test], split: {{ stable: 95, canary: 5 }}{more},\n      \
             rollout: {{ version: v2, autoStart: false, {block} }} }}\n"
        )
    };
    format!("routes:\n{}", (0..count).map(one).collect::<String>())
}

/// Everyday traffic of this many requests a second on each of the routes.
fn traffic(proxy: &Proxy, routes: usize, rps: u32) -> Load {
    const CONNECTIONS: u32 = 4;
    let pace = Duration::from_secs(1) * CONNECTIONS / rps;
    let connections = routes * usize::try_from(CONNECTIONS).expect("a few");
    Load::h1(proxy.web(), connections, pace, move |index| get("/").host(&format!("r{}.test", index % routes)))
}

// --- what the API says ---

fn route(proxy: &Proxy, name: &str) -> Value {
    proxy.read(&format!("/api/v1/routes/{name}"))
}

fn rollout(proxy: &Proxy, name: &str) -> Value {
    route(proxy, name)["rollout"].clone()
}

fn records(proxy: &Proxy, name: &str) -> Vec<Value> {
    let told = proxy.read(&format!("/api/v1/routes/{name}/history"));
    told["records"].as_array().expect("records").clone()
}

/// The decision that led to this state, if there was one.
fn record_to(proxy: &Proxy, name: &str, state: &str) -> Option<Value> {
    records(proxy, name).into_iter().find(|record| record["to"] == state)
}

#[track_caller]
fn never_put_back(proxy: &Proxy, name: &str) {
    let back = record_to(proxy, name, "REVERTING");
    assert!(back.is_none(), "{name} was put back: {back:#?}");
}

fn canary_share(proxy: &Proxy, name: &str) -> f64 {
    rollout(proxy, name)["share"].as_f64().expect("a share")
}

/// Requests that users sent to an arm.
fn requests(proxy: &Proxy, name: &str, arm: &str) -> u64 {
    proxy.metrics().count("switchback_requests_total", &[("route", name), ("arm", arm)])
}

/// What the analyzer counted of an arm in the present step: requests, and bad ones.
fn counted(proxy: &Proxy, name: &str, arm: &str) -> (u64, u64) {
    let seen = rollout(proxy, name)["samples"][arm].clone();
    (seen["n"].as_u64().unwrap_or(0), seen["e"].as_u64().unwrap_or(0))
}

fn verb(proxy: &Proxy, name: &str, verb: &str, reason: &str) -> (u16, Value) {
    let path = format!("/api/v1/routes/{name}/rollout/{verb}");
    let answer = proxy.admin(&proxy.verb(&path, &json!({ "reason": reason })));
    (answer.status, answer.json())
}

#[track_caller]
fn start(proxy: &Proxy, name: &str) {
    let (status, answer) = verb(proxy, name, "start", "a proof");
    assert_eq!(status, 200, "{answer:#}");
}

/// Starts every route's rollout once stable has answered some of its traffic.
#[track_caller]
fn start_all(proxy: &Proxy, count: usize) {
    for index in 0..count {
        let name = format!("r{index}");
        within(LIMIT, "stable has answered for a while", || requests(proxy, &name, "stable") >= 100);
    }
    (0..count).for_each(|index| start(proxy, &format!("r{index}")));
}

/// Polls slowly until the condition holds.
#[track_caller]
fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "after {limit:?} still not true: {what}");
        std::thread::sleep(LOOK);
    }
}

#[track_caller]
fn await_state(proxy: &Proxy, name: &str, states: &[&str], limit: Duration) -> Value {
    let (mut last, deadline) = (Value::Null, Instant::now() + limit);
    loop {
        last.clone_from(&rollout(proxy, name));
        if states.iter().any(|state| last["state"] == *state) {
            return last;
        }
        let told = || records(proxy, name);
        assert!(Instant::now() < deadline, "{name} never {states:?}: {last:#}\n{:#?}", told());
        std::thread::sleep(LOOK);
    }
}

/// Seconds between two decisions of a rollout.
fn seconds_between(first: &Value, last: &Value) -> f64 {
    let at = |record: &Value| -> jiff::Timestamp {
        record["at"].as_str().and_then(|at| at.parse().ok()).expect("a moment")
    };
    at(last).duration_since(at(first)).as_secs_f64()
}

// --- figures ---

/// What was measured, as a row for people.
fn figure(what: &str, unit: &str, mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let most = values.last().copied().unwrap_or(f64::NAN);
    let median = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    println!(
        "FIGURE | {what:<58} | runs {:>4} | median {median:>8.2} | max {most:>8.2} | {unit}",
        values.len()
    );
    (median, most)
}

#[allow(clippy::cast_precision_loss, reason = "counts of a test")]
fn float(count: u64) -> f64 {
    count as f64
}
