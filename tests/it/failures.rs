//! What a client gets when an origin fails, and who is charged for it.
//!
//! 503 says nobody was there, 502 says somebody answered wrongly, 504 says too slowly. An operator
//! debugs by these three, so each row names exactly one. A request must never be repeated when the
//! origin may have acted on it.

use std::time::{Duration, Instant};

use crate::support::raw::{self, RawOrigin, Script};
use crate::support::{Behaviour, Origin, Proxy, eventually, get, post, upstreams};

fn before(url: &str, rest: &str) -> Proxy {
    Proxy::start(&format!(
        "upstreams: {{ app: \"{url}\" }}\nroutes: [{{ name: all, split: {{ app: 1 }}{rest} }}]\n"
    ))
}

#[test]
fn an_origin_nobody_listens_at_is_a_503() {
    let proxy = before(&raw::refused(), "");
    for request in [get("/"), post("/", "body")] {
        let response = proxy.ask(&request).expect_status(503);
        assert!(response.header("x-request-id").is_some(), "{response:?}");
        assert_eq!(response.origin(), "");
    }
    let charged = [("arm", "app"), ("code", "5xx"), ("outcome", "error")];
    proxy.settles("switchback_requests_total", &charged, 2);
}

#[test]
fn an_origin_that_answers_wrongly_is_a_502() {
    let rows: [(&str, Script); 7] = [
        ("closes without a word", Script::SendAndClose(Vec::new())),
        ("resets without a word", Script::SendAndReset(Vec::new())),
        ("closes inside the head", Script::SendAndClose(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec())),
        ("speaks another protocol", Script::SendAndClose(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())),
        ("sends binary", Script::SendAndClose(vec![0x16, 3, 1, 0, 5, 0, 0, 0, 0, 0, b'\r', b'\n'])),
        (
            "sends two lengths",
            Script::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec()),
        ),
        (
            "sends a status that is none",
            Script::Send(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ),
    ];
    for (what, script) in rows {
        let origin = RawOrigin::start(script);
        let proxy = before(&origin.url(), "");
        let response = proxy.ask(&post("/", "body"));
        assert_eq!(response.status, 502, "{what}: {response:?}");
        assert_eq!(origin.heads().len(), 1, "{what}: a request with a body is not repeated");
        let charged = [("arm", "app"), ("code", "5xx"), ("outcome", "error")];
        proxy.settles("switchback_requests_total", &charged, 1);
        proxy.settles("switchback_upstream_failures_total", &[("arm", "app")], 1);
    }
}

#[test]
fn an_origin_that_is_too_slow_is_a_504() {
    let origin = Origin::start("app");
    origin.on("/hang", Behaviour::Hang);
    for timeouts in ["{ request: 300ms, upstream: 0s }", "{ request: 0s, upstream: 300ms }"] {
        let proxy = before(&origin.url(), &format!(", timeouts: {timeouts}"));
        let abandoned = origin.abandoned();
        proxy.ask(&get("/hang")).expect_status(504);
        eventually("the origin is let go", || origin.abandoned() == abandoned + 1);
        let charged = [("arm", "app"), ("code", "5xx"), ("outcome", "error")];
        proxy.settles("switchback_requests_total", &charged, 1);
    }
}

#[test]
fn an_origin_that_stops_inside_its_head_is_a_504() {
    let origin = RawOrigin::start(Script::SendAndHang(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()));
    let proxy = before(&origin.url(), ", timeouts: { request: 300ms, upstream: 0s }");
    proxy.ask(&get("/")).expect_status(504);
}

#[test]
fn a_client_that_waits_in_vain_for_the_rest_of_an_answer_leaves_because_of_the_upstream() {
    let counted = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes!".to_vec();
    // A stream may be silent for as long as it likes: nothing is owed.
    let stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n".to_vec();
    let rows =
        [(&counted, 1_500, "error"), (&counted, 0, "client_closed"), (&stream, 1_500, "client_closed")];
    for (head, millis, outcome) in rows {
        let origin = RawOrigin::start(Script::SendAndHang(head.clone()));
        let proxy = before(&origin.url(), "");
        let mut conn = proxy.conn();
        assert_eq!(conn.begin(&get("/")).expect("a head").status, 200);
        let since = Instant::now();
        eventually("its patience ends", || since.elapsed() >= Duration::from_millis(millis));
        drop(conn);
        proxy.settles("switchback_requests_total", &[("arm", "app"), ("outcome", outcome)], 1);
    }
}

#[test]
fn an_upstream_that_is_not_there_is_told_once() {
    let nobody = "http://127.0.0.1:1";
    let proxy = before(nobody, "");
    for _ in 0..50 {
        proxy.ask(&get("/")).expect_status(503);
    }
    let told = || proxy.err().iter().filter(|line| line.contains("WARN") && line.contains(nobody)).count();
    eventually("it is told", || told() > 0);
    let lines = proxy.err();
    assert!(lines.iter().any(|line| line.contains(nobody) && line.contains("refused")), "{lines:#?}");
    // Every worker tells it, and no request does.
    assert!(told() <= 4, "{lines:#?}");
}

