//! Who can move a rollout by what they ask for, and who cannot: testers, strangers, floods.
//!
//! Addresses are those a trusted proxy tells. Nobody who steers a request, and no single address,
//! may put a healthy canary back or keep a bad one up; the users of the canary are what counts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{
    LIMIT, await_state, counted, figure, float, never_put_back, nginx, pair, record_to, requests, rollout,
    routes, start_all, traffic, upstreams, within,
};
use crate::support::load::Load;
use crate::support::{Proxy, Request, Stranger, get, long, needs};

const SOON: &str = "steps: [{ weight: 20, dwell: 1h }, 100], deadline: { step: 2h }, \
                    analysis: { warmup: { errors: 0 } }";
const DEFAULT: &str = "steps: [{ weight: 5, dwell: 1h }, 100], deadline: { step: 2h }";
const TESTERS: &str = ", overrides: [{ name: testers, arm: canary, \
                       when: { headers: [{ name: x-canary, value: \"1\" }] } }]";
/// The clients stand behind a balancer that is believed.
const BEHIND: &str = "trustedProxies: [\"127.0.0.1/32\"]\n";

fn from(address: &str, path: &str) -> Request {
    get(path).host("r0.test").header("x-forwarded-for", address)
}

/// Healthy everyday requests of this many addresses in turn, 200 a second.
fn crowd(proxy: &Proxy, addresses: usize) -> Load {
    Load::h1(proxy.web(), 4, Duration::from_millis(20), move |index| {
        let number = index % addresses;
        from(&format!("10.1.{}.{}", number / 250, number % 250), "/")
    })
}

#[test]
fn a_tester_is_off_the_arm_when_it_is_put_back() {
    needs!("nginx");
    let runs = if long() { 10 } else { 1 };
    let pair = pair(100);
    let mut late = Vec::new();
    for _ in 0..runs {
        let proxy = Proxy::start(&(upstreams(&pair) + &routes(1, DEFAULT, TESTERS)));
        let load = traffic(&proxy, 1, 200);
        let last = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&last);
        let tester = Load::each(proxy.web(), 1, Duration::from_millis(5), move |conn, _| {
            let began = jiff::Timestamp::now();
            let asked = get("/").host("r0.test").header("x-canary", "1");
            let answer = conn.send(&asked).map_err(|error| error.to_string())?;
            if answer.origin() == "canary" {
                *noted.lock().expect("a moment") = Some(began);
            }
            Ok(())
        });
        start_all(&proxy, 1);
        await_state(&proxy, "r0", &["REVERTING", "REVERTED"], LIMIT);
        // Whatever begins after the API has said so goes to stable.
        for _ in 0..50 {
            let asked = get("/").host("r0.test").header("x-canary", "1");
            assert_eq!(proxy.ask(&asked).expect_status(200).origin(), "stable");
        }
        let report = tester.stop();
        load.stop();
        assert_eq!(report.failed, 0, "{report:?}");
        let back = record_to(&proxy, "r0", "REVERTING").expect("a record");
        let at: jiff::Timestamp = back["at"].as_str().and_then(|at| at.parse().ok()).expect("a moment");
        let seen = last.lock().expect("a moment").expect("the tester was on the canary");
        late.push(seen.duration_since(at).as_secs_f64().max(0.0) * 1e3);
    }
    let (_, most) = figure("a tester's last canary request after the revert", "ms", late);
    // The short form says nothing about time: the machine may be busy.
    assert!(!long() || most <= 1_000.0, "{most} ms");
}

fn breakable() -> [Stranger; 2] {
    ["stable", "canary"].map(|name| nginx(name, 0, "", "location = /break { return 500 \"broken\\n\"; }"))
}

/// Waits for so many judged canary requests, with nobody put back.
fn judged(proxy: &Proxy, enough: u64) {
    within(3 * LIMIT, "the canary is judged", || {
        never_put_back(proxy, "r0");
        counted(proxy, "r0", "canary").0 >= enough
    });
    let now = rollout(proxy, "r0");
    assert!(now["state"] == "STAGE" || now["state"] == "HOLD", "{now:#}");
    assert!(now["share"].as_f64() > Some(0.04), "{now:#}");
}

