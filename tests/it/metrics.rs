//! The numbers: exact for a scripted run, bounded by configuration for any traffic.
//!
//! Alerts and the analyzer rest on these counts, so they are compared exactly, not roughly. No
//! traffic, however hostile, may create a series; a real promtool judges the exposition.

use std::process::Command;

use crate::support::crowd::ask_with;
use crate::support::load::Load;
use crate::support::raw::{self, RawOrigin, Script};
use crate::support::split::user_in;
use crate::support::tools::run;
use crate::support::{
    Behaviour, Gate, Origin, Proxy, Request, Scrape, eventually, get, long, needs, upstreams, users,
};

const REQUESTS: &str = "switchback_requests_total";
const CHOICES: &str = "switchback_choices_total";

/// A request nobody planned for; the kind repeats, the names never do.
fn hostile(index: usize) -> Request {
    let noise = format!("{:x}", (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let method = ["GET", "POST", "BREW", "PROPFIND", "DELETE", "X-RANDOM"][index % 6];
    let method = if index % 12 == 11 { format!("M{noise}").to_uppercase() } else { method.to_owned() };
    let target = match index % 5 {
        0 => format!("/app/{noise}?{noise}={noise}"),
        1 => format!("/{noise}"),
        2 => format!("/app/{noise}/%0A%1b[31m"),
        3 => "/app".to_owned(),
        _ => format!("/app/{}", noise.repeat(20)),
    };
    let host = if index.is_multiple_of(3) { format!("{noise}.test") } else { "shop.test".to_owned() };
    Request::new(&method, &target)
        .host(&host)
        .header("x-user-id", &noise)
        .header(&format!("x-{noise}"), &noise)
        .header("user-agent", &noise)
        .header("cookie", &format!("{noise}={noise}"))
}

#[test]
fn no_traffic_creates_a_series_and_promtool_accepts_the_page() {
    needs!("promtool");
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = Proxy::start(&format!(
        "{}routes: [{{ name: all, matches: [{{ path: /app }}], split: {{ stable: 50, canary: 50 }}, \
         sticky: {{ by: [{{ header: x-user-id }}] }} }}]\n",
        upstreams(&[&stable, &canary])
    ));
    let status = |response: crate::support::Response| response.status;
    // Every kind of request once, so that every series the configuration allows is there.
    ask_with(proxy.web(), 240, hostile, status);
    let before = proxy.metrics().series();

    let count = if long() { 20_000 } else { 2_000 };
    let statuses = ask_with(proxy.web(), count, |index| hostile(index + 1_000), status);

    assert!(statuses.contains(&200) && statuses.contains(&404), "the traffic was mixed");
    let counted = |metrics: &Scrape| {
        [REQUESTS, "switchback_unrouted_total", "switchback_rejected_total"]
            .map(|name| metrics.count(name, &[]))
            .iter()
            .sum::<u64>()
    };
    eventually("every request is counted", || counted(&proxy.metrics()) >= 240 + count as u64);
    let metrics = proxy.metrics();
    assert_eq!(counted(&metrics), 240 + count as u64, "and counted once");
    let after = metrics.series();
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());

    let judged = run(Command::new("promtool").args(["check", "metrics"]), metrics.text.as_bytes());
    assert_eq!(judged.code, Some(0), "promtool: {}{}", judged.out, judged.err);
}

#[test]
fn rates_errors_and_durations_of_a_scripted_run_are_exact() {
    let (app, broken) = (Origin::start("app"), RawOrigin::start(Script::SendAndReset(Vec::new())));
    app.on("/missing", Behaviour::Answer(404, "no"))
        .on("/moved", Behaviour::Answer(301, ""))
        .on("/bad", Behaviour::Answer(500, "oops"))
        .on("/hang", Behaviour::Hang);
    let proxy = Proxy::start(&format!(
        "upstreams: {{ app: \"{}\", broken: \"{}\", nobody: \"{}\" }}\nroutes:\n  \
         - {{ name: main, hostnames: [shop.test], split: {{ app: 1 }}, timeouts: {{ request: 300ms }} }}\n  \
         - {{ name: broken, hostnames: [broken.test], split: {{ broken: 1 }} }}\n  \
         - {{ name: nobody, hostnames: [nobody.test], split: {{ nobody: 1 }} }}\n",
        app.url(),
        broken.url(),
        raw::refused()
    ));
    let script = [
        (20, get("/"), 200),
        (4, Request::new("HEAD", "/"), 200),
        (5, get("/missing"), 404),
        (3, get("/moved"), 301),
        (6, get("/bad"), 500),
        (2, get("/hang"), 504),
        (4, get("/").host("broken.test"), 502),
        (3, get("/").host("nobody.test"), 503),
        (7, get("/").host("unknown.test"), 404),
    ];
    for (times, request, status) in &script {
        for _ in 0..*times {
            assert_eq!(proxy.ask(request).status, *status, "{request:?}");
        }
    }
    let metrics = proxy.settles(REQUESTS, &[], 47);
    let rows = [
        ("main", "app", "2xx", "ok", 24),
        ("main", "app", "4xx", "ok", 5),
        ("main", "app", "3xx", "ok", 3),
        ("main", "app", "5xx", "error", 8),
        ("broken", "broken", "5xx", "error", 4),
        ("nobody", "nobody", "5xx", "error", 3),
    ];
    for (route, arm, code, outcome, count) in rows {
        let labels =
            [("route", route), ("arm", arm), ("upstream", arm), ("code", code), ("outcome", outcome)];
        assert_eq!(metrics.count(REQUESTS, &labels), count, "{labels:?}\n{}", metrics.text);
    }
    assert_eq!(metrics.count("switchback_unrouted_total", &[]), 7, "{}", metrics.text);
    durations_add_up(&metrics);
    for (arm, failures) in [("app", 2), ("broken", 4), ("nobody", 3)] {
        let name = "switchback_upstream_failures_total";
        let answered = metrics.count(name, &[("arm", arm), ("reason", "status")]);
        let counted = metrics.count(name, &[("arm", arm)]) - answered;
        assert_eq!(counted, failures, "{arm}, beside answers with a bad status:\n{}", metrics.family(name));
    }
}

#[test]
fn a_failure_counts_under_the_upstream_that_failed_and_the_request_under_who_answered() {
    let stable = Origin::start("stable");
    let proxy = Proxy::start(&format!(
        "upstreams: {{ stable: \"{}\", canary: \"{}\" }}\nroutes:\n  - name: all\n    \
         split: {{ stable: 5, canary: 5 }}\n    whenUnavailable: redistribute\n    \
         overrides: [{{ name: qa, when: {{ headers: [{{ name: x-qa, present: true }}] }}, arm: canary }}]\n",
        stable.url(),
        raw::refused()
    ));
    for _ in 0..4 {
        assert_eq!(proxy.ask(&get("/").header("x-qa", "1")).expect_status(200).origin(), "stable");
    }
    let canary = ("arm", "canary");
    let metrics = proxy.settles(REQUESTS, &[canary], 4);
    let failures = "switchback_upstream_failures_total";
    for (upstream, answered, failed) in [("stable", 4, 0), ("canary", 0, 4)] {
        let labels = [canary, ("upstream", upstream)];
        assert_eq!(metrics.count(REQUESTS, &labels), answered, "{upstream}\n{}", metrics.family(REQUESTS));
        assert_eq!(metrics.count(failures, &labels), failed, "{upstream}\n{}", metrics.family(failures));
    }
    let why = [canary, ("upstream", "canary"), ("reason", "connect")];
    assert_eq!(metrics.count(failures, &why), 4, "{}", metrics.family(failures));
}

fn durations_add_up(metrics: &Scrape) {
    let name = |suffix: &str| format!("switchback_request_duration_seconds_{suffix}");
    let app = ("arm", "app");
    assert_eq!(metrics.count(&name("count"), &[app]), 40);
    assert_eq!(metrics.count(&name("bucket"), &[app, ("le", "+Inf")]), 40);
    // The two that timed out at 300 ms are the only ones that cannot be below it.
    assert!(metrics.count(&name("bucket"), &[app, ("le", "0.25")]) <= 38);
    assert!(metrics.sum(&name("sum"), &[app]) >= 0.6, "two timeouts of 300 ms are in the sum");
    let edges = metrics.values_of(&name("bucket"), "le");
    for edge in [
        "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10",
        "30",
    ] {
        assert!(edges.contains(edge), "{edge} in {edges:?}");
    }
    let upstream = metrics.count("switchback_upstream_duration_seconds_count", &[app]);
    assert_eq!(upstream, 38, "time to the first byte of those that answered");
}

#[test]
fn choices_are_counted_by_reason_and_rule() {
    let stable = Origin::start("stable");
    let proxy = Proxy::start(&format!(
        "upstreams: {{ stable: \"{}\", canary: \"{}\" }}\nroutes:\n  - name: all\n    split: {{ stable: 90, canary: 10 }}\n    \
         sticky: {{ by: [{{ header: x-user-id }}] }}\n    overrides:\n      \
         - {{ name: qa, when: {{ headers: [{{ name: x-qa, present: true }}] }}, arm: stable }}\n",
        stable.url(),
        raw::refused()
    ));
    let (on_stable, on_canary) = (user_in("all", 1_000..10_000), user_in("all", 0..1_000));
    for _ in 0..5 {
        proxy.ask(&get("/").header("x-user-id", &on_stable)).expect_status(200);
    }
    for _ in 0..4 {
        proxy.ask(&get("/").header("x-user-id", &on_canary)).expect_status(200);
    }
    for _ in 0..3 {
        proxy.ask(&get("/").header("x-user-id", &on_canary).header("x-qa", "1")).expect_status(200);
    }
    proxy.weights("all", &[("stable", 100), ("canary", 0)]);
    for _ in 0..2 {
        proxy.ask(&get("/")).expect_status(200);
    }
    let metrics = proxy.settles(CHOICES, &[], 14);
    let rows = [("stable", "sticky", "", 5), ("stable", "override", "qa", 3), ("stable", "random", "", 2)];
    for (arm, reason, rule, count) in rows {
        let labels = [("route", "all"), ("arm", arm), ("reason", reason), ("rule", rule)];
        assert_eq!(metrics.count(CHOICES, &labels), count, "{labels:?}\n{}", metrics.text);
    }
    let redistributed = metrics.count(CHOICES, &[("reason", "redistributed")]);
    assert_eq!(redistributed, 4, "nobody served the canary\n{}", metrics.text);
}

#[test]
fn gauges_tell_the_plan_and_what_is_running() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let gate = Gate::closed();
    stable.on("/slow", Behaviour::Gated(gate.clone()));
    let proxy = Proxy::start(&format!(
        "{}routes: [{{ name: all, split: {{ stable: 3, canary: 1 }}, sticky: {{ by: [{{ header: x-user-id }}] }} }}]\n",
        upstreams(&[&stable, &canary])
    ));
    let weight = |arm: &str| proxy.metrics().sum("switchback_split_weight_ratio", &[("arm", arm)]);
    assert!((weight("stable") - 0.75).abs() < 1e-9 && (weight("canary") - 0.25).abs() < 1e-9);
    proxy.weights("all", &[("stable", 1), ("canary", 1)]);
    assert!((weight("canary") - 0.5).abs() < 1e-9);
    assert_eq!(proxy.metrics().count("switchback_config_generation", &[]), proxy.generation());

    let user = user_in("all", 6_000..10_000);
    let load = Load::streams(proxy.web(), 3, get("/slow").header("x-user-id", &user));
    let running =
        || proxy.metrics().count("switchback_requests_in_flight", &[("route", "all"), ("arm", "stable")]);
    eventually("three are running", || running() == 3);
    gate.open();
    assert_eq!(load.stop().failed, 0);
    eventually("none is running", || running() == 0);

    let metrics = proxy.metrics();
    let role = |arm: &str, role: &str| metrics.has("switchback_arm_info", &[("arm", arm), ("role", role)]);
    assert!(role("stable", "stable"), "{}", metrics.text);
    for name in ["switchback_build_info", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(metrics.sum(name, &[]) > 0.0, "{name}");
    }
    assert!(metrics.sum("switchback_config_last_reload_success_timestamp_seconds", &[]) > 1e9);
}

