//! What a policy says is done about harm: nothing but a record, a wait for a person; and what a
//! pipeline learns of the end.
//!
//! A canary that fails every answer stays where it is as long as the policy or a person wants it
//! there. It must never be taken for a pause that traffic simply stops coming.

use std::process::Command;

use super::{
    LIMIT, QUICK, await_state, canary_share, never_put_back, pair, records, requests, rollout, routes,
    start_all, traffic, upstreams, verb, within,
};
use crate::support::tools::{binary, run};
use crate::support::{Origin, Proxy, needs};

/// Requests to the canary that must follow, to say that it still has its weight.
const MORE: u64 = 100;

fn text(on_harm: &str, hooks: &str) -> String {
    let block = format!(
        "steps: [{{ weight: 50, dwell: 1h }}, 100], deadline: {{ step: 2h }}, onHarm: {on_harm}, {QUICK}{hooks}"
    );
    routes(1, &block, "")
}

#[test]
fn observe_records_what_it_would_have_done_and_moves_nothing() {
    needs!("nginx");
    let (pair, outside) = (pair(100), Origin::start("outside"));
    let hooks = format!(", hooks: [{{ name: told, event: event, url: \"{}/told\" }}]", outside.url());
    let proxy = Proxy::start(&(upstreams(&pair) + &text("observe", &hooks)));
    let load = traffic(&proxy, 1, 200);
    start_all(&proxy, 1);
    let observed = || {
        let said = |one: &serde_json::Value| {
            one["reason"].as_str().is_some_and(|reason| reason.starts_with("would have reverted"))
        };
        records(&proxy, "r0").into_iter().find(said)
    };
    within(LIMIT, "it says what it would have done", || observed().is_some());
    let before = (requests(&proxy, "r0", "canary"), outside.requests());
    assert!(before.1 > 0, "somebody outside is told");
    within(LIMIT, "the canary goes on", || requests(&proxy, "r0", "canary") >= before.0 + MORE);
    never_put_back(&proxy, "r0");
    let now = rollout(&proxy, "r0");
    assert!(now["state"] == "STAGE" || now["state"] == "HOLD", "{now:#}");
    assert!((canary_share(&proxy, "r0") - 0.5).abs() < 1e-9, "{now:#}");
    let record = observed().expect("just seen");
    assert_eq!(record["before"], record["after"], "{record:#}");
    assert!(record["evidence"]["rule"].is_string() && record["samples"]["canary"]["e"].as_u64() >= Some(5));
    load.stop();
}

#[test]
fn pause_waits_for_a_person_who_ends_it() {
    needs!("nginx");
    let pair = pair(100);
    let proxy = Proxy::start(&(upstreams(&pair) + &text("pause", "")));
    let load = traffic(&proxy, 1, 200);
    start_all(&proxy, 1);
    let paused = await_state(&proxy, "r0", &["PAUSED", "REVERTED", "PROMOTED"], LIMIT);
    assert_eq!(paused["state"], "PAUSED", "{paused:#}");
    let before = requests(&proxy, "r0", "canary");
    within(LIMIT, "the canary keeps its weight", || requests(&proxy, "r0", "canary") >= before + MORE);
    never_put_back(&proxy, "r0");
    let now = rollout(&proxy, "r0");
    assert_eq!((&now["state"], now["share"].as_f64()), (&"PAUSED".into(), Some(0.5)), "{now:#}");
    let (status, answer) = verb(&proxy, "r0", "resume", "looks fine to me");
    assert_eq!(status, 409, "what is harmful goes on by force alone: {answer:#}");
    assert_eq!(verb(&proxy, "r0", "abort", "enough").0, 200);
    await_state(&proxy, "r0", &["ABORTED"], LIMIT);
    assert!(canary_share(&proxy, "r0").abs() < 1e-9);
    load.stop();
}

/// What a pipeline would do: wait, and decide by the exit code alone.
const SCRIPT: &str = r#"
verdict() {
  "$SWITCHBACK" rollout wait "$1" --timeout "$2" --admin "$ADMIN" --token-file "$TOKEN" > /dev/null
  case $? in
    0) echo "$1: promoted, go on" ;;
    3) echo "$1: put back, stop" ;;
    4) echo "$1: undecided, ask somebody" ;;
    *) echo "$1: cannot tell" ;;
  esac
}
verdict good 80s
verdict bad 80s
verdict silent 1s
"#;

#[test]
fn a_shell_script_learns_all_three_ends() {
    needs!("nginx");
    let pair = pair(100);
    let block = |version: &str| format!("rollout: {{ version: {version}, steps: [50, 100], {QUICK} }}");
    let (good, bad) = (pair[0].url(), pair[1].url());
    let route = |name: &str, upstream: &str| {
        format!(
            "  - {{ name: {name}, hostnames: [{name}.test], {},\n      split: {{ stable: 95, \
             canary: {{ weight: 5, upstream: {upstream} }} }} }}\n",
            block("v2")
        )
    };
    let proxy = Proxy::start(&format!(
        "upstreams: {{ stable: \"{good}\", good: \"{good}\", bad: \"{bad}\" }}\nroutes:\n{}",
        route("good", "good") + &route("bad", "bad") + &route("silent", "good")
    ));
    let load =
        crate::support::load::Load::h1(proxy.web(), 8, std::time::Duration::from_millis(20), |index| {
            crate::support::get("/").host(if index % 2 == 0 { "good.test" } else { "bad.test" })
        });
    let mut shell = Command::new("sh");
    shell
        .args(["-c", SCRIPT])
        .env("SWITCHBACK", binary())
        .env("ADMIN", format!("http://{}", proxy.site.admin()))
        .env("TOKEN", proxy.site.state().join("admin.token"));
    let told = run(&mut shell, b"");
    load.stop();
    assert_eq!(
        told.out, "good: promoted, go on\nbad: put back, stop\nsilent: undecided, ask somebody\n",
        "{told:?}"
    );
}
