//! Copies for a shadow: whole sessions, byte for byte, and nobody who waits for an answer notices.
//!
//! A shadow is a stranger: it hangs, resets, is slow, or never stops answering. The original is
//! asked all the while, and must come out as if there were no shadow, with every copy counted once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::h2_origin::{Caller, H2Origin};
use crate::support::raw::{self, RawOrigin, Script};
use crate::support::tools::long;
use crate::support::{
    Behaviour, Conn, Gate, Origin, Proxy, Request, eventually, get, post, runtime, upstreams,
};

const MIB: usize = 1 << 20;
/// Copies under way at most, per worker: the contract's number.
const IN_FLIGHT: usize = 256;

const REQUESTS: &str = "switchback_mirror_requests_total";

/// One worker in front of `stable`, with a mirror to `shadow` of these keys.
fn text(stable: &str, shadow: &str, route: &str, mirror: &str) -> String {
    format!(
        "workers: 1\nupstreams: {{ stable: \"{stable}\", shadow: \"{shadow}\" }}\n\
         routes: [{{ name: all, split: {{ stable: 1 }}{route}, mirror: {{ to: shadow, {mirror} }} }}]\n"
    )
}

fn start(stable: &Origin, shadow: &str, route: &str, mirror: &str) -> Proxy {
    Proxy::start(&text(&stable.url(), shadow, route, mirror))
}

/// What became of what was drawn, once all of it has come to its end.
#[track_caller]
fn results(proxy: &Proxy, upstream: &str, drawn: u64) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    eventually(&format!("{drawn} copies for {upstream} are over"), || {
        let metrics = proxy.metrics();
        let count = |result: &String| metrics.count(REQUESTS, &[("upstream", upstream), ("result", result)]);
        let all = metrics.values_of(REQUESTS, "result").into_iter();
        found = all.map(|result| (result.clone(), count(&result))).filter(|(_, count)| *count > 0).collect();
        found.values().sum::<u64>() == drawn
    });
    found
}

fn one_mirror(proxy: &Proxy) -> Value {
    proxy.read("/api/v1/routes/all")["mirrors"][0].clone()
}

fn expected(rows: &[(&str, u64)]) -> BTreeMap<String, u64> {
    rows.iter().map(|(result, count)| ((*result).to_owned(), *count)).collect()
}

/// A shadow that is of no use, what it is called, and how its copies end.
fn strangers() -> Vec<(&'static str, RawOrigin, &'static str)> {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n";
    let endless = [&head[..], &[b'x'; MIB][..]].concat();
    vec![
        ("hangs", RawOrigin::start(Script::SendAndHang(Vec::new())), "timeout"),
        ("hangs in its body", RawOrigin::start(Script::SendAndHang(head.to_vec())), "timeout"),
        ("resets", RawOrigin::start(Script::SendAndReset(Vec::new())), "reset"),
        ("breaks off", RawOrigin::start(Script::SendAndClose(head.to_vec())), "truncated"),
        ("never stops answering", RawOrigin::start(Script::SendAndHang(endless)), "ok"),
        ("is no server", RawOrigin::start(Script::SendAndClose(b"SSH-2.0\r\n\r\n".to_vec())), "bad_response"),
    ]
}

/// Why a shadow of no use does not get every copy.
const DROPPED: [&str; 2] = ["queue_full", "backed_off"];

#[test]
fn a_shadow_of_no_use_is_nobodys_trouble_and_every_copy_is_counted_once() {
    let stable = Origin::start("stable");
    let rounds: u64 = if long() { 2_000 } else { 200 };
    for (what, shadow, result) in strangers() {
        let proxy = start(&stable, &shadow.url(), "", "percent: 100%, timeout: 300ms");
        let mut conn = proxy.conn();
        for _ in 0..rounds {
            assert_eq!(conn.ask(&get("/")).status, 200, "the shadow {what}");
        }
        let found = results(&proxy, "shadow", rounds);
        // One that hangs may have as many as are allowed under way, and no more.
        let dropped: u64 = DROPPED.iter().filter_map(|reason| found.get(*reason)).sum();
        let sent = found.get(result).copied().unwrap_or(0);
        assert_eq!(sent + dropped, rounds, "the shadow {what}: {found:?}");
        let told = one_mirror(&proxy);
        assert_eq!((told["sampled"].as_u64(), told["sent"].as_u64()), (Some(rounds), Some(sent)), "{told}");
        let told: u64 = DROPPED.iter().filter_map(|reason| told["dropped"][*reason].as_u64()).sum();
        assert_eq!(told, dropped);
        // All are under way before the first of them is late.
        let late = result == "timeout" || result == "ok";
        assert!(late || sent < 150, "one of no use is tried now and then: {found:?}");
        let labels = [("arm", "stable"), ("upstream", "stable"), ("code", "2xx"), ("outcome", "ok")];
        let metrics = proxy.settles("switchback_requests_total", &labels, rounds);
        assert_eq!(
            metrics.count("switchback_requests_total", &[]),
            rounds,
            "the shadow {what}: no other outcome"
        );
        assert_eq!(metrics.count("switchback_upstream_failures_total", &[]), 0, "the shadow {what}");
    }
}

