//! Two slots as an operator lives with them: flips under traffic, refused ones, ways back, restarts.
//!
//! Everything is awaited as a condition of the API or of what clients got; verification is short, and
//! otherwise what people write.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::load::Load;
use crate::support::nginx::Nginx;
use crate::support::pki::Authority;
use crate::support::tools::{cli, long};
use crate::support::wait::{PATIENCE, becomes_true};
use crate::support::{Behaviour, Gate, Origin, Proxy, Site, eventually, get, needs, upstreams};

/// Short times, and a confidence that little traffic reaches.
const QUICK: &str = "analysis: { confidence: low, minRequests: 5, bursts: 1, dwell: 1s, warmup: { errors: 0, latency: 0 } }, bake: 1s";

fn pair() -> [Origin; 2] {
    ["blue", "green"].map(Origin::start)
}

/// A configuration with one route of two slots, and this beside them and in the route.
fn text(origins: &[Origin; 2], slots: &str, route: &str) -> String {
    format!(
        "{}routes: [{{ name: web, blueGreen: {{ slots: [blue, green], active: blue{slots} }}{route} }}]\n",
        upstreams(&origins.each_ref())
    )
}

fn start(origins: &[Origin; 2], slots: &str) -> Proxy {
    Proxy::start(&text(origins, slots, ""))
}

fn flip(proxy: &Proxy, body: &Value) -> (u16, Value) {
    let answer = proxy.admin(&proxy.verb("/api/v1/routes/web/flip", body));
    (answer.status, answer.json())
}

#[track_caller]
fn flipped(proxy: &Proxy, body: &Value, active: &str) -> Value {
    let (status, answer) = flip(proxy, body);
    assert_eq!((status, &answer["active"]), (200, &json!(active)), "{answer:#}");
    answer
}

#[track_caller]
fn refused(proxy: &Proxy, body: &Value, code: &str) -> Value {
    let (status, answer) = flip(proxy, body);
    assert_eq!((status, &answer["code"]), (409, &json!(code)), "{answer:#}");
    assert_ne!(answer["hint"], "", "{answer:#}");
    answer
}

fn slots(proxy: &Proxy) -> Value {
    proxy.read("/api/v1/routes/web")["blueGreen"].clone()
}

fn history(proxy: &Proxy) -> Vec<Value> {
    proxy.read("/api/v1/routes/web/history")["records"].as_array().cloned().unwrap_or_default()
}

fn recorded(proxy: &Proxy, code: &str) -> Option<Value> {
    history(proxy).into_iter().rev().find(|record| record["code"] == code)
}

#[track_caller]
fn await_state(proxy: &Proxy, state: &str) -> Value {
    let mut last = Value::Null;
    let reached = becomes_true(2 * PATIENCE, || {
        last = slots(proxy);
        last["state"] == state
    });
    assert!(reached, "never {state}: {last:#}\n{:#?}", history(proxy));
    last
}

#[track_caller]
fn serves(proxy: &Proxy, slot: &str) {
    for _ in 0..20 {
        assert_eq!(proxy.ask(&get("/")).expect_status(200).origin(), slot);
    }
}

/// A hundred paths in turn, so that a share of them can be given a behaviour.
fn load(proxy: &Proxy) -> Load {
    // Each of the connections asks for all of the paths, so that a slow one holds up all alike.
    Load::h1(proxy.web(), 8, Duration::from_millis(8), |round| get(&format!("/{}", round / 8 % 100)))
}

/// Waits until the controller has looked at some seconds of traffic.
#[track_caller]
fn await_window(proxy: &Proxy) {
    eventually("there is a last window", || proxy.metrics().sum("switchback_requests_total", &[]) > 2_500.0);
}

// --- flips ---

