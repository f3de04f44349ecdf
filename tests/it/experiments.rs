//! Experiments: flags by list, file, attribute, window and percent, told by requests, status and metrics.
//!
//! Every rule is seen three ways: by whom it steers, by what `status` says of it, and by the counter
//! that carries its name.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::split::user_in;
use crate::support::tools::switchback;
use crate::support::{Origin, Proxy, Request, Site, ask, crowd, get, share_is, upstreams, users};

const CHOICES: &str = "switchback_choices_total";
const SECRET: &str = "a-secret-of-enough-bytes";

fn at(hours: i64) -> String {
    (Timestamp::now() + SignedDuration::from_hours(hours)).to_string()
}

/// One rule of each kind on one route.
fn rules() -> String {
    let when = |name: &str| format!("when: {{ headers: [{{ name: x-{name}, present: true }}] }}");
    [
        "{ name: list, owner: ann, when: { stickyKey: { in: [alice, bob] } }, arm: canary }".to_owned(),
        "{ name: file, when: { stickyKey: { inFile: beta.txt } }, arm: canary }".to_owned(),
        "{ name: attribute, owner: growth, when: { headers: [{ name: x-plan, in: [pro] }, { name: x-age, greaterThan: 17 }] }, arm: canary }".to_owned(),
        format!("{{ name: open, {}, arm: canary, activeFrom: {}, activeUntil: {} }}", when("open"), at(-1), at(1)),
        format!("{{ name: later, {}, arm: canary, activeFrom: {} }}", when("later"), at(1)),
        format!("{{ name: over, owner: sales, {}, arm: canary, activeUntil: {} }}", when("over"), at(-24)),
        "{ name: half, when: { headers: [{ name: x-office, present: true }] }, split: { stable: 50, canary: 50 } }".to_owned(),
        "{ name: lab, when: { headers: [{ name: x-lab, secretFile: lab.secret }] }, arm: canary, trusted: true }".to_owned(),
        format!("{{ name: boss, {}, arm: canary, force: true }}", when("boss")),
    ]
    .map(|rule| format!("      - {rule}\n"))
    .concat()
}

fn start(origins: &[&Origin], more: &str) -> Proxy {
    let site = Site::new(&format!(
        "{}routes:\n  - name: all\n    split: {{ stable: 95, canary: 5 }}\n    armHeader: {{ upstream: x-switchback-arm, client: x-arm }}\n    \
         sticky: {{ by: [{{ header: x-user-id }}] }}\n    overrides:\n{}{more}",
        upstreams(origins),
        rules()
    ));
    site.place("beta.txt", "carol\n");
    site.place("lab.secret", &format!("another-secret-long-enough\n{SECRET}\n"));
    site.start()
}

fn user(name: &str) -> Request {
    get("/").header("x-user-id", name)
}

fn stable_user() -> Request {
    user(&user_in("all", 1_000..4_500))
}

/// What `status` says of a rule.
#[track_caller]
fn told(proxy: &Proxy, rule: &str) -> Value {
    let route = proxy.read("/api/v1/routes/all");
    let rules = route["overrides"].as_array().expect("overrides");
    rules.iter().find(|one| one["name"] == rule).unwrap_or_else(|| panic!("no {rule} in {route}")).clone()
}

fn status(proxy: &Proxy) -> String {
    let admin = format!("http://{}", proxy.site.admin());
    let status = switchback(&proxy.site.folder(), &["status", "all", "--admin", &admin]);
    assert_eq!(status.code, Some(0), "{status:?}");
    status.out
}

/// A rule, a request it catches, one it does not, and what its state is.
fn rows() -> Vec<(&'static str, Option<Request>, Request, &'static str)> {
    let with = |name: &str, value: &str| stable_user().header(name, value);
    vec![
        ("list", Some(user("alice")), user("alicia-who-is-on-stable-5"), "active"),
        ("file", Some(user("carol")), stable_user(), "active"),
        (
            "attribute",
            Some(with("x-plan", "pro").header("x-age", "18")),
            with("x-plan", "pro").header("x-age", "17"),
            "active",
        ),
        ("open", Some(with("x-open", "1")), stable_user(), "active"),
        ("later", None, with("x-later", "1"), "pending"),
        ("over", None, with("x-over", "1"), "expired"),
        ("half", Some(with("x-office", "1")), stable_user(), "active"),
        ("lab", Some(with("x-lab", SECRET)), with("x-lab", "a-secret-of-enough-byte"), "active"),
        ("boss", Some(with("x-boss", "1")), stable_user(), "active"),
    ]
}

