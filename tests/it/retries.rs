//! Requests that are sent again: which, how often, with what body, and who is charged.
//!
//! A retry that repeats an order is worse than the error it hides, and one that multiplies traffic
//! takes down what is left. So each test counts what reached the origins, not only what clients saw.

use std::time::Duration;

use serde_json::Value;

use crate::support::load::Load;
use crate::support::origin::Behaviour;
use crate::support::raw::{RawOrigin, Script};
use crate::support::wait::{PATIENCE, becomes_true};
use crate::support::{Origin, Proxy, Request, eventually, get, post, upstreams};

fn put(body: &str) -> Request {
    Request { body: body.into(), ..Request::new("PUT", "/") }
}

/// One arm of two endpoints that take turns.
fn two(first: &str, second: &str, rest: &str) -> Proxy {
    Proxy::start(&format!(
        "upstreams: {{ app: {{ endpoints: [\"{first}\", \"{second}\"], loadBalance: roundRobin }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }}{rest} }}]\nworkers: 1\naccessLog: {{}}\n"
    ))
}

fn answering(status: u16) -> Origin {
    let origin = Origin::start("bad");
    origin.on("/", Behaviour::Answer(status, "bad"));
    origin
}

#[test]
fn a_status_that_is_named_is_asked_again_elsewhere_if_that_is_harmless() {
    let body = "x".repeat(40_000);
    // Retry, request, what the first endpoint answers, what the client sees at worst, requests in all of two.
    let rows = [
        ("when: [503]", get("/"), 503, 200, 3),
        ("when: [connect, reset, 5xx]", get("/"), 500, 200, 3),
        ("when: [5xx], attempts: 0", get("/"), 500, 500, 2),
        ("when: [503]", get("/"), 500, 500, 2),
        ("when: [503]", get("/"), 404, 404, 2),
        ("when: [connect, reset]", get("/"), 503, 503, 2),
        ("when: [503]", post("/", "order"), 503, 503, 2),
        ("when: [503]", post("/", ""), 503, 503, 2),
        ("when: [503]", Request::new("DELETE", "/"), 503, 200, 3),
        ("when: [503]", put(&body), 503, 200, 3),
        ("when: [503], maxBody: 40000B", put(&body), 503, 200, 3),
        ("when: [503], maxBody: 39999B", put(&body), 503, 503, 2),
        ("when: [503], maxBody: 0", put("x"), 503, 503, 2),
    ];
    for (retry, request, status, worst, sent) in rows {
        let (bad, good) = (answering(status), Origin::start("good"));
        let proxy = two(&bad.url(), &good.url(), &format!(", retry: {{ {retry} }}"));
        let seen: Vec<u16> = (0..2).map(|_| proxy.ask(&request).status).collect();
        let what = format!("{retry}, {} of {} bytes, {status}", request.method, request.body.len());
        assert_eq!(seen.iter().max(), Some(&worst), "{what}: {seen:?}");
        assert_eq!(bad.requests() + good.requests(), sent, "{what}");
        assert_eq!(bad.requests(), 1, "{what}: another endpoint is asked");
        let retried = u64::from(sent == 3);
        let metrics = proxy.settles("switchback_requests_total", &[], 2);
        assert_eq!(metrics.count("switchback_retries_total", &[("reason", "status")]), retried, "{what}");
        assert!(good.seen().iter().all(|one| one.body == request.body), "{what}: the whole body");
        let errors = u64::from(status >= 500);
        assert_eq!(metrics.count("switchback_requests_total", &[("outcome", "error")]), errors, "{what}");
        let attempts = || {
            let lines = proxy.out();
            let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.filter_map(|line| line["attempts"].as_u64()).sum::<u64>()
        };
        eventually("both are logged with their attempts", || attempts() == 2 + retried);
    }
}