#[test]
fn flips_lose_no_request_and_after_the_answer_nobody_new_reaches_the_old_slot() {
    const CONNECTIONS: usize = 8;
    let origins = pair();
    let proxy = start(&origins, ", smoke: [{ path: /healthz, count: 2 }], verify: { for: 0 }, drain: 5s");
    let flips = if long() { 100 } else { 10 };
    // Twice the number of flips done; odd while one is asked for.
    let phase = Arc::new(AtomicUsize::new(0));
    let known: Arc<[AtomicUsize; CONNECTIONS]> = Arc::default();
    let (now, heard) = (Arc::clone(&phase), Arc::clone(&known));
    let load = Load::each(proxy.web(), CONNECTIONS, Duration::from_millis(4), move |conn, round| {
        let began = now.load(Ordering::SeqCst);
        let answer = conn.send(&get("/")).map_err(|error| error.to_string())?;
        heard[round % CONNECTIONS].store(began, Ordering::SeqCst);
        let expected = if began / 2 % 2 == 0 { "blue" } else { "green" };
        match (answer.status, answer.origin()) {
            (200, origin) if began % 2 == 1 || origin == expected => Ok(()),
            (status, origin) => Err(format!("{status} by {origin} after {} flips", began / 2)),
        }
    });
    let everybody_is_at = |at: usize| {
        eventually("every connection has asked since", || {
            known.iter().all(|one| one.load(Ordering::SeqCst) >= at)
        });
    };
    for number in 1..=flips {
        phase.store(2 * number - 1, Ordering::SeqCst);
        // Nobody who believes that nothing is going on may still be under way.
        everybody_is_at(2 * number - 1);
        flipped(&proxy, &json!({}), if number % 2 == 0 { "blue" } else { "green" });
        phase.store(2 * number, Ordering::SeqCst);
        everybody_is_at(2 * number);
    }
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(report.done > 20 * flips, "{report:?}");
    let tried = |origin: &Origin| origin.seen().iter().filter(|one| one.target == "/healthz").count();
    if !long() {
        assert_eq!(
            (tried(&origins[0]), tried(&origins[1])),
            (flips, flips),
            "each slot was asked twice each time"
        );
    }
    let metrics = proxy.metrics();
    let (web, from) = (("route", "web"), ("from", "SMOKE"));
    assert_eq!(
        metrics.count("switchback_rollout_transitions_total", &[web, from, ("reason", "flip")]),
        flips as u64
    );
    assert!(metrics.has("switchback_arm_info", &[("arm", "blue"), ("role", "active")]));
    assert!(metrics.has("switchback_arm_info", &[("arm", "green"), ("role", "idle")]));
}

#[test]
fn a_slot_that_fails_its_smoke_test_never_serves() {
    let origins = pair();
    origins[1].on("/healthz", Behaviour::Answer(503, "warming up"));
    let smoke = ", smoke: [{ path: /ready }, { path: /healthz, expect: [200, 204], host: shop.test }], verify: { for: 0 }";
    let proxy = start(&origins, smoke);
    let answer = refused(&proxy, &json!({}), "smoke-failed");
    let message = answer["message"].as_str().expect("a message");
    assert!(message.contains("/healthz") && message.contains("503"), "{message}");
    assert_eq!(slots(&proxy)["active"], "blue");
    serves(&proxy, "blue");
    let seen = origins[1].seen();
    assert!(
        seen.iter().all(|one| one.target == "/ready" || one.target == "/healthz"),
        "no user was sent there"
    );
    assert_eq!(seen.last().expect("asked").header("host"), Some("shop.test"));
    assert!(recorded(&proxy, "smoke-failed").is_some(), "{:#?}", history(&proxy));
    // Forced it is not tried; repaired it passes.
    flipped(&proxy, &json!({ "force": true }), "green");
    flipped(&proxy, &json!({ "back": true }), "blue");
    origins[1].on("/healthz", Behaviour::Answer(204, ""));
    flipped(&proxy, &json!({}), "green");
    serves(&proxy, "green");
}