#[test]
fn a_shadow_that_came_back_gets_every_copy_again() {
    let (stable, shadow) = (Origin::start("stable"), Origin::start("shadow"));
    shadow.on("/hangs", Behaviour::Hang);
    let proxy = start(&stable, &shadow.url(), "", "percent: 100%, timeout: 100ms");
    let mut conn = proxy.conn();
    let dropped = || one_mirror(&proxy)["dropped"]["backed_off"].as_u64().unwrap_or(0);
    eventually("it is given up", || {
        (0..10).for_each(|_| _ = conn.ask(&get("/hangs")).expect_status(200));
        dropped() > 20
    });
    eventually("nothing is left out any more", || {
        let before = dropped();
        (0..20).for_each(|_| _ = conn.ask(&get("/")).expect_status(200));
        dropped() == before
    });
}

#[test]
fn copies_beyond_the_bound_are_dropped_and_what_is_under_way_ends() {
    let (stable, shadow, gate) = (Origin::start("stable"), Origin::start("shadow"), Gate::closed());
    shadow.on("/", Behaviour::Gated(gate.clone()));
    let proxy = start(&stable, &shadow.url(), "", "percent: 100%, timeout: 20s");
    let mut conn = proxy.conn();
    let beyond = 50;
    for _ in 0..IN_FLIGHT + beyond {
        conn.ask(&get("/")).expect_status(200);
    }
    shadow.await_requests(IN_FLIGHT);
    assert_eq!(one_mirror(&proxy)["dropped"]["queue_full"], beyond);
    gate.open();
    let found = results(&proxy, "shadow", (IN_FLIGHT + beyond) as u64);
    assert_eq!(found, expected(&[("ok", IN_FLIGHT as u64), ("queue_full", beyond as u64)]));
    assert!(one_mirror(&proxy)["p99Ms"].as_f64().is_some_and(|millis| millis > 0.0));
    assert_eq!(proxy.metrics().count("switchback_mirror_duration_seconds_count", &[]), IN_FLIGHT as u64);
}

#[test]
fn a_copy_takes_none_of_the_places_that_limits_leave_to_clients() {
    let (stable, other) = (Origin::start("stable"), Origin::start("shadow"));
    other.on("/copied", Behaviour::Hang);
    let text = format!(
        "workers: 1\nupstreams: {{ stable: \"{}\", shadow: {{ endpoints: [\"{}\"], limits: {{ maxRequests: 1, maxConnections: 1 }} }} }}\n\
         routes:\n  - {{ name: all, matches: [{{ path: /copied }}], split: {{ stable: 1 }}, mirror: {{ to: shadow, percent: 100%, timeout: 20s }} }}\n  \
         - {{ name: own, split: {{ shadow: 1 }} }}\n",
        stable.url(),
        other.url()
    );
    let proxy = Proxy::start(&text);
    let mut conn = proxy.conn();
    conn.ask(&get("/copied")).expect_status(200);
    other.await_requests(1);
    for _ in 0..20 {
        assert_eq!(conn.ask(&get("/")).expect_status(200).origin(), "shadow", "the limit is for clients");
        conn.ask(&get("/copied")).expect_status(200);
    }
    eventually("copies over the limit are dropped", || {
        one_mirror(&proxy)["dropped"]["overflow"].as_u64() == Some(20)
    });
}