#[test]
fn a_body_cut_off_half_way_is_sent_again_whole() {
    let body: String = (0..8_000).map(|at| format!("{at:04} ")).collect();
    let (bad, good) = (RawOrigin::start(Script::SendAndReset(Vec::new())), Origin::start("good"));
    let proxy = two(&bad.url(), &good.url(), ", retry: { when: [reset] }");
    for _ in 0..2 {
        proxy.ask(&put(&body)).expect_status(200);
    }
    assert_eq!((bad.heads().len(), good.requests()), (1, 2));
    assert!(good.seen().iter().all(|one| one.body == body.as_bytes()));
    let lines = good.seen().iter().map(|one| one.lines("content-length")).collect::<Vec<_>>();
    assert_eq!(lines, [1, 1]);
}

#[test]
fn bodies_over_what_may_be_held_are_sent_once_and_counted() {
    let body = "x".repeat(20_000);
    let text = |budget: &str, bad: &Origin, good: &Origin| {
        format!(
            "upstreams: {{ app: {{ endpoints: [\"{}\", \"{}\"], loadBalance: roundRobin }} }}\n{budget}\
             routes: [{{ name: all, split: {{ app: 1 }}, retry: {{ when: [503] }} }}]\nworkers: 1\n",
            bad.url(),
            good.url()
        )
    };
    // The memory of all, the body, why it was not sent again.
    let long = "x".repeat(70_000);
    for (budget, body, reason) in
        [("budgets: { replayBytes: 10KiB }\n", &body, "memory"), ("", &long, "body_too_large")]
    {
        let (bad, good) = (answering(503), Origin::start("good"));
        let proxy = Proxy::start(&text(budget, &bad, &good));
        let mut seen: Vec<u16> = (0..2).map(|_| proxy.ask(&put(body)).status).collect();
        seen.sort_unstable();
        assert_eq!(seen, [200, 503], "{reason}");
        proxy.settles("switchback_retries_denied_total", &[("reason", reason)], 1);
        assert_eq!(good.last().body, body.as_bytes(), "{reason}: it passes all the same");
        // What is held is given back: a body that fits is sent again.
        for _ in 0..2 {
            proxy.ask(&put("short")).expect_status(200);
        }
    }
}

#[test]
fn an_attempt_over_its_own_time_is_given_up_for_another() {
    // Request, retry, timeouts, what is seen at worst, requests that reached the good one of two.
    let rows = [
        (get("/"), "perTry: 200ms", "{}", 200, 2),
        (put("x"), "perTry: 200ms", "{}", 200, 2),
        (post("/", "x"), "perTry: 200ms", "{ upstream: 500ms }", 504, 1),
        (get("/"), "perTry: 0", "{ upstream: 300ms }", 504, 1),
        (get("/"), "perTry: 2s", "{ request: 300ms }", 504, 1),
    ];
    for (request, retry, timeouts, worst, served) in rows {
        let (bad, good) = (Origin::start("bad"), Origin::start("good"));
        bad.on("/", Behaviour::Hang);
        let rest = format!(", retry: {{ {retry} }}, timeouts: {timeouts}");
        let proxy = two(&bad.url(), &good.url(), &rest);
        let seen: Vec<u16> = (0..2).map(|_| proxy.ask(&request).status).collect();
        let what = format!("{} {rest}", request.method);
        assert_eq!(seen.iter().max(), Some(&worst), "{what}: {seen:?}");
        assert_eq!((bad.requests(), good.requests()), (1, served), "{what}");
        proxy.settles("switchback_retries_total", &[("reason", "timeout")], served as u64 - 1);
    }
}

#[test]
fn a_budget_stops_a_storm() {
    const ASKED: usize = 300;
    let bad = answering(503);
    let proxy = Proxy::start(&format!(
        "{}workers: 1\nroutes: [{{ name: all, split: {{ bad: 1 }}, retry: {{ when: [503], attempts: 5, budget: 10% }} }}]\n",
        upstreams(&[&bad])
    ));
    let mut conn = proxy.conn();
    for _ in 0..ASKED {
        conn.ask(&get("/")).expect_status(503);
    }
    // Ten a second over ten seconds, and a tenth of the requests; twice that if the window turned.
    let most = 2 * (100 + ASKED / 10);
    let extra = bad.requests() - ASKED;
    assert!((100..=most).contains(&extra), "{extra} more than asked for");
    let metrics = proxy.settles("switchback_retries_total", &[("reason", "status")], extra as u64);
    assert!(metrics.count("switchback_retries_denied_total", &[("reason", "budget")]) >= 100);
}