#[test]
fn a_slot_that_is_edited_while_it_is_tried_does_not_serve() {
    let (origins, gate) = (pair(), Gate::closed());
    let other = Origin::start("other");
    origins[1].on("/healthz", Behaviour::Gated(gate.clone()));
    let smoke = ", smoke: [{ path: /healthz }], verify: { for: 0 }";
    let proxy = start(&origins, smoke);
    let asked = proxy.verb("/api/v1/routes/web/flip", &json!({}));
    let admin = proxy.site.admin();
    let asking = std::thread::spawn(move || crate::support::Conn::open(admin).ask(&asked));
    eventually("it is tried", || origins[1].requests() == 1);
    // What was tried is not what would serve.
    let edited = text(&origins, smoke, "").replace(&origins[1].url(), &other.url());
    proxy.reload(&edited);
    gate.open();
    let answer = asking.join().expect("an answer");
    assert_eq!((answer.status, &answer.json()["code"]), (409, &json!("slot-edited")), "{}", answer.text());
    assert_eq!(slots(&proxy)["active"], "blue");
    serves(&proxy, "blue");
    // Tried again it is the one that was edited.
    flipped(&proxy, &json!({}), "green");
    serves(&proxy, "other");
}

// --- by itself ---

/// Flips to a slot that is harmful, and waits until it is flipped back; the record of that.
#[track_caller]
fn flips_back(origins: &[Origin; 2], verify: &str, code: &str) -> Value {
    let slots = format!(", preview: {{ hostnames: [look.test] }}, verify: {{ for: 60s{verify} }}");
    let proxy = start(origins, &slots);
    let load = load(&proxy);
    await_window(&proxy);
    flipped(&proxy, &json!({}), "green");
    let told = await_state(&proxy, "FLIPPED_BACK");
    load.stop();
    assert_eq!(
        (&told["active"], &told["code"], &told["wayBack"]),
        (&json!("blue"), &json!(code), &json!(false))
    );
    serves(&proxy, "blue");
    // Whoever looks for the reason finds what was harmful where it is.
    assert_eq!(proxy.ask(&get("/look").host("look.test")).expect_status(200).origin(), "green");
    let record = recorded(&proxy, code).expect("a record");
    assert_eq!((&record["actor"], &record["after"]), (&json!("analyzer"), &json!(0.0)), "{record:#}");
    let flip = recorded(&proxy, "flip").expect("a record");
    let at = |record: &Value| {
        record["at"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok()).expect("a time")
    };
    let after = at(&record).duration_since(at(&flip)).as_secs();
    assert!(after <= 10 || code == "threshold", "flipped back after {after} s");
    assert!(proxy.err().iter().any(|line| line.contains("is harmful")));
    record
}

#[test]
fn a_smoke_test_asks_slots_that_speak_tls_as_requests_do() {
    needs!("nginx", "openssl");
    let (ca, other) = (Authority::new(), Authority::new());
    let origin = Origin::start("green");
    let server = |name: &str, certificate: &std::path::Path, more: &str| {
        let (files, pass) = (certificate.display(), origin.url());
        let body = format!(
            "ssl_certificate {files}.crt; ssl_certificate_key {files}.key; {more} location / {{ proxy_pass {pass}; }}"
        );
        (name.to_owned(), "ssl http2".to_owned(), body)
    };
    let demand = format!("ssl_client_certificate {}; ssl_verify_client on;", ca.path("ca.crt").display());
    let nginx = Nginx::serving(&[
        server("blue", &ca.signs("app.test"), ""),
        server("green", &ca.signs("app.test"), &demand),
        server("unknown", &other.signs("app.test"), ""),
    ]);
    ca.signs("proxy");
    let text = |idle: &str, shown: &str| {
        let upstream = |name: &str, shown: &str| {
            let port = nginx.port(name);
            format!(
                "{{ endpoints: [\"https://127.0.0.1:{port}\"], protocol: auto, tls: {{ ca: ca.crt, serverName: app.test{shown} }} }}"
            )
        };
        format!(
            "upstreams:\n  blue: {}\n  green: {}\nroutes: [{{ name: web, blueGreen: {{ slots: [blue, green], \
             active: blue, smoke: [{{ path: /healthz, count: 3 }}], verify: {{ for: 0 }} }} }}]\n",
            upstream("blue", ""),
            upstream(idle, shown)
        )
    };
    let shown = ", clientCert: proxy.crt, clientKey: proxy.key";
    let rows = [
        ("green", shown, None),
        // Who shows no certificate is answered 400, as nginx does.
        ("green", "", Some("with 400")),
        ("unknown", "", Some("nobody in `tls.ca`")),
    ];
    for (idle, shown, wrong) in rows {
        let site = Site::new(&text(idle, shown));
        for name in ["ca.crt", "proxy.crt", "proxy.key"] {
            site.place(name, &ca.text(name));
        }
        let proxy = site.start();
        let before = origin.requests();
        match wrong {
            None => {
                flipped(&proxy, &json!({}), "green");
                assert_eq!(origin.requests(), before + 3);
                assert_eq!(origin.last().target, "/healthz");
                serves(&proxy, "green");
            }
            Some(why) => {
                let answer = refused(&proxy, &json!({}), "smoke-failed");
                assert!(answer.to_string().contains(why), "{answer:#}");
                assert_eq!(origin.requests(), before, "{why}");
            }
        }
    }
}

