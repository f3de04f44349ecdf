//! Pins: who keeps an arm by a signed cookie, what ends that, and what never makes a pin.
//!
//! Users are chosen by bucket, so that a pin that is not honoured shows at once. Nothing here may
//! depend on time: what ends pins is awaited as an answer of the API.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::load::Load;
use crate::support::origin::Behaviour;
use crate::support::split::user_in;
use crate::support::tools::{cli, switchback};
use crate::support::{Origin, Proxy, Request, Response, Site, eventually, get, upstreams};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const CHOICES: &str = "switchback_choices_total";

fn text(origins: &[&Origin], more: &str) -> String {
    let route = |name: &str| {
        format!(
            "  - {{ name: {name}, hostnames: [{name}.test], split: {{ stable: 50, canary: 50 }}, \
             sticky: {{ by: [{{ header: x-user-id }}], salt: s, pin: {{ cookie: sb_arm, maxAge: 1h, keyFile: pin.key }} }}{more} }}\n"
        )
    };
    format!("{}routes:\n{}{}", upstreams(origins), route("a"), route("b"))
}

fn site(text: &str) -> Site {
    let site = Site::new(text);
    site.place("pin.key", KEY);
    site
}

/// Somebody of the canary's half of the buckets.
fn canary_user() -> Request {
    get("/").host("a.test").header("x-user-id", &user_in("s", 0..5_000))
}

fn stable_user() -> Request {
    get("/").host("a.test").header("x-user-id", &user_in("s", 5_000..10_000))
}

/// The pin an answer brought; `None` when it brought none.
fn pin_of(response: &Response) -> Option<String> {
    let mut lines = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    let line = lines.find_map(|(_, line)| line.strip_prefix("sb_arm="))?;
    Some(line.split(';').next().expect("a value").to_owned())
}

fn pinned(request: Request, pin: &str) -> Request {
    request.header("cookie", &format!("sb_arm={pin}"))
}

fn arm(proxy: &Proxy, name: &str) -> Value {
    let route = proxy.read("/api/v1/routes/a");
    let arms = route["arms"].as_array().expect("arms");
    arms.iter().find(|arm| arm["name"] == name).expect("the arm").clone()
}

fn drain(proxy: &Proxy, arm: &str) -> Response {
    proxy.admin(&proxy.verb("/api/v1/routes/a/drain", &json!({ "arm": arm, "reason": "done with it" })))
}

/// The pin of a canary user, on a proxy on which it holds.
#[track_caller]
fn canary_pin(proxy: &Proxy) -> String {
    let first = proxy.ask(&canary_user());
    assert_eq!(first.origin(), "canary");
    let pin = pin_of(&first).expect("a pin");
    assert_eq!(proxy.ask(&pinned(stable_user(), &pin)).origin(), "canary", "over the bucket");
    pin
}

#[test]
fn both_arms_are_pinned_and_a_pin_outlives_a_change_of_weights() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = site(&text(&[&stable, &canary], "")).start();
    for (user, arm, origin) in [(canary_user(), "canary", &canary), (stable_user(), "stable", &stable)] {
        let first = proxy.ask(&user);
        assert_eq!(first.origin(), arm);
        let set = first.joined("set-cookie").expect("a pin");
        assert!(set.ends_with("; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax"), "{set}");
        let pin = pin_of(&first).expect("a pin");
        // Nothing but the cookie: without a key the draw would decide.
        let cookie = format!("other=1; sb_arm={pin}; last=2");
        for _ in 0..20 {
            let again = proxy.ask(&get("/").host("a.test").header("cookie", &cookie));
            assert_eq!((again.origin(), pin_of(&again)), (arm, None));
            assert_eq!(origin.last().joined("cookie").as_deref(), Some("other=1; last=2"), "ours alone");
        }
        proxy.settles(CHOICES, &[("route", "a"), ("arm", arm), ("reason", "pin")], 20);
    }
    let pin = canary_pin(&proxy);
    proxy.weights("a", &[("stable", 99), ("canary", 1)]);
    assert_eq!(proxy.ask(&pinned(stable_user(), &pin)).origin(), "canary");
    assert_eq!(arm(&proxy, "canary")["pinned"], 22);
    let status = switchback(
        &proxy.site.folder(),
        &["status", "a", "--admin", &format!("http://{}", proxy.site.admin())],
    );
    assert!(status.out.contains("canary: 22 of "), "{status:?}");
    // An override comes before a pin, and pins nobody.
    let steered =
        ", overrides: [{ name: qa, when: { headers: [{ name: x-qa, present: true }] }, arm: stable }]";
    proxy.reload(&text(&[&stable, &canary], steered));
    let answer = proxy.ask(&pinned(stable_user(), &pin).header("x-qa", "1"));
    assert_eq!((answer.origin(), pin_of(&answer)), ("stable", None));
}