#[test]
fn sessions_are_copied_whole_or_not_at_all() {
    let (stable, shadow) = (Origin::start("stable"), Origin::start("shadow"));
    let sticky = ", sticky: { by: [{ header: x-user-id }] }";
    let proxy = start(&stable, &shadow.url(), sticky, "percent: 30%");
    let mut conn = proxy.conn();
    let (users, visits) = (200, 3);
    for _ in 0..visits {
        for user in 0..users {
            conn.ask(&get("/").header("x-user-id", &format!("u{user}"))).expect_status(200);
        }
    }
    let drawn = one_mirror(&proxy)["sampled"].as_u64().expect("a count");
    assert_eq!(results(&proxy, "shadow", drawn), expected(&[("ok", drawn)]));
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for request in shadow.seen() {
        *seen.entry(request.header("x-user-id").expect("a user").to_owned()).or_default() += 1;
    }
    assert!(seen.values().all(|count| *count == visits), "{seen:?}");
    // 60 of 200, with a deviation of 6.5.
    assert!((30..=90).contains(&seen.len()), "{} of {users} users", seen.len());
}

#[test]
fn a_copy_says_what_it_is_and_keeps_to_itself_what_the_original_does() {
    let (stable, shadow) = (Origin::start("stable"), Origin::start("shadow"));
    let route = ", split: { stable: { weight: 1, requestHeaders: { set: { x-arm: stable } } } }, \
                 overrides: [{ name: qa, when: { headers: [{ name: x-qa, present: true }] }, arm: stable }], \
                 filters: [{ requestHeaders: { set: { x-edit: \"1\" } } }]";
    let mirror = "percent: 100%, headers: { set: { x-copy: \"1\" }, remove: [cookie] }";
    let text = text(&stable.url(), &shadow.url(), route, mirror).replacen("split: { stable: 1 }, ", "", 1);
    let proxy =
        Proxy::start(&format!("trustedProxies: [127.0.0.1/32]\naccessLog: {{ path: stdout }}\n{text}"));
    let request = get("/a?b=c").host("shop.example").header("x-qa", "1").header("cookie", "secret=1");
    proxy.ask(&request).expect_status(200);
    shadow.await_requests(1);
    eventually("the copy was seen", || !shadow.seen().is_empty());
    let (original, copy) = (stable.last(), shadow.last());
    assert_eq!((copy.method.as_str(), copy.target.as_str()), ("GET", "/a?b=c"));
    for name in ["host", "x-request-id", "x-forwarded-for", "x-edit"] {
        assert!(copy.header(name).is_some(), "{name} in {copy:?}");
        assert_eq!(copy.header(name), original.header(name), "{name}");
    }
    assert_eq!(
        (copy.header("x-switchback-shadow"), original.header("x-switchback-shadow")),
        (Some("1"), None)
    );
    assert_eq!((copy.header("x-copy"), original.header("x-copy")), (Some("1"), None));
    assert_eq!((copy.header("x-arm"), original.header("x-arm")), (None, Some("stable")));
    assert_eq!((copy.header("x-qa"), copy.header("cookie")), (None, None), "private");
    assert_eq!(original.header("cookie"), Some("secret=1"));

    eventually("both lines are written", || proxy.out().len() >= 2);
    let lines: Vec<Value> =
        proxy.out().iter().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let of = |shadow: &Value| lines.iter().find(|line| line["shadow"] == *shadow).expect("its line");
    let (own, copied) = (of(&"shadow".into()), of(&true.into()));
    assert_eq!(own["request_id"], copied["request_id"]);
    assert_eq!((&own["upstream"], &copied["upstream"]), (&"stable".into(), &"shadow".into()));
    assert_eq!((&own["status"], &copied["status"]), (&200.into(), &200.into()));
    assert_eq!((copied["path"].as_str(), &copied["arm"]), (Some("/a?b=c"), &Value::Null));

    // What is a copy already is not copied again.
    proxy.ask(&request.header("x-switchback-shadow", "1")).expect_status(200);
    assert_eq!(stable.last().header("x-switchback-shadow"), Some("1"));
    // It is for proxies to say so, not for clients.
    let claims = get("/").header("x-switchback-shadow", "1").header("x_switchback_shadow", "1");
    Conn::open_from([127, 0, 0, 9], proxy.web()).ask(&claims).expect_status(200);
    assert_eq!(results(&proxy, "shadow", 2), expected(&[("ok", 2)]));
    eventually("its copy was seen", || shadow.requests() == 2);
    let original = stable.last();
    assert!(!original.headers.iter().any(|(name, _)| name.contains("shadow")), "{original:?}");
}

