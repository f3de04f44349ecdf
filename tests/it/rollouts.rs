//! Rollouts as an operator lives with them: climbing, put back, moved by hand, over restarts and edits.
//!
//! Policies are short (seconds instead of minutes) and otherwise what people write. Everything is
//! awaited as a condition of the API; a canary that was put back must get no request at all.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::load::Load;
use crate::support::origin::Behaviour;
use crate::support::tools::cli;
use crate::support::wait::{PATIENCE, becomes_true};
use crate::support::{Origin, Proxy, Site, eventually, get, upstreams};

/// Short times, and a confidence that little traffic reaches.
const QUICK: &str = "analysis: { confidence: low, minRequests: 5, bursts: 1, dwell: 1s, warmup: { errors: 0, latency: 0 } }, bake: 1s";
/// The same, but a step does not end by itself while a test lasts.
const LONG: &str = "analysis: { confidence: low, minRequests: 5, dwell: 1h, warmup: { errors: 0, latency: 0 } }, \
                    deadline: { step: 2h }";

fn pair() -> [Origin; 2] {
    ["stable", "canary"].map(Origin::start)
}

fn broken() -> [Origin; 2] {
    let origins = pair();
    origins[1].on("/", Behaviour::Answer(500, "broken"));
    origins
}

/// A configuration with one route and this rollout block.
fn text(origins: &[Origin; 2], block: &str) -> String {
    let rollout = if block.is_empty() { String::new() } else { format!(", rollout: {{ {block} }}") };
    format!(
        "{}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }}{rollout} }}]\n",
        upstreams(&origins.each_ref())
    )
}

fn load(proxy: &Proxy) -> Load {
    Load::h1(proxy.web(), 4, Duration::from_millis(4), |_| get("/"))
}

fn rollout(proxy: &Proxy) -> Value {
    proxy.read("/api/v1/routes/all")["rollout"].clone()
}

/// Waits until the rollout is in one of these states.
#[track_caller]
fn await_state(proxy: &Proxy, states: &[&str]) -> Value {
    let mut last = Value::Null;
    let reached = becomes_true(2 * PATIENCE, || {
        last = rollout(proxy);
        states.iter().any(|state| last["state"] == *state)
    });
    assert!(reached, "never {states:?}: {last:#}\n{:#}", history(proxy));
    last
}

fn history(proxy: &Proxy) -> Value {
    proxy.read("/api/v1/routes/all/history")
}

fn weight(proxy: &Proxy, arm: &str) -> u64 {
    let route = proxy.read("/api/v1/routes/all");
    let arms = route["arms"].as_array().expect("arms");
    arms.iter().find(|known| known["name"] == arm).and_then(|arm| arm["weight"].as_u64()).expect("a weight")
}

/// The canary's share of both arms, as the split has it.
fn share(proxy: &Proxy) -> f64 {
    let (canary, stable) = (float(weight(proxy, "canary")), float(weight(proxy, "stable")));
    canary / (canary + stable)
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).expect("small"))
}

#[track_caller]
fn no_canary(proxy: &Proxy, origins: &[Origin; 2]) {
    let before = origins[1].requests();
    for _ in 0..100 {
        assert_eq!(proxy.ask(&get("/")).expect_status(200).origin(), "stable");
    }
    assert_eq!(origins[1].requests(), before, "the canary got a request");
}

fn verb(proxy: &Proxy, verb: &str, body: &Value) -> (u16, Value) {
    let answer = proxy.admin(&proxy.verb(&format!("/api/v1/routes/all/rollout/{verb}"), body));
    (answer.status, answer.json())
}

/// Kills it without a word, and starts it on the same files and ports.
fn killed(mut proxy: Proxy, between: impl FnOnce(&Site)) -> Proxy {
    proxy.signal("KILL");
    proxy.await_exit();
    let site = proxy.site.clone();
    drop(proxy);
    between(&site);
    site.start()
}

// --- (a), (b): by itself ---