#[test]
fn what_was_not_signed_for_this_route_selects_nothing() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = site(&text(&[&stable, &canary], "")).start();
    let pin = canary_pin(&proxy);
    let on_b = get("/").host("b.test").header("x-user-id", &user_in("s", 5_000..10_000));
    let replayed = proxy.ask(&pinned(on_b, &pin));
    assert_eq!(replayed.origin(), "stable", "the pin of another route");
    assert!(pin_of(&replayed).is_some_and(|own| own != pin), "a pin of its own instead");

    let flipped = |at: usize| {
        let mut bytes = pin.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        String::from_utf8(bytes).expect("digits")
    };
    let mut wrong: Vec<String> = (0..pin.len()).step_by(5).map(flipped).collect();
    wrong.extend([0, 1, 32, pin.len() - 1].map(|at| pin[..at].to_owned()));
    wrong.extend([format!("{pin}0"), pin.to_uppercase(), "canary".to_owned(), "%00".to_owned()]);
    let mut conn = proxy.conn();
    for wrong in wrong {
        let answer = conn.ask(&pinned(stable_user(), &wrong)).expect_status(200);
        assert_eq!(answer.origin(), "stable", "{wrong}");
        assert!(pin_of(&answer).is_some(), "assigned anew: {wrong}");
    }
    let copies = |token: &str, last: &str| {
        let copies = vec![format!("sb_arm={token}"); 59].join("; ");
        stable_user().header("cookie", &format!("{copies}; sb_arm={last}"))
    };
    assert_eq!(proxy.ask(&copies(&flipped(90), &pin)).origin(), "stable", "the sixtieth is not looked at");
    assert_eq!(proxy.ask(&copies(&pin, &flipped(90))).origin(), "canary", "the first is");
}

#[test]
fn a_kill_ends_pins_at_once_and_for_ever_and_over_a_restart() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let mut proxy = site(&text(&[&stable, &canary], "")).start();
    let pin = canary_pin(&proxy);
    let before = canary.requests();
    proxy.weights("a", &[("stable", 100)]);
    for _ in 0..20 {
        assert_eq!(proxy.ask(&pinned(canary_user(), &pin)).origin(), "stable");
    }
    assert_eq!(canary.requests(), before);
    proxy.reset_weights("a");
    assert_eq!(proxy.ask(&pinned(stable_user(), &pin)).origin(), "stable", "the arm is back, the pin is not");
    let fresh = canary_pin(&proxy);

    proxy.signal("KILL");
    proxy.await_exit();
    let site = proxy.site.clone();
    drop(proxy);
    let proxy = site.start();
    assert_eq!(proxy.ask(&pinned(stable_user(), &pin)).origin(), "stable", "remembered");
    assert_eq!(proxy.ask(&pinned(stable_user(), &fresh)).origin(), "canary", "the other is still good");
}

#[test]
fn a_drained_arm_keeps_its_pins_and_gets_nobody_new() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = site(&text(&[&stable, &canary], "")).start();
    let pin = canary_pin(&proxy);
    // Toward stable: nobody has to say what they saw.
    let mut ask = proxy.verb("/api/v1/routes/a/drain", &json!({ "arm": "canary", "reason": "done with it" }));
    ask.headers.retain(|(name, _)| name != "if-match");
    let done = proxy.admin(&ask).expect_status(200).json();
    assert_eq!(done["changed"], json!([{ "arm": "canary", "before": 50, "after": 0 }]), "{done}");

    let fresh = proxy.ask(&canary_user());
    assert_eq!(fresh.origin(), "stable", "nobody new");
    for _ in 0..10 {
        assert_eq!(proxy.ask(&pinned(stable_user(), &pin)).origin(), "canary", "who is pinned stays");
    }
    let seen = arm(&proxy, "canary");
    assert_eq!((&seen["drain"]["state"], &seen["weight"]), (&json!("draining"), &json!(0)), "{seen}");
    assert!(seen["pinned"].as_u64() >= Some(10), "{seen}");
    let until = seen["drain"]["untilMillis"].as_u64().zip(seen["drain"]["sinceMillis"].as_u64());
    assert_eq!(until.map(|(until, since)| until - since), Some(3_600_000), "{seen}");
    assert_eq!(drain(&proxy, "canary").expect_status(200).json()["changed"], json!([]), "it is already");

    // The other way round is a move toward canary, and the last arm cannot be emptied.
    let mut ask = proxy.verb("/api/v1/routes/a/drain", &json!({ "arm": "stable" }));
    assert_eq!(proxy.admin(&ask).json()["code"], "last-arm");
    assert_eq!(drain(&proxy, "canray").expect_status(400).json()["code"], "unknown-arm");
    let site = proxy.stop();
    let proxy = site.start();
    assert_eq!(proxy.ask(&pinned(stable_user(), &pin)).origin(), "canary", "over a restart");

    // The same weights said outright are a kill.
    proxy.weights("a", &[("stable", 50), ("canary", 0)]);
    assert_eq!(proxy.ask(&pinned(canary_user(), &pin)).origin(), "stable");
    assert_eq!(arm(&proxy, "canary")["drain"], Value::Null);
    proxy.reset_weights("a");
    ask.headers.retain(|(name, _)| name != "if-match");
    assert_eq!(proxy.admin(&ask).status, 412, "more for the canary");
}

