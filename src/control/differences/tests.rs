//! Pairs made by hand, through the thread.

use http::{HeaderValue, Method};

use super::*;
use crate::model::{BodyRule, Heard};

fn heard(status: u16, body: &str) -> Heard {
    let body = bytes::Bytes::copy_from_slice(body.as_bytes());
    Heard { status, body, nanos: 1_000_000, failed: status >= 500, ..Heard::default() }
}

fn pair(route: &str, millis: u64, noise: bool, primary: Heard, shadow: Heard) -> Pair {
    Pair {
        route: route.into(),
        mirror: 0,
        request_id: HeaderValue::from_static("id"),
        method: Method::GET,
        path: "/".into(),
        noise,
        primary,
        shadow,
        unix_millis: millis,
    }
}

/// A plan with one mirror of route `all`, whose version can be exchanged.
fn started(live: bool) -> (Differences, Arc<dyn PairSink>, Arc<Mutex<Option<Wanted>>>) {
    let rules = CompareRules { status: true, body: BodyRule::Json, ..CompareRules::default() };
    let plan = Arc::new(Mutex::new(Some(Wanted { to: "canary".into(), rules: Some(rules), live })));
    let known = Arc::clone(&plan);
    let lookup = move |route: &str, mirror: u8| {
        let known = known.lock().expect("a plan").clone();
        known.filter(|_| route == "all" && mirror == 0)
    };
    let (differences, sink) = start(Box::new(lookup));
    (differences, sink, plan)
}

/// Waits until something holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn pairs_of(differences: &Differences) -> Option<u64> {
    let rows = differences.rows();
    rows.get("all")?.get(&0).map(|row| row.report.pairs + row.report.noise)
}

#[test]
fn what_differs_is_told_and_what_is_gone_is_forgotten() {
    let (differences, sink, plan) = started(true);
    for at in 0..2_000_u64 {
        let noise = at % 5 == 0;
        let shadow = if at % 50 == 1 { r#"{"price":2}"# } else { r#"{"price":1}"# };
        let one = pair("all", at * 10, noise, heard(200, r#"{"price":1}"#), heard(200, shadow));
        eventually("there is room again", || sink.pair(one.clone()));
    }
    assert!(sink.pair(pair("unknown", 0, false, heard(200, ""), heard(500, ""))));
    eventually("all are counted", || pairs_of(&differences) == Some(2_000));
    assert_eq!(differences.confirmed("all"), Vec::<String>::new(), "too few to be sure");
    for at in 0..3_000_u64 {
        let noise = at % 5 == 0;
        let shadow = if at % 50 == 1 { r#"{"price":2}"# } else { r#"{"price":1}"# };
        let one = pair("all", at * 10, noise, heard(200, r#"{"price":1}"#), heard(200, shadow));
        eventually("there is room again", || sink.pair(one.clone()));
    }
    eventually("it is confirmed", || differences.confirmed("all") == ["json-value $.price"]);
    assert_eq!(differences.rows().len(), 1);
    // Another version of the canary begins a phase: nothing of the old one is said of it.
    differences.begin("all");
    assert!(differences.confirmed("all").is_empty() && differences.take("all").is_empty());
    assert!(sink.pair(pair("all", 0, false, heard(200, "1"), heard(200, "1"))));
    eventually("it is counted anew", || pairs_of(&differences) == Some(1));
    *plan.lock().expect("a plan") = None;
    eventually("a mirror that is gone is forgotten", || differences.rows().is_empty());
}

#[test]
fn a_shadow_phase_reads_each_pair_once_by_its_moment() {
    let (differences, sink, _) = started(true);
    let rows =
        [(1_000, 200, 200), (1_099, 200, 500), (1_100, 500, 200), (1_050, 200, 503), (1_310, 500, 500)];
    for (at, primary, shadow) in rows {
        assert!(sink.pair(pair("all", at, false, heard(primary, ""), heard(shadow, ""))));
    }
    assert!(sink.pair(pair("all", 1_000, true, heard(200, ""), heard(500, ""))), "noise is no evidence");
    eventually("all are counted", || pairs_of(&differences) == Some(6));
    let paired =
        |both_good, stable_bad, shadow_bad, both_bad| Paired { both_good, stable_bad, shadow_bad, both_bad };
    assert_eq!(differences.take("all"), [paired(1, 0, 2, 0), paired(0, 1, 0, 0), paired(0, 0, 0, 1)]);
    assert_eq!(differences.take("all"), []);
    let (differences, sink, _) = started(false);
    assert!(sink.pair(pair("all", 0, false, heard(200, ""), heard(500, ""))));
    eventually("it is counted", || pairs_of(&differences) == Some(1));
    assert_eq!(differences.take("all"), [], "no phase is under way");
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    // The thread is held up at its first pair.
    let (go, wait) = sync_channel::<()>(0);
    let wait = Mutex::new(wait);
    let lookup = move |_: &str, _: u8| {
        let _ = wait.lock().expect("the only reader").recv();
        None
    };
    let (differences, sink) = start(Box::new(lookup));
    let body = "x".repeat(1 << 20);
    let large = || pair("all", 0, false, heard(200, &body), heard(200, &body));
    let taken = (0..100).filter(|_| sink.pair(large())).count();
    // The first one may have left the queue already.
    assert!((4..=5).contains(&taken), "{taken}");
    assert_eq!(differences.dropped(), 100 - taken as u64);
    drop(go);
    let small = || pair("all", 0, false, heard(200, ""), heard(200, ""));
    eventually("there is room again", || sink.pair(small()));
}