#[test]
fn a_healthy_version_climbs_and_is_promoted_while_nobody_helps() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [10, 50, 100], {QUICK}")));
    let load = load(&proxy);
    let ended = await_state(&proxy, &["PROMOTED", "REVERTED", "ABORTED"]);
    assert_eq!(ended["state"], "PROMOTED", "{ended:#}\n{:#}", history(&proxy));
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report:?}");
    assert_eq!((weight(&proxy, "stable"), share(&proxy)), (0, 1.0));
    for arm in proxy.read("/api/v1/routes/all")["arms"].as_array().expect("arms") {
        assert_eq!(arm["source"], "rollout", "{arm}");
    }
    for _ in 0..20 {
        assert_eq!(proxy.ask(&get("/")).origin(), "canary");
    }
    let told = history(&proxy);
    let records = told["records"].as_array().expect("records");
    let after: Vec<_> = records.iter().filter_map(|record| record["after"].as_f64()).collect();
    assert!(after.is_sorted() && after.contains(&10.0) && after.contains(&50.0), "{told:#}");
    let last = records.last().expect("a record");
    assert_eq!((&last["to"], &last["after"]), (&json!("PROMOTED"), &json!(100.0)), "{told:#}");
    assert!(last["samples"]["canary"]["n"].as_u64() > Some(0) && last["evidence"]["threshold"].is_number());
    let metrics = proxy.metrics();
    assert_eq!(metrics.count("switchback_rollout_state", &[("route", "all"), ("state", "PROMOTED")]), 1);
    assert_eq!(metrics.count("switchback_rollout_state", &[("route", "all")]), 1, "one state at a time");
    assert!(
        metrics.has("switchback_rollout_transitions_total", &[("to", "PROMOTED"), ("actor", "analyzer")])
    );
    assert!(metrics.has("switchback_arm_info", &[("arm", "canary"), ("role", "canary"), ("version", "v2")]));
}

#[test]
fn a_canary_that_only_fails_is_put_back_and_history_names_the_rule() {
    let origins = broken();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [50, 100], {QUICK}")));
    let load = load(&proxy);
    let ended = await_state(&proxy, &["REVERTED", "PROMOTED", "ABORTED"]);
    load.stop();
    assert_eq!(ended["state"], "REVERTED", "{ended:#}");
    assert_eq!((weight(&proxy, "canary"), &ended["verdict"]), (0, &json!("harmful")));
    no_canary(&proxy, &origins);
    let told = history(&proxy);
    let records = told["records"].as_array().expect("records").clone();
    let revert = records.iter().find(|record| record["to"] == "REVERTING").expect("a record of the revert");
    assert_eq!((&revert["actor"], &revert["after"]), (&json!("analyzer"), &json!(0.0)), "{revert:#}");
    let rule = revert["evidence"]["rule"].as_str().expect("a rule");
    assert!(["guard", "errors"].contains(&rule), "{revert:#}");
    assert!(revert["samples"]["canary"]["e"].as_u64() >= Some(5), "{revert:#}");
    // It stays where it is: traffic without the canary is no new evidence.
    let started = verb(&proxy, "start", &json!({}));
    assert_eq!((started.0, &started.1["state"]), (409, &json!("REVERTED")), "{}", started.1);
    let waited = cli(&proxy.site, &["rollout", "wait", "all", "--version", "v2", "--markdown"]);
    assert_eq!(waited.code, Some(3), "{waited:?}");
    assert!(waited.out.contains("REVERTED") && waited.out.contains(rule), "{waited:?}");
    let text = cli(&proxy.site, &["history", "all"]);
    assert!(text.code == Some(0) && text.out.contains(rule) && text.out.contains("REVERTING"), "{text:?}");
}