#[test]
fn a_broken_slot_is_flipped_back_within_ten_seconds() {
    let origins = pair();
    for path in 0..100 {
        origins[1].on(&format!("/{path}"), Behaviour::Answer(500, "broken"));
    }
    let record = flips_back(&origins, "", "guard");
    assert!(record["reason"].as_str().is_some_and(|text| text.contains("guard: ")), "{record:#}");
}

#[test]
fn two_failures_in_a_hundred_break_a_limit_of_one() {
    let origins = pair();
    for path in ["/7", "/57"] {
        origins[1].on(path, Behaviour::Answer(500, "broken"));
    }
    let record = flips_back(&origins, ", thresholds: { maxErrorRate: 1%, maxP99: 1s }", "threshold");
    assert!(record["reason"].as_str().is_some_and(|text| text.contains("maxErrorRate: ")), "{record:#}");
}

#[test]
fn a_slow_slot_breaks_a_limit_on_the_99th_percentile() {
    let origins = pair();
    for path in [7, 27, 47, 67, 87] {
        origins[1].on(&format!("/{path}"), Behaviour::Late(Duration::from_millis(1_200)));
    }
    let record = flips_back(&origins, ", thresholds: { maxErrorRate: 1%, maxP99: 1s }", "threshold");
    assert!(record["reason"].as_str().is_some_and(|text| text.contains("maxP99: 1")), "{record:#}");
}

#[test]
fn what_was_as_bad_before_is_no_reason_to_go_back() {
    let origins = pair();
    for path in 0..100 {
        for origin in &origins {
            origin.on(&format!("/{path}"), Behaviour::Answer(500, "shared"));
        }
    }
    let proxy = start(&origins, ", verify: { for: 6s }");
    let load = load(&proxy);
    await_window(&proxy);
    flipped(&proxy, &json!({}), "green");
    let told = await_state(&proxy, "STEADY");
    load.stop();
    assert_eq!((&told["active"], &told["code"]), (&json!("green"), &json!("verified")), "{told:#}");
}

// --- by hand ---

#[test]
fn a_flip_under_way_is_ended_by_the_way_back_alone() {
    let origins = pair();
    let proxy = start(&origins, ", verify: { for: 60s }");
    refused(&proxy, &json!({ "back": true }), "nothing-to-undo");
    let path = "/api/v1/routes/web/flip";
    let mut bare = proxy.verb(path, &json!({}));
    bare.headers.retain(|(name, _)| name != "if-match");
    assert_eq!(proxy.admin(&bare).status, 412);
    let done = cli(&proxy.site, &["flip", "web", "--reason", "release 7"]);
    assert!(done.code == Some(0) && done.out.contains("active green, idle blue: VERIFYING"), "{done:?}");
    let answer = refused(&proxy, &json!({ "force": true }), "flip-under-way");
    assert_eq!(answer["state"], "VERIFYING", "{answer:#}");
    let shown = cli(&proxy.site, &["status", "web"]);
    assert!(
        shown.out.contains("active green, idle blue  VERIFYING") && shown.out.contains("s more"),
        "{shown:?}"
    );
    assert!(shown.out.contains("release 7"), "{shown:?}");
    // The way back needs no generation.
    let mut back = proxy.verb(path, &json!({ "back": true }));
    back.headers.retain(|(name, _)| name != "if-match");
    assert_eq!(proxy.admin(&back).expect_status(200).json()["active"], "blue");
    serves(&proxy, "blue");
    assert_eq!(slots(&proxy)["state"], "STEADY");
    // Weights set by hand end the watch, and a flip ends them.
    flipped(&proxy, &json!({}), "green");
    proxy.weights("web", &[("blue", 1), ("green", 1)]);
    assert_eq!((&slots(&proxy)["state"], &slots(&proxy)["active"]), (&json!("STEADY"), &json!("green")));
    flipped(&proxy, &json!({}), "blue");
    serves(&proxy, "blue");
    let (status, none) = {
        let answer = proxy.admin(&proxy.verb("/api/v1/routes/none/flip", &json!({})));
        (answer.status, answer.json())
    };
    assert_eq!((status, &none["code"]), (404, &json!("unknown-route")));
}