#[test]
fn methods_that_change_things_are_copied_only_when_asked_for_and_then_byte_for_byte() {
    let (stable, shadow) = (Origin::start("stable"), Origin::start("shadow"));
    let body: Vec<u8> = (0..40_000_u32).map(|at| u8::try_from(at % 251).expect("below 251")).collect();
    let proxy = start(&stable, &shadow.url(), "", "percent: 100%");
    proxy.ask(&post("/", body.clone())).expect_status(200);
    assert_eq!(results(&proxy, "shadow", 1), expected(&[("method", 1)]));
    assert_eq!(shadow.requests(), 0);

    proxy.reload(&text(&stable.url(), &shadow.url(), "", "percent: 100%, methods: [any]"));
    proxy.ask(&post("/", body.clone())).expect_status(200);
    let mut chunked = proxy.conn();
    chunked
        .write(format!("{}transfer-encoding: chunked\r\n\r\n", post("/", "").head()).as_bytes())
        .expect("send");
    for piece in body.chunks(777) {
        chunked.write_chunk(piece).expect("a chunk");
    }
    chunked.write(b"0\r\n\r\n").expect("the end");
    assert_eq!(chunked.read_head("POST").expect("an answer").status, 200);
    // The last is longer than what is copied.
    proxy.ask(&post("/", vec![b'x'; 65_537])).expect_status(200);
    let found = results(&proxy, "shadow", 4);
    assert_eq!(found, expected(&[("method", 1), ("ok", 2), ("body_too_large", 1)]));
    eventually("both copies were read", || shadow.seen().len() == 2);
    for seen in shadow.seen() {
        assert!(seen.body == body, "{} bytes of {}", seen.body.len(), body.len());
    }
}

#[test]
fn a_client_that_breaks_off_its_upload_leaves_no_copy_and_one_that_leaves_early_does() {
    let (stable, shadow) = (Origin::start("stable"), Origin::start("shadow"));
    stable.on("/up", Behaviour::Swallow).on("/hang", Behaviour::Hang);
    let proxy = start(&stable, &shadow.url(), "", "percent: 100%, methods: [any]");
    let mut leaving = proxy.conn();
    leaving
        .write(format!("{}content-length: 1000\r\n\r\nhalf", post("/up", "").head()).as_bytes())
        .expect("send");
    eventually("the first part is there", || stable.received() == 4);
    drop(leaving);
    assert_eq!(results(&proxy, "shadow", 1), expected(&[("unfinished", 1)]));

    let mut waiting = proxy.conn();
    waiting.write(format!("{}\r\n", get("/hang").head()).as_bytes()).expect("send");
    stable.await_requests(2);
    drop(waiting);
    assert_eq!(results(&proxy, "shadow", 2), expected(&[("unfinished", 1), ("ok", 1)]));
}

#[test]
fn an_upgrade_is_never_copied() {
    let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let (stable, shadow) = (RawOrigin::start(Script::SendAndHang(head.to_vec())), Origin::start("shadow"));
    let text = text(&stable.url(), &shadow.url(), ", upgrades: [websocket]", "percent: 100%");
    let proxy = Proxy::start(&text);
    let mut conn = proxy.conn();
    let asks = get("/").header("connection", "upgrade").header("upgrade", "websocket");
    conn.write(format!("{}\r\n", asks.head()).as_bytes()).expect("send");
    assert_eq!(conn.read_head("GET").expect("an answer").status, 101);
    assert_eq!(results(&proxy, "shadow", 1), expected(&[("upgrade", 1)]));
    assert_eq!(shadow.connections(), 0);
}

#[test]
fn large_uploads_pass_a_mirror_in_constant_memory() {
    let (stable, shadow) = (Origin::start("stable"), Origin::start("shadow"));
    stable.on("/up", Behaviour::Swallow);
    let budget = 8 * MIB;
    let text = text(&stable.url(), &shadow.url(), "", "percent: 100%, methods: [any], maxBody: 8MiB");
    let proxy = Proxy::start(&format!("budgets: {{ mirrorBytes: 8MiB }}\n{text}"));
    proxy.ask(&post("/up", "warm")).expect_status(200);
    let size = if long() { 200 * MIB } else { 30 * MIB };
    let before = proxy.memory();
    // Two at a time want more than there is: one of them finds no room, both grow too long.
    let uploads: Vec<_> = (0..2)
        .map(|_| {
            let web = proxy.web();
            std::thread::spawn(move || {
                let mut conn = Conn::open(web);
                let head = format!("{}transfer-encoding: chunked\r\n\r\n", post("/up", "").head());
                conn.write(head.as_bytes()).expect("send the head");
                let piece = vec![b'u'; 64 << 10];
                for _ in 0..size / piece.len() {
                    conn.write_chunk(&piece).expect("send a piece");
                }
                conn.write(b"0\r\n\r\n").expect("end the body");
                conn.read_head("POST").expect("an answer").status
            })
        })
        .collect();
    for upload in uploads {
        assert_eq!(upload.join().expect("an upload"), 200);
    }
    let found = results(&proxy, "shadow", 3);
    let dropped: u64 = ["body_too_large", "budget"].iter().filter_map(|reason| found.get(*reason)).sum();
    assert_eq!((found.get("ok"), dropped), (Some(&1), 2), "{found:?}");
    let grown = proxy.memory().peak_kib.saturating_sub(before.peak_kib);
    assert!(grown < ((budget + 32 * MIB) >> 10) as u64, "memory grew by {grown} KiB");
    assert_eq!(shadow.requests(), 1);
}