#[test]
fn hooks_are_told_signed_and_a_gate_that_says_no_is_heard() {
    let (origins, outside) = (pair(), Origin::start("outside"));
    outside.on("/no", Behaviour::Answer(403, "not yet"));
    let url = outside.url();
    let block = format!(
        "version: v2, steps: [50, 100], {QUICK}, hooks: [\
         {{ name: smoke, event: preRollout, url: \"{url}/smoke?x=1\", metadata: {{ cmd: run }}, secretFile: secret }}, \
         {{ name: told, event: onTransition, url: \"{url}/told\" }}, \
         {{ name: gate, event: confirmPromotion, url: \"{url}/no\" }}]"
    );
    let site = Site::new(&text(&origins, &block));
    site.place("secret", "key\n");
    let proxy = site.start();
    let load = load(&proxy);
    eventually("the gate is asked", || outside.seen().iter().any(|one| one.target == "/no"));
    let now = await_state(&proxy, &["HOLD", "BAKE", "PAUSED"]);
    assert_ne!(now["state"], "PROMOTED", "{now:#}");
    let seen = outside.seen();
    let smoke = seen.iter().find(|one| one.target == "/smoke?x=1").expect("asked before the first traffic");
    let body: Value = serde_json::from_slice(&smoke.body).expect("JSON");
    assert_eq!(
        (&body["name"], &body["metadata"]["cmd"], &body["canaryWeight"]),
        (&json!("all"), &json!("run"), &json!(0.0))
    );
    let signature = smoke.header("x-switchback-signature").expect("a signature");
    assert!(signature.starts_with("sha256=") && signature.len() == 71, "{signature}");
    assert!(smoke.header("idempotency-key").is_some());
    assert!(seen.iter().any(|one| one.target == "/told"), "{seen:?}");
    load.stop();
}

#[test]
fn nobody_is_promoted_on_silence() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [50, 100], {QUICK}")));
    let held = await_state(&proxy, &["HOLD"]);
    assert!(held["waitingFor"].as_array().is_some_and(|list| !list.is_empty()), "{held:#}");
    assert!((share(&proxy) - 0.5).abs() < 0.001);
    let waited = cli(&proxy.site, &["rollout", "wait", "all", "--timeout", "1s"]);
    assert_eq!(waited.code, Some(4), "{waited:?}");
    assert!(waited.out.contains("undecided") && waited.out.contains("HOLD"), "{waited:?}");
}

#[test]
fn a_proxy_that_says_it_is_ready_knows_its_rollouts() {
    let origins = pair();
    let proxy =
        Proxy::start(&text(&origins, &format!("version: v2, steps: [50, 100], autoStart: false, {QUICK}")));
    assert_eq!(rollout(&proxy)["state"], "IDLE", "{:#}", proxy.read("/api/v1/routes/all"));
}

// --- (c), (f): by hand ---

#[test]
fn every_verb_moves_what_it_says_or_is_refused_with_the_state() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [10, 50, 100], {LONG}")));
    await_state(&proxy, &["STAGE"]);
    let why = json!({ "reason": "a test", "actor": "tester" });
    let forced = json!({ "reason": "a test", "force": true });
    // Verb, body, status, state afterwards (or in the refusal).
    let rows: Vec<(&str, Value, u16, &str)> = vec![
        ("start", json!({}), 409, "STAGE"),
        ("resume", json!({}), 409, "STAGE"),
        ("retry", why.clone(), 409, "STAGE"),
        ("finish", json!({}), 409, "STAGE"),
        ("pause", json!({ "version": "v2" }), 200, "PAUSED"),
        ("pause", json!({}), 200, "PAUSED"),
        ("resume", json!({ "version": "v9" }), 409, "PAUSED"),
        ("resume", why.clone(), 200, "STAGE"),
        ("advance", json!({ "force": true }), 400, ""),
        ("advance", forced.clone(), 200, "STAGE"),
        ("promote", forced.clone(), 200, "BAKE"),
        ("advance", forced.clone(), 409, "BAKE"),
        ("rollback", why.clone(), 200, "ABORTED"),
        ("pause", json!({}), 409, "ABORTED"),
        ("resume", json!({}), 409, "ABORTED"),
        ("start", json!({}), 409, "ABORTED"),
        ("retry", json!({}), 400, ""),
        ("retry", why.clone(), 200, "PENDING"),
    ];
    for (name, body, status, state) in rows {
        let (answered, answer) = verb(&proxy, name, &body);
        assert_eq!(answered, status, "{name} {body}: {answer:#}");
        if !state.is_empty() {
            assert_eq!(answer["state"], state, "{name} {body}: {answer:#}");
        }
    }
    await_state(&proxy, &["STAGE"]);
    assert!((share(&proxy) - 0.1).abs() < 0.001, "the first step again");
    let told = history(&proxy);
    let aborted = told["records"].as_array().expect("records").iter().find(|one| one["to"] == "ABORTED");
    let aborted = aborted.unwrap_or_else(|| panic!("{told:#}"));
    assert_eq!((&aborted["actor"], &aborted["reason"]), (&json!("tester"), &json!("a test")), "{aborted:#}");
    for (path, status) in [("all/rollout/leap", 404), ("none/rollout/pause", 404)] {
        let answer = proxy.admin(&proxy.verb(&format!("/api/v1/routes/{path}"), &json!({})));
        assert_eq!(answer.status, status, "{path}");
    }
}