#[test]
fn a_slot_where_nobody_listens_asks_for_force() {
    let blue = Origin::start("blue");
    let text = format!(
        "upstreams: {{ blue: \"{}\", green: \"http://127.0.0.1:1\" }}\n\
         routes: [{{ name: web, blueGreen: {{ slots: [blue, green], active: blue }} }}]\n",
        blue.url()
    );
    let proxy = Proxy::start(&text);
    let answer = refused(&proxy, &json!({}), "no-endpoint");
    assert!(answer["hint"].as_str().is_some_and(|hint| hint.contains("--force")), "{answer:#}");
    serves(&proxy, "blue");
    flipped(&proxy, &json!({ "force": true }), "green");
    assert_ne!(proxy.ask(&get("/")).status, 200);
    flipped(&proxy, &json!({ "back": true }), "blue");
    serves(&proxy, "blue");
}

#[test]
fn drained_is_told_once_nothing_runs_on_the_old_slot() {
    let (origins, gate) = (pair(), Gate::closed());
    origins[0].on("/long", Behaviour::Gated(gate.clone()));
    let proxy = start(&origins, ", verify: { for: 0 }, drain: 60s");
    let web = proxy.web();
    let running = std::thread::spawn(move || crate::support::Conn::open(web).ask(&get("/long")));
    eventually("it runs on blue", || origins[0].requests() == 1);
    flipped(&proxy, &json!({}), "green");
    serves(&proxy, "green");
    assert_eq!(slots(&proxy)["draining"], 1, "it is waited for from the first look on");
    assert!(recorded(&proxy, "drained").is_none());
    gate.open();
    assert_eq!(
        running.join().expect("an answer").expect_status(200).origin(),
        "blue",
        "it ends where it began"
    );
    eventually("it is drained", || recorded(&proxy, "drained").is_some());
    assert!(slots(&proxy)["draining"].is_null());
    assert!(proxy.err().iter().any(|line| line.contains("blue is drained")));
}

// --- restarts and edits ---

#[test]
fn the_active_slot_survives_a_kill_and_ends_with_an_edit_of_the_slots() {
    let origins = pair();
    let slots_of = ", verify: { for: 60s }, preview: { hostnames: [look.test] }";
    let mut proxy = start(&origins, slots_of);
    flipped(&proxy, &json!({ "reason": "release" }), "green");
    proxy.signal("KILL");
    proxy.await_exit();
    let site = proxy.site.clone();
    drop(proxy);
    let proxy = site.start();
    serves(&proxy, "green");
    let told = slots(&proxy);
    assert_eq!((&told["state"], &told["wayBack"]), (&json!("VERIFYING"), &json!(true)), "{told:#}");
    assert_eq!(proxy.ask(&get("/").host("look.test")).origin(), "blue", "the preview follows");
    // Another edit changes nothing about it.
    proxy.reload(&text(&origins, &format!("{slots_of}, drain: 5s"), ", upgrades: [websocket]"));
    serves(&proxy, "green");
    assert_eq!(slots(&proxy)["state"], "VERIFYING");
    flipped(&proxy, &json!({ "back": true }), "blue");
    flipped(&proxy, &json!({}), "green");
    // Other slots begin as the file says.
    let third = Origin::start("teal");
    let other = format!(
        "{}routes: [{{ name: web, blueGreen: {{ slots: [teal, green], active: teal }} }}]\n",
        upstreams(&[&third, &origins[1]])
    );
    proxy.reload(&other);
    serves(&proxy, "teal");
    assert_eq!(slots(&proxy)["state"], "STEADY");
    assert!(proxy.err().iter().any(|line| line.contains("exchanged slots ended")));
}