#[test]
fn every_rule_is_told_by_requests_by_status_and_by_metrics() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = start(&[&stable, &canary], "");
    for (rule, hit, miss, state) in rows() {
        let hits = u64::from(hit.is_some());
        if let Some(hit) = hit {
            let answer = proxy.ask(&hit);
            assert_eq!((answer.origin(), answer.header("x-arm")), ("canary", Some("canary")), "{rule}");
            let seen = canary.last();
            assert_eq!(seen.header("x-switchback-arm"), Some("canary"), "{rule}");
            assert_eq!(seen.header("x-lab"), None, "a secret stops here");
        }
        assert_eq!(proxy.ask(&miss).header("x-arm"), Some("stable"), "{rule}");
        proxy.settles(CHOICES, &[("route", "all"), ("reason", "override"), ("rule", rule)], hits);
        let told = told(&proxy, rule);
        assert_eq!((&told["hits"], &told["state"]), (&json!(hits), &json!(state)), "{told}");
        assert_eq!(told["lastMinute"], hits, "{told}");
        if hits > 0 {
            assert_eq!(told["hitsByArm"], json!({ "canary": 1 }), "{told}");
        }
        assert!(told["since"].as_str().is_some_and(|since| since.starts_with("20")), "{told}");
        assert_eq!(told["stale"], Value::Null, "too early to say");
    }
    assert_eq!(told(&proxy, "attribute")["owner"], "growth");
    assert_eq!(told(&proxy, "half")["split"], json!({ "canary": 50.0, "stable": 50.0 }));
    assert!(told(&proxy, "open")["activeUntil"].as_str() > told(&proxy, "open")["activeFrom"].as_str());
    let text = status(&proxy);
    for line in [
        "override list (ann) -> canary  1 hits, 1 in the last minute\n",
        "override half -> canary 50%, stable 50%  1 hits, 1 in the last minute\n",
        "0 hits  pending\n",
        "0 hits  EXPIRED: it catches nothing\n",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(!text.contains(SECRET) && !proxy.err().join("\n").contains(SECRET));
}

#[test]
fn a_percent_inside_a_segment_is_sticky_and_counted_by_arm() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = start(&[&stable, &canary], "");
    let users = users(1_000);
    let arms = || ask(proxy.web(), users.len(), |index| user(&users[index]).header("x-office", "1"));
    let first = arms();
    let on_canary = crowd::count(&first, "canary");
    share_is("canary inside", on_canary, users.len(), 0.5, 4.0);
    assert_eq!(arms(), first, "the same users");
    proxy.settles(CHOICES, &[("rule", "half")], 2 * users.len() as u64);
    let told = told(&proxy, "half");
    assert_eq!(
        told["hitsByArm"],
        json!({ "canary": 2 * on_canary, "stable": 2 * (users.len() - on_canary) })
    );
    assert_eq!(told["stale"], "always hit", "nothing else was asked: {told}");
    assert!(status(&proxy).contains("STALE: always hit since "));
}

#[test]
fn a_rule_that_catches_nobody_is_listed_as_stale() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = start(&[&stable, &canary], "");
    ask(proxy.web(), 10_000, |_| stable_user());
    proxy.settles("switchback_requests_total", &[("route", "all")], 10_000);
    for (rule, stale) in [("lab", json!("never hit")), ("later", Value::Null), ("over", Value::Null)] {
        assert_eq!(told(&proxy, rule)["stale"], stale, "{rule}");
    }
}

#[test]
fn the_kill_switch_stops_every_rule_but_a_forced_one() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = start(&[&stable, &canary], "");
    let caught = || -> Vec<(&str, Request)> {
        rows().into_iter().filter_map(|(rule, hit, ..)| Some((rule, hit?))).collect()
    };
    proxy.weights("all", &[("stable", 100)]);
    let before = canary.requests();
    for (rule, hit) in caught() {
        let expected = if rule == "boss" { "canary" } else { "stable" };
        assert_eq!(proxy.ask(&hit).origin(), expected, "{rule}");
    }
    assert_eq!(canary.requests(), before + 1, "the forced one alone");
    assert_eq!(
        (&told(&proxy, "list")["state"], &told(&proxy, "boss")["state"]),
        (&json!("void"), &json!("active"))
    );
    assert_eq!(
        (&told(&proxy, "list")["off"], &told(&proxy, "boss")["off"]),
        (&json!(["canary"]), &Value::Null)
    );
    assert!(status(&proxy).contains("override list (ann) -> canary  0 hits  VOID: its arm was taken back\n"));
    proxy.reset_weights("all");
    for (rule, hit) in caught() {
        assert_eq!(proxy.ask(&hit).origin(), "canary", "{rule} again");
    }
}