#[test]
fn moves_toward_the_canary_say_what_they_saw_and_moves_back_need_not() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [10, 50, 100], {LONG}")));
    await_state(&proxy, &["STAGE"]);
    let ask = |verb: &str, expected: Option<&str>| {
        let body = json!({ "reason": "a test", "force": true });
        let mut request = proxy.verb(&format!("/api/v1/routes/all/rollout/{verb}"), &body);
        request.headers.retain(|(name, _)| name != "if-match");
        if let Some(expected) = expected {
            request = request.header("if-match", expected);
        }
        proxy.admin(&request).status
    };
    assert_eq!(ask("advance", None), 412);
    assert_eq!(ask("advance", Some("\"1\"")), 409, "its plan has changed since");
    let generation = proxy.read("/api/v1/routes/all")["generation"].to_string();
    assert_eq!(ask("advance", Some(&format!("\"{generation}\""))), 200);
    assert!((share(&proxy) - 0.5).abs() < 0.001);
    assert_eq!(ask("resume", None), 412);
    assert_eq!(ask("pause", None), 200);
    assert_eq!(ask("abort", None), 200);
    assert_eq!(weight(&proxy, "canary"), 0);
    no_canary(&proxy, &origins);
}

#[test]
fn the_command_line_moves_a_rollout_and_exits_for_pipelines() {
    let origins = pair();
    let block = format!("version: v2, steps: [10, 50, 100], autoStart: false, {LONG}");
    let proxy = Proxy::start(&text(&origins, &block));
    await_state(&proxy, &["IDLE"]);
    assert_eq!(weight(&proxy, "canary"), 0, "a block holds the file's own weight back");
    no_canary(&proxy, &origins);
    let site = proxy.site.clone();
    let rows: &[(&[&str], i32, &str)] = &[
        (&["rollout", "wait", "all", "--timeout", "0s"], 4, "IDLE"),
        (&["rollout", "pause", "all"], 1, "nothing to pause"),
        (&["rollout", "start", "all", "--version", "v3"], 1, "v2"),
        (&["rollout", "start", "all", "--reason", "go", "--annotate", "build=42"], 0, "PENDING"),
    ];
    let check = |rows: &[(&[&str], i32, &str)]| {
        for (line, code, words) in rows {
            let ended = cli(&site, line);
            assert_eq!(ended.code, Some(*code), "{line:?}: {ended:?}");
            assert!(format!("{}{}", ended.out, ended.err).contains(words), "{line:?}: {ended:?}");
        }
    };
    check(rows);
    await_state(&proxy, &["STAGE"]);
    check(&[
        (&["status", "all"], 0, "rollout v2: STAGE  step 1 of 3  weight 10%"),
        (&["rollout", "plan", "all"], 0, "confidence low"),
        (&["rollout", "pause", "all"], 0, "PAUSED"),
        (&["rollout", "resume", "all"], 0, "STAGE"),
        (&["rollout", "advance", "all", "--force", "--reason", "hurry"], 0, "canary: "),
        (&["rollout", "promote", "all", "--force", "--reason", "hurry"], 0, "BAKE"),
        (&["rollout", "wait", "all", "--timeout", "0s"], 4, "BAKE"),
        (&["rollout", "promote", "all", "--force", "--reason", "hurry"], 0, "PROMOTED"),
        (&["rollout", "wait", "all", "--json"], 0, "\"state\": \"PROMOTED\""),
        (&["weights", "all", "stable=1", "--reason", "odd"], 0, "canary: "),
        (&["status", "all"], 0, ": \"odd\"; without them: v2 has everything"),
        (&["rollout", "wait", "all", "--markdown"], 0, "| reason | weights by hand rule since 20"),
        (&["weights", "all", "--reset"], 0, "all: the rollout that was promoted rules again, v2 PROMOTED"),
        (&["weights", "all", "stable=1", "--reason", "odd"], 0, "canary: "),
        (&["rollout", "rollback", "all", "--reason", "no"], 0, "ABORTED"),
        (&["rollout", "wait", "all", "--version", "v2"], 3, "ABORTED"),
        (&["rollout", "retry", "all"], 1, "reason"),
        (&["rollout", "retry", "all", "--reason", "again"], 0, "PENDING"),
        (&["rollout", "wait", "none"], 1, "no route"),
        (&["history", "all", "--json"], 0, "\"build\": \"42\""),
    ]);
}