// --- with rollouts ---

fn rollout(proxy: &Proxy, version: &str, states: &[&str]) -> Value {
    let mut last = Value::Null;
    let reached = becomes_true(2 * PATIENCE, || {
        last = proxy.read("/api/v1/routes/web")["rollout"].clone();
        last["version"] == version && states.iter().any(|state| last["state"] == *state)
    });
    assert!(reached, "{version} never {states:?}: {last:#}\n{:#?}", history(proxy));
    last
}

#[test]
fn a_rollout_goes_to_the_idle_slot_swaps_them_and_the_next_goes_the_other_way() {
    let origins = pair();
    let of = |version: &str| {
        text(
            &origins,
            ", preview: { hostnames: [look.test] }, verify: { for: 0 }",
            &format!(", rollout: {{ version: {version}, steps: [10, 50, 100], {QUICK} }}"),
        )
    };
    let mut proxy = Proxy::start(&of("v2"));
    let running = load(&proxy);
    rollout(&proxy, "v2", &["STAGE", "BAKE", "HOLD"]);
    refused(&proxy, &json!({}), "rollout-live");
    let ended = rollout(&proxy, "v2", &["PROMOTED", "REVERTED", "ABORTED"]);
    assert_eq!((&ended["state"], &ended["to"]), (&json!("PROMOTED"), &json!("green")), "{ended:#}");
    let report = running.stop();
    assert_eq!(report.failed, 0, "{report:?}");
    serves(&proxy, "green");
    assert_eq!((&slots(&proxy)["active"], &slots(&proxy)["idle"]), (&json!("green"), &json!("blue")));
    let info = [("arm", "green"), ("role", "active"), ("version", "v2")];
    assert!(
        proxy.metrics().has("switchback_arm_info", &info),
        "{}",
        proxy.metrics().family("switchback_arm_info")
    );
    // It is written down, and is not begun again the other way.
    proxy.signal("KILL");
    proxy.await_exit();
    let site = proxy.site.clone();
    drop(proxy);
    let proxy = site.start();
    serves(&proxy, "green");
    proxy.reload(&of("v2").replace("for: 0", "for: 0s"));
    assert_eq!(rollout(&proxy, "v2", &["PROMOTED"])["to"], "green");
    serves(&proxy, "green");
    // The next version harms: it goes from green to blue, and green goes on.
    for path in 0..100 {
        origins[0].on(&format!("/{path}"), Behaviour::Answer(500, "broken"));
    }
    proxy.reload(&of("v3"));
    let running = load(&proxy);
    let ended = rollout(&proxy, "v3", &["PROMOTED", "REVERTED", "ABORTED"]);
    running.stop();
    assert_eq!((&ended["state"], &ended["from"]), (&json!("REVERTED"), &json!("green")), "{ended:#}");
    serves(&proxy, "green");
    assert_eq!(slots(&proxy)["active"], "green");
    // What was put back is still there for who asks for it.
    let previewed = || proxy.ask(&get("/look").host("look.test")).expect_status(200).origin().to_owned();
    assert_eq!(previewed(), "blue");
    proxy.weights("web", &[("green", 100), ("blue", 0)]);
    assert_eq!(previewed(), "blue");
    proxy.reset_weights("web");
    // Promoted once more it is undone by `flip --back`.
    for path in 0..100 {
        origins[0].on(&format!("/{path}"), Behaviour::Echo);
    }
    proxy.reload(&of("v4"));
    let running = load(&proxy);
    rollout(&proxy, "v4", &["PROMOTED"]);
    running.stop();
    serves(&proxy, "blue");
    flipped(&proxy, &json!({ "back": true }), "green");
    serves(&proxy, "green");
}