#[test]
fn a_split_without_weight_is_a_503_that_charges_nobody() {
    let origin = Origin::start("app");
    let text = format!("{}routes: [{{ name: all, split: {{ app: 0 }} }}]\n", upstreams(&[&origin]));
    let proxy = Proxy::start(&text);
    proxy.ask(&get("/")).expect_status(503);
    assert_eq!(origin.requests(), 0);
    let metrics = proxy.settles("switchback_unrouted_total", &[("reason", "no_weight")], 1);
    assert_eq!(metrics.count("switchback_requests_total", &[]), 0);
}

#[test]
fn what_may_have_been_acted_on_is_sent_again_only_where_asked_and_harmless() {
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let put = || crate::support::Request::new("PUT", "/");
    let with_body = || crate::support::Request { body: b"x".to_vec(), ..put() };
    // retry, request, what the first origin does, status, requests that reached origins
    let closes = || Script::SendAndClose(Vec::new());
    let resets = || Script::SendAndReset(Vec::new());
    let begins = || Script::SendAndClose(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec());
    let rows = [
        ("", get("/"), closes(), 502, 1),
        (", retry: { when: [connect] }", get("/"), resets(), 502, 1),
        (", retry: { when: [reset] }", get("/"), closes(), 200, 2),
        (", retry: { when: [connect, reset] }", get("/"), resets(), 200, 2),
        (", retry: { when: [reset] }", put(), resets(), 200, 2),
        (", retry: { when: [reset] }", with_body(), resets(), 200, 2),
        (", retry: { when: [reset], maxBody: 0 }", with_body(), resets(), 502, 1),
        (", retry: { when: [reset] }", post("/", ""), resets(), 502, 1),
        (", retry: { when: [reset] }", post("/", "x"), resets(), 502, 1),
        (", retry: { when: [reset] }", get("/"), begins(), 502, 1),
        (", retry: { when: [reset], attempts: 0 }", get("/"), resets(), 502, 1),
        (", retry: { when: [reset], budget: 0% }", get("/"), resets(), 200, 2),
    ];
    for (retry, request, script, status, sent) in rows {
        let (bad, good) = (RawOrigin::start(script), RawOrigin::start(Script::Send(ok.clone())));
        let text = format!(
            "upstreams: {{ app: {{ endpoints: [\"{}\", \"{}\"], loadBalance: roundRobin }} }}\n\
             routes: [{{ name: all, split: {{ app: 1 }}{retry} }}]\nworkers: 1\n",
            bad.url(),
            good.url()
        );
        let proxy = Proxy::start(&text);
        // Turns are counted: one of the first two requests meets the origin that fails.
        let answers = [proxy.ask(&request), proxy.ask(&request)];
        let worst = answers.iter().map(|answer| answer.status).max();
        assert_eq!(worst, Some(status), "{retry} {request:?}");
        assert_eq!(bad.heads().len(), 1, "{retry} {request:?}: the failing origin is asked once");
        assert_eq!(bad.heads().len() + good.heads().len(), 1 + sent, "{retry} {request:?}");
        let retried = u64::from(status == 200);
        proxy.settles("switchback_requests_total", &[("outcome", "error")], 1);
        let metrics = proxy.settles("switchback_requests_total", &[], 2);
        assert_eq!(metrics.count("switchback_retries_total", &[("reason", "reset")]), retried, "{retry}");
    }
}

#[test]
fn an_idle_connection_the_origin_closed_costs_no_request() {
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let origin = RawOrigin::start(Script::SendAndClose(ok.to_vec()));
    let proxy = before(&origin.url(), "");
    let mut conn = proxy.conn();
    for round in 0..50 {
        let response = conn.ask(&post("/", "body"));
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "round {round}");
        // Once the close has arrived, writing the next request onto that connection is a mistake.
        eventually("the origin has closed", || origin.closed() == round + 1);
    }
    assert_eq!(origin.connections(), 50);
    assert_eq!(origin.heads().len(), 50, "and none was sent twice");
}

#[test]
fn a_failed_exchange_leaves_the_client_connection_usable() {
    let origin = RawOrigin::start(Script::SendAndReset(Vec::new()));
    let proxy = before(&origin.url(), "");
    let mut conn = proxy.conn();
    for _ in 0..3 {
        assert_eq!(conn.ask(&get("/")).status, 502);
    }
}

#[test]
fn a_request_that_makes_no_sense_reaches_no_origin() {
    let origin = RawOrigin::start(Script::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let proxy = before(&origin.url(), "");
    for (what, bytes) in [
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("space before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A : 1\r\n\r\n"),
        ("not HTTP", "\u{1}\u{2}\u{3}\r\n\r\n"),
    ] {
        let answer = raw::exchange(proxy.web(), bytes.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400") || answer.is_empty(), "{what}: {answer:?}");
        assert!(origin.heads().is_empty(), "{what}: {:?}", origin.heads());
    }
    assert_eq!(proxy.ask(&get("/")).status, 200, "others are served");
}