#[test]
fn what_ended_says_since_when_and_not_how_long_it_took() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [10, 100], {LONG}")));
    assert_eq!(await_state(&proxy, &["STAGE"])["endedSeconds"], Value::Null);
    for _ in 0..2 {
        assert_eq!(verb(&proxy, "promote", &json!({ "force": true, "reason": "hurry" })).0, 200);
    }
    let run = await_state(&proxy, &["PROMOTED"])["durationSeconds"].clone();
    let ended = || rollout(&proxy)["endedSeconds"].as_f64().unwrap_or_default();
    eventually("the time since its end grows", || ended() > 0.2);
    assert_eq!(rollout(&proxy)["durationSeconds"], run, "how long it took is another thing");
}

#[test]
fn a_route_without_a_rollout_is_not_waited_for() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, ""));
    let begun = Instant::now();
    let line = ["rollout", "wait", "all", "--version", "v2", "--timeout", "10m"];
    let waited = cli(&proxy.site, &line);
    assert!(waited.code == Some(4) && waited.err.contains("route `all` has no rollout"), "{waited:?}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let reset = cli(&proxy.site, &["weights", "all", "--reset"]);
    assert!(reset.out.contains("all: the file rules again"), "{reset:?}");
}

#[test]
fn weights_by_hand_pause_it_and_to_nothing_abort_it() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [10, 50, 100], {LONG}")));
    await_state(&proxy, &["STAGE"]);
    proxy.weights("all", &[("stable", 70), ("canary", 30)]);
    let paused = await_state(&proxy, &["PAUSED"]);
    assert!((share(&proxy) - 0.3).abs() < 0.001, "{paused:#}");
    let (status, answer) = verb(&proxy, "resume", &json!({}));
    assert_eq!((status, &answer["code"]), (409, &json!("manual-weights")), "{answer:#}");
    proxy.reset_weights("all");
    assert_eq!((verb(&proxy, "resume", &json!({})).0, share(&proxy)), (200, 0.1));
    proxy.weights("all", &[("stable", 1)]);
    await_state(&proxy, &["ABORTED"]);
    no_canary(&proxy, &origins);
}

#[test]
fn what_is_promoted_walks_back_and_is_finished() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [50, 100], {QUICK}")));
    let load = load(&proxy);
    await_state(&proxy, &["PROMOTED"]);
    let (status, answer) = verb(&proxy, "finish", &json!({ "reason": "stable has v2 now" }));
    assert_eq!(status, 200, "{answer:#}");
    let ended = await_state(&proxy, &["FINISHED", "PROMOTED"]);
    assert_eq!(ended["state"], "FINISHED", "{:#}", history(&proxy));
    assert_eq!(load.stop().failed, 0);
    assert_eq!(weight(&proxy, "canary"), 0);
    proxy.reload(&text(&origins, &format!("version: v3, steps: [50, 100], {LONG}")));
    let next = await_state(&proxy, &["STAGE"]);
    assert_eq!((&next["version"], next["share"].as_f64()), (&json!("v3"), Some(0.5)), "{next:#}");
}