#[test]
fn the_observed_share_follows_the_traffic() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = Proxy::start(&format!(
        "{}routes: [{{ name: all, split: {{ stable: 1, canary: 1 }}, sticky: {{ by: [{{ header: x-user-id }}] }} }}]\n",
        upstreams(&[&stable, &canary])
    ));
    let users: Vec<_> =
        users(100).into_iter().filter(|user| crate::support::bucket("all", user) >= 5_000).collect();
    crate::support::ask(proxy.web(), users.len(), |index| get("/").header("x-user-id", &users[index]));
    eventually("all of the observed traffic is on stable", || {
        let observed = |arm: &str| proxy.metrics().sum("switchback_split_observed_ratio", &[("arm", arm)]);
        observed("stable") > 0.99 && observed("canary") < 0.01
    });
}

#[test]
fn refused_requests_are_counted_apart() {
    let origin = Origin::start("app");
    let proxy = Proxy::start(&format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:@web@\", limits: {{ headerBytes: 8KiB, targetBytes: 1KiB, bodyBytes: 1KiB }} }}]\n\
         {}routes: [{{ name: all, split: {{ app: 1 }} }}]\n",
        upstreams(&[&origin])
    ));
    let rows = [
        ("target", get(&format!("/{}", "t".repeat(2_000))), 414),
        ("headers", get("/").header("x-big", &"h".repeat(20_000)), 431),
        ("body", crate::support::post("/", vec![b'b'; 5_000]), 413),
    ];
    for (index, (what, request, status)) in rows.iter().enumerate() {
        assert_eq!(proxy.ask(request).status, *status, "{what}");
        let metrics = proxy.settles("switchback_rejected_total", &[], index as u64 + 1);
        assert_eq!(metrics.count(REQUESTS, &[]), 0, "{what} charges no arm");
    }
    assert_eq!(origin.requests(), 0);
}