#[test]
fn an_arm_is_drained_when_nothing_runs_and_no_pin_can_hold() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let short = text(&[&stable, &canary], "").replace("maxAge: 1h", "maxAge: 1s");
    let proxy = site(&short).start();
    canary_pin(&proxy);
    let done = cli(&proxy.site, &["drain", "a", "canary"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.starts_with("a canary: 50 -> 0\n"), "{done:?}");
    eventually("the arm is drained", || arm(&proxy, "canary")["drain"]["state"] == "drained");
    let status = cli(&proxy.site, &["status", "a"]);
    assert!(status.out.contains("canary: drained since "), "{status:?}");
    proxy.reset_weights("a");
    assert_eq!(arm(&proxy, "canary")["drain"], Value::Null);
    assert_eq!(proxy.ask(&canary_user()).origin(), "canary");
}

#[test]
fn an_aborted_rollout_takes_its_pins_along_and_the_next_run_does_not_bring_them_back() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let block = ", rollout: { version: v1, steps: [{ weight: 50, dwell: 1h }, 100], deadline: { step: 2h } }";
    let proxy = site(&text(&[&stable, &canary], block)).start();
    let verb = |verb: &str| {
        let ask = proxy.verb(&format!("/api/v1/routes/a/rollout/{verb}"), &json!({ "reason": "test" }));
        proxy.admin(&ask).expect_status(200)
    };
    let half = || arm(&proxy, "canary")["weight"].as_u64() == Some(50);
    eventually("half of the users", half);
    let pin = canary_pin(&proxy);
    verb("abort");
    assert_eq!(proxy.ask(&pinned(canary_user(), &pin)).origin(), "stable", "at once");
    verb("retry");
    eventually("half of the users again", half);
    assert_eq!(proxy.ask(&pinned(stable_user(), &pin)).origin(), "stable", "pins of the run before");
    let again = canary_pin(&proxy);
    // Drained instead: the rollout is over, its users finish.
    drain(&proxy, "canary").expect_status(200);
    assert_eq!(proxy.read("/api/v1/routes/a")["rollout"]["state"], "ABORTED");
    assert_eq!(proxy.ask(&pinned(stable_user(), &again)).origin(), "canary");
    assert_eq!(proxy.ask(&canary_user()).origin(), "stable");
}

#[test]
fn a_key_can_be_changed_without_losing_anybody() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = site(&text(&[&stable, &canary], "")).start();
    let pin = canary_pin(&proxy);
    let next = "fedcba9876543210fedcba9876543210";
    proxy.site.place("pin.key", &format!("{next}\n{KEY}\n"));
    let mut signed = None;
    eventually("it is signed again", || {
        let answer = proxy.ask(&pinned(stable_user(), &pin));
        assert_eq!(answer.origin(), "canary");
        signed = pin_of(&answer);
        signed.is_some()
    });
    proxy.site.place("pin.key", next);
    eventually("the old key is gone", || proxy.ask(&pinned(stable_user(), &pin)).origin() == "stable");
    let signed = signed.expect("a pin");
    assert_eq!(proxy.ask(&pinned(stable_user(), &signed)).origin(), "canary");
    // A file without a key is refused, and the good one serves on.
    proxy.site.place("pin.key", "short");
    eventually("it is refused", || {
        proxy.metrics().count("switchback_config_last_reload_successful", &[]) == 0
    });
    assert_eq!(proxy.ask(&pinned(stable_user(), &signed)).origin(), "canary");
    assert!(!proxy.err().join("\n").contains(next) && proxy.err().join("\n").contains("bad-key"));
}

#[test]
fn a_version_that_was_put_back_loses_its_pinned_users_at_once() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let block = ", rollout: { version: v1, steps: [{ weight: 50, dwell: 1h }, 100], deadline: { step: 2h }, \
                 analysis: { confidence: low, minRequests: 5, warmup: { errors: 0, latency: 0 } } }";
    let proxy = site(&text(&[&stable, &canary], block)).start();
    eventually("half of the users", || arm(&proxy, "canary")["weight"].as_u64() == Some(50));
    let pin = canary_pin(&proxy);
    // It breaks for everybody; only those who are not pinned say so to the comparison.
    canary.on("/", Behaviour::Answer(500, "broken"));
    let load = Load::h1(proxy.web(), 2, Duration::from_millis(10), |index| {
        get("/").host("a.test").header("x-user-id", &format!("user-{index}"))
    });
    let state = || proxy.read("/api/v1/routes/a")["rollout"]["state"].clone();
    eventually("it is put back", || ["REVERTING", "REVERTED"].iter().any(|known| state() == *known));
    for _ in 0..20 {
        let answer = proxy.ask(&pinned(canary_user(), &pin)).expect_status(200);
        assert_eq!(answer.origin(), "stable");
    }
    load.stop();
    let all = proxy.metrics().count(CHOICES, &[("route", "a"), ("arm", "canary"), ("reason", "pin")]);
    assert_eq!(all, 1, "the one that proved the pin");
}