#[test]
fn a_version_that_was_refused_begins_when_the_one_in_its_way_is_finished() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [50, 100], {QUICK}")));
    let load = load(&proxy);
    await_state(&proxy, &["PROMOTED"]);
    proxy.site.write(&text(&origins, &format!("version: v3, steps: [50, 100], {LONG}")));
    let mut refused = Value::Null;
    eventually("the next version is refused at its place", || {
        refused = proxy.read("/api/v1/status")["config"]["lastReload"].clone();
        refused["ok"] == false
    });
    let written = std::fs::read_to_string(proxy.site.file()).expect("the file");
    let line = written.lines().position(|line| line.contains("version: v3")).expect("a line") + 1;
    assert_eq!(refused["diagnostics"][0]["line"], json!(line), "{refused:#}");
    assert_eq!(verb(&proxy, "finish", &json!({ "reason": "stable has v2 now" })).0, 200);
    // Nobody edits the file again.
    eventually("v3 is at its first step", || {
        let now = rollout(&proxy);
        now["version"] == "v3" && now["state"] == "STAGE"
    });
    assert_eq!(load.stop().failed, 0);
}

/// The figure of a guard revert: from the first failure to the plan without the canary. The guard asks
/// for failures in five tenths of a second, so half a second after the first it is proven at the
/// latest, and what is left is the way to the plan. Twenty rounds, beginning everywhere in a second,
/// with `SWITCHBACK_LONG=1`, one otherwise; a busy machine must not decide the test.
#[test]
fn a_canary_that_turns_bad_at_a_step_is_put_back_by_the_guard() {
    let rounds = if crate::support::long() { 20 } else { 1 };
    let mut took: Vec<Duration> = (0..rounds).map(one_revert).collect();
    took.sort();
    let (median, max) = (took[took.len() / 2], took[took.len() - 1]);
    let proven = max.saturating_sub(Duration::from_millis(500));
    println!(
        "FIGURE | guard revert in force after the first failure: median {median:?}, max {max:?} of {rounds}; \
         after what proved it: at most {proven:?}"
    );
}

fn one_revert(round: usize) -> Duration {
    let version = format!("v{}", round + 2);
    let origins = pair();
    let policy =
        "analysis: { minRequests: 5, dwell: 1h, warmup: { errors: 0, latency: 0 } }, deadline: { step: 2h }";
    let proxy = Proxy::start(&text(&origins, &format!("version: {version}, steps: [50, 100], {policy}")));
    await_state(&proxy, &["STAGE"]);
    let load = load(&proxy);
    let enough = 300 + 25 * round;
    eventually("both arms are known", || origins.iter().all(|origin| origin.requests() > enough));
    let began = std::time::Instant::now();
    origins[1].on("/", Behaviour::Answer(500, "broken"));
    let back = becomes_true(PATIENCE, || weight(&proxy, "canary") == 0);
    let took = began.elapsed();
    load.stop();
    let told = history(&proxy);
    assert!(back, "{told:#}");
    let records = told["records"].as_array().expect("records");
    assert!(records.iter().any(|one| one["to"] == "REVERTING" && one["code"] == "guard"), "{told:#}");
    took
}

// --- (d), (e): restarts ---

#[test]
fn a_kill_in_the_middle_resumes_at_the_same_weight() {
    let origins = pair();
    let block = format!("version: v2, steps: [10, 50, 100], {LONG}");
    let proxy = Proxy::start(&text(&origins, &block));
    await_state(&proxy, &["STAGE"]);
    verb(&proxy, "advance", &json!({ "force": true, "reason": "a test" }));
    assert!((share(&proxy) - 0.5).abs() < 0.001);
    let run = rollout(&proxy)["run"].clone();
    let proxy = killed(proxy, |_| {});
    let resumed = await_state(&proxy, &["STAGE", "HOLD"]);
    assert_eq!((&resumed["run"], &resumed["step"]), (&run, &json!(1)), "{resumed:#}");
    assert!((share(&proxy) - 0.5).abs() < 0.001, "{resumed:#}");
    // A pause outlives it as well.
    verb(&proxy, "pause", &json!({ "reason": "lunch" }));
    let proxy = killed(proxy, |_| {});
    let paused = await_state(&proxy, &["PAUSED"]);
    assert_eq!(paused["reason"], "lunch", "{paused:#}");
}