#[test]
fn strangers_who_steer_themselves_to_the_canary_and_break_it_are_not_heard() {
    needs!("nginx");
    let pair = breakable();
    let proxy = Proxy::start(&(format!("{BEHIND}{}", upstreams(&pair)) + &routes(1, SOON, TESTERS)));
    let load = crowd(&proxy, 200);
    start_all(&proxy, 1);
    let strangers = Load::each(proxy.web(), 4, Duration::from_millis(20), |conn, number| {
        let asked = from(&format!("198.51.100.{}", number % 50), "/break").header("x-canary", "1");
        match conn.send(&asked) {
            Ok(answer) if answer.status == 500 && answer.origin() == "canary" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    judged(&proxy, if long() { 10_000 } else { 300 });
    let report = strangers.stop();
    load.stop();
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(report.done >= 200, "{report:?}");
    assert_eq!(counted(&proxy, "r0", "canary").1, 0, "none of it is charged to the canary");
    println!("FIGURE | 50 strangers broke the canary {} times by override: no revert", report.done);
}

#[test]
fn one_client_whose_requests_fail_everywhere_is_one_client() {
    needs!("nginx");
    let pair = breakable();
    let proxy = Proxy::start(&(format!("{BEHIND}{}", upstreams(&pair)) + &routes(1, SOON, "")));
    let load = crowd(&proxy, 200);
    let flood = Load::h1(proxy.web(), 4, Duration::from_millis(20), |index| {
        from("203.0.113.9", if index % 20 == 0 { "/" } else { "/break" })
    });
    start_all(&proxy, 1);
    judged(&proxy, if long() { 10_000 } else { 300 });
    let report = flood.stop();
    load.stop();
    let (n, bad) = counted(&proxy, "r0", "canary");
    println!(
        "FIGURE | one client, {} of its requests failed; the canary was charged with {bad} of {n}: no revert",
        report.failed
    );
    assert!(report.failed >= 200, "{report:?}");
    // Whoever counts its failures one by one gets hundreds.
    assert!(bad <= 40, "{bad} of {n}");
}

/// A canary that fails the users whose number ends in 0, 1 or 2, while one client floods it.
fn flooded(sticky: bool, block: &str) {
    let maps = "map $http_x_user_id $user { ~[0-2]$ bad; default good; }";
    let fails = "location = /page { if ($user = bad) { return 500 \"broken\\n\"; } return 200 \"ok\\n\"; }";
    let works = "location = /page { return 200 \"ok\\n\"; }";
    let pair = [nginx("stable", 0, maps, works), nginx("canary", 0, maps, fails)];
    let more = if sticky { ", sticky: { by: [{ header: x-user-id }] }" } else { "" };
    let proxy = Proxy::start(&(format!("{BEHIND}{}", upstreams(&pair)) + &routes(1, block, more)));
    let user = |index: usize| {
        let number = index % 2_000;
        from(&format!("10.2.{}.{}", number / 250, number % 250), "/page")
            .header("x-user-id", &format!("u{number}"))
    };
    let load = Load::h1(proxy.web(), 4, Duration::from_millis(20), user);
    let easy = |name: &str| from("203.0.113.7", "/page").header("x-user-id", name);
    start_all(&proxy, 1);
    await_state(&proxy, "r0", &["STAGE", "HOLD", "REVERTED"], LIMIT);
    // On a sticky route the flood belongs to the canary altogether.
    let name = (0..400)
        .map(|number| format!("flood{number}9"))
        .find(|name| !sticky || proxy.ask(&easy(name)).origin() == "canary");
    let name = name.expect("somebody is on the canary");
    let flood = Load::h1(proxy.web(), 8, Duration::from_millis(10), move |_| easy(&name));
    let ended = await_state(&proxy, "r0", &["REVERTED", "PROMOTED", "PAUSED"], 2 * LIMIT);
    let (flood, load) = (flood.stop(), load.stop());
    assert_eq!(ended["state"], "REVERTED", "{ended:#}");
    assert!(flood.done > 0 && flood.failed == 0, "{flood:?}");
    let kind = if sticky { "sticky" } else { "keyless" };
    let asked = requests(&proxy, "r0", "canary");
    println!(
        "         {kind}: {} users hurt, {} easy answers, by {}",
        load.failed,
        flood.done,
        record_to(&proxy, "r0", "REVERTING").expect("a record")["evidence"]["rule"]
    );
    figure(&format!("30 % of users fail beside a flood, {kind}"), "canary requests", vec![float(asked)]);
}

#[test]
fn a_flood_of_easy_answers_does_not_hide_what_users_suffer_without_a_key() {
    needs!("nginx");
    flooded(false, if long() { DEFAULT } else { SOON });
}

#[test]
fn a_flood_of_easy_answers_does_not_hide_what_users_suffer_on_a_sticky_route() {
    needs!("nginx");
    flooded(true, SOON);
}

#[test]
fn a_flood_of_easy_answers_does_not_hide_returning_users_who_fail_from_the_warm_up_on() {
    needs!("nginx");
    flooded(true, DEFAULT);
}

/// Fewer fail than the guard looks for, and all of them come back every few seconds.
#[test]
fn returning_users_of_a_sticky_route_who_always_fail_put_it_back() {
    needs!("nginx");
    let maps = "map $http_x_user_id $user { ~0[0-2]$ bad; default good; }";
    let fails = "location = /page { if ($user = bad) { return 500 \"broken\\n\"; } return 200 \"ok\\n\"; }";
    let works = "location = /page { return 200 \"ok\\n\"; }";
    let pair = [nginx("stable", 0, maps, works), nginx("canary", 0, maps, fails)];
    let sticky = ", sticky: { by: [{ header: x-user-id }] }";
    let block = "steps: [{ weight: 50, dwell: 1h }, 100], deadline: { step: 2h }";
    let proxy = Proxy::start(&(format!("{BEHIND}{}", upstreams(&pair)) + &routes(1, block, sticky)));
    let load = Load::h1(proxy.web(), 4, Duration::from_millis(20), |index| {
        let number = index % 1_000;
        from(&format!("10.3.{}.{}", number / 250, number % 250), "/page")
            .header("x-user-id", &format!("u{number:04}"))
    });
    start_all(&proxy, 1);
    let ended = await_state(&proxy, "r0", &["REVERTED", "PROMOTED", "PAUSED"], LIMIT);
    let report = load.stop();
    assert_eq!(ended["state"], "REVERTED", "{ended:#}");
    println!("FIGURE | 3 % of returning users fail: put back after {} failures", report.failed);
}