#[test]
fn memory_for_copies_is_bounded_and_given_back() {
    let (stable, shadow) = (Origin::start("stable"), Origin::start("shadow"));
    stable.on("/up", Behaviour::Swallow);
    let text = text(&stable.url(), &shadow.url(), "", "percent: 100%, methods: [any], maxBody: 64KiB");
    let proxy = Proxy::start(&format!("budgets: {{ mirrorBytes: 64KiB }}\n{text}"));
    // One body of 40 KiB waits for its end: another of that size finds no room.
    let mut first = proxy.conn();
    first.write(format!("{}content-length: 40961\r\n\r\n", post("/up", "").head()).as_bytes()).expect("send");
    first.write(&[b'a'; 40_960]).expect("send a part");
    eventually("the first part is there", || stable.received() == 40_960);
    proxy.ask(&post("/up", vec![b'b'; 40_960])).expect_status(200);
    assert_eq!(results(&proxy, "shadow", 1), expected(&[("budget", 1)]));
    first.write(b"a").expect("send the rest");
    assert_eq!(first.read_head("POST").expect("an answer").status, 200);
    assert_eq!(results(&proxy, "shadow", 2), expected(&[("budget", 1), ("ok", 1)]));
    proxy.ask(&post("/up", vec![b'c'; 40_960])).expect_status(200);
    assert_eq!(results(&proxy, "shadow", 3), expected(&[("budget", 1), ("ok", 2)]));
}

#[test]
fn answers_are_paired_and_one_copy_in_five_shows_what_differs_by_itself() {
    let (stable, shadow) = (Origin::start("stable"), Origin::start("shadow"));
    shadow.on("/bad", Behaviour::Answer(500, "broken"));
    let proxy = start(&stable, &shadow.url(), "", "percent: 100%, compare: [status, json]");
    let mut conn = proxy.conn();
    let rounds = 200;
    for _ in 0..rounds {
        conn.ask(&get("/bad")).expect_status(200);
    }
    // 40 of 200, with a deviation of 5.7.
    let drawn = one_mirror(&proxy)["sampled"].as_u64().expect("a count");
    let noise = rounds - drawn;
    assert!((15..=70).contains(&noise), "{noise} of {rounds}");
    assert_eq!(results(&proxy, "shadow", drawn), expected(&[("5xx", drawn)]));
    assert_eq!(results(&proxy, "stable", noise), expected(&[("ok", noise)]));
    eventually("every copy is paired", || one_mirror(&proxy)["pairs"] == serde_json::json!([0, 0, drawn, 0]));
    let copies = stable.seen().iter().filter(|seen| seen.header("x-switchback-shadow").is_some()).count();
    assert_eq!(copies as u64, noise);
    // What a shadow answered is no arm's outcome.
    let ok = proxy.settles("switchback_requests_total", &[("outcome", "ok")], rounds);
    assert_eq!(ok.count("switchback_requests_total", &[("outcome", "error")]), 0);
}

#[test]
fn an_original_that_fails_is_copied_all_the_same() {
    let shadow = Origin::start("shadow");
    let text = text(&raw::refused(), &shadow.url(), "", "percent: 100%, compare: [status], methods: [any]");
    let proxy = Proxy::start(&text);
    // No copy of what is not safe goes to the original's upstream.
    let ask = || proxy.ask(&Request::new("DELETE", "/")).expect_status(503);
    (0..10).for_each(|_| drop(ask()));
    assert_eq!(results(&proxy, "shadow", 10), expected(&[("ok", 10)]));
    eventually("every copy is paired", || one_mirror(&proxy)["pairs"] == serde_json::json!([0, 10, 0, 0]));
}