#[test]
fn a_canary_that_turns_bad_over_a_restart_is_put_back() {
    let origins = pair();
    let block = format!("version: v2, steps: [50, 100], {LONG}");
    let proxy = Proxy::start(&text(&origins, &block));
    await_state(&proxy, &["STAGE"]);
    let proxy = killed(proxy, |_| {});
    origins[1].on("/", Behaviour::Answer(500, "broken"));
    let load = load(&proxy);
    // Nothing but traffic may be needed for it to be judged again: no edit, no verb.
    await_state(&proxy, &["REVERTED"]);
    load.stop();
    assert_eq!(weight(&proxy, "canary"), 0);
}

#[test]
fn a_kill_never_starts_again_what_was_put_back() {
    let origins = broken();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [50, 100], {QUICK}")));
    let load = load(&proxy);
    await_state(&proxy, &["REVERTING", "REVERTED"]);
    load.stop();
    let proxy = killed(proxy, |_| {});
    let back = await_state(&proxy, &["REVERTED"]);
    assert_eq!(back["share"].as_f64(), Some(0.0), "{back:#}");
    no_canary(&proxy, &origins);
    assert_eq!(rollout(&proxy)["state"], "REVERTED");
}

#[test]
fn history_outlives_a_kill() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [10, 50, 100], {LONG}")));
    await_state(&proxy, &["STAGE"]);
    let aborted = json!({ "reason": "no", "actor": "ann" });
    assert_eq!(verb(&proxy, "abort", &aborted).0, 200);
    let proxy = killed(proxy, |_| {});
    let told = history(&proxy);
    let records = told["records"].as_array().expect("records");
    assert!(records.iter().any(|one| one["to"] == "ABORTED" && one["actor"] == "ann"), "{told:#}");
}

#[test]
fn a_corrupt_state_gives_the_canary_nothing_and_waits_for_a_person() {
    let block = format!("version: v2, steps: [50, 100], {LONG}");
    for (what, content) in [
        ("garbage", "not json"),
        ("empty", ""),
        ("truncated", "{\"schema\":2,\"checksum\":\"0\",\"sta"),
        ("newer", "{\"schema\":99}"),
    ] {
        let origins = pair();
        let proxy = Proxy::start(&text(&origins, &block));
        await_state(&proxy, &["STAGE"]);
        let proxy = killed(proxy, |site| {
            std::fs::write(site.state().join("overlay.json"), content).expect("written");
        });
        no_canary(&proxy, &origins);
        let paused = await_state(&proxy, &["PAUSED"]);
        assert_eq!(
            (weight(&proxy, "canary"), paused["share"].as_f64()),
            (0, Some(0.0)),
            "{what}: {paused:#}"
        );
        assert_eq!(paused["code"], "state-lost", "{what}: {paused:#}");
        assert_eq!(verb(&proxy, "resume", &json!({ "reason": "looked at it" })).0, 200, "{what}");
        await_state(&proxy, &["STAGE"]);
    }
}

// --- (g): edits ---

#[test]
fn an_edited_policy_keeps_the_weight_or_goes_down() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [10, 50, 100], {LONG}")));
    await_state(&proxy, &["STAGE"]);
    verb(&proxy, "advance", &json!({ "force": true, "reason": "a test" }));
    let run = rollout(&proxy)["run"].clone();
    for (steps, step, percent) in [("[10, 25, 50, 100]", 2, 50.0), ("[20, 30, 60, 100]", 1, 30.0)] {
        proxy.reload(&text(&origins, &format!("version: v2, steps: {steps}, {LONG}")));
        eventually(steps, || {
            rollout(&proxy)["step"] == step && (share(&proxy) * 100.0 - percent).abs() < 0.1
        });
        assert_eq!(rollout(&proxy)["run"], run, "{steps}: {:#}", rollout(&proxy));
    }
    proxy.reload(&text(&origins, &format!("version: v2, steps: [40, 100], {LONG}")));
    // Below the first step it begins again at the first of the new ones.
    eventually("it is at 40 %", || {
        rollout(&proxy)["state"] == "STAGE" && (share(&proxy) - 0.4).abs() < 0.001
    });
}

