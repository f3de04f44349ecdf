//! What a canary can do wrong other than failing, and what becomes of it: slow answers, refusals, gRPC.
//!
//! A slow canary is put back and the record names the cut; one that refuses everybody is held, with a
//! notice; one that fails in trailers alone is put back like any other.

use std::time::Duration;

use super::{
    LIMIT, await_state, figure, never_put_back, nginx, record_to, requests, rollout, routes, seconds_between,
    start_all, upstreams, within,
};
use crate::support::h2_origin::H2Origin;
use crate::support::load::Load;
use crate::support::{Behaviour, Origin, Proxy, get, long, needs, post};

/// Half of the traffic, judged from the first second.
const SOON: &str = "steps: [{ weight: 50, dwell: 1h }, 100], deadline: { step: 2h }, \
                    analysis: { warmup: { errors: 0 } }";
/// The same with every slow answer a trial of its own: seconds, where the usual rule takes a minute.
const SOONEST: &str = "steps: [{ weight: 20, dwell: 1h }, 100], deadline: { step: 2h }, \
                       analysis: { bursts: 1, warmup: { errors: 0, latency: 0 } }";
const DEFAULT: &str = "steps: [{ weight: 5, dwell: 1h }, 100], deadline: { step: 2h }";
const SLOWER: Duration = Duration::from_millis(300);

#[test]
fn one_in_twenty_answers_three_hundred_milliseconds_late_is_put_back_by_a_cut() {
    needs!("nginx");
    let late = Origin::start("late");
    late.on("/work", Behaviour::Late(SLOWER));
    let maps = "split_clients \"$request_id\" $pace { 5% slow; * quick; }";
    let work = |slow: bool| {
        let pace = if slow { "quick" } else { "slow" };
        let quick = if slow { String::new() } else { "return 200 \"ok\\n\";".to_owned() };
        format!(
            "location = /work {{ if ($pace = {pace}) {{ return 200 \"ok\\n\"; }}\n{quick}\n\
             proxy_pass {}; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}",
            late.url()
        )
    };
    let pair = [nginx("stable", 0, maps, &work(false)), nginx("canary", 0, maps, &work(true))];
    let (runs, block, rps) = if long() { (5, DEFAULT, 200) } else { (1, SOONEST, 400) };
    let proxy = Proxy::start(&(upstreams(&pair) + &routes(runs, block, "")));
    let pace = Duration::from_secs(1) * 8 / rps;
    let load = Load::h1(proxy.web(), 8 * runs, pace, move |index| {
        get("/work").host(&format!("r{}.test", index % runs))
    });
    start_all(&proxy, runs);
    let (mut took, mut asked) = (Vec::new(), Vec::new());
    for index in 0..runs {
        let name = format!("r{index}");
        let ended = await_state(&proxy, &name, &["REVERTED", "PROMOTED", "PAUSED"], 10 * LIMIT);
        assert_eq!(ended["state"], "REVERTED", "{ended:#}");
        let back = record_to(&proxy, &name, "REVERTING").expect("a record of the revert");
        let staged = record_to(&proxy, &name, "STAGE").expect("a record of the step");
        let rule = back["evidence"]["rule"].as_str().expect("a rule");
        assert!(rule.contains("latency") || rule.starts_with('p'), "{back:#}");
        assert!(back["reason"].as_str().is_some_and(|reason| reason.contains("slower")), "{back:#}");
        println!("         {name}: {rule}: {}", back["reason"]);
        took.push(seconds_between(&staged, &back));
        asked.push(super::float(requests(&proxy, &name, "canary")));
    }
    load.stop();
    let how = if long() { "5 %, default analysis" } else { "20 %, no warm-up, no bursts" };
    figure(&format!("5 % of answers 300 ms slower, at {how}"), "seconds", took);
    figure("  canary requests", "requests", asked);
}

#[test]
fn a_canary_that_refuses_everybody_is_held_and_somebody_is_told() {
    needs!("nginx");
    let outside = Origin::start("outside");
    let gone = nginx("canary", 0, "", "location = /thing { return 404 \"gone\\n\"; }");
    let here = nginx("stable", 0, "", "location = /thing { return 200 \"here\\n\"; }");
    let hooks = format!(", hooks: [{{ name: told, event: event, url: \"{}/told\" }}]", outside.url());
    let pair = [here, gone];
    let proxy = Proxy::start(&(upstreams(&pair) + &routes(1, &format!("{SOON}{hooks}"), "")));
    let load = Load::h1(proxy.web(), 4, Duration::from_millis(20), |_| get("/thing").host("r0.test"));
    start_all(&proxy, 1);
    within(LIMIT, "it is held for what it does", || {
        let now = rollout(&proxy, "r0");
        now["state"] == "HOLD" && now["code"] == "behaviour"
    });
    let before = requests(&proxy, "r0", "canary");
    within(LIMIT, "it keeps its weight", || requests(&proxy, "r0", "canary") >= before + 100);
    never_put_back(&proxy, "r0");
    let now = rollout(&proxy, "r0");
    assert_eq!((&now["state"], &now["code"]), (&"HOLD".into(), &"behaviour".into()), "{now:#}");
    let held = record_to(&proxy, "r0", "HOLD").expect("a record of the hold");
    assert_eq!(held["code"], "behaviour", "{held:#}");
    within(LIMIT, "a notice is given outside", || {
        outside.seen().iter().any(|one| String::from_utf8_lossy(&one.body).contains("HOLD"))
    });
    let told = |line: &String| line.contains("refuses clients");
    assert!(proxy.err().iter().chain(&proxy.out()).any(told), "a notice in the log");
    load.stop();
}

#[test]
fn a_grpc_canary_that_is_unavailable_in_its_trailers_is_put_back() {
    let pair = [H2Origin::start(), H2Origin::start()];
    pair[1].says(14);
    let upstream = |origin: &H2Origin| format!("{{ endpoints: [\"{}\"], protocol: h2 }}", origin.url());
    let proxy = Proxy::start(&format!(
        "upstreams: {{ stable: {}, canary: {} }}\n{}",
        upstream(&pair[0]),
        upstream(&pair[1]),
        routes(1, DEFAULT, "")
    ));
    let load = Load::h2c(proxy.web(), 2, Duration::from_millis(20), |_| {
        post("/call", "").host("r0.test").header("content-type", "application/grpc").header("te", "trailers")
    });
    start_all(&proxy, 1);
    let ended = await_state(&proxy, "r0", &["REVERTED", "PROMOTED", "PAUSED"], LIMIT);
    load.stop();
    assert_eq!(ended["state"], "REVERTED", "{ended:#}");
    let asked = requests(&proxy, "r0", "canary");
    let bad = [("arm", "canary"), ("outcome", "error")];
    assert_eq!(proxy.metrics().count("switchback_requests_total", &bad), asked, "each counted as failed");
    figure("gRPC status 14 in trailers at 5 %: canary requests", "requests", vec![super::float(asked)]);
}