#[test]
fn a_shadow_may_speak_http2_and_grpc() {
    let (stable, shadow) = (H2Origin::start(), H2Origin::start());
    let upstream = |origin: &H2Origin| format!("{{ endpoints: [\"{}\"], protocol: h2 }}", origin.url());
    let proxy = Proxy::start(&format!(
        "workers: 1\nupstreams: {{ stable: {}, shadow: {} }}\nroutes: [{{ name: all, split: {{ stable: 1 }}, \
         mirror: {{ to: shadow, percent: 100%, methods: [POST], compare: [status] }} }}]\n",
        upstream(&stable),
        upstream(&shadow)
    ));
    let caller = Caller::open(proxy.web());
    let ask = http::Request::post("http://shop.example/echo").header("content-type", "application/grpc");
    let ask = ask.header("te", "trailers").body(()).expect("a request");
    let body = bytes::Bytes::from_static(b"\0\0\0\0\x05hello");
    let answer = runtime().block_on(caller.call(ask, Some(body.clone()), None)).expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(results(&proxy, "shadow", 1), expected(&[("ok", 1)]));
    let (original, copy) = (stable.last(), shadow.last());
    assert_eq!((&copy.method, &copy.uri, &copy.body), (&original.method, &original.uri, &original.body));
    assert_eq!((copy.headers["te"].as_bytes(), copy.body), (&b"trailers"[..], body.len()));
}

#[test]
fn a_failing_shadow_is_no_evidence_against_a_rollouts_candidate() {
    let [stable, canary, shadow] = ["stable", "canary", "shadow"].map(Origin::start);
    shadow.on("/", Behaviour::Answer(500, "broken"));
    let quick = "analysis: { confidence: low, minRequests: 5, bursts: 1, dwell: 1s, warmup: { errors: 0, latency: 0 } }, bake: 1s";
    let proxy = Proxy::start(&format!(
        "{}routes: [{{ name: all, split: {{ stable: 1, canary: 1 }}, rollout: {{ version: v2, {quick}, steps: [50, 100] }}, \
         mirror: {{ to: shadow, percent: 100% }} }}]\n",
        upstreams(&[&stable, &canary, &shadow])
    ));
    let mut conn = proxy.conn();
    eventually("the candidate is promoted all the same", || {
        for _ in 0..20 {
            conn.ask(&get("/")).expect_status(200);
        }
        let state = proxy.read("/api/v1/routes/all")["rollout"]["state"].clone();
        assert!(!["REVERTING", "REVERTED"].iter().any(|bad| state == *bad), "{state}");
        state == "PROMOTED"
    });
    let metrics = proxy.metrics();
    assert!(metrics.count(REQUESTS, &[("result", "5xx")]) > 50);
    assert_eq!(metrics.count("switchback_requests_total", &[("outcome", "error")]), 0);
    assert_eq!(metrics.count("switchback_requests_total", &[("upstream", "shadow")]), 0);
}

/// The p99 of originals, with and without a mirror to a shadow that hangs, in one run. A ratio is
/// printed for who measures; on a machine with other work it decides nothing but that it is no order
/// of magnitude.
#[test]
fn the_original_is_as_fast_with_a_shadow_that_hangs() {
    let (stable, shadow) = (Origin::start("stable"), RawOrigin::start(Script::SendAndHang(Vec::new())));
    let without = text(&stable.url(), &shadow.url(), "", "percent: 0%");
    let with = text(&stable.url(), &shadow.url(), "", "percent: 100%, timeout: 500ms");
    let proxies = [Proxy::start(&without), Proxy::start(&with)];
    let rounds = if long() { 5_000 } else { 500 };
    let mut took = [Vec::new(), Vec::new()];
    let mut conns = proxies.each_ref().map(Proxy::conn);
    for _ in 0..rounds {
        for (conn, took) in conns.iter_mut().zip(&mut took) {
            let begun = Instant::now();
            conn.ask(&Request::new("GET", "/")).expect_status(200);
            took.push(begun.elapsed());
        }
    }
    let p99 = took.map(|mut took: Vec<Duration>| {
        took.sort_unstable();
        took[took.len() * 99 / 100]
    });
    println!(
        "p99 without {:?}, with {:?}: {:.3}",
        p99[0],
        p99[1],
        p99[1].as_secs_f64() / p99[0].as_secs_f64()
    );
    assert!(p99[1] < p99[0] * 10 + Duration::from_millis(20), "{p99:?}");
}