#[test]
fn another_version_takes_its_place_from_the_beginning() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins, &format!("version: v2, steps: [10, 50, 100], {LONG}")));
    await_state(&proxy, &["STAGE"]);
    verb(&proxy, "advance", &json!({ "force": true, "reason": "a test" }));
    proxy.reload(&text(&origins, &format!("version: v3, steps: [10, 50, 100], {LONG}")));
    eventually("v3 is at its first step", || {
        let now = rollout(&proxy);
        now["version"] == "v3" && now["state"] == "STAGE" && now["step"] == 0
    });
    assert!((share(&proxy) - 0.1).abs() < 0.001);
    let told = history(&proxy);
    let records = told["records"].as_array().expect("records");
    let superseded = records.iter().find(|one| one["to"] == "SUPERSEDED");
    assert_eq!(superseded.map(|one| &one["version"]), Some(&json!("v2")), "{told:#}");
}

#[test]
fn a_removed_block_puts_back_what_is_live_and_keeps_what_is_promoted() {
    let origins = pair();
    let block = format!("version: v2, steps: [10, 50, 100], {LONG}");
    let proxy = Proxy::start(&text(&origins, &block));
    await_state(&proxy, &["STAGE"]);
    proxy.reload(&text(&origins, ""));
    eventually("the canary has nothing", || weight(&proxy, "canary") == 0);
    no_canary(&proxy, &origins);

    let origins = pair();
    let proxy = Proxy::start(&text(&origins, &block));
    await_state(&proxy, &["STAGE"]);
    for _ in 0..2 {
        verb(&proxy, "promote", &json!({ "force": true, "reason": "a test" }));
    }
    await_state(&proxy, &["PROMOTED"]);
    let other = text(&origins, &format!("version: v3, steps: [10, 50, 100], {LONG}"));
    proxy.site.write(&other);
    eventually("the next version is refused until this one is finished", || {
        let load = proxy.read("/api/v1/status")["config"]["lastReload"].clone();
        load["ok"] == false && load.to_string().contains("finish")
    });
    assert_eq!((weight(&proxy, "stable"), &rollout(&proxy)["version"]), (0, &json!("v2")));
    proxy.site.write(&text(&origins, ""));
    eventually("the file without a block is in force", || {
        proxy.read("/api/v1/status")["config"]["lastReload"]["ok"] == true
    });
    assert_eq!(weight(&proxy, "stable"), 0, "the weight stays until the split is edited");
    let edited = text(&origins, "").replace("canary: 5", "canary: 6");
    proxy.reload(&edited);
    eventually("the file's own split is in force", || {
        weight(&proxy, "canary") == 6 && weight(&proxy, "stable") == 95
    });
}

#[test]
fn a_version_that_was_put_back_is_not_started_by_writing_it_again() {
    let origins = broken();
    let block = |version: &str| format!("version: {version}, steps: [50, 100], {QUICK}");
    let proxy = Proxy::start(&text(&origins, &block("v2")));
    let load = load(&proxy);
    await_state(&proxy, &["REVERTED"]);
    load.stop();
    proxy.reload(&text(&origins, ""));
    proxy.reload(&text(&origins, &block("v2")));
    let idle = await_state(&proxy, &["IDLE", "REVERTED"]);
    assert_eq!(weight(&proxy, "canary"), 0, "{idle:#}");
    no_canary(&proxy, &origins);
}

#[test]
fn an_arm_that_leads_elsewhere_ends_the_comparison() {
    let origins = pair();
    let other = Origin::start("other");
    let block = format!("version: v2, steps: [10, 50, 100], {LONG}");
    let written = text(&origins, &block).replacen(" }\n", &format!(", other: \"{}\" }}\n", other.url()), 1);
    let proxy = Proxy::start(&written);
    await_state(&proxy, &["STAGE"]);
    verb(&proxy, "advance", &json!({ "force": true, "reason": "a test" }));
    let run = rollout(&proxy)["run"].as_u64();
    // Another address of the same upstream is a deployment going on; another upstream is another canary.
    proxy.reload(&written.replace("canary: 5", "canary: { weight: 5, upstream: other }"));
    eventually("it begins again", || {
        let now = rollout(&proxy);
        now["run"].as_u64() > run && now["state"] == "STAGE" && now["step"] == 0
    });
}