#[test]
fn a_canary_that_always_fails_is_covered_by_the_default_arm_and_still_put_back() {
    let [stable, canary] = ["stable", "canary"].map(Origin::start);
    canary.on("/", Behaviour::Answer(500, "broken"));
    canary.on("/order", Behaviour::Answer(500, "broken"));
    let proxy = Proxy::start(&format!(
        "{}routes:\n  - name: all\n    split: {{ stable: 95, canary: {{ weight: 5, requestHeaders: {{ add: {{ x-arm: new }} }} }} }}\n    \
         retry: {{ attempts: 1, when: [connect, reset, 5xx], to: defaultArm }}\n    \
         rollout: {{ version: v2, to: canary, steps: [20, 100], \
         analysis: {{ confidence: low, minRequests: 5, bursts: 1, dwell: 1s, warmup: {{ errors: 0, latency: 0 }} }} }}\n",
        upstreams(&[&stable, &canary])
    ));
    let reads = Load::h1(proxy.web(), 4, Duration::from_millis(4), |_| get("/"));
    let orders = Load::each(proxy.web(), 1, Duration::from_millis(20), |conn, _| {
        conn.send(&post("/order", "one")).map(drop).map_err(|error| error.to_string())
    });
    let mut last = Value::Null;
    let reverted = becomes_true(2 * PATIENCE, || {
        last = proxy.read("/api/v1/routes/all")["rollout"].clone();
        last["state"] == "REVERTED"
    });
    let (reads, orders) = (reads.stop(), orders.stop());
    assert!(reverted, "{last:#}");
    assert_eq!(reads.failed, 0, "clients see no error: {reads:?}");
    assert_eq!(orders.failed, 0, "{orders:?}");
    let posts = |origin: &Origin| origin.seen().iter().filter(|one| one.method == "POST").count();
    assert_eq!(posts(&stable) + posts(&canary), orders.done, "no order is given twice");
    assert!(posts(&canary) > 0, "some orders went to the canary");
    let marked = |origin: &Origin| origin.seen().iter().filter(|one| one.header("x-arm").is_some()).count();
    assert_eq!((marked(&stable), marked(&canary)), (0, canary.requests()), "edits stay with their arm");
    let saved = [("arm", "canary"), ("upstream", "stable"), ("code", "2xx"), ("outcome", "error")];
    let metrics = proxy.metrics();
    let saved = metrics.count("switchback_requests_total", &saved);
    assert!(saved > 0, "the failure is the canary's, the answer stable's");
    assert_eq!(metrics.count("switchback_retries_total", &[("arm", "canary"), ("reason", "status")]), saved);
    assert_eq!(metrics.count("switchback_requests_total", &[("arm", "canary"), ("outcome", "ok")]), 0);
    assert_eq!(metrics.count("switchback_requests_total", &[("arm", "stable"), ("outcome", "error")]), 0);
}

#[test]
fn an_upload_still_under_way_is_not_lost_to_an_early_refusal() {
    // Refuses at once, without reading the body.
    let refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec();
    let (bad, good) = (RawOrigin::start(Script::SendAndLinger(refusal)), Origin::start("good"));
    let proxy = two(&bad.url(), &good.url(), ", retry: { when: [503] }");
    for _ in 0..2 {
        let mut conn = proxy.conn();
        let head = "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        conn.write(head.as_bytes()).expect("sent");
        eventually("the request is with an origin", || bad.heads().len() + good.open() > 0);
        conn.write(b"6\r\nsecond\r\n0\r\n\r\n").expect("sent");
        conn.read_head("PUT").expect("an answer").expect_status(200);
    }
    assert_eq!(bad.heads().len(), 1);
    assert_eq!(
        good.seen().iter().map(|one| one.body.clone()).collect::<Vec<_>>(),
        [b"firstsecond", b"firstsecond"]
    );
}
